"""The steps of one stretch of a bag, in which all clocks go on: see `clock_steps`.

Legend: T steps of one episode, K axes of a signal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping as Rows
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ...robots.spec import RobotSpec
from ..disk_arrays import blocks_of, make_array, release
from ..episode import Episode
from ..layout import find_missing
from ..schema import Feature
from ..side_arrays import TOO_FINE, find_rounded
from ..source_files import require_episode
from .control_steps import FLAGS, READ_FLAGS, cut_steps, find_whole, rows_at, rows_before
from .finding import list_files
from .mapping import NS, Mapping, Signal
from .quality import iterate_steps, measure_lag, measure_saturation, measure_topic
from .series import TRAJECTORY, Request, Series, is_missing
from .steps import NEVER, find_phase, follow, iterate_union, runs_of, sample, wrap

Array = npt.NDArray[Any]
Times = npt.NDArray[np.int64]
BLOCK_STEPS = 65_536
"""Steps that are computed at a time."""
MOST_STEPS = 2**28
"""Of one episode: more come from a stamp that is wrong by years."""
_EXTRA_BYTES = 8 + 8 + 4 + 1
"""Of one step: its time, its age as an integer and in seconds, and whether it is valid."""
FLAGS_REQUEST = Request("data", READ_FLAGS, tuple(str(FLAGS.index(name)) for name in READ_FLAGS), "float64")
_SHOWN_BYTES = 2**24
"""Of pictures that are copied at a time."""
_LOOK_AHEAD = 256
"""Samples behind the last step that interpolation may look at."""


class _Segment(NamedTuple):
    """A stretch of a bag that steps may be made of; ns, both ends included."""

    start: int
    end: int


class _Grid(NamedTuple):
    """The times of the steps of one episode."""

    start: int
    """Of the first step, ns."""
    period: int
    """ns."""
    steps: int

    def times(self, first: int, last: int) -> Times:
        """Of steps [first, last), ns."""
        return self.start + self.period * np.arange(first, last, dtype=np.int64)


@dataclass(slots=True)
class LeftOut:
    """What of a bag is in no episode."""

    invalid: int = 0
    """Steps without a recent measurement or a command."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each topic and axis was the reason."""
    unmarked_ns: int = 0
    """Time outside of the marks of episodes."""
    span_ns: int = 0
    """All time with measurements, where episodes are marked."""
    short: int = 0
    """Stretches of fewer steps than an episode has."""
    incomplete: bool = False
    """Whether there is a segment without one complete observation."""
    unsent: int = 0
    """Steps of a log of steps that lack a part."""


