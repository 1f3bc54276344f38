"""Distral: reward and distillation by hand, exact resume, and a centroid that is a better start than a draw."""

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from supple.errors import ConfigError, TrainingFault
from supple.meta.baselines.config import DistralConfig, PpoSteps
from supple.meta.baselines.distral import centroid_log_prob, distil, distillation_loss, regularise, regularised_reward
from supple.meta.baselines.distral_learner import DistralLearner
from supple.meta.baselines.ppo import Moments
from supple.meta.collect import Episodes, collect
from supple.meta.distribution import detach, entropy, kl, log_prob
from supple.meta.policy import MlpPolicy, Params, RowActor, for_tasks
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
SHARED_ARM_GOALS = np.array([[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0]], np.float32)
"""Four arms; the first pays in half of the pulls in every task, another one as often but not in all, the last never."""
STEPS = PpoSteps(epochs=2, minibatches=2)
POLICY = MlpPolicy(inputs=1, outputs=3, discrete=True, hidden=(2,), activation="tanh")


def make_space(robot: RobotBatch, kind: str) -> ActionSpace:
    if kind == "choice":
        return ChoiceSpace(robot.spec)
    if kind == "unit":
        return UnitSpace(robot.spec)
    if kind == "raw":
        return RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(kind: str = "unit", seed: int = 0, rows: int = 16, **changes: Any) -> DistralLearner:
    robot: RobotBatch = PointBatch(rows, episode_steps=6)
    goals: NDArray[np.float32] = POINT_GOALS
    if kind == "choice":
        robot, goals = BernoulliBanditBatch(rows, arms=4, episode_steps=2), SHARED_ARM_GOALS
    small = {"hidden": (8,), "iterations": 4, "tasks": 4, "episodes": 2, "distillation_steps": 2}
    small |= {"training": STEPS, "adaptation": STEPS}
    return DistralLearner(make_space(robot, kind), robot, goals, DistralConfig(**{**small, **changes}), seed=seed)


class TestOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> DistralLearner:
        return make_learner("unit", seed)


class TestOnArms(MetaLearnerContract):
    def make_learner(self, seed: int) -> DistralLearner:
        return make_learner("choice", seed, entropy_weight=0.1)


class TestOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> DistralLearner:
        return make_learner("skill", seed)


def logits_only(*rows: tuple[float, float, float]) -> Params:
    """Policies of tasks that ignore what they see: these are the probabilities of their arms."""
    tasks = len(rows)
    return {
        "layers.0.weight": torch.zeros(tasks, 2, 1),
        "layers.0.bias": torch.zeros(tasks, 2),
        "layers.1.weight": torch.zeros(tasks, 3, 2),
        "layers.1.bias": torch.tensor(rows).log(),
    }


TASK_POLICIES = logits_only((0.5, 0.25, 0.25), (0.1, 0.1, 0.8))
CENTROID = logits_only((0.25, 0.5, 0.25))


def make_batch(choice: Tensor, valid: Tensor | None = None) -> TaskBatch:
    """What the two task policies chose, (2, E, T); every reward is 1."""
    shape = choice.shape
    observation = torch.zeros(*shape, 1)
    old = detach(POLICY(TASK_POLICIES, observation))
    return TaskBatch(
        observation=observation,
        choice=choice[..., None].float(),
        reward=torch.ones(shape),
        advantage=torch.zeros(shape),
        valid=torch.ones(shape, dtype=torch.bool) if valid is None else valid,
        old=old,
        old_log_prob=log_prob(old, choice[..., None].float()),
        objective=torch.zeros(2),
    )


# Reward


def test_the_reward_of_the_paper_by_hand() -> None:
    # r = 2, pi_i = 1/2, pi_0 = 1/4, c_KL = 1, c_Ent = 1/2: 2 - 1 log(2) + 1/2 log 2 = 2 - log(2) / 2 = 1.653426
    found = regularised_reward(torch.tensor(2.0), torch.tensor(0.5).log(), torch.tensor(0.25).log(), 1.0, 0.5)
    np.testing.assert_allclose(found, 1.653426, rtol=1e-6)


