"""The inner step: by hand, its learned step sizes, and what its gradient flows through."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supple.meta.distribution import log_prob, sample
from supple.meta.gradient.inner import GradientDescent, inner_loss, inner_step
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.task_batch import TaskBatch

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,), activation="tanh")
CORRECTIONS = ["none", "lvc", "dice"]


def first_params(policy: MlpPolicy = POLICY) -> Params:
    return policy.init(torch.Generator().manual_seed(0), torch.float64)


def make_batch(tasks: int = 3, policy: MlpPolicy = POLICY, seed: int = 1) -> TaskBatch:
    source = torch.Generator().manual_seed(seed)
    observation = torch.randn((tasks, 5, 4, 2), generator=source, dtype=torch.float64)
    old = policy(for_tasks(first_params(policy), tasks), observation)
    choice = sample(old, source)
    reward = torch.randn((tasks, 5, 4), generator=source, dtype=torch.float64)
    valid = torch.arange(4) < torch.randint(1, 5, (tasks, 5, 1), generator=source)
    return TaskBatch(observation, choice, reward, reward * valid, valid, old, log_prob(old, choice), reward[:, 0, 0])


def test_the_step_descends_the_gradient_of_each_task() -> None:
    """Against a loop over tasks without a task axis."""
    batch, params = make_batch(), first_params()
    found = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(params, 3), batch, scale=0.5)
    for task in range(3):
        own = {name: value.clone().requires_grad_() for name, value in params.items()}
        log_probs = log_prob(POLICY(own, batch.observation[task]), batch.choice[task])
        loss = -(log_probs * batch.advantage[task])[batch.valid[task]].mean()
        for name, gradient in zip(own, torch.autograd.grad(loss, list(own.values())), strict=True):
            torch.testing.assert_close(found[name][task], params[name] - 0.15 * gradient)


@pytest.mark.parametrize("step_sizes", ["fixed", "scalar", "tensor", "parameter"])
def test_every_grain_of_step_sizes_starts_as_the_fixed_one(step_sizes: Any) -> None:
    batch, params = make_batch(), first_params()
    update = GradientDescent(0.3, step_sizes)
    rule = update.init(params, torch.Generator())
    expected = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(params, 3), batch)
    found = inner_step(POLICY, update, rule, for_tasks(params, 3), batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    numbers = sum(value.numel() for value in rule.values())
    assert numbers == {"fixed": 0, "scalar": 1, "tensor": 5, "parameter": 24}[step_sizes]
    assert all(value.dtype == torch.float64 for value in rule.values())


def test_a_step_size_acts_on_its_own_tensor() -> None:
    update, params = GradientDescent(1.0, "tensor"), first_params()
    gradient = {name: torch.ones_like(value) for name, value in params.items()}
    rule = update.init(params, torch.Generator())
    rule["log_step.layers.1.bias"] = torch.tensor(math.log(0.25), dtype=torch.float64)
    found = update.apply(rule, params, gradient, make_batch(), 2.0)
    torch.testing.assert_close(found["layers.1.bias"], params["layers.1.bias"] - 0.5)
    torch.testing.assert_close(found["layers.0.bias"], params["layers.0.bias"] - 2.0)


def outer_value(params: Params) -> Tensor:
    """Some function of the adapted parameters that no symmetry makes simple."""
    total = torch.zeros((), dtype=torch.float64)
    for value in params.values():
        total = total + (value.cos() * torch.linspace(1, 2, value.numel(), dtype=torch.float64).view_as(value)).sum()
    return total


def meta_gradient(start: Params, batch: TaskBatch, **options: Any) -> list[Tensor | None]:
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    update = GradientDescent(0.3, "scalar")
    rule = {"log_step": torch.tensor(math.log(0.3), dtype=torch.float64, requires_grad=True)}
    adapted = inner_step(POLICY, update, rule, for_tasks(leaves, 3), batch, **options)
    return list(torch.autograd.grad(outer_value(adapted), [*leaves.values(), rule["log_step"]], allow_unused=True))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_second_order_gradient_is_that_of_finite_differences(correction: Any) -> None:
    """Along a random direction of theta and along the step size, for fixed samples.

    DiCE and LVC hold parts of their loss fixed while they are differentiated: at the sampling parameters, the inner
    gradient is a function of theta through pi_theta alone, which finite differences of the inner gradient see for
    `none` and `lvc` (the ratio is to the stored probabilities). For `dice` a single decision per episode makes
    d/dtheta of its gradient that of lvc, so that is compared instead.
    """
    batch, start = make_batch(), first_params()
    if correction == "dice":
        single = TaskBatch(
            *(value[:, :, :1] if isinstance(value, Tensor) and value.dim() > 2 else value for value in batch[:5]),
            type(batch.old)(*(value[:, :, :1] for value in batch.old)),
            batch.old_log_prob[:, :, :1],
            batch.objective,
        )
        for one, two in zip(
            meta_gradient(start, single, correction="dice"), meta_gradient(start, single, correction="lvc"), strict=True
        ):
            assert one is not None
            torch.testing.assert_close(one, two)
        return
    source = torch.Generator().manual_seed(5)
    direction = {name: torch.randn(value.shape, generator=source, dtype=torch.float64) for name, value in start.items()}

    def value(shift: float, log_shift: float) -> float:
        moved = {name: value + shift * direction[name] for name, value in start.items()}
        update = GradientDescent(0.3 * math.exp(log_shift))
        with torch.no_grad():
            return float(outer_value(inner_step(POLICY, update, {}, for_tasks(moved, 3), batch, correction=correction)))

    *gradients, step_gradient = meta_gradient(start, batch, correction=correction)
    along = sum(
        float((gradient * towards).sum()) for gradient, towards in zip(gradients, direction.values(), strict=True)
    )
    eps = 1e-5
    assert along == pytest.approx((value(eps, 0.0) - value(-eps, 0.0)) / (2 * eps), rel=1e-7)
    assert float(step_gradient) == pytest.approx((value(0.0, eps) - value(0.0, -eps)) / (2 * eps), rel=1e-7)


def test_first_order_is_the_gradient_at_the_adapted_parameters() -> None:
    batch, start = make_batch(), first_params()
    *gradients, step_gradient = meta_gradient(start, batch, first_order=True)
    adapted = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(start, 3), batch)
    leaves = {name: value.clone().requires_grad_() for name, value in adapted.items()}
    there = torch.autograd.grad(outer_value(leaves), list(leaves.values()))
    for found, expected in zip(gradients, there, strict=True):
        torch.testing.assert_close(found, expected.sum(0))
    # the step size still learns: -alpha g g'
    expected_step = sum(
        float(((adapted[name] - start[name]) * gradient).sum()) for name, gradient in zip(adapted, there, strict=True)
    )
    assert float(step_gradient) == pytest.approx(expected_step)
    second_order = meta_gradient(start, batch)
    assert any(not torch.allclose(one, two, rtol=1e-3) for one, two in zip(gradients, second_order, strict=False))


def test_without_gradients_the_step_is_the_same_and_leaves_no_graph() -> None:
    batch, start = make_batch(), first_params()
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    with torch.no_grad():
        quiet = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(leaves, 3), batch)
    loud = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(leaves, 3), batch)
    for name, value in quiet.items():
        assert not value.requires_grad
        assert loud[name].requires_grad
        assert torch.equal(value, loud[name])
    assert all(leaf.grad is None for leaf in leaves.values())


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_no_gradient_flows_into_the_samples(correction: Any) -> None:
    """Advantages, the sampling policy and its log probabilities are data; a graph behind them would be a leak."""
    batch = make_batch()
    for field in ("reward", "objective"):
        watched = batch._replace(**{field: getattr(batch, field).clone().requires_grad_()})
        loss = inner_loss(POLICY, for_tasks(first_params(), 3), watched, correction)
        assert not loss.requires_grad
    mean = batch.old[0].clone().requires_grad_()
    watched = batch._replace(old=type(batch.old)(mean, batch.old[1]))
    leaves = {name: value.requires_grad_() for name, value in first_params().items()}
    adapted = inner_step(POLICY, GradientDescent(0.3), {}, for_tasks(leaves, 3), watched, correction=correction)
    assert torch.autograd.grad(outer_value(adapted), [mean], allow_unused=True) == (None,)