class Stretch:
    """Makes the steps of a stretch.

    Args:
        path: The bag.
        mapping: How topics become steps.
        robot: Gives the limits of its actions; None where nobody knows it.
        types: Message type of each topic.
        series: Its topics.
        columns: Their values by topic, field and axes.
        angles: Topic, field, axes and number of each axis that is an angle of a quaternion.
        before: The stretch before it; None where there is none.
        pictures: Of each feature with pictures, all of the bag, (n, height, width, channels); its column has numbers.
    """

    def __init__(
        self,
        path: Path,
        mapping: Mapping,
        robot: RobotSpec | None,
        types: dict[str, str],
        series: dict[str, Series],
        columns: dict[tuple[str, str, tuple[str, ...]], Array],
        angles: frozenset[tuple[str, str, tuple[str, ...], int]] = frozenset(),
        before: Stretch | None = None,
        pictures: Rows[str, Array] | None = None,
    ) -> None:
        self._path, self._mapping, self._robot, self._types = path, mapping, robot, types
        self.series, self._columns, self._angles, self._before = series, columns, angles, before
        self._pictures = pictures or {}

    def values(self, signal: Signal) -> Array:
        """The numbers of a signal, (n, K)."""
        return self._columns[signal.topic, signal.field, signal.axes]

    def cut(self, left_out: LeftOut) -> Iterator[tuple[Episode, bool, dict[str, Any]]]:
        """Every episode, whether it is the last part of the stretch, and a record of its quality."""
        if self._mapping.episodes.by == "steps":
            yield from self._cut_steps(left_out)
            return
        rule = self._mapping.episodes
        segments = self._find_segments(left_out)
        for number, segment in enumerate(segments):
            grid = self._make_grid(segment)
            if grid is None:
                left_out.incomplete = True
                continue
            start, steps = grid
            arrays, valid = self._compute_steps(segment, start, steps, left_out)
            keep = self._mapping.invalid == "keep"
            runs = np.array([[0, steps]]) if keep else runs_of(valid)
            for first, last in runs.tolist():
                if last - first < rule.min_steps:
                    left_out.short += 1
                    continue
                part = {name: array[first:last] for name, array in arrays.items()}
                self._turn_back(part)
                whole = number == len(segments) - 1 and last == steps
                times = start + np.array([first, last - 1]) * self._mapping.period_ns
                quality = self._measure(part, valid[first:last], _Segment(int(times[0]), int(times[1])))
                yield Episode(part, False, True), whole, quality

    def _cut_steps(self, left_out: LeftOut) -> Iterator[tuple[Episode, bool, dict[str, Any]]]:
        """As `cut`, where the log has its own steps, see `control_steps.py`."""
        mapping, rule = self._mapping, self._mapping.episodes
        step = np.asarray(self.series[rule.topic].time)
        flags = np.asarray(self._columns[rule.topic, FLAGS_REQUEST.field, FLAGS_REQUEST.axes])
        terminated, truncated, index = flags[:, 0] == 1.0, flags[:, 1] == 1.0, flags[:, 2]
        times = {signal: np.asarray(self.series[signal.topic].time) for signal in mapping.signals}
        shown = ("observation", "action", *self._pictures)
        before = {signal: time for signal, time in times.items() if signal.feature in shown}
        goals = {signal: time for signal, time in times.items() if signal.role == "goal"}
        observed = [time for signal, time in before.items() if not mapping.is_command(signal)]
        commanded = [time for signal, time in before.items() if mapping.is_command(signal)]
        other = [time for signal, time in times.items() if signal not in before and signal not in goals]
        whole = find_whole(step, observed, commanded, other)
        for time in goals.values():
            whole &= rows_before(time, step) >= 0
        left_out.unsent += int((~whole).sum())
        for rows, ended, cut in cut_steps(whole, index, terminated, truncated):
            if len(rows) < rule.min_steps:
                left_out.short += 1
                continue
            at = step[rows]
            arrays: dict[str, Array] = {}
            for feature in mapping.features():
                parts = []
                for signal in mapping.parts()[feature.name]:
                    time = times[signal]
                    held = rows_at(time, at) if signal not in before and signal not in goals else rows_before(time, at)
                    parts.append(np.asarray(self.values(signal)[held]))
                if feature.name in self._pictures:
                    arrays[feature.name] = _show(self._pictures[feature.name], parts[0][:, 0])
                    continue
                with np.errstate(over="ignore"):
                    array = np.concatenate(parts, axis=1).astype(feature.dtype)
                self._require_finite(feature, array, np.ones(len(rows), np.bool_))
                arrays[feature.name] = array if feature.shape else array[:, 0]
            seen = observed[0][rows_before(observed[0], at)]
            extras: dict[str, Array] = {
                "valid": np.ones(len(rows), np.uint8),
                "age": np.zeros(len(rows), np.float32),
                "time": seen.astype(np.int64),
            }
            arrays |= {name: extras[name] for name in mapping.extras}
            require_episode(
                len(rows),
                sum(array[:1].nbytes for array in arrays.values()),
                self._path,
                "adapt in shorter episodes",
            )
            span = _Segment(int(seen[0]), int(at[-1]))
            yield Episode(arrays, ended, cut), False, self._measure(arrays, np.ones(len(rows), np.bool_), span)

    def _find_segments(self, left_out: LeftOut) -> list[_Segment]:
        rule = self._mapping.episodes
        used = [self.series[signal.topic].time for signal in self._mapping.observations]
        if not all(map(len, used)):
            left_out.incomplete = True
            return []
        begin, end = min(int(time[0]) for time in used), max(int(time[-1]) for time in used)
        if rule.by == "bag":
            return [_Segment(begin, end)]
        if rule.by == "table":
            every = [self.series[signal.topic].time for signal in self._mapping.signals]
            begin = min(int(time[0]) for time in every if len(time))
            return [_Segment(begin + round(first * NS), begin + round(last * NS)) for first, last in rule.table]
        if rule.by == "gap":
            starts, ends = [begin], []
            before = begin
            for times in iterate_union(used):
                gaps = np.flatnonzero(np.diff(times, prepend=before) > round(rule.max_gap * NS))
                starts += times[gaps].tolist()
                ends += np.concatenate(([before], times))[gaps].tolist()
                before = int(times[-1])
            return [_Segment(first, last) for first, last in zip(starts, [*ends, before], strict=True)]
        time, started = self._find_marks()
        following = np.append(time[1:] - 1, end)
        found = [
            _Segment(max(begin, int(first)), min(end, int(last)))
            for first, last in zip(time[started], following[started], strict=True)
        ]
        if self._is_open:  # since a mark before the clock was set back
            found.insert(0, _Segment(begin, int(time[0]) - 1 if len(time) else end))
        found = [segment for segment in found if segment.start <= segment.end]
        left_out.span_ns += end - begin
        left_out.unmarked_ns += end - begin - sum(segment.end - segment.start for segment in found)
        return found

    @property
    def _is_open(self) -> bool:
        """Whether an episode goes on from the stretch before."""
        if self._before is None or self._mapping.episodes.by != "marker":
            return False
        _, started = self._before._find_marks()
        return bool(started[-1]) if len(started) else self._before._is_open

    def _find_marks(self) -> tuple[Times, npt.NDArray[np.bool_]]:
        """When episodes start or stop, (n,), and which of it are starts; a mark that repeats the one before is none.

        A start is one every time where no value stops an episode.
        """
        rule = self._mapping.episodes
        column = np.asarray(self._columns[rule.topic, rule.field, ("mark",)][:, 0])
        marked = ~np.isnan(column)
        time, started = np.asarray(self.series[rule.topic].time)[marked], column[marked] == 1.0
        if rule.stop:
            fresh = np.diff(started, prepend=self._is_open)
            time, started = time[fresh], started[fresh]
        return time, started

    def _slice(self, signal: Signal, segment: _Segment) -> tuple[Times, Array]:
        time = self.series[signal.topic].time
        low, high = np.searchsorted(time, segment.start, "left"), np.searchsorted(time, segment.end, "right")
        return time[low:high], self.values(signal)[low:high]

    def _make_grid(self, segment: _Segment) -> tuple[int, int] | None:
        """First time (ns) and number of steps; None without one complete observation."""
        start, end = segment.start, segment.start
        for signal in self._mapping.observations:
            time, values = self._slice(signal, segment)
            first = _find_complete(time, values)
            if first is None:
                return None
            start, end = max(start, first), max(end, int(time[-1]))
        start += self._find_phase(segment, start, end)
        ahead = self._mapping.action_source != "command"
        steps = (end - start) // self._mapping.period_ns + 1 - ahead
        if steps > MOST_STEPS:
            observed = [(signal.topic, self._slice(signal, segment)[0]) for signal in self._mapping.observations]
            longest, topic = max(
                ((int(step.max()), topic) for topic, time in observed for _, step in iterate_steps(time)),
                default=(end - start, "every topic"),
            )
            raise SourceError(
                f"{self._path}: expected an episode of at most {MOST_STEPS} steps, got {steps} over "
                f"{(end - start) / NS:g} s, of which {topic} is silent for {longest / NS:g} s at once; cut it there "
                "with [episodes] by = 'gap', or give another period or clock"
            )
        return (start, steps) if steps > 0 else None

    def _find_phase(self, segment: _Segment, start: int, end: int) -> int:
        """Time by which the first step is later than `start`, ns, so that measurements and commands are fresh."""
        mapping = self._mapping
        topics: dict[bool, dict[str, Times]] = {True: {}, False: {}}
        for signal in mapping.signals:
            if self._types[signal.topic] != TRAJECTORY:
                topics[mapping.is_command(signal)][signal.topic] = self._slice(signal, segment)[0]
        measured, commanded = (list(topics[kind].values()) for kind in (False, True))
        return find_phase(measured, commanded, start, end, mapping.period_ns) if commanded else 0

    def _compute_steps(
        self, segment: _Segment, start: int, steps: int, left_out: LeftOut
    ) -> tuple[dict[str, Array], Array]:
        """All arrays of the store for one segment, and which steps are valid, (T,)."""
        mapping, period = self._mapping, self._mapping.period_ns
        features = mapping.features()
        step_bytes = sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in features) + _EXTRA_BYTES
        require_episode(
            steps,
            step_bytes,
            self._path,
            "cut it with [episodes] by = 'gap', 'marker' or 'table', or give a longer period",
            on_disk=sum(file.stat().st_size for file in list_files(self._path)),
        )
        grid = _Grid(start, period, steps)
        arrays = {
            one.name: make_array((steps, 1), np.int64)
            if one.name in self._pictures
            else make_array((steps, len(one.axes)), one.dtype)
            for one in features
        }
        valid, age, sent = (make_array((steps,), kind) for kind in (np.bool_, np.int64, np.int64))
        valid[:], age[:], sent[:] = True, 0, segment.end
        for feature in features:
            offset = 0
            for signal in mapping.parts()[feature.name]:
                width = len(signal.axes)
                target = arrays[feature.name][:, offset : offset + width]
                self._fill(signal, segment, grid, target, (valid, age, sent), left_out.reasons)
                offset += width
            self._require_finite(feature, arrays[feature.name], valid)
            if not feature.shape:
                arrays[feature.name] = arrays[feature.name][:, 0]
            if feature.name in self._pictures:
                arrays[feature.name] = _show(self._pictures[feature.name], arrays[feature.name][:, 0])
        _forget_commands(valid, sent, grid)
        left_out.invalid += int(steps - valid.sum())
        extras: dict[str, Array] = {
            "valid": valid.view(np.uint8),
            "age": make_array((steps,), np.float32),
            "time": make_array((steps,), np.int64),
        }
        for block in blocks_of(steps, BLOCK_STEPS):
            extras["age"][block] = age[block] / NS
            extras["time"][block] = grid.times(block.start, block.stop)
            release(age, *extras.values())
        return arrays | {name: extras[name] for name in mapping.extras}, valid

    def _require_finite(self, feature: Feature, array: Array, valid: Array) -> None:
        """Refuses a missing value in a valid step of an array, (T, K)."""
        for block in blocks_of(len(array), BLOCK_STEPS):
            part, steps = array[block], np.flatnonzero(valid[block])
            bad = find_missing(part[steps])
            release(array, valid)
            if bad is not None:
                raise SourceError(
                    f"{self._path}: expected finite {feature.dtype} values for {feature.name}, got {part[steps[bad]]} "
                    f"in step {block.start + steps[bad]}; choose another dtype, or leave the axis out"
                )

    def _turn_back(self, arrays: dict[str, Array]) -> None:
        """Lets the angles of an episode begin within -pi .. pi, however often the robot turned before it."""
        mapping = self._mapping
        turns: dict[tuple[str, str, str], float] = {}
        parts = mapping.parts()
        for name in sorted(parts, key=lambda name: name != "observation"):
            column = 0
            for signal in parts[name]:
                moves = name == "action" and mapping.action_source == "delta"
                for axis, element in enumerate(signal.elements or signal.axes):
                    if (signal.topic, signal.field, signal.axes, axis) in self._angles and not moves:
                        array = arrays[name] if arrays[name].ndim == 1 else arrays[name][:, column]
                        key = signal.topic, signal.field, element
                        turn = turns.setdefault(key, 2 * np.pi * round(float(array[0]) / (2 * np.pi)))
                        for block in blocks_of(len(array)) if turn else ():
                            array[block] -= turn
                    column += 1

    def _fill(
        self,
        signal: Signal,
        segment: _Segment,
        grid: _Grid,
        target: Array,
        known_since: tuple[Array, Times, Times],
        reasons: Counter[tuple[str, str]],
    ) -> None:
        """Writes one signal into its columns, and what it says of validity, age and the time of the oldest command."""
        mapping = self._mapping
        valid, age, sent = known_since
        time, values = self._slice(signal, segment)
        most_age = signal.max_age or mapping.clock(signal.topic).max_age
        command = mapping.is_command(signal)
        if command and self._types[signal.topic] == TRAJECTORY:
            signal = replace(signal, interpolate="linear")
        most_gap = None if most_age is None or command else round(most_age * NS)
        ahead = mapping.period_ns if signal.feature == "action" and not command else 0
        oldest = 0
        for block in blocks_of(grid.steps, BLOCK_STEPS):
            now_ns = grid.times(block.start, block.stop)
            steps = now_ns + ahead
            high = int(np.searchsorted(time, steps[-1], "right")) + _LOOK_AHEAD
            now = sample(signal, time[oldest:high], values[oldest:high], steps, most_gap)
            if command:
                numbers, known = follow(signal, now)
                sent[block] = np.minimum(sent[block], np.where(now.age == NEVER, -NEVER, now_ns - now.age))
            else:
                numbers, known = now.values, now.age != NEVER
                if most_gap is not None:
                    known = known & (now.age <= most_gap)
                if not ahead:
                    age[block] = np.maximum(age[block], np.where(now.age == NEVER, 0, now.age))
            if ahead and mapping.action_source == "delta":
                before = sample(signal, time[oldest:high], values[oldest:high], now_ns, most_gap)
                numbers = numbers - before.values
                if signal.interpolate == "angle":
                    numbers = wrap(numbers)
                oldest += before.oldest
            else:
                oldest += now.oldest
            if signal.feature in ("observation", "action") and target.dtype == np.float32:
                row = find_rounded(numbers)
                if row is not None:
                    raise SourceError(
                        f"{self._path}: topic {signal.topic}: {TOO_FINE}, got {numbers[row]} in "
                        f"{signal.field or 'the message'}, step {block.start + row}; leave it out, or make it a "
                        "feature of its own with dtype = 'int64' or 'float64'"
                    )
            with np.errstate(over="ignore"):
                target[block] = numbers
            valid[block] &= known
            for axis, count in enumerate(np.bincount(now.axis[~known]).tolist()):
                reasons[signal.topic, signal.axes[axis]] += count
            release(time, values, target, valid, age, sent)

    def _measure(self, arrays: dict[str, Array], valid: Array, span: _Segment) -> dict[str, Any]:
        """The record of one episode; see `quality`."""
        topics = {}
        for name in sorted({signal.topic for signal in self._mapping.signals}):
            time = self.series[name].time
            low, high = np.searchsorted(time, span.start, "left"), np.searchsorted(time, span.end, "right")
            topics[name] = measure_topic(np.asarray(time[low:high]))
        facts: dict[str, Any] = {"topics": topics, "valid": round(float(valid.mean()), 6)}
        if "age" in arrays:
            facts["age_mean"], facts["age_max"] = (round(float(f(arrays["age"])), 6) for f in (np.mean, np.max))
        if "action" not in arrays or arrays["action"].ndim != 2:
            return facts
        if self._robot is not None:
            limits = self._robot.action
            facts["saturation"] = measure_saturation(arrays["action"], limits.low, limits.high)
        lag = self._measure_lag(arrays)
        return facts if lag is None else facts | {"lag_steps": lag}

    def _measure_lag(self, arrays: dict[str, Array]) -> int | None:
        """Lag between the axes of action and observation that have the same name or the same element.

        A number of an entry without a name, such as the first of an array, is no name.
        """
        if self._mapping.action_source != "command":
            return None
        places: dict[str, tuple[int, str]] = {}
        column = 0
        for signal in self._mapping.parts().get("observation", []):
            for axis, element, unit in zip(signal.axes, signal.elements or signal.axes, signal.units, strict=True):
                if signal.field.rpartition(".")[2] not in ("velocity", "effort") and not element.isdecimal():
                    places.setdefault(element, (column, unit))
                places[axis] = (column, unit)
                column += 1
        pairs, rates = [], set()
        column = 0
        for signal in self._mapping.parts()["action"]:
            for axis, element, unit in zip(signal.axes, signal.elements or signal.axes, signal.units, strict=True):
                place = places.get(axis, places.get(element))
                if place is not None:
                    pairs.append((column, place[0]))
                    rates.add(unit == f"{place[1]}/s")
                column += 1
        if not pairs or len(rates) > 1:
            return None
        actions, states = zip(*pairs, strict=True)
        observation = arrays["observation"].reshape(len(arrays["observation"]), -1)
        return measure_lag(arrays["action"][:, list(actions)], observation[:, list(states)], velocity=rates == {True})