@given(kl_weight=st.floats(0.01, 2.0), entropy_weight=st.floats(0.0, 2.0))
def test_it_is_the_reward_of_alpha_and_beta(kl_weight: float, entropy_weight: float) -> None:
    reward, ours, theirs = torch.tensor([1.0, -2.0]), torch.tensor([-0.3, -4.0]), torch.tensor([-1.0, -0.2])
    alpha, beta = kl_weight / (kl_weight + entropy_weight), 1.0 / (kl_weight + entropy_weight)
    found = regularised_reward(reward, ours, theirs, kl_weight, entropy_weight)
    torch.testing.assert_close(found, reward + alpha / beta * theirs - 1.0 / beta * ours, rtol=1e-4, atol=1e-5)


def test_on_average_a_decision_costs_the_kl_and_is_paid_its_entropy() -> None:
    # all three choices, weighted with their probabilities under the task's policy
    batch = make_batch(torch.arange(3).expand(2, 1, 3))
    ours, centroid = batch.old_log_prob, centroid_log_prob(POLICY, CENTROID, batch)
    found = (ours.exp() * regularised_reward(torch.zeros_like(ours), ours, centroid, 0.7, 0.2)).sum((1, 2))
    nothing = torch.zeros(2, 1)
    task_policies, pi_0 = (
        POLICY(TASK_POLICIES, nothing[:, None]),
        POLICY(for_tasks(_first(CENTROID), 2), nothing[:, None]),
    )
    expected = -0.7 * kl(task_policies, pi_0) + 0.2 * entropy(task_policies)
    torch.testing.assert_close(found, expected[:, 0])
    # KL of task 0 by hand: .5 log 2 + .25 log .5 + 0 = .25 log 2
    np.testing.assert_allclose(kl(task_policies, pi_0)[0, 0], 0.25 * math.log(2.0), rtol=1e-5)


def _first(params: Params) -> Params:
    return {name: value[0] for name, value in params.items()}


def test_episodes_get_the_reward_of_their_task_and_keep_their_padding() -> None:
    choice = torch.tensor([[[0, 1]], [[2, 0]]])
    batch = make_batch(choice, torch.tensor([[[True, True]], [[True, False]]]))
    batch = batch._replace(reward=torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]]))
    nothing = torch.zeros(2)
    episodes = Episodes(nothing, nothing, None, nothing, nothing, nothing, nothing, nothing)  # type: ignore[arg-type]
    config = DistralConfig(kl_weight=1.0, entropy_weight=0.0)
    found = regularise(episodes, batch, POLICY, CENTROID, config).reward
    # task 0: log(.25 / .5), log(.5 / .25); task 1: log(.25 / .8)
    expected = [[1.0 - math.log(2.0), 2.0 + math.log(2.0)], [3.0 + math.log(0.3125), 0.0]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not found.requires_grad


def test_the_reward_of_an_iteration_is_regularised_and_the_return_is_not() -> None:
    learner = make_learner(kl_weight=0.5, entropy_weight=0.25)
    next(learner.train())
    plain, regularised = learner.sample()
    centroid = centroid_log_prob(learner.policy, learner.centroid, plain)
    expected = regularised_reward(plain.reward, plain.old_log_prob, centroid, 0.5, 0.25)
    torch.testing.assert_close(regularised.reward[plain.valid], expected[plain.valid])
    assert not torch.equal(plain.reward, regularised.reward)
    assert torch.equal(plain.choice, regularised.choice)
    assert not torch.equal(plain.advantage, regularised.advantage)


def test_both_samples_have_standardised_advantages_of_the_configured_discount_and_trace() -> None:
    training = PpoSteps(epochs=1, minibatches=1, discount=0.5, trace=0.9)
    for batch in make_learner(kl_weight=0.5, training=training).sample():
        check_advantages(batch, 0.5, 0.9)


def test_task_policies_learn_from_the_regularised_reward() -> None:
    one, other = make_learner(entropy_weight=0.0), make_learner(entropy_weight=1.0)
    metrics = next(one.train()), next(other.train())
    # the same samples, other advantages
    assert metrics[0]["return"] == metrics[1]["return"]
    assert any(not torch.equal(value, other.params[name]) for name, value in one.params.items())


# Distillation


def test_the_loss_is_the_mean_of_the_tasks_whatever_their_lengths() -> None:
    # task 0 chose 0 and 1, task 1 chose 1 once: -(log .25 + log .5) / 2 and -log .5
    batch = make_batch(torch.tensor([[[0, 1]], [[1, 2]]]), torch.tensor([[[True, True]], [[True, False]]]))
    expected = (1.5 * math.log(2.0) + math.log(2.0)) / 2.0
    np.testing.assert_allclose(distillation_loss(POLICY, CENTROID, batch), expected, rtol=1e-5)


def test_the_centroid_becomes_the_mixture_of_the_task_policies() -> None:
    """Without an observation the most likely centroid has the frequencies of the choices: here 3, 4 and 1 of 8."""
    batch = make_batch(torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 2]]]))
    config = DistralConfig(distillation_steps=400, distillation_rate=0.03)
    moments = Moments.zeros(CENTROID)
    before = distillation_loss(POLICY, CENTROID, batch)
    found, moments, mean = distil(POLICY, CENTROID, moments, batch, config, 1.0)
    found, moments, _ = distil(POLICY, found, moments, batch, config, 0.1)
    assert moments.steps == 800
    assert mean < float(before)
    chances = POLICY(found, torch.zeros(1, 1, 1))[0].softmax(-1).flatten()
    np.testing.assert_allclose(chances, [3 / 8, 4 / 8, 1 / 8], atol=0.01)
    assert all(not value.requires_grad for value in found.values())


