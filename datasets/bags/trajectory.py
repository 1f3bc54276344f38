"""Trajectories that an arm was sent, as the set-point at every moment.

A `JointTrajectory` holds points with times from its start; a stamp of 0 starts it when it arrives. A new one takes over
from the set-point that is in force then, and the last point is held: ros2_control, joint_trajectory_controller. The
set-point is therefore one line through knots, which this module computes.
Legend: n messages, P points of one message, K axes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from operator import gt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError

from ...errors import SourceError, describe_error
from ..disk_arrays import Column, release
from .clock_steps import Line
from .mapping import LOG_CLOCK, NS, TopicClock
from .message_types import load_types
from .recording import LATEST_NS, Topic
from .series import Flaws, Request, Series

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

Array = npt.NDArray[Any]
_BLOCK = 1024
"""Messages behind which the memory of columns on the disk is let go."""
FIELDS = {"positions": "position", "velocities": "velocity", "accelerations": "acceleration", "effort": "effort"}
"""Fields of a point that a signal may name, as `points.positions`."""


class TrajectoryReader:
    """Collects the trajectories of one topic; used as `TopicReader`. Few are sent, so each is decoded by itself."""

    def __init__(self, topic: Topic, clock: TopicClock, requests: tuple[Request, ...], where: str) -> None:
        self.topic, self.clock, self.requests = topic, clock, requests
        self._where = f"{where}: topic {topic.name}"
        self._types: Typestore = load_types(topic, where)
        for request in requests:
            if request.field.partition(".")[2] not in FIELDS or not request.field.startswith("points."):
                raise SourceError(
                    f"{self._where}: expected a field of points.{', points.'.join(FIELDS)}, got {request.field!r}; "
                    "correct the mapping"
                )
        self._starts, self._log_times, self._counts, self._groups = (array("q") for _ in range(4))
        self._points = Column("int64", 1)
        """Times of all points, from the start of their message, ns."""
        self._rows = [Column("float64", len(request.axes)) for request in requests]
        self._places: dict[tuple[str, ...], list[tuple[list[int], list[int]]]] = {}
        """For each request, its axes and where they stand, by the names of the joints."""
        self._undecodable, self._error = 0, ""
        self.names: dict[str, None] = {}
        self.lengths: dict[str, int] = {}

    def add(self, log_times: Sequence[int], payloads: Sequence[bytes], group: int = 0) -> None:
        """Takes messages of one block."""
        for log_time, payload in zip(log_times, payloads, strict=True):
            self._add(log_time, payload, group)

    def _add(self, log_time: int, payload: bytes, group: int) -> None:
        try:
            if self.topic.encoding == "cdr":
                message: Any = self._types.deserialize_cdr(payload, self.topic.type)
            else:
                message = self._types.deserialize_ros1(payload, self.topic.type)
            if not -LATEST_NS <= log_time <= LATEST_NS:
                raise ValueError(f"a message has the time {log_time} ns")
            after = [point.time_from_start.sec * NS + point.time_from_start.nanosec for point in message.points]
            if any(map(gt, after, after[1:])):
                raise ValueError("the times of its points run back, which no controller takes")
        except (SerdeError, ValueError, IndexError, MemoryError) as error:
            self._undecodable += 1
            self._error = self._error or describe_error(error)
            return
        stamp = message.header.stamp.sec * NS + message.header.stamp.nanosec
        self.names.update(dict.fromkeys(message.joint_names))
        self._starts.append(log_time if self.clock.clock == LOG_CLOCK or stamp == 0 else stamp)
        self._log_times.append(log_time)
        self._groups.append(group)
        self._counts.append(len(after))
        self._points.append(np.array(after, np.int64))
        names = tuple(message.joint_names)
        if names not in self._places:
            self._places = {names: [_locate(request, names) for request in self.requests]}
        for request, column, (axes, places) in zip(self.requests, self._rows, self._places[names], strict=True):
            column.append(_read_points(message.points, request, axes, places))

    def line(self) -> Line:
        """When its messages came; see `TopicReader.line` for errors."""
        if not self._starts:
            reason = f" ({self._error})" if self._error else ""
            raise SourceError(f"{self._where}: expected messages, got none{reason}; choose another topic")
        starts, log_times, groups = (
            np.array(numbers, np.int64) for numbers in (self._starts, self._log_times, self._groups)
        )
        own = not np.array_equal(starts, log_times)
        return Line(starts, log_times, groups, stamped=own, steady=not own)

    def finish(self, cuts: Sequence[int] = ()) -> list[Series]:
        """Knots of the set-point, in order, in stretches that begin with these messages; see `TopicReader.finish`."""
        starts, counts = self.line().time, np.array(self._counts, np.int64)
        firsts = (np.cumsum(counts) - counts).tolist()
        points, rows = self._points.finish()[:, 0], [column.finish() for column in self._rows]
        steps = [np.diff(starts[low:high]) for low, high in pairwise((0, *cuts, len(starts)))]
        backward = sum(int((step < 0).sum()) for step in steps)
        most = max(0, *(-int(step.min(initial=0)) for step in steps))
        flaws = Flaws(backward, most, 0, 0, self._undecodable)
        return [
            self._draw(range(low, high), starts, firsts, points, rows, flaws)
            for low, high in pairwise((0, *cuts, len(starts)))
        ]

    def _draw(
        self, messages: range, starts: Array, firsts: Sequence[int], points: Array, rows: Sequence[Array], flaws: Flaws
    ) -> Series:
        """The knots of some messages."""
        order = sorted(messages, key=starts.tolist().__getitem__)
        times, log_times = Column("int64", 1), Column("int64", 1)
        values = [Column("float64", len(request.axes)) for request in self.requests]
        before: list[Array | None] = [None] * len(values)
        knots = np.empty(0, np.int64)
        for number, index in enumerate(order):
            start = self._starts[index]
            end = self._starts[order[number + 1]] if number + 1 < len(order) else None
            part = slice(firsts[index], firsts[index] + self._counts[index])
            sent = start + points[part]
            previous, knots = knots, sent
            led = not len(sent) or sent[0] > start
            if led:
                knots = np.concatenate(([start], sent))
            kept = len(knots) if end is None else int(np.searchsorted(knots, end, "left"))
            for at, (found, column) in enumerate(zip(rows, values, strict=True)):
                numbers = found[part]
                if led:
                    numbers = np.concatenate([_value_at(start, previous, before[at], numbers), numbers])
                before[at] = numbers
                column.append(numbers[:kept])
            times.append(knots[:kept] - round(self.clock.latency * NS))
            log_times.append(np.full(kept, self._log_times[index], np.int64))
            if number % _BLOCK == 0:
                release(points, *rows)
        return Series(
            times.finish()[:, 0], log_times.finish()[:, 0], tuple(column.finish() for column in values), flaws
        )


def _locate(request: Request, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Axes of a request that are among the joints of a message, and where."""
    found = [(axis, names.index(name)) for axis, name in enumerate(request.elements or request.axes) if name in names]
    return [axis for axis, _ in found], [place for _, place in found]


