"""Losses against worked numbers, and the gradients of both MAML objectives against enumeration of a bandit.

The bandit: K = 3 arms with rewards 1, .2, -.5, a softmax policy over theta = RandomState(0).randn(3) / 2, one inner
step of size .7. All datasets are enumerated, so that the gradients are exact.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supple.meta.distribution import Categorical, log_prob
from supple.meta.gradient.inner import GradientDescent
from supple.meta.gradient.maml import adapt
from supple.meta.policy import MlpPolicy, Params
from supple.meta.policy_gradient import (
    compare_tasks,
    dice_loss,
    exploration_loss,
    lvc_loss,
    mean_kl,
    ppo_loss,
    ratio_loss,
    reinforce_loss,
    task_mean,
    task_sum,
)
from supple.meta.task_batch import TaskBatch

THETA = np.random.RandomState(0).randn(3) * 0.5
REWARD = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64)
POLICY = MlpPolicy(inputs=1, outputs=3, discrete=True, hidden=())
STEP = GradientDescent(0.7)

# Exact gradients, worked out by automatic differentiation of the enumerated objectives outside of this package
FORM_I = [0.29383621, -0.07783474, -0.21600147]
FORM_II = [0.29145954, -0.07675967, -0.21469987]


def meta_parameters() -> Params:
    weight, bias = torch.zeros(3, 1, dtype=torch.float64), torch.from_numpy(THETA)
    return {"policy.layers.0.weight": weight.requires_grad_(), "policy.layers.0.bias": bias.clone().requires_grad_()}


def batch_of(pulls: Tensor, weight: Tensor) -> TaskBatch:
    """Pulls (N, E) of a bandit, one decision per episode; the advantage is reward x weight."""
    choice = pulls[..., None, None].double()
    start = torch.from_numpy(THETA)
    old = Categorical(start.expand(*pulls.shape, 1, 3))
    return TaskBatch(
        observation=torch.zeros(*pulls.shape, 1, 1, dtype=torch.float64),
        choice=choice,
        reward=REWARD[pulls][..., None],
        advantage=(REWARD[pulls] * weight)[..., None],
        valid=torch.ones(*pulls.shape, 1, dtype=torch.bool),
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=torch.zeros(len(pulls), dtype=torch.float64),
    )


def objective_of(params: Params) -> Tensor:
    """J(theta'), the exact expected reward, shape (N,)."""
    return params["layers.0.bias"].softmax(-1) @ REWARD


def gradient_of(value: Tensor, meta: Params) -> list[float]:
    return torch.autograd.grad(value, [meta["policy.layers.0.bias"]])[0].tolist()


def form_one(correction: Any, first_order: bool = False) -> list[float]:
    """The gradient of J after the exact expected step: every arm once, weighed by 3 pi(arm)."""
    meta = meta_parameters()
    arms = torch.arange(3)[None]
    weight = 3.0 * torch.from_numpy(THETA).softmax(-1)
    adapted = adapt(POLICY, STEP, meta, [batch_of(arms, weight)], correction=correction, first_order=first_order)
    return gradient_of(objective_of(adapted.params).sum(), meta)


def form_two(correction: Any, exploration: str) -> list[float]:
    """The gradient of E_D[J(U(theta, D))]: all 9 datasets of two pulls, as 9 tasks, weighed by their probability."""
    meta = meta_parameters()
    datasets = torch.tensor(list(itertools.product(range(3), repeat=2)))
    probability = torch.from_numpy(THETA).softmax(-1)[datasets].prod(-1)
    adapted = adapt(
        POLICY, STEP, meta, [batch_of(datasets, torch.ones(()))], correction=correction, score=exploration != "none"
    )
    objective = objective_of(adapted.params)
    loss = -objective
    if exploration != "none":
        sums = adapted.log_prob_sums if exploration == "sum" else [adapted.log_prob_sums[0] / 2.0]
        loss = loss + exploration_loss(sums, objective)
    return gradient_of(-(probability * loss).sum(), meta)


@pytest.mark.parametrize("correction", ["lvc", "dice"])
def test_form_one_is_exact_with_a_correction(correction: str) -> None:
    assert form_one(correction) == pytest.approx(FORM_I, abs=1e-6)


def test_form_two_is_exact_with_the_sum_of_scores() -> None:
    assert form_two("none", "sum") == pytest.approx(FORM_II, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        (lambda: form_one("none"), [0.2640, -0.0500, -0.2140]),
        (lambda: form_one("none", first_order=True), [0.2914, -0.0559, -0.2355]),
        (lambda: form_two("none", "none"), [0.2617, -0.0490, -0.2127]),
        (lambda: form_two("none", "mean"), [0.2766, -0.0629, -0.2137]),
        (lambda: form_two("lvc", "sum"), [0.3210, -0.1040, -0.2170]),
    ],
    ids=["I plain", "I first order", "II without scores", "II mean of scores", "II counts scores twice"],
)
def test_other_combinations_are_neither(wrong: Any, value: list[float]) -> None:
    found = wrong()
    assert found == pytest.approx(value, abs=6e-5)
    for exact in (FORM_I, FORM_II):
        assert np.abs(np.subtract(found, exact)).max() > 1e-3


