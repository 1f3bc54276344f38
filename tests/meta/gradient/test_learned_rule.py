"""The learned update: gradient descent at first, its features by hand, what it learns and what flows into it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.meta.distribution import log_prob, sample
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.inner import GradientDescent, inner_step
from supple.meta.gradient.learned_rule import LearnedRule, compute_features
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.space import UnitSpace
from supple.meta.task_batch import TaskBatch
from supple.meta.testing import PointBatch

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,), activation="tanh")
TASKS = 3


def first_params() -> Params:
    return POLICY.init(torch.Generator().manual_seed(0), torch.float64)


def make_batch() -> TaskBatch:
    source = torch.Generator().manual_seed(1)
    observation = torch.randn((TASKS, 5, 4, 2), generator=source, dtype=torch.float64)
    old = POLICY(for_tasks(first_params(), TASKS), observation)
    choice = sample(old, source)
    reward = torch.randn((TASKS, 5, 4), generator=source, dtype=torch.float64)
    valid = torch.ones(TASKS, 5, 4, dtype=torch.bool)
    return TaskBatch(observation, choice, reward, reward, valid, old, log_prob(old, choice), reward[:, 0, 0])


def make_rule(update: LearnedRule, last_layer: float = 0.0) -> Params:
    rule = update.init(first_params(), torch.Generator().manual_seed(2))
    source = torch.Generator().manual_seed(3)
    for name in ("net.1.weight", "net.1.bias"):
        rule[name] = last_layer * torch.randn(rule[name].shape, generator=source, dtype=torch.float64)
    return rule


def test_it_starts_as_gradient_descent() -> None:
    batch, params = make_batch(), for_tasks(first_params(), TASKS)
    update = LearnedRule(step_size=0.3)
    for scale in (1.0, 0.5):
        found = inner_step(POLICY, update, make_rule(update), params, batch, scale=scale)
        expected = inner_step(POLICY, GradientDescent(0.3), {}, params, batch, scale=scale)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0.0, atol=1e-14)


def test_the_first_meta_gradient_of_theta_is_that_of_gradient_descent() -> None:
    """So the first meta-update of theta is that of MAML; psi moves beside it."""
    batch, update = make_batch(), LearnedRule(step_size=0.3)
    gradients = []
    for one, rule in ((update, make_rule(update)), (GradientDescent(0.3), {})):
        leaves = {name: value.requires_grad_() for name, value in first_params().items()}
        adapted = inner_step(POLICY, one, rule, for_tasks(leaves, TASKS), batch)  # type: ignore[arg-type]
        total = sum((value.sin().sum() for value in adapted.values()), torch.zeros(()))
        gradients.append(torch.autograd.grad(total, list(leaves.values())))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_features_by_hand() -> None:
    """g = e^-2, -1, 0, e^-10 / 2 and theta = 1, e^5, 0, -e^-5."""
    gradient = torch.tensor([math.exp(-2), -1.0, 0.0, -math.exp(-10) / 2], dtype=torch.float64)
    value = torch.tensor([1.0, math.exp(5), 0.0, -math.exp(-5)], dtype=torch.float64)
    expected = [[-0.2, 1.0, 0.0], [0.0, -1.0, 0.5], [-1.0, 0.0, -1.0], [-1.0, -0.5, -0.5]]
    torch.testing.assert_close(compute_features(gradient, value), torch.tensor(expected, dtype=torch.float64))
    leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert bool(torch.autograd.grad(compute_features(leaf, leaf).sum(), leaf)[0].isfinite())


def test_what_is_told_of_the_samples_by_hand() -> None:
    """J = 3, -1, 0 become J / (1 + |J|); |A| is 1, 2, 3 in four decisions, and 100 in the padding."""
    batch = make_batch()
    valid = torch.zeros_like(batch.valid)
    valid[:, :2, :2] = True
    size = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)[:, None, None]
    batch = batch._replace(
        objective=torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64),
        advantage=torch.where(valid, size, 100.0),
        valid=valid,
    )
    expected = [[0.75, 1.0], [-0.5, 2.0], [0.0, 3.0]]
    assert LearnedRule._sample_features(batch).tolist() == expected
    nothing = batch._replace(valid=torch.zeros_like(valid))
    assert LearnedRule._sample_features(nothing)[:, 1].tolist() == [0.0] * 3


def test_one_parameter_by_hand() -> None:
    """All weights into the hidden units 0 but the bias 1: gate = w0 tanh(1) + c0, out likewise."""
    update = LearnedRule(step_size=0.5, hidden=1, addition=0.1)
    rule = {name: torch.zeros_like(value) for name, value in make_rule(update).items()}
    rule["net.0.bias"] += 1.0
    rule["net.1.weight"] += torch.tensor([[0.4], [-2.0]], dtype=torch.float64)
    rule["net.1.bias"] += torch.tensor([0.1, 0.3], dtype=torch.float64)
    rule["log_addition"] += math.log(0.1)
    rule["log_step.log_scale"] += math.log(0.5)
    params = {"log_scale": torch.full((TASKS, 2), 7.0, dtype=torch.float64)}
    gradient = {"log_scale": torch.full((TASKS, 2), 3.0, dtype=torch.float64)}
    found = update.apply(rule, params, gradient, make_batch(), 1.0)["log_scale"]
    gate, out = 0.4 * math.tanh(1.0) + 0.1, -2.0 * math.tanh(1.0) + 0.3
    assert found.flatten().tolist() == pytest.approx([7.0 - 0.5 * 3.0 * (1.0 + math.tanh(gate)) + 0.1 * out] * 6)


def test_tasks_do_not_mix() -> None:
    update, params = LearnedRule(), for_tasks(first_params(), TASKS)
    rule, batch = make_rule(update, 0.5), make_batch()
    before = inner_step(POLICY, update, rule, params, batch)
    changed = batch._replace(
        advantage=batch.advantage * torch.tensor([1.0, 1.0, -3.0]).double()[:, None, None],
        objective=batch.objective + torch.tensor([0.0, 0.0, 1.0]).double(),
    )
    after = inner_step(POLICY, update, rule, params, changed)
    for name, value in before.items():
        torch.testing.assert_close(after[name][:2], value[:2])
        assert not torch.allclose(after[name][2], value[2])


def outer_gradient(update: LearnedRule, rule: Params, watched: str) -> tuple[Tensor, Any]:
    """d(sum of cosines of theta')/d(rule[watched]), and the function itself."""
    batch = make_batch()

    def value(moved: Tensor) -> Tensor:
        params = for_tasks({name: one.requires_grad_() for name, one in first_params().items()}, TASKS)
        adapted = inner_step(POLICY, update, {**rule, watched: moved}, params, batch)
        return sum((one.cos().sum() for one in adapted.values()), torch.zeros(()))

    leaf = rule[watched].clone().requires_grad_()
    return torch.autograd.grad(value(leaf), leaf)[0], value


@pytest.mark.parametrize(
    "watched",
    ["net.0.weight", "net.0.bias", "net.1.weight", "log_addition", "embedding.log_scale", "log_step.log_scale"],
)
def test_gradients_of_psi_are_those_of_finite_differences(watched: str) -> None:
    update = LearnedRule(step_size=0.3, hidden=3, embedding=2)
    rule = make_rule(update, 0.5)
    gradient, value = outer_gradient(update, rule, watched)
    towards = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    eps = 1e-5
    up, down = (float(value(rule[watched] + shift * towards).detach()) for shift in (eps, -eps))
    assert float((gradient * towards).sum()) == pytest.approx((up - down) / (2 * eps), rel=1e-6)
    assert abs(up - down) > 1e-10


@pytest.mark.parametrize("through", [False, True])
def test_features_carry_gradients_only_if_asked_to(through: bool) -> None:
    update = LearnedRule(through_features=through)
    rule = make_rule(update, 0.5)
    # without descent nothing but the features depends on the gradient
    rule = {name: value - 100.0 if name.startswith("log_step") else value for name, value in rule.items()}
    gradient = {name: torch.ones_like(one) for name, one in for_tasks(first_params(), TASKS).items()}
    watched = gradient["layers.0.bias"].clone().requires_grad_()
    found = update.apply(
        rule, for_tasks(first_params(), TASKS), {**gradient, "layers.0.bias": watched}, make_batch(), 1.0
    )
    slope = torch.autograd.grad(found["layers.0.bias"].sum(), watched)[0]
    assert (float(slope.abs().max()) > 1e-6) is through


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_a_learner_trains_theta_and_psi_and_resumes(outer: Any) -> None:
    def make(seed: int) -> MamlLearner:
        robot = PointBatch(16, episode_steps=4)
        goals = np.array([[1.2, 0], [-1.2, 0]], np.float32)
        config = MamlConfig(hidden=(4,), iterations=3, tasks=2, episodes=8, outer=outer)
        return MamlLearner(UnitSpace(robot.spec), robot, goals, config, update=LearnedRule(hidden=3), seed=seed)

    whole, first, second = make(0), make(0), make(5)
    start = {name: value.detach().clone() for name, value in whole.meta.items()}
    list(whole.train())
    next(first.train())
    tensors, facts = first.state()
    second.load_state({name: value.clone() for name, value in tensors.items()}, facts)
    list(second.train())
    assert all(torch.equal(value, second.meta[name]) for name, value in whole.meta.items())
    for name in ("policy.layers.0.weight", "rule.net.1.weight", "rule.net.0.weight", "rule.log_step.log_scale"):
        assert not torch.equal(start[name], whole.meta[name]), name