def _read_points(points: Sequence[Any], request: Request, axes: Sequence[int], places: Sequence[int]) -> Array:
    """Values (P, K) of the wanted joints; NaN for one that the message does not name, or has no number of."""
    found = np.full((len(points), len(request.axes)), np.nan)
    field = request.field.partition(".")[2]
    for row, point in enumerate(points):
        numbers = getattr(point, field)
        if len(numbers) > max(places, default=-1):
            found[row, axes] = numbers[places]
        else:
            for axis, place in zip(axes, places, strict=True):
                if place < len(numbers):
                    found[row, axis] = numbers[place]
    return found


def _value_at(start: int, knots: Array, values: Array | None, points: Array) -> Array:
    """The set-point in force at `start`, (1, K): of the trajectory before; without one, the first new point."""
    first = points[:1] if len(points) else np.full((1, points.shape[1]), np.nan)
    if values is None or not len(knots):
        return first
    after = int(np.searchsorted(knots, start, "right"))
    if after in (0, len(knots)):
        held = values[:1] if not after else values[-1:]
    else:
        share = (start - knots[after - 1]) / (knots[after] - knots[after - 1])
        held = values[after - 1 : after] + share * (values[after : after + 1] - values[after - 1 : after])
    return np.where(np.isnan(held), first, held)
