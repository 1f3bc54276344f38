"""Intervals by hand, by scipy, and their simulated coverage over seeds and tasks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, t, ttest_1samp

from supple.errors import ConfigError
from supple.pipeline.intervals import compute_interval, compute_wilson

numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20)
tables = st.integers(1, 4).flatmap(
    lambda tasks: st.lists(st.lists(st.floats(0.0, 1.0), min_size=tasks, max_size=tasks), min_size=1, max_size=4)
)


@given(numbers.filter(lambda values: len(values) > 1 and np.std(values) > 1e-6))
def test_tasks_of_one_seed_have_students_interval(values: list[float]) -> None:
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = compute_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)
    assert compute_interval([values]) == found


def test_seeds_and_tasks_by_hand() -> None:
    # means of the seeds 1.5, 3.5: variance 2 / 2; means of the tasks 2, 3: variance .5 / 2. So the variance of the mean
    # is 1.25, with 1.25^2 / (1^2 / 1 + .25^2 / 1) = 1.4706 degrees of freedom.
    found = compute_interval([[1.0, 2.0], [3.0, 4.0]])
    half = float(t.ppf(0.975, 1.25**2 / (1.0 + 0.0625))) * 1.25**0.5
    assert found == pytest.approx((2.5, 2.5 - half, 2.5 + half))


def test_seeds_that_differ_widen_the_interval_however_many_tasks_agree() -> None:
    table = np.repeat([[0.0], [0.0], [1.0], [1.0]], 50, axis=1)
    # four values 0, 0, 1, 1 and no variance over tasks
    expected = ttest_1samp([0.0, 0.0, 1.0, 1.0], 0.0).confidence_interval(0.95)
    assert compute_interval(table)[1:] == pytest.approx((expected.low, expected.high))
    assert compute_interval(table.T) == compute_interval(table)


def test_another_statistic_goes_through_the_jackknife() -> None:
    values = np.random.default_rng(3).standard_normal(400)
    found = compute_interval(values, statistic=lambda table: float(np.exp(table.mean())))
    # delta method: the standard error of exp(m) is exp(m) times that of m
    spread = 1.96 * found.mean * values.std() / 20
    assert found.high - found.mean == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 20), (10, 10), (57, 64)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert compute_wilson(successes / trials, float(trials), 1.959964) == pytest.approx(tuple(expected), abs=1e-6)


def test_a_share_that_nothing_missed_is_not_certain() -> None:
    # Wilson with 10 trials and q = t(.975, 9) = 2.262: the low end is 10 / (10 + 5.117)
    assert compute_interval([1.0] * 10, shares=True) == pytest.approx((1.0, 0.6615, 1.0), abs=1e-4)
    assert compute_interval([[0.0] * 10] * 3, shares=True) == pytest.approx((0.0, 0.0, 0.3385), abs=1e-4)


@given(tables)
def test_an_interval_of_shares_holds_the_mean_and_stays_in_its_bounds(table: list[list[float]]) -> None:
    found = compute_interval(table, shares=True)
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found == compute_interval(table, shares=True)


def test_a_single_task_is_one_trial() -> None:
    # 1 / (1 + 1.96^2) = .2066
    assert compute_interval([1.0], shares=True) == pytest.approx((1.0, 0.2066, 1.0), abs=1e-4)
    assert compute_interval([[0.0]], shares=True) == pytest.approx((0.0, 0.0, 0.7934), abs=1e-4)
    assert compute_interval([[2.0]]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("scores", [[], [np.nan, 1.0], [[np.nan, 1.0]], [[]], np.zeros((2, 2, 2))])
def test_scores_without_seeds_or_tasks_are_refused(scores: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError, match=r"expected finite scores of shape \(seeds, tasks\)"):
        compute_interval(scores)


def success(rng: np.random.Generator, seeds: int, tasks: int, logit: float) -> NDArray[np.float64]:
    """Tables of 20 episodes per cell, shape (k, S, N): seeds, tasks and cells differ by .5, 1.5 and 1 on the logit."""
    draws = 600
    spread = 0.5 * rng.normal(size=(draws, seeds, 1)) + 1.5 * rng.normal(size=(draws, 1, tasks))
    chance = 1.0 / (1.0 + np.exp(-(logit + spread + rng.normal(size=(draws, seeds, tasks)))))
    return rng.binomial(20, chance) / 20.0


@pytest.mark.parametrize(("seeds", "tasks"), [(3, 2), (3, 10), (5, 10), (5, 40)])
@pytest.mark.parametrize(("logit", "claimed"), [(1.0, 0.95), (3.0, 0.92)])
def test_coverage_is_what_is_claimed(seeds: int, tasks: int, logit: float, claimed: float) -> None:
    rng = np.random.default_rng(seeds * tasks)
    population = float(success(rng, 40, 40, logit).mean())
    found = [compute_interval(table, shares=True) for table in success(rng, seeds, tasks, logit)]
    covered = np.mean([low <= population <= high for _, low, high in found])
    # 600 draws: the standard error of the coverage is .009 to .011
    assert claimed - 0.025 <= covered <= 0.985


def test_coverage_of_numbers_without_bounds() -> None:
    rng = np.random.default_rng(5)
    draws = (rng.normal(size=(600, 3, 1)), rng.normal(size=(600, 1, 10)), rng.normal(size=(600, 3, 10)))
    found = [compute_interval(table) for table in 0.5 * draws[0] + draws[1] + draws[2]]
    covered = np.mean([low <= 0.0 <= high for _, low, high in found])
    assert 0.926 <= covered <= 0.985
