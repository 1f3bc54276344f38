"""Means with 95 % intervals over seeds and tasks.

Seeds and tasks are both drawn: all tasks of a seed share its training, and all seeds of a task share the task. The
variance of the mean is that over seeds plus that over tasks, each by the jackknife (for a mean: the variance of the
seeds' means over S plus that of the tasks' means over N), with Satterthwaite's degrees of freedom. A share, such as
success, cannot leave 0 to 1 and is skewed near the ends. So it has Wilson's interval, with the number of independent
trials that would have the same variance.

With a single seed the interval is over tasks alone: another training may lie outside of it. A single share of a single
task is one trial, whose interval is wide: a solved task says that more than a fifth of such tasks are solved. A single
number without bounds has no width.

Simulated coverage (`tests/pipeline/test_intervals.py`): numbers without bounds .93 to .96; shares around .7 .94 to .97,
from 3 seeds x 2 tasks to 5 x 40; shares around .9, where most tasks are solved and few are not, .92 to .96. (A
percentile bootstrap over seeds and tasks: .74, .89 and .93 with 3 x 2, 3 x 10 and 5 x 40.) A single seed with 10 tasks:
.95 and .91 to .95, of the tasks alone.

Sources: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 1946;
Efron and Stein, "The Jackknife Estimate of Variance", Annals of Statistics 1981; Wilson, "Probable Inference, the Law
of Succession, and Statistical Inference", JASA 1927; Korn and Graubard, "Confidence Intervals for Proportions with
Small Expected Number of Positive Counts Estimated from Survey Data", Survey Methodology 1998 (the number of trials).

Axes: S seeds, N tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from ..errors import ConfigError

Statistic = Callable[[NDArray[np.float64]], float]
"""One number for a table (S, N)."""
Share = TypeVar("Share", float, NDArray[np.float64])


ONE_TRIAL = 1.96
"""Quantile of the normal distribution, for the interval of a single share."""


class Interval(NamedTuple):
    """A mean, or another statistic, and its 95 % interval."""

    mean: float
    low: float
    high: float


def mean(table: NDArray[np.float64]) -> float:
    """Mean of all values."""
    return float(table.mean())


def compute_interval(scores: ArrayLike, *, shares: bool = False, statistic: Statistic = mean) -> Interval:
    """The mean of all scores with its 95 % interval; see the module's docstring.

    Args:
        scores: One score per seed and task, shape (S, N), or per task, shape (N,). Episodes of one task are not
            independent of each other and must have been averaged. A seed is one training.
        shares: The scores lie within 0 and 1.
        statistic: Another statistic than the mean; for a share there is no other.

    Raises:
        ConfigError: There are no scores, or not one or two axes, or one is not finite.
    """
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ConfigError(
            f"interval: expected finite scores of shape (seeds, tasks), got shape {table.shape} with "
            f"{int((~np.isfinite(table)).sum())} not finite; average rollouts and give one row per seed"
        )
    found = statistic(table)
    parts = [(_jackknife(table, axis, statistic), size - 1) for axis, size in enumerate(table.shape) if size > 1]
    variance = sum(part for part, _ in parts)
    if variance > 0.0:
        freedom = 1.0 / sum((part / variance) ** 2 / size for part, size in parts)
    else:
        freedom = float(max(table.shape) - 1)
    # a single score says nothing of its variance; a single share is one trial
    quantile = float(stdtrit(freedom, 0.975)) if parts else ONE_TRIAL * shares
    if not shares:
        half = quantile * variance**0.5
        return Interval(found, found - half, found + half)
    trials = found * (1.0 - found) / variance if variance > 0.0 else max(table.shape)
    low, high = compute_wilson(found, trials, quantile)
    # rounding must not exclude the share itself at 0 and 1
    return Interval(found, max(0.0, min(low, found)), min(1.0, max(high, found)))


def _jackknife(table: NDArray[np.float64], axis: int, statistic: Statistic) -> float:
    """Variance of a statistic over the draw of the rows, or the columns, of a table (Efron and Stein 1981)."""
    size = table.shape[axis]
    without = np.array([statistic(np.delete(table, index, axis)) for index in range(size)])
    return float((size - 1) / size * ((without - without.mean()) ** 2).sum())


def compute_wilson(share: Share, trials: Share, quantile: float) -> tuple[Share, Share]:
    """Score interval of a share, (p + q^2/2n -+ q sqrt(p (1-p)/n + q^2/4n^2)) / (1 + q^2/n); arrays, or numbers."""
    spread = quantile**2 / trials
    half = quantile * (share * (1.0 - share) / trials + spread / (4.0 * trials)) ** 0.5
    return (share + spread / 2.0 - half) / (1.0 + spread), (share + spread / 2.0 + half) / (1.0 + spread)
