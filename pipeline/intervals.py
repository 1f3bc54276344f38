"""Means with 95 % intervals over tasks and seeds, and the flat records that hold them."""

from collections.abc import Sequence
from pathlib import Path
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


def find_commit(root: Path) -> str:
    """The commit that is checked out at `root`, shortened; "unknown" outside a repository."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:10]
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()[:10]
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0][:10] for line in packed if line.endswith(f" {name}")), "unknown")
    except OSError:
        return "unknown"