def test_form_two_is_the_gradient_of_the_enumerated_objective() -> None:
    def value(theta: np.ndarray[Any, Any]) -> float:
        total = 0.0
        for pulls in itertools.product(range(3), repeat=2):
            softmax = np.exp(theta) / np.exp(theta).sum()
            scores = np.eye(3)[list(pulls)] - softmax
            after = theta + 0.7 * (scores * REWARD.numpy()[list(pulls), None]).mean(0)
            total += softmax[list(pulls)].prod() * float(np.exp(after) / np.exp(after).sum() @ REWARD.numpy())
        return total

    eps = 1e-5
    numeric = [(value(THETA + eps * axis) - value(THETA - eps * axis)) / (2 * eps) for axis in np.eye(3)]
    assert form_two("none", "sum") == pytest.approx(numeric, abs=1e-8)


TWO_STEPS = MlpPolicy(inputs=2, outputs=2, discrete=True, hidden=())
PAYOFF = torch.tensor([[1.0, -0.4], [0.3, 0.9]], dtype=torch.float64)
"""Reward of the two choices of an episode of two decisions, paid at its end."""


def expected_payoff(params: Params) -> Tensor:
    """E[R] of a policy that sees which decision it is; `params` without a task axis."""
    logits = params["layers.0.weight"].T + params["layers.0.bias"]
    first, second = logits.softmax(-1)
    return first @ PAYOFF @ second


@pytest.mark.parametrize(("correction", "exact"), [("dice", True), ("lvc", False), ("none", False)])
def test_form_one_over_two_decisions_needs_dice(correction: Any, exact: bool) -> None:
    """All four episodes, weighed by their probability: the Hessian of E[R] has products of scores across time."""
    source = torch.Generator().manual_seed(0)
    start = {name: value + 0.3 for name, value in TWO_STEPS.init(source, torch.float64).items()}
    meta = {f"policy.{name}": value.requires_grad_() for name, value in start.items()}
    leaves = list(meta.values())
    gradient = torch.autograd.grad(expected_payoff(start), leaves, create_graph=True)
    after = {name: value + 0.7 * slope for (name, value), slope in zip(start.items(), gradient, strict=True)}
    expected = torch.cat([value.flatten() for value in torch.autograd.grad(expected_payoff(after), leaves)])

    choices = torch.tensor(list(itertools.product(range(2), repeat=2)))
    observation = torch.eye(2, dtype=torch.float64).expand(1, 4, 2, 2)
    choice = choices.double()[None, ..., None]
    with torch.no_grad():
        old = TWO_STEPS(start, observation)
    old_log_prob = log_prob(old, choice)
    # the loss is a mean over 4 episodes of 2 decisions
    advantage = 8.0 * old_log_prob.sum(-1).exp() * PAYOFF[choices[:, 0], choices[:, 1]]
    batch = TaskBatch(
        observation=observation,
        choice=choice,
        reward=torch.zeros(1, 4, 2, dtype=torch.float64),
        advantage=advantage[..., None].expand(1, 4, 2),
        valid=torch.ones(1, 4, 2, dtype=torch.bool),
        old=old,
        old_log_prob=old_log_prob,
        objective=torch.zeros(1, dtype=torch.float64),
    )
    adapted = adapt(TWO_STEPS, STEP, meta, [batch], correction=correction).params
    for name, value in adapted.items():  # the update itself is exact with each of them
        torch.testing.assert_close(value[0], after[name])
    value = expected_payoff({name: value[0] for name, value in adapted.items()})
    found = torch.cat([slope.flatten() for slope in torch.autograd.grad(value, leaves)])
    assert torch.allclose(found, expected, atol=1e-10) is exact
    assert exact or float((found - expected).abs().max()) > 1e-3


def random_samples(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    log_probs, advantage = (torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(2))
    return log_probs, advantage, torch.rand(shape, generator=source) < 0.7


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_all_inner_losses_have_the_gradient_of_reinforce_where_they_were_sampled(seed: int) -> None:
    log_probs, advantage, valid = random_samples((2, 3, 4), seed)
    gradients = []
    for loss in (
        lambda now: reinforce_loss(now, advantage, valid),
        lambda now: lvc_loss(now, log_probs, advantage, valid),
        lambda now: dice_loss(now, advantage, valid),
        lambda now: ppo_loss(now, log_probs, advantage, valid, 0.2),
    ):
        now = log_probs.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(now).sum(), now)[0])
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])
    assert bool((gradients[0][~valid] == 0).all())


