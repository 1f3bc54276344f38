"""Interquartile means with 95 % bootstrap intervals over tasks and seeds.

Sources: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (interquartile mean, percentile bootstrap); Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 2007 (resampling the rows and the columns of a crossed design independently).

Departure from Agarwal et al.: they resample runs within each task, since the tasks of a benchmark are what they are.
Held-out tasks are drawn like the train tasks, and every seed is evaluated on the same ones, so that both are resampled.

Axes: S seeds, N tasks, b resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError

RESAMPLES = 2_000
"""Bootstrap samples; their seed is fixed, so that the same values give the same interval."""
CHUNK = 100
"""Resamples held in memory at once."""

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""One number for each row: (b, S * N) -> (b,)."""


class Interval(NamedTuple):
    """A statistic, and where 95 % of its bootstrap distribution lies."""

    value: float
    low: float
    high: float


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half along the last axis; a quarter of the values, rounded down, is cut at either end."""
    cut = values.shape[-1] // 4
    middle: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return middle


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean along the last axis."""
    result: NDArray[np.float64] = values.mean(axis=-1)
    return result


def compute_crossed_interval(scores: ArrayLike, statistic: Statistic = interquartile_mean) -> Interval:
    """A statistic of all scores, with its 95 % interval over seeds and tasks.

    Args:
        scores: One score per seed and task, shape (S, N): rollouts of one task are not independent of each other and
            must have been averaged. A seed is one meta-training.
        statistic: Of all S * N scores.

    Raises:
        ConfigError: There are no scores, or not two axes, or one is not finite.
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ConfigError(
            f"interval: expected finite scores of shape (seeds, tasks), got shape {table.shape} with "
            f"{int((~np.isfinite(table)).sum())} not finite; average rollouts and give one row per seed"
        )
    rng = np.random.default_rng(0)
    seeds, tasks = table.shape
    found = []
    for begin in range(0, RESAMPLES, CHUNK):
        count = min(CHUNK, RESAMPLES - begin)
        rows, columns = rng.integers(seeds, size=(count, seeds, 1)), rng.integers(tasks, size=(count, 1, tasks))
        found.append(statistic(table[rows, columns].reshape(count, -1)))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return Interval(float(statistic(table.reshape(1, -1))[0]), float(low), float(high))
