"""How good the log of an episode is: rates, jitter, gaps, age, saturation, and how far actions lead the motion.

Legend: n messages of a topic within the episode, T steps, K axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..disk_arrays import blocks_of, release
from .mapping import NS

Array = npt.NDArray[Any]
MOST_LAG = 25
"""Steps by which action and motion are moved against each other."""
_LEAST_STEPS = 20
_MOST_LAG_STEPS = 2**17
"""Of an episode, from its beginning, that are compared."""
MOST_SAMPLES = 2**18
"""Steps between messages that median and percentile are taken of, evenly over the episode."""
_BLOCK = 2**18
_EDGE = 1e-6
"""Share of an axis' range that counts as its limit."""


def measure_topic(time: npt.NDArray[np.int64]) -> dict[str, float]:
    """Of the stamps of one topic, (n,), ns: rate (Hz), 99 % of jitter (s), share dropped, longest gap (s)."""
    longest = max((int(step.max()) for _, step in iterate_steps(time)), default=0)
    if longest <= 0:
        return {"messages": len(time), "rate": 0.0, "jitter_p99": 0.0, "dropped": 0.0, "longest_gap": 0.0}
    some = np.arange(0, len(time) - 1, -(-len(time) // MOST_SAMPLES))
    step = time[some + 1] - time[some]
    step = step[step > 0] if (step > 0).any() else np.array([longest])
    usual = float(np.median(step))
    expected = 1 + (time[-1] - time[0]) / usual
    return {
        "messages": len(time),
        "rate": _round(NS / usual),
        "jitter_p99": _round(float(np.percentile(np.abs(step - usual), 99)) / NS),
        "dropped": _round(max(0.0, 1.0 - len(time) / expected)),
        "longest_gap": _round(longest / NS),
    }


def iterate_steps(time: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Differences between consecutive times, (n - 1,), in blocks, each with the number of its first one."""
    for start in range(0, len(time) - 1, _BLOCK):
        yield start, np.diff(time[start : start + _BLOCK + 1])
        release(time)


def measure_saturation(action: Array, low: Array, high: Array) -> float:
    """Share of the steps (T, K) in which some axis is at one of these limits, (K,)."""
    margin = _EDGE * np.where(np.isfinite(high - low), high - low, 1.0)
    count = 0
    for block in blocks_of(len(action)):
        part = action[block]
        at_limit = ((part <= low + margin) | (part >= high - margin)) & (high > low)
        count += int(at_limit.any(1).sum())
        release(action)
    return _round(count / len(action))


def measure_lag(action: Array, state: Array, *, velocity: bool = False) -> int | None:
    """Steps by which the motion follows the action: where their changes correlate best, over all axes.

    Negative where the motion comes first, which no robot does: then a clock or a latency is wrong. A lag of 0 or 1 is
    usual for a robot that follows at once.

    Args:
        action: (T, K).
        state: (T, K), the same axes.
        velocity: Whether actions command the rate of the state.

    Returns:
        None for episodes that are too short, or without motion.
    """
    if len(action) < 2 * _LEAST_STEPS or not action.shape[1]:
        return None
    action, state = action[:_MOST_LAG_STEPS], state[:_MOST_LAG_STEPS]
    change = np.diff(state, axis=0)
    drive = action[:-1] if velocity else np.diff(action, axis=0)
    change, drive = (part - part.mean(0) for part in (change.astype(np.float64), drive.astype(np.float64)))
    most = min(MOST_LAG, len(change) // 4)
    scores = [_correlate(drive, change, lag) for lag in range(-most, most + 1)]
    return None if not np.any(scores) else int(np.argmax(scores)) - most


def _correlate(drive: Array, change: Array, lag: int) -> float:
    """Mean correlation over the axes when the motion is moved back by `lag` steps."""
    a = drive[max(0, -lag) : len(drive) - max(0, lag)]
    b = change[max(0, lag) : len(change) - max(0, -lag)]
    power = np.sqrt((a * a).sum(0) * (b * b).sum(0))
    moving = power > 0
    return float(((a * b).sum(0)[moving] / power[moving]).mean()) if moving.any() else 0.0


def _round(value: float) -> float:
    """Six significant digits: the record is part of a store's digest."""
    return float(f"{value:.6g}")