def test_dice_differentiates_through_time() -> None:
    """Two decisions, A = (2, 5): d^2/dl0 dl1 of exp(l0) (A0 - ...) is what only DiCE has.

    The value is magic(l0) A0 - A0 + magic(l0 + l1) A1 - magic(l0) A1; d/dl0 d/dl1 leaves A1 = 5, over 2 samples, with
    a minus. LVC has no term with both.
    """
    advantage, valid = torch.tensor([[[2.0, 5.0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    start = torch.tensor([[[-1.0, -2.0]]])
    dice = torch.autograd.functional.hessian(lambda now: dice_loss(now, advantage, valid).sum(), start).reshape(2, 2)
    # d^2/dl0^2: magic(l0) (A0 - A1) + magic(l0 + l1) A1 = 2
    torch.testing.assert_close(dice, -torch.tensor([[2.0, 5.0], [5.0, 5.0]]) / 2.0)
    lvc = torch.autograd.functional.hessian(lambda now: lvc_loss(now, start, advantage, valid).sum(), start)
    torch.testing.assert_close(lvc.reshape(2, 2), -torch.tensor([[2.0, 0.0], [0.0, 5.0]]) / 2.0)


def test_ppo_stops_where_the_ratio_left_the_clip_the_right_way() -> None:
    """Ratios 1.5 and .5 with clip .2: gradients stop for A > 0 above 1.2 and for A < 0 below .8 only."""
    old = torch.zeros(1, 1, 4)
    now = torch.tensor([[[1.5, 1.5, 0.5, 0.5]]]).log().requires_grad_()
    advantage, valid = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]]), torch.ones(1, 1, 4, dtype=torch.bool)
    loss = ppo_loss(now, old, advantage, valid, 0.2)
    # min(1.5, 1.2), min(-1.5, -1.2), min(.5, .8), min(-.5, -.8)
    assert float(loss.detach()) == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    gradient = torch.autograd.grad(loss.sum(), now)[0].flatten()
    torch.testing.assert_close(gradient, -torch.tensor([0.0, -1.5, 0.5, 0.0]) / 4)


def test_means_and_sums_leave_padding_out_even_where_it_is_not_finite() -> None:
    value = torch.tensor([[[1.0, 2.0], [6.0, torch.nan]], [[4.0, torch.inf], [torch.nan, torch.nan]]])
    valid = torch.tensor([[[True, True], [True, False]], [[True, False], [False, False]]])
    assert task_mean(value, valid).tolist() == [3.0, 4.0]
    assert task_sum(value, valid).tolist() == [9.0, 4.0]


def test_ratio_loss_and_kl_by_hand() -> None:
    """Ratio 3/2 with A = 2: -3; KL((1/2, 1/2) || (3/4, 1/4)) = log(2/3)/2 + log(2)/2."""
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    log_probs, old = (torch.tensor([[[value]]]).log() for value in (0.75, 0.5))
    assert float(ratio_loss(log_probs, old, torch.full((1, 1, 1), 2.0), valid)) == pytest.approx(-3.0)
    p, q = (Categorical(torch.tensor([[[values]]]).log()) for values in ([0.5, 0.5], [0.75, 0.25]))
    assert float(mean_kl(p, q, valid)) == pytest.approx(0.5 * np.log(2 / 3) + 0.5 * np.log(2))


def test_tasks_are_compared_with_the_others() -> None:
    """Of 1, 2, 6: the means of the others are 4, 3.5, 1.5."""
    torch.testing.assert_close(compare_tasks(torch.tensor([1.0, 2.0, 6.0])), torch.tensor([-3.0, -1.5, 4.5]))
    assert compare_tasks(torch.tensor([7.0])).tolist() == [7.0]


def test_exploration_loss_sums_over_inner_steps_and_has_no_gradient_into_the_signal() -> None:
    first, second, signal = (torch.tensor(value, requires_grad=True) for value in ([1.0, 2.0], [3.0, 5.0], [2.0, -1.0]))
    loss = exploration_loss([first, second], signal)
    assert loss.tolist() == [-8.0, 7.0]
    gradients = torch.autograd.grad(loss.sum(), [first, second, signal], allow_unused=True)
    assert gradients[0].tolist() == gradients[1].tolist() == [-2.0, 1.0]
    assert gradients[2] is None
