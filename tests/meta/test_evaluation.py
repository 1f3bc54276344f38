"""The evaluation protocol on a robot whose rewards tell who, when and in which task."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.collect import Episodes, Seen
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import Evaluation, evaluate_agent, normalise_scores
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch

CPU = torch.device("cpu")
FAR = np.array([[50.0, 0.0], [2.0, 0.0], [0.0, 50.0]], np.float32)
"""Only the second is ever reached: after two steps of 1 m by points that go right (radius 0.4 m, noise 0)."""

NEAR = np.array([[0.4, 0.4], [-0.4, 0.0], [0.0, 0.4]], np.float32)
"""Reached or not by where an episode starts."""


class Scripted:
    """Goes right at the speed 1 once it adapted, stands still before; writes down what it is told."""

    def __init__(self, rollouts: int = 1) -> None:
        self.rollouts = rollouts
        self.log: list[str] = []
        self.adapted = 0

    def begin_task(self, rows: int) -> None:
        self.adapted = 0
        self.log.append(f"task {rows}")

    def begin_episode(self) -> None:
        self.log.append("episode")

    def act(self, seen: Seen) -> Tensor:
        return torch.tensor([[float(self.adapted > 0), 0.0]]).expand(len(seen.rows), 2)

    def observe(self, episodes: Episodes) -> None:
        self.log.append("observe")

    def adapt(self) -> None:
        self.adapted += 1
        self.log.append("adapt")

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...


def run(agent: Scripted, config: EvaluationConfig, rows: int = 64) -> Evaluation:
    robot = PointBatch(rows, episode_steps=3, radius=0.4, noise=0.0)
    space = RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
    return evaluate_agent(agent, robot, space, FAR, config, np.random.default_rng(0), device=CPU)


def test_the_agent_is_told_of_every_boundary_in_order() -> None:
    agent = Scripted(rollouts=2)
    run(agent, EvaluationConfig(trial=Trial(episodes=2), adapt_steps=1, trials=4))
    one_round = ["episode", "observe", "episode", "observe"]
    assert agent.log == ["task 24", *one_round, "adapt", *one_round]


def test_every_episode_lands_in_its_task_round_and_index() -> None:
    result = run(Scripted(rollouts=2), EvaluationConfig(trial=Trial(episodes=2), adapt_steps=2, trials=4))
    assert result.returns.shape == result.steps.shape == result.terminated.shape == (3, 4, 3, 2, 2)
    # before any adaptation nothing moves; afterwards task 1 is reached by the second step, the others never
    expected = [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert result.per_round().tolist() == expected
    assert result.per_episode().tolist() == [[[value] * 2 for value in row] for row in expected]
    assert (result.terminated.mean(axis=(1, 3, 4)) == expected).all()
    assert result.final_return().tolist() == [0, 1, 0]
    # two rollouts of three steps per episode, of two where the goal ends it
    assert result.environment_steps()[0].tolist() == [[6, 12], [18, 24], [30, 36]]
    assert result.environment_steps()[1].tolist() == [[6, 12], [16, 20], [24, 28]]


def test_exploration_episodes_are_reported_but_do_not_count() -> None:
    returns = np.arange(6.0).reshape(1, 1, 1, 6, 1)
    result = Evaluation(returns, np.ones((1, 1, 1, 6, 1), np.int64), np.zeros((1, 1, 1, 6, 1), np.bool_), 4)
    assert result.per_episode().tolist() == [[[0, 1, 2, 3, 4, 5]]]
    assert result.per_round().tolist() == [[4.5]]
    assert result.trial_return().tolist() == [[9.0]]
    assert result.final_return().tolist() == [4.5]


def test_the_same_seed_gives_the_same_result() -> None:
    robot = PointBatch(12, episode_steps=4, radius=0.5, noise=0.5)
    space = RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
    config = EvaluationConfig(trials=4)
    one, same, other = (
        evaluate_agent(Scripted(), robot, space, NEAR, config, np.random.default_rng(seed), device=CPU)
        for seed in (0, 0, 1)
    )
    assert (one.returns == same.returns).all()
    assert (one.returns != other.returns).any()


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"3 tasks x 4 trials x 2 rollouts: expected 1 to 23 robot rows, got 24"):
        run(Scripted(rollouts=2), EvaluationConfig(trials=4), rows=23)


@pytest.mark.parametrize(("field", "value"), [("adapt_steps", -1), ("trials", 0)])
def test_an_empty_evaluation_is_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: expected a whole number from . to .*, got {value}"):
        EvaluationConfig(**{field: value})


def test_normalised_scores_are_zero_at_the_reference_and_one_at_the_oracle() -> None:
    scores = [[10.0, 20.0], [3.0, 7.0]]
    # task 0: (10 - 10) / 40, (20 - 10) / 40; task 1: (3 - 1) / 2, (7 - 1) / 2
    assert normalise_scores(scores, [10.0, 1.0], [50.0, 3.0]).tolist() == [[0.0, 0.25], [1.0, 3.0]]
    assert normalise_scores([5.0], 0.0, 10.0).tolist() == [0.5]
    with pytest.raises(ConfigError, match=r"got 1.0 and 1.0 in task 1"):
        normalise_scores(scores, [0.0, 1.0], [1.0, 1.0])
