"""MLSH as a cell: the agents that are judged, the published tasks, and an optimum that agrees with another sum."""

import numpy as np
import pytest

from benchmarks.meta.cells import CELLS
from benchmarks.meta.oracle import compute_oracle
from benchmarks.policies.oracles import movement_bandit_optimal_returns
from supple.meta.hierarchy.config import MlshConfig
from supple.meta.hierarchy.mlsh_agent import MlshAgent
from supple.meta.space import ChoiceSpace
from supple.pipeline.learners import MlshSettings
from supple.robots.movement_bandits import FIELD, MovementBandits
from supple.robots.task import goals_of


def test_agents_are_made_as_the_choice_says() -> None:
    choice = MlshSettings(config=MlshConfig(groups=2, rollouts=3, hidden=(4,), iterations=5), rollouts=7)
    assert (choice.rows(2), choice.iterations) == (6, 5)
    robot, goals = MovementBandits().make(choice.rows(2)), goals_of(MovementBandits().tasks().train)
    learner = choice.make_learner(ChoiceSpace(robot.spec), robot, goals, seed=0, device="cpu")
    one, same, other = (choice.make_agent(learner, seed) for seed in (1, 1, 2))
    assert isinstance(one, MlshAgent)
    assert one.rollouts == 7
    first = []
    for agent in (one, same, other):
        agent.begin_task(7)
        first.append(agent.state()[0]["masters.params.policy.layers.0.weight"])
    assert (first[0] == first[1]).all()
    assert not (first[0] == first[2]).all()


def test_both_tasks_are_trained_on_in_turn_and_tested() -> None:
    tasks = MovementBandits(num_train=5).tasks()
    assert [task.goal for task in tasks.train] == [(0.0,), (1.0,), (0.0,), (1.0,), (0.0,)]
    assert [task.goal for task in tasks.test] == [(0.0,), (1.0,)]


def test_the_optimum_is_the_mean_over_the_field() -> None:
    points = np.random.default_rng(0).uniform(0.0, FIELD, (4000, 2)).astype(np.float32)
    found = movement_bandit_optimal_returns(points)
    # standard error about 0.07; 43.8 was computed independently
    assert compute_oracle(MovementBandits(), np.zeros((1, 1), np.float32)) == pytest.approx(found.mean(), abs=0.3)
    assert compute_oracle(MovementBandits(), np.ones((1, 1), np.float32)) == pytest.approx(43.8, abs=0.05)


def test_the_cell_has_as_many_groups_in_each_phase() -> None:
    choice = CELLS["mlsh-movement-bandits"].config.learner
    assert isinstance(choice, MlshSettings)
    # and two at least: the sub-policies' samples are of both tasks at every update
    assert choice.config.groups % choice.config.period == 0
    assert choice.config.groups // choice.config.period >= 2
