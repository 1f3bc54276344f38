"""Intervals over episodes."""

from __future__ import annotations

import numpy as np
import pytest

from supple.meta.off_policy.importance import Terms, plain_mean
from supple.meta.off_policy.intervals import (
    compute_bootstrap_t,
    compute_delta,
    compute_influence,
    compute_percentile,
    compute_standard_error,
)


def test_a_plain_mean_by_hand() -> None:
    # mean 3, squares 4 + 0 + 4, standard error sqrt(8 / (3 * 2)), t of 2 degrees of freedom 4.3027
    found = compute_delta(plain_mean(np.array([1.0, 3.0, 5.0])))
    assert found.error == pytest.approx(np.sqrt(8.0 / 6.0))
    assert (found.low, found.high) == pytest.approx((3.0 - 4.3027 * found.error, 3.0 + 4.3027 * found.error), abs=1e-3)


def test_influence_of_a_ratio_by_hand() -> None:
    # 6 / 3 = 2: (1 - 2 * 1) / 1.5 and (5 - 2 * 2) / 1.5
    terms = Terms(np.array([[1.0], [5.0]]), np.array([[1.0], [2.0]]))
    assert compute_influence(terms) == pytest.approx([-2.0 / 3.0, 2.0 / 3.0])
    assert compute_standard_error(terms) == pytest.approx(np.sqrt(8.0 / 9.0 / 2.0))


def test_influence_is_the_derivative_of_the_estimate() -> None:
    rng = np.random.default_rng(0)
    terms = Terms(rng.standard_normal((6, 3)), rng.random((6, 3)) + 0.1)
    for episode in range(6):
        step = np.ones(6, np.float64)
        step[episode] += 1e-6
        change = float(((step @ terms.numerator) / (step @ terms.denominator)).sum()) - terms.value
        assert change / 1e-6 == pytest.approx(compute_influence(terms)[episode] / 6.0, abs=1e-5)


def test_the_bootstrap_t_holds_a_skewed_mean_better_than_the_percentiles() -> None:
    rng, inside = np.random.default_rng(0), {"t": 0, "percentile": 0}
    for _ in range(300):
        terms = plain_mean(np.exp(1.2 * rng.standard_normal(30)))
        for name, found in (
            ("t", compute_bootstrap_t(terms, rng, 299)),
            ("percentile", compute_percentile(terms, rng, 299)),
        ):
            inside[name] += found.low <= np.exp(0.72) <= found.high
    # 0.93 and 0.86 with many data sets
    assert inside["t"] >= 268
    assert inside["t"] >= inside["percentile"] + 8


def test_the_percentiles_of_a_share_by_hand() -> None:
    # 50 of 100: the bootstrapped mean has a standard error of .05, so 1.96 * .05 to either side
    terms = plain_mean(np.tile([0.0, 1.0], 50))
    found = compute_percentile(terms, np.random.default_rng(0), 4000)
    assert (found.low, found.value, found.high) == pytest.approx((0.402, 0.5, 0.598), abs=0.012)
    # a single sample is one mean of drawn episodes
    single = compute_percentile(terms, np.random.default_rng(0), 1)
    assert single.low == single.high


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_episodes_that_are_all_the_same_have_no_width(values: list[float]) -> None:
    found = compute_bootstrap_t(plain_mean(np.array(values)), np.random.default_rng(0))
    assert found == (2.0, 2.0, 2.0, 0.0)


def test_a_column_without_weight_in_the_drawn_episodes_says_nothing() -> None:
    weights = np.array([[1.0], [1e-300], [1e-300]])
    found = compute_bootstrap_t(Terms(weights * 3.0, weights), np.random.default_rng(0))
    assert np.isfinite(found).all()
