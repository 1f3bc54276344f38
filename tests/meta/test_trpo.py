"""Trust region steps on quadratics and a small policy, where the best step is known."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.config import TrustRegion
from supple.meta.distribution import Categorical, kl
from supple.meta.trpo import Params, conjugate_gradient, flatten, trpo_step, unflatten

HESSIAN = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
GRADIENT = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
START = {"a": torch.tensor([3.0], dtype=torch.float64), "b": torch.tensor([[1.0], [-1.0]], dtype=torch.float64)}


def displacement(params: Params) -> Tensor:
    return flatten(list(params.values())) - flatten(list(START.values()))


def quadratic(params: Params) -> tuple[Tensor, Tensor]:
    """Loss g x and "KL" x H x / 2 of the displacement x: the best step is -sqrt(2 delta / (g H^-1 g)) H^-1 g."""
    x = displacement(params)
    return GRADIENT @ x + 7.0, 0.5 * x @ HESSIAN @ x


def best_step(max_kl: float) -> Tensor:
    direction = torch.linalg.solve(HESSIAN, GRADIENT)
    return -math.sqrt(2.0 * max_kl / float(GRADIENT @ direction)) * direction


def test_the_step_on_a_quadratic_is_the_known_optimum_on_the_constraint() -> None:
    # slightly below the exact radius: at the optimum the KL is delta up to rounding, and may lie above it
    found, metrics = trpo_step(START, quadratic, TrustRegion(max_kl=0.02, damping=1e-12, shrink=1 - 1e-9))
    torch.testing.assert_close(displacement(found), best_step(0.02), rtol=1e-7, atol=0.0)
    assert metrics["kl"] == pytest.approx(0.02, rel=1e-7)
    assert metrics["kl"] <= 0.02
    assert metrics["loss_before"] == 7.0
    # the best loss within the region: -sqrt(2 delta g H^-1 g)
    assert metrics["loss_after"] == pytest.approx(7.0 + float(GRADIENT @ best_step(0.02)), rel=1e-7)
    assert {name: value.shape for name, value in found.items()} == {"a": (1,), "b": (2, 1)}
    assert not any(value.requires_grad for value in found.values())
    assert START["a"].item() == 3.0


def test_the_line_search_keeps_to_the_true_kl() -> None:
    """The KL of the search is four times that of the Hessian: half the step may remain, .8^4 is the first below."""

    def evaluate(params: Params) -> tuple[Tensor, Tensor]:
        loss, divergence = quadratic(params)
        return loss, divergence if torch.is_grad_enabled() else 4.0 * divergence

    found, metrics = trpo_step(START, evaluate, TrustRegion(max_kl=0.02, damping=1e-12))
    assert metrics["backtracks"] == 4.0
    assert metrics["kl"] == pytest.approx(0.02 * 4.0 * 0.8**8)
    torch.testing.assert_close(displacement(found), 0.8**4 * best_step(0.02), rtol=1e-6, atol=0.0)


def test_damping_adds_to_the_diagonal() -> None:
    found, _ = trpo_step(START, quadratic, TrustRegion(max_kl=0.02, damping=2.0))
    direction = -torch.linalg.solve(HESSIAN + 2.0 * torch.eye(3, dtype=torch.float64), GRADIENT)
    torch.testing.assert_close(
        displacement(found) / displacement(found).norm(), direction / direction.norm(), rtol=1e-6, atol=0.0
    )


def test_a_cheaper_curvature_gives_the_direction_only() -> None:
    found, metrics = trpo_step(
        START, quadratic, TrustRegion(max_kl=0.02, damping=1e-12), lambda now: displacement(now).square().sum() / 2.0
    )
    x = displacement(found)
    # with the identity for H, the step goes down the gradient
    torch.testing.assert_close(x / x.norm(), -GRADIENT / GRADIENT.norm())
    assert 0.0 < metrics["kl"] <= 0.02


@pytest.mark.parametrize("broken", ["worse", "too far", "nan"])
def test_nothing_moves_where_no_step_is_good(broken: str) -> None:
    def evaluate(params: Params) -> tuple[Tensor, Tensor]:
        loss, divergence = quadratic(params)
        if torch.is_grad_enabled():
            return loss, divergence
        if broken == "worse":
            return loss.new_tensor(8.0), divergence
        return loss, divergence.new_tensor(1.0 if broken == "too far" else math.nan)

    found, metrics = trpo_step(START, evaluate, TrustRegion())
    assert metrics == {"loss_before": 7.0, "loss_after": 7.0, "kl": 0.0, "backtracks": -1.0}
    assert all(torch.equal(found[name], value) for name, value in START.items())


def test_nothing_moves_without_a_gradient() -> None:
    found, metrics = trpo_step(START, lambda now: (quadratic(now)[0] * 0.0, quadratic(now)[1]), TrustRegion())
    assert metrics["backtracks"] == -1.0
    assert torch.equal(found["b"], START["b"])


def test_steps_improve_a_softmax_policy_within_the_trust_region() -> None:
    """Rewards 1, 0, -1: the probability of the first arm rises to 1 while every step stays within its KL."""
    logits = {"logits": torch.zeros(3, dtype=torch.float64), "unused": torch.zeros(2, dtype=torch.float64)}
    reward = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    region = TrustRegion(max_kl=0.05)
    for _ in range(8):
        old = logits["logits"].clone()

        def evaluate(now: Params, old: Tensor = old) -> tuple[Tensor, Tensor]:
            return -(now["logits"].softmax(-1) @ reward), kl(Categorical(old), Categorical(now["logits"]))

        logits, metrics = trpo_step(logits, evaluate, region)
        assert metrics["loss_after"] < metrics["loss_before"]
        assert float(kl(Categorical(old), Categorical(logits["logits"]))) <= 0.05
    assert float(logits["logits"].softmax(-1)[0]) > 0.9
    assert torch.equal(logits["unused"], torch.zeros(2, dtype=torch.float64))


@given(st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_numbers(seed: int, size: int) -> None:
    source = torch.Generator().manual_seed(seed)
    root = torch.randn((size, size), generator=source, dtype=torch.float64)
    matrix = root @ root.T + 0.5 * torch.eye(size, dtype=torch.float64)
    target = torch.randn(size, generator=source, dtype=torch.float64)
    calls = []

    def product(vector: Tensor) -> Tensor:
        calls.append(vector)
        return matrix @ vector

    found = conjugate_gradient(product, target, size)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target), rtol=1e-3, atol=1e-3)
    assert len(calls) <= size
    # directions are conjugate: what makes it faster than steepest descent
    assert all(abs(float(one @ matrix @ two)) < 1e-4 * float(one @ matrix @ one) + 1e-9 for one, two in pairwise(calls))


def test_conjugate_gradients_of_nothing_call_nothing() -> None:
    def product(vector: Tensor) -> Tensor:
        raise AssertionError

    assert conjugate_gradient(product, torch.zeros(3), 10).tolist() == [0.0, 0.0, 0.0]


def test_vectors_and_parameters_are_the_same_numbers() -> None:
    vector = flatten(list(START.values()))
    assert vector.tolist() == [3.0, 1.0, -1.0]
    assert all(torch.equal(value, START[name]) for name, value in unflatten(vector, START).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_kl": 0.0}, r"max_kl.*got 0\.0"),
        ({"shrink": 1.0}, r"shrink.*below 1.*got 1\.0"),
        ({"backtracks": -2}, "backtracks.*got -2"),
    ],
)
def test_a_region_without_a_step_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrustRegion(**change)