def _show(pictures: Array, numbers: Array) -> Array:
    """The picture of each step (T, height, width, channels) by its number (T,): no step is before the first one."""
    found = make_array((len(numbers), *pictures.shape[1:]), np.uint8)
    for block in blocks_of(len(numbers), max(1, _SHOWN_BYTES // math.prod(pictures.shape[1:]))):
        found[block] = pictures[numbers[block]]
        release(found, pictures)
    return found


def _forget_commands(valid: npt.NDArray[np.bool_], sent: Times, grid: _Grid) -> None:
    """Makes steps behind a cut invalid until every command has come anew: nobody knows what was sent in between.

    Args:
        valid: Of each step, (T,); changed.
        sent: When the oldest command in force came, (T,), ns, in order.
        grid: Times of the steps.
    """
    for (_, end), (first, last) in pairwise(runs_of(valid).tolist()):
        fresh = np.searchsorted(sent[first:last], grid.start + grid.period * end, "left")
        valid[first : first + fresh] = False


def _find_complete(time: Times, values: Array) -> int | None:
    """First time at which every axis has had a value, ns."""
    seen = np.zeros(values.shape[1], np.bool_)
    for block in blocks_of(len(values), BLOCK_STEPS):
        so_far = seen | np.logical_or.accumulate(~is_missing(values[block]), 0)
        release(values)
        whole = so_far.all(1)
        if whole.any():
            return int(time[block.start + int(np.argmax(whole))])
        seen = so_far[-1]
    return None
