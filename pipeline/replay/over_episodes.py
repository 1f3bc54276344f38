"""Means of a log with their intervals: over episodes, never over steps, as steps of an episode are not independent.

Each episode counts the same, however long it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..intervals import compute_interval
from ..report.measure import format_number

MOST = 500
"""More episodes than that are averaged in so many groups, since an interval takes the square of their number."""


class Spread(NamedTuple):
    """A mean over episodes with its 95 % interval."""

    mean: float
    low: float | None
    """None where there is one episode, which says nothing of others."""
    high: float | None
    n: int
    """Episodes."""

    def show(self, factor: float = 1.0) -> str:
        """`0.12 (0.1 to 0.15)`."""
        if self.low is None or self.high is None:
            return format_number(factor * self.mean)
        mean, low, high = (format_number(factor * value) for value in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})"

    def to_json(self, factor: float = 1.0) -> dict[str, float | int | None]:
        """The fields, scaled."""
        ends = [None if end is None else factor * end for end in (self.low, self.high)]
        return {"mean": factor * self.mean, "low": ends[0], "high": ends[1], "n": self.n}


def compute_spread(values: Sequence[float], *, root: bool = False, shares: bool = False) -> Spread | None:
    """The mean over episodes; None without any.

    Args:
        values: One for each episode.
        root: They are mean squares: the root of their mean and of the ends of its interval.
        shares: They lie within 0 and 1.
    """
    if not values:
        return None
    groups = np.array_split(np.asarray(values, np.float64), min(len(values), MOST))
    found = compute_interval([float(group.mean()) for group in groups], shares=shares)
    mean, low, high = (math.sqrt(max(0.0, end)) for end in found) if root else found
    return Spread(mean, low, high, len(values)) if len(values) > 1 else Spread(mean, None, None, 1)
