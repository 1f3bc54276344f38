"""Series of several topics at the steps of one grid: what was known, and what was commanded, at each of them.

Step k is at t_k = t_0 + k dt, in whole nanoseconds. An observation is the last measurement at or before t_k, so that a
policy that is trained on it sees no future. An action is the command in force from t_k on. Where commands come once a
step, t_0 decides how long that command has been in force already, and how soon the next one replaces it.
Legend: n samples of a series, K axes of a signal, T steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..disk_arrays import BLOCK_ROWS, release
from .mapping import NS, Signal
from .series import is_missing

Array = npt.NDArray[Any]
Times = npt.NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
"""Age of what was never measured, ns."""


_PHASES = 64
"""Beginnings of the first step, within one period, that are compared."""
_MOST_PROBES = 4096
"""Steps, evenly over the episode, at which ages are compared."""
_GAIN = 0.02
"""Share of the period by which ages have to fall for a later beginning."""


class Sampled(NamedTuple):
    """A signal on a grid."""

    values: Array
    """(T, K)."""
    age: Times
    """(T,), ns: of the oldest axis; NEVER where one has no value yet."""
    axis: Times
    """(T,): which axis that is."""
    oldest: int
    """First sample that later steps may still need."""


def sample(signal: Signal, time: Times, values: Array, grid: Times, most_gap: int | None) -> Sampled:
    """A signal on the grid, as its `interpolate` says.

    Args:
        signal: What it is.
        time: (n,), ns, in order.
        values: (n, K).
        grid: (T,), ns, in order.
        most_gap: ns; further apart than this no two samples are interpolated.
    """
    missing = is_missing(values)
    rows = held_rows(time, missing, grid)
    absent = rows < 0
    axes = np.arange(values.shape[1])
    held = np.asarray(values)[np.maximum(rows, 0), axes] if len(time) else np.zeros((len(grid), len(axes)))
    held = np.where(absent, 0, held)
    stamps = time[np.maximum(rows, 0)] if len(time) else np.zeros_like(rows)
    age = np.where(absent, NEVER, grid[:, None] - stamps)
    if signal.interpolate != "hold" and len(time):
        after = next_rows(time, missing, grid)
        later = np.asarray(values)[np.minimum(after, len(time) - 1), axes]
        span = time[np.minimum(after, len(time) - 1)] - stamps
        between = ~absent & (after < len(time)) & (span > 0)
        if most_gap is not None:
            between &= span <= most_gap
        share = np.where(between, (grid[:, None] - stamps) / np.maximum(span, 1), 0.0)
        held = _INTERPOLATIONS[signal.interpolate](held, np.where(between, later, held), share)
    return Sampled(held, age.max(1), age.argmax(1), max(0, int(rows[-1].min())))


def find_phase(measured: Sequence[Times], commanded: Sequence[Times], start: int, end: int, period: int) -> int:
    """Time by which the steps begin later than `start`, ns, so that they see the newest: 0 <= phase < period.

    The age of the oldest measurement and of the oldest command, summed, is lowest in the mean over the episode. So a
    step begins when its command has come, jitter included, and not when the arm has long begun to follow.

    Args:
        measured: Times of the messages of each topic, (n,), ns, in order.
        commanded: The same of topics that command.
        start: Earliest first step, ns.
        end: Latest last step, ns.
        period: ns.
    """
    steps = max(0, end - start) // period
    if not steps:
        return 0
    phases = period * np.arange(_PHASES) // _PHASES
    grid = start + period * np.arange(0, steps, -(-steps // _MOST_PROBES))[:, None] + phases
    total = sum(np.max([_measure_age(time, grid, 2 * period) for time in side], 0) for side in (measured, commanded))
    ages = np.asarray(total).mean(0)
    best = int(ages.argmin())
    return int(phases[best]) if ages[0] - ages[best] > _GAIN * period else 0


def _measure_age(time: Times, grid: Times, most: int) -> Times:
    """Time since the last message at each point of a grid, ns; what is older than `most`, or never came, counts so."""
    at = np.searchsorted(time, grid, "right") - 1
    age = np.where(at < 0, most, grid - time[np.maximum(at, 0)]) if len(time) else np.full_like(grid, most)
    release(time)
    return np.minimum(age, most)


def iterate_union(times: Sequence[Times], rows: int = BLOCK_ROWS) -> Iterator[Times]:
    """All times of several topics, (n,) each, ns, in order, together in order, in blocks without an empty one."""
    at = [0] * len(times)
    while any(place < len(one) for place, one in zip(at, times, strict=True)):
        last = min(
            int(one[min(place + rows, len(one)) - 1]) for place, one in zip(at, times, strict=True) if place < len(one)
        )
        ends = [int(np.searchsorted(one, last, "right")) for one in times]
        yield np.sort(np.concatenate([one[low:high] for one, low, high in zip(times, at, ends, strict=True)]))
        at = ends
        release(*times)


def held_rows(time: Times, missing: npt.NDArray[np.bool_], grid: Times) -> npt.NDArray[np.int64]:
    """Row of the last sample with a value at or before each step, per axis, (T, K); -1 where there is none."""
    at = np.searchsorted(time, grid, "right") - 1
    if not missing.any():
        return np.repeat(at[:, None], missing.shape[1], 1)
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(time))[:, None]), 0)
    return np.where(at[:, None] < 0, -1, last[np.maximum(at, 0)])


def next_rows(time: Times, missing: npt.NDArray[np.bool_], grid: Times) -> npt.NDArray[np.int64]:
    """Row of the first sample with a value after each step, per axis, (T, K); n where there is none."""
    at = np.searchsorted(time, grid, "right")
    if not missing.any():
        return np.repeat(at[:, None], missing.shape[1], 1)
    first = np.minimum.accumulate(np.where(missing, len(time), np.arange(len(time))[:, None])[::-1], 0)[::-1]
    return np.where(at[:, None] == len(time), len(time), first[np.minimum(at, len(time) - 1)])


def _line(first: Array, second: Array, share: Array) -> Array:
    value: Array = first + share * (second - first)
    return value


def _arc(first: Array, second: Array, share: Array) -> Array:
    """Along the shorter way around the circle, from the first angle on (rad)."""
    value: Array = first + share * wrap(second - first)
    return value


def _slerp(first: Array, second: Array, share: Array) -> Array:
    """Along the great circle between quaternions (T, 4), whatever the order of their components.

    K. Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985.
    """
    a, b = (side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12) for side in (first, second))
    cosine = (a * b).sum(1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.minimum(np.abs(cosine), 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < 1e-6  # the arc is a line there
    safe = np.where(near, 1.0, sine)
    t = share.min(1, keepdims=True)
    left = np.where(near, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    right = np.where(near, t, np.sin(t * angle) / safe)
    turned: Array = np.where(t == 0.0, first, left * a + right * b)
    return turned


_INTERPOLATIONS = {"linear": _line, "angle": _arc, "quaternion": _slerp}


def wrap(angle: Array) -> Array:
    """The same angle within -pi .. pi."""
    wrapped: Array = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def follow(signal: Signal, sampled: Sampled) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The command in force, (T, K), and whether it is known, (T,), as the timeout of its controller rules."""
    known = sampled.age != NEVER
    values = sampled.values
    if signal.timeout is not None:
        late = known & (sampled.age > round(signal.timeout * NS))
        if signal.after_timeout == "invalid":
            known = known & ~late
        else:
            values = np.where(late[:, None], 0, values)
    return values, known


def runs_of(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """First and last + 1 of every run of True, (runs, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], valid, [False])).astype(np.int8)))
    return edges.reshape(-1, 2)
