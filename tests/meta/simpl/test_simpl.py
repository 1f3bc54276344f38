"""Every loss against numbers worked out by hand, and the gradients that must not flow."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supple.meta.simpl.simpl import (
    critic_loss,
    embedding_kl,
    multiplier_loss,
    only_increase,
    policy_loss,
    reward_prediction_loss,
    soft_update,
    td_target,
)
from supple.skills.gaussian import Gaussian

VALUE = torch.tensor([[[4.0, 4.0, 4.0]], [[3.0, 5.0, 3.0]]])
"""(Q, M, B) = (2, 1, 3): the minimum over the critics is 3, 4, 3."""


def make_target(
    reward: float = 0.25, terminated: float = 0.0, value: Tensor = VALUE, kl: float = 2.0, alpha: float = 0.5
) -> Tensor:
    shape = value.shape[1:]
    return td_target(
        torch.full(shape, reward),
        torch.full(shape, terminated),
        value,
        torch.full(shape, kl),
        torch.full((shape[0], 1), alpha),
        discount=0.5,
        kl_clip=4.0,
    )


def test_target_takes_the_smaller_critic_and_charges_the_kl() -> None:
    # 0.25 + 0.5 (3 - 0.5 * 2) = 1.25, 0.25 + 0.5 (4 - 1) = 1.75
    assert make_target().tolist() == [[1.25, 1.75, 1.25]]


def test_termination_does_not_bootstrap() -> None:
    assert make_target(terminated=1.0).tolist() == [[0.25, 0.25, 0.25]]


def test_each_transition_has_its_own_termination() -> None:
    target = td_target(
        torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]]), VALUE, torch.zeros(1, 3), torch.ones(1, 1), 0.5, 4.0
    )
    assert target.tolist() == [[1.5, 0.0, 1.5]]


def test_kl_is_clipped_in_the_target() -> None:
    # 0.25 + 0.5 (3 - 0.5 * 4) = 0.75 for every KL of 4 and more
    assert make_target(kl=4.0).tolist() == make_target(kl=400.0).tolist() == [[0.75, 1.25, 0.75]]


def test_no_kl_gives_no_nan() -> None:
    # the reference multiplies by clamp(kl) / kl
    assert make_target(kl=0.0).tolist() == [[1.75, 2.25, 1.75]]


def test_each_task_has_its_own_alpha() -> None:
    value = VALUE.expand(2, 2, 3)
    target = td_target(
        torch.zeros(2, 3), torch.zeros(2, 3), value, torch.ones(2, 3), torch.tensor([[0.0], [1.0]]), 0.5, 4.0
    )
    assert target.tolist() == [[1.5, 2.0, 1.5], [1.0, 1.5, 1.0]]


def test_target_carries_no_gradient() -> None:
    value, prior_kl, alpha = (torch.ones(shape, requires_grad=True) for shape in ((2, 1, 3), (1, 3), (1, 1)))
    target = td_target(torch.zeros(1, 3), torch.zeros(1, 3), value, prior_kl, alpha, 0.9, 4.0)
    assert not target.requires_grad


def test_critic_loss_is_the_mean_over_both_critics() -> None:
    # target 4, 4, 3: squares 0, 0, 1 and 1, 1, 0
    target = torch.tensor([[4.0, 4.0, 3.0]])
    assert critic_loss(VALUE, target).item() == pytest.approx(3 / 6)


def test_critic_loss_pulls_towards_the_target() -> None:
    value = VALUE.clone().requires_grad_()
    critic_loss(value, torch.tensor([[4.0, 4.0, 3.0]])).backward()
    # d/dv mean (v - y)^2 = 2 (v - y) / 6
    assert value.grad is not None
    torch.testing.assert_close(value.grad, torch.tensor([[[0.0, 0.0, 1.0]], [[-1.0, 1.0, 0.0]]]) / 3.0)


def test_policy_loss_by_hand_and_its_signs() -> None:
    value, prior_kl = VALUE.clone().requires_grad_(), torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    loss = policy_loss(value, prior_kl, torch.tensor([[0.5]]))
    # mean (0.5 * (1, 2, 3) - (3, 4, 3)) = 1 - 10 / 3
    assert loss.item() == pytest.approx(1 - 10 / 3)
    loss.backward()
    assert value.grad is not None
    assert prior_kl.grad is not None
    # descent raises the smaller of the two values and lowers the KL
    torch.testing.assert_close(value.grad, -torch.tensor([[[0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0]]]) / 3.0)
    torch.testing.assert_close(prior_kl.grad, torch.full((1, 3), 0.5 / 3.0))


def test_policy_kl_is_not_clipped() -> None:
    assert policy_loss(torch.zeros(2, 1, 1), torch.tensor([[100.0]]), torch.ones(1, 1)).item() == 100.0


def test_embedding_kl_by_hand() -> None:
    embedding = Gaussian(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [1.0, 1.0]]))
    # loc 1: 1/2; scale 2: (4 - 1) / 2 - log 2
    assert embedding_kl(embedding).tolist() == pytest.approx([0.5 + 1.5 - math.log(2.0), 0.0])


@pytest.mark.parametrize(("divergence", "direction"), [(3.0, 1.0), (1.0, -1.0), (2.0, 0.0)])
def test_multiplier_rises_where_the_divergence_exceeds_the_target(divergence: float, direction: float) -> None:
    multiplier = torch.tensor(0.5, requires_grad=True)
    multiplier_loss(multiplier, torch.full((4,), divergence), 2.0).backward()
    assert multiplier.grad is not None
    assert -multiplier.grad.item() == direction


def test_multiplier_loss_teaches_the_policy_nothing() -> None:
    divergence = torch.ones(4, requires_grad=True)
    loss = multiplier_loss(torch.tensor(0.5, requires_grad=True), divergence, 2.0)
    assert torch.autograd.grad(loss, divergence, allow_unused=True) == (None,)


@given(st.lists(st.floats(-5.0, 5.0, width=32), min_size=1, max_size=5))
def test_only_increase_keeps_what_raises_a_multiplier(gradient: list[float]) -> None:
    parameter = torch.zeros(len(gradient), requires_grad=True)
    parameter.grad = torch.tensor(gradient)
    only_increase(parameter)
    assert parameter.grad.tolist() == [min(value, 0.0) for value in gradient]


def test_only_increase_leaves_a_multiplier_without_gradient_alone() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    only_increase(parameter)
    assert parameter.grad is None


def test_reward_prediction_by_hand() -> None:
    # -log sigmoid(0) = log 2 whatever the share
    assert reward_prediction_loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(math.log(2.0))
    right = reward_prediction_loss(torch.tensor([[-3.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item()
    assert right == pytest.approx(math.log1p(math.exp(-3.0)))


def test_the_best_reward_prediction_is_the_share() -> None:
    logit = torch.tensor([[math.log(0.25 / 0.75)]], requires_grad=True)  # sigmoid = .25
    reward_prediction_loss(logit, torch.tensor([[0.25]])).backward()
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(0.0, abs=1e-7)


def test_soft_update_by_hand() -> None:
    target, source = [torch.tensor([1.0]), torch.tensor([[0.0]])], [torch.tensor([3.0]), torch.tensor([[8.0]])]
    soft_update(target, source, 0.25)
    assert [value.item() for value in target] == [1.5, 2.0]
    assert [value.item() for value in source] == [3.0, 8.0]


def test_target_is_the_exact_soft_value_of_a_coin() -> None:
    # z' is -1 or 1 with equal chance, Q = 2 + z', r = 1, gamma = .5: the mean target is 1 + .5 (2 - .5 KL), enumerated
    latent = torch.tensor([[-1.0, 1.0]])
    target = make_target(reward=1.0, value=torch.stack((2.0 + latent, 2.0 + latent)), kl=1.0)
    assert target.mean().item() == pytest.approx(1.0 + 0.5 * (2.0 - 0.5))