def test_the_task_policies_are_no_part_of_the_distillation_nor_the_centroid_of_their_improvement() -> None:
    learner = make_learner(distillation_rate=1e-9)
    before = {name: value.clone() for name, value in learner.centroid.items()}
    next(learner.train())
    for name, value in learner.centroid.items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0.0)
    learner = make_learner(training=PpoSteps(learning_rate=1e-9))
    next(learner.train())
    for name, value in learner.params.items():
        torch.testing.assert_close(value, before[name].expand_as(value), atol=1e-6, rtol=0.0)
    assert any(not torch.equal(before[name], value) for name, value in learner.centroid.items())


# Learning


def test_the_centroid_learns_what_the_tasks_share() -> None:
    """Task policies may take either good arm; close to the centroid they all take the shared one."""
    training = PpoSteps(epochs=4, minibatches=2, learning_rate=0.03)
    changes: dict[str, Any] = {"iterations": 40, "episodes": 16, "kl_weight": 0.1, "training": training}
    learner = make_learner("choice", rows=128, distillation_rate=0.03, distillation_steps=4, **changes)
    list(learner.train())
    chances = learner.policy(learner.centroid, torch.zeros(1, 1, 1))[0].softmax(-1).flatten()
    assert chances[0] > 0.6
    assert chances[3] < 0.05


def test_an_agent_begins_with_the_centroid() -> None:
    learner = make_learner("raw")
    list(learner.train())
    agent = learner.agent(seed=2)
    agent.begin_task(4)
    for name, value in learner.centroid.items():
        assert torch.equal(agent.params[name], value.expand_as(agent.params[name]))
    plain = RowActor(learner.policy, for_tasks(_first(learner.centroid), 4), learner.space, 1, _seeded(2))
    one, other = (
        collect(learner.robot, learner.space, act, POINT_GOALS, np.random.default_rng(1), device=CPU).latent
        for act in (agent.act, plain)
    )
    assert torch.equal(one, other)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Refusals


def test_too_few_rows_and_goals_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected 8 robot rows .* got 7"):
        make_learner(rows=7)
    with pytest.raises(ConfigError, match=r"at least 5 train goals.* got 4"):
        make_learner(tasks=5)
    assert len(make_learner(tasks=3).params["layers.0.bias"]) == 3  # more goals than policies


def test_an_agent_has_one_row_a_task_unless_it_is_told_otherwise() -> None:
    assert make_learner().agent().rollouts == 1
    assert make_learner().agent(rollouts=2).rollouts == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("tasks", 0), ("kl_weight", -0.1), ("entropy_weight", -1.0), ("distillation_rate", 0.0), ("activation", "sine")],
)
def test_values_that_cannot_train_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"DistralConfig\.{field}: expected .* got '?{value}"):
        DistralConfig(**{field: value})


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = make_learner("choice")
    learner.centroid = {name: torch.full_like(value, torch.nan) for name, value in learner.centroid.items()}
    with pytest.raises(TrainingFault, match="iteration 0: expected a finite"):
        next(learner.train())
