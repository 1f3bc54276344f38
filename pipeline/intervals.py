"""Means with 95 % intervals over independent values."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
"""Bootstrap samples; their seed is fixed, so that the same values give the same interval."""


class Interval(NamedTuple):
    """A mean, and where 95 % of its bootstrap distribution lies."""

    mean: float
    low: float
    high: float


def compute_interval(values: Sequence[float]) -> Interval:
    """Percentile bootstrap of the mean of independent values, such as the success of each task and seed.

    Episodes of one task are not independent, so average them first.
    """
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    means = array[rng.integers(len(array), size=(RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(array.mean()), float(low), float(high))
