"""The product of Gaussians: Bayes' rule, in any order, one factor at a time; the encoder's loss by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.inference.config import PearlConfig
from supple.meta.inference.pearl import Belief, context_tokens, encoder_kl, factors_of, multiply, posterior_of, product
from supple.meta.replay import Steps
from supple.skills.gaussian import Gaussian

COUNTS = st.integers(1, 12)
SEEDS = st.integers(0, 2**16)


def make_output(count: int, seed: int) -> Tensor:
    """Outputs of an encoder, (count, 2 E) with E = 3, in double precision."""
    source = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn((count, 6), generator=source, dtype=torch.float64)


def bayes(output: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance after one observation at a time: gain = var / (var + var_n), as in a Kalman filter."""
    means, variances = output[:, :3], np.log1p(np.exp(output[:, 3:]))
    mean, variance = means[0], variances[0]
    for other_mean, other_variance in zip(means[1:], variances[1:], strict=True):
        gain = variance / (variance + other_variance)
        mean, variance = mean + gain * (other_mean - mean), (1.0 - gain) * variance
    return mean, variance


def test_the_softplus_is_the_variance() -> None:
    # softplus(log(e^.25 - 1)) = .25: a standard deviation of .5, a precision of 4
    raw = math.log(math.expm1(0.25))
    factor = factors_of(torch.tensor([3.0, raw]))
    torch.testing.assert_close(factor, Belief(torch.tensor([4.0]), torch.tensor([12.0])))
    torch.testing.assert_close(posterior_of(factor), Gaussian(torch.tensor([3.0]), torch.tensor([0.5])))


def test_two_factors_by_hand() -> None:
    # precisions 4 and 1, means 3 and -2: precision 5, mean (12 - 2) / 5 = 2
    found = posterior_of(product(Belief(torch.tensor([[4.0], [1.0]]), torch.tensor([[12.0], [-2.0]]))))
    torch.testing.assert_close(found, Gaussian(torch.tensor([2.0]), torch.tensor([5.0]).rsqrt()))


def test_no_factor_is_surer_than_the_least_variance() -> None:
    factor = factors_of(torch.tensor([1.0, -100.0]))
    assert float(factor.precision) == pytest.approx(1e7)
    assert float(posterior_of(factor).loc) == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(count=COUNTS, seed=SEEDS)
def test_the_product_is_bayes_rule(count: int, seed: int) -> None:
    output = make_output(count, seed)
    posterior = posterior_of(product(factors_of(output)))
    mean, variance = bayes(output.numpy())
    np.testing.assert_allclose(posterior.loc.numpy(), mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(posterior.scale.square().numpy(), variance, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(count=COUNTS, seed=SEEDS)
def test_the_product_one_at_a_time_in_any_order_is_the_product_of_all(count: int, seed: int) -> None:
    factors = factors_of(make_output(count, seed))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))
    running = Belief(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    for index in order:
        running = multiply(running, Belief(factors.precision[index], factors.weighted[index]))
    torch.testing.assert_close(running, product(factors))
    torch.testing.assert_close(posterior_of(running), posterior_of(product(factors)))


@settings(max_examples=30, deadline=None)
@given(count=COUNTS, seed=SEEDS)
def test_more_transitions_are_never_less_sure(count: int, seed: int) -> None:
    factors = factors_of(make_output(count, seed))
    all_but_one = Belief(factors.precision[1:], factors.weighted[1:])
    assert bool((product(factors).precision >= product(all_but_one).precision).all())


def test_a_belief_without_transitions_is_the_prior_and_has_gradients() -> None:
    empty = Belief(torch.zeros(2, 3), torch.zeros(2, 3))
    torch.testing.assert_close(posterior_of(empty), Gaussian(torch.zeros(2, 3), torch.ones(2, 3)))
    output = torch.zeros(2, 5, 6, requires_grad=True)
    posterior = posterior_of(product(factors_of(output)))
    (gradient,) = torch.autograd.grad(posterior.loc.sum() + posterior.scale.sum(), [output])
    assert bool(torch.isfinite(gradient).all())


def test_the_kl_is_summed_over_tasks_and_dimensions() -> None:
    # KL(N(1, 1) || N(0, 1)) = .5, in each of 2 x 3 places
    assert float(encoder_kl(Gaussian(torch.ones(2, 3), torch.ones(2, 3)))) == pytest.approx(3.0)
    # KL(N(0, .5^2) || N(0, 1)) = log 2 + .125 - .5
    found = encoder_kl(Gaussian(torch.zeros(4, 1), torch.full((4, 1), 0.5)))
    assert float(found) == pytest.approx(4.0 * (math.log(2.0) - 0.375))


def test_what_the_encoder_reads() -> None:
    steps = Steps(*(torch.tensor([[float(index)]]) for index in range(5)))
    steps = steps._replace(reward=torch.tensor([2.0]), terminated=torch.tensor([3.0]))
    assert context_tokens(steps, next_observation=False).tolist() == [[0.0, 1.0, 2.0]]
    assert context_tokens(steps, next_observation=True).tolist() == [[0.0, 1.0, 2.0, 4.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 0}, r"PearlConfig.context: expected a whole number from 1 to .*, got 0"),
        ({"encoder_hidden": ()}, r"PearlConfig.encoder_hidden: expected 1 to 64 values, got 0"),
        ({"kl_weight": -1.0}, r"PearlConfig.kl_weight: expected a number from 0 to .*, got -1.0"),
    ],
)
def test_values_that_cannot_train_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PearlConfig(**changes)
