"""The plain learner and its agent: exact resume, one policy for all tasks, learning from scratch."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import ConfigError, TrainingFault
from supple.meta.baselines import ppo_agent, ppo_learner
from supple.meta.baselines.config import PpoConfig, PpoSteps
from supple.meta.baselines.ppo_learner import PpoLearner
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from supple.meta.task_batch import TaskBatch
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.robot import RobotBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.sampled_advantages import check_advantages

CPU = torch.device("cpu")
POINT_GOALS = np.array([[1.2, 0], [-1.2, 0], [0, 1.2], [0, -1.2]], np.float32)
ARM_GOALS = np.eye(3, dtype=np.float32)
"""Bandits whose one good arm always pays and whose others never do."""
STEPS = PpoSteps(epochs=2, minibatches=2)


def make_space(robot: RobotBatch, kind: str) -> ActionSpace:
    if kind == "choice":
        return ChoiceSpace(robot.spec)
    if kind == "unit":
        return UnitSpace(robot.spec)
    if kind == "raw":
        return RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(kind: str = "unit", seed: int = 0, rows: int = 16, **changes: Any) -> PpoLearner:
    robot: RobotBatch = PointBatch(rows, episode_steps=6)
    goals: NDArray[np.float32] = POINT_GOALS
    if kind == "choice":
        robot, goals = BernoulliBanditBatch(rows, arms=3, episode_steps=2), ARM_GOALS
    small = {"hidden": (8,), "iterations": 4, "tasks": 4, "episodes": 2, "training": STEPS, "adaptation": STEPS}
    return PpoLearner(make_space(robot, kind), robot, goals, PpoConfig(**{**small, **changes}), seed=seed)


class TestOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> PpoLearner:
        return make_learner("unit", seed)


class TestOnArms(MetaLearnerContract):
    def make_learner(self, seed: int) -> PpoLearner:
        return make_learner("choice", seed)


class TestOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> PpoLearner:
        return make_learner("skill", seed)


def evaluate(learner: PpoLearner, adapt_steps: int, rollouts: int) -> NDArray[np.float64]:
    """Mean return of each round."""
    config, rng = EvaluationConfig(trial=Trial(), adapt_steps=adapt_steps), np.random.default_rng(0)
    agent = learner.agent(rollouts=rollouts)
    found = evaluate_agent(agent, learner.robot, learner.space, learner.goals, config, rng, device=CPU)
    means: NDArray[np.float64] = found.per_round().mean(0)
    return means


def test_training_without_iterations_leaves_the_policy_as_drawn() -> None:
    learner = make_learner("raw", iterations=0)
    assert list(learner.train()) == []
    agent = learner.agent()
    agent.begin_task(2)
    drawn = learner.policy.init(torch.Generator().manual_seed(0))
    assert all(torch.equal(agent.params[name][1], value) for name, value in drawn.items())


def test_arms_are_learned_from_scratch_one_task_apart_from_the_other() -> None:
    """Two pulls: at chance 2/3, at best 2."""
    adaptation = PpoSteps(epochs=8, minibatches=2, learning_rate=0.03)
    learner = make_learner("choice", rows=96, iterations=0, adaptation=adaptation)
    returns = evaluate(learner, 8, 32)
    assert 0.45 < returns[0] < 0.9
    assert returns[-1] > 1.8


def test_one_policy_learns_what_the_tasks_have_in_common() -> None:
    """Arm 0 pays always, arm 1 in half of the tasks, arm 2 never: the best single policy pulls arm 0 twice."""
    goals = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    training = PpoSteps(epochs=4, minibatches=2, learning_rate=0.03)
    robot = BernoulliBanditBatch(32, arms=3, episode_steps=2)
    config = PpoConfig(hidden=(4,), iterations=15, tasks=2, episodes=16, training=training)
    learner = PpoLearner(ChoiceSpace(robot.spec), robot, goals, config)
    records = list(learner.train())
    assert records[0]["return"] < 1.3
    assert records[-1]["return"] > 1.8
    assert records[-1]["environment_steps"] == 15 * 32 * 2


def test_the_samples_of_all_tasks_are_those_of_one_policy() -> None:
    learner = make_learner(tasks=3, episodes=2)
    batch, _ = learner._collect()
    assert batch.valid.shape[:2] == (1, 6)
    assert all(len(value) == 1 for value in learner.params.values())


def test_an_agent_learns_from_all_episodes_since_the_last_step_and_forgets_its_optimiser() -> None:
    learner = make_learner()
    agent = learner.agent()
    agent.begin_task(2)
    agent.adapt()
    assert agent.state()[1] == {"steps": 0, "seen": 0}
    contract = TestOnPoints()
    agent.begin_task(contract.rows(agent))
    contract.play(learner, agent)
    contract.play(learner, agent)
    assert agent.state()[1]["seen"] == 2
    agent.adapt()
    assert agent.state()[1] == {"steps": STEPS.epochs * STEPS.minibatches, "seen": 0}
    agent.begin_task(2)
    assert agent.state()[1]["steps"] == 0


def test_learner_and_agent_improve_by_their_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples have standardised advantages of the discount and the trace that stand in the settings of each."""
    training = PpoSteps(epochs=1, minibatches=1, discount=0.5, trace=0.9)
    adaptation = PpoSteps(epochs=1, minibatches=1, discount=0.8, trace=0.3)
    learner = make_learner("unit", training=training, adaptation=adaptation)
    improved: list[tuple[TaskBatch, PpoSteps, float]] = []

    def watch(
        policy: Any, params: Any, moments: Any, batch: TaskBatch, steps: PpoSteps, *rest: Any, share: float = 1.0
    ) -> Any:
        improved.append((batch, steps, share))
        return params, moments, {"loss": torch.zeros(()).item()}

    monkeypatch.setattr(ppo_learner, "improve", watch)
    monkeypatch.setattr(ppo_agent, "improve", watch)
    records = learner.train()
    next(records)
    next(records)
    contract, agent = TestOnPoints(), learner.agent()
    agent.begin_task(contract.rows(agent))
    contract.play(learner, agent)
    agent.adapt()
    assert [(steps, share) for _, steps, share in improved] == [(training, 1.0), (training, 0.75), (adaptation, 1.0)]
    for batch, steps, _ in improved:
        check_advantages(batch, steps.discount, steps.trace)


def test_too_few_rows_and_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected 8 robot rows .* got 7"):
        make_learner(rows=7)
    with pytest.raises(ConfigError, match="multiple of rollouts = 3 rows, got 4"):
        make_learner().agent(rollouts=3).begin_task(4)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = make_learner("choice")
    learner.params = {name: torch.full_like(value, torch.nan) for name, value in learner.params.items()}
    with pytest.raises(TrainingFault, match="iteration 0: expected a finite"):
        next(learner.train())
