"""How long a policy computes for each step of a log, and whether that would have been in time.

The computing time of a step is measured on this machine. In the time of the log, an observation arrives at the stamp of
its step; the policy begins when it has arrived and the step before is done; and the answer is late if it is ready only
after the next control period began. So one slow step delays those behind it, as on the robot.

Times are counted in bins that are 2 % wide, so that a long log takes no more memory than a short one.

Axes: T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATIO = math.log(1.02)
LEAST = 1e-7
"""Seconds; the lower end of bin 0."""
PERCENTILES = (50.0, 99.0, 99.9)


def compute_responses(seconds: NDArray[np.float64], arrival: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time from the arrival of each observation to its command, seconds, (T,).

    Args:
        seconds: Computing time of each step, (T,).
        arrival: When its observation arrived, in the time of the log, seconds, (T,).
    """
    responses, done = np.empty(len(seconds)), -math.inf
    for step, (took, came) in enumerate(zip(seconds, arrival, strict=True)):
        done = max(done, came) + took
        responses[step] = done - came
    return responses


def count_bins(values: NDArray[np.float64]) -> dict[str, int]:
    """Number of values in each bin that has any; the names are those of the bins."""
    index = np.ceil(np.log(np.maximum(values, LEAST) / LEAST) / RATIO).astype(np.int64)
    names, counts = np.unique(index, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def merge_bins(parts: Iterable[Mapping[str, int]]) -> dict[int, int]:
    """The sum of several counts, in the order of the bins."""
    merged: dict[int, int] = {}
    for part in parts:
        for name, count in part.items():
            merged[int(name)] = merged.get(int(name), 0) + count
    return dict(sorted(merged.items()))


def find_percentile(bins: Mapping[int, int], percentile: float) -> float:
    """The upper end of the bin in which so many percent of the values are reached, seconds."""
    wanted, below = percentile / 100.0 * sum(bins.values()), 0
    for index, count in bins.items():
        below += count
        if below >= wanted - 1e-9:
            return end_of(index)
    return 0.0


def end_of(index: int) -> float:
    """The upper end of a bin, seconds."""
    return LEAST * math.exp(index * RATIO)


def record_latency(seconds: NDArray[np.float64], arrival: NDArray[np.float64], period: float) -> dict[str, Any]:
    """What is kept of one episode."""
    responses = compute_responses(seconds, arrival)
    return {
        "computing": count_bins(seconds),
        "response": count_bins(responses),
        "misses": int((responses > period).sum()),
        "steps": len(seconds),
        "longest": float(seconds.max()),
    }
