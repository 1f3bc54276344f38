"""Interquartile means by hand and by scipy, and what a bootstrap over seeds and tasks must do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from supple.errors import ConfigError
from supple.pipeline.crossed_intervals import compute_crossed_interval, interquartile_mean, mean

numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def test_a_quarter_is_cut_at_either_end() -> None:
    # 8 values: 2 cut below (-99, 1), 2 above (6, 1000); mean of 2, 3, 4, 5
    values = np.array([1000.0, 5, 3, 1, -99, 2, 4, 6])
    assert interquartile_mean(values) == 3.5
    # 7 values: floor(7 / 4) = 1 cut at either end
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 60])) == 3.0


@given(numbers)
def test_interquartile_mean_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(float(trim_mean(values, 0.25)), abs=1e-9)


@given(numbers)
@settings(max_examples=10, deadline=None)
def test_the_interval_surrounds_the_value_and_is_reproducible(values: list[float]) -> None:
    one = compute_crossed_interval([values], mean)
    assert one == compute_crossed_interval([values], mean)
    assert min(values) - 1e-9 <= one.low <= one.high <= max(values) + 1e-9
    assert one.value == pytest.approx(np.mean(values), abs=1e-9)


def test_the_width_over_independent_tasks_is_that_of_the_normal_approximation() -> None:
    # 400 draws of N(0, 1): standard error 1 / 20, and 95 % are 1.96 of them to either side
    values = np.random.default_rng(3).standard_normal((1, 400))
    interval = compute_crossed_interval(values, mean)
    spread = 1.96 * values.std() / 20
    assert interval.high - interval.value == pytest.approx(spread, rel=0.1)
    assert interval.value - interval.low == pytest.approx(spread, rel=0.1)


def test_seeds_that_differ_widen_the_interval_however_many_tasks_agree() -> None:
    # four seeds score 0, 0, 1, 1 on every task: only the choice of seeds is uncertain
    table = np.repeat([[0.0], [0.0], [1.0], [1.0]], 50, axis=1)
    interval = compute_crossed_interval(table, mean)
    # the mean of 4 draws from {0, 1}: below 0.25 with probability 1/16, so that 2.5 % lie at 0
    assert interval == (0.5, 0.0, 1.0)
    same = compute_crossed_interval(table.T, mean)
    assert same.low <= 0.0 or same.low == pytest.approx(0.0)


def test_a_single_score_has_no_width() -> None:
    assert compute_crossed_interval([[2.0]]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("scores", [[], [1.0, 2.0], [[np.nan, 1.0]], [[]]])
def test_scores_without_seeds_or_tasks_are_refused(scores: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"expected finite scores of shape \(seeds, tasks\)"):
        compute_crossed_interval(scores)
