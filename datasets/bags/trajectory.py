"""Trajectories that an arm was sent, as the set-point at every moment.

A `JointTrajectory` holds points with times from its start; a stamp of 0 starts it when it arrives. A new one takes over
from the set-point that is in force then, and the last point is held: ros2_control, joint_trajectory_controller. The
set-point is therefore one line through knots, which this module computes.
Legend: n messages, P points of one message, K axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError

from ...errors import SourceError
from .mapping import LOG_CLOCK, NS, TopicClock
from .message_types import load_types
from .recording import LATEST_NS, Topic, describe_error
from .series import Flaws, Request, Series

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

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
        self._sent: list[tuple[int, int, Any]] = []
        self._undecodable, self._error = 0, ""
        self.names: dict[str, None] = {}
        self.lengths: dict[str, int] = {}

    def add(self, log_times: Sequence[int], payloads: Sequence[bytes]) -> None:
        """Takes messages."""
        for log_time, payload in zip(log_times, payloads, strict=True):
            self._add(log_time, payload)

    def _add(self, log_time: int, payload: bytes) -> None:
        try:
            if self.topic.encoding == "cdr":
                message: Any = self._types.deserialize_cdr(payload, self.topic.type)
            else:
                message = self._types.deserialize_ros1(payload, self.topic.type)
            if not -LATEST_NS <= log_time <= LATEST_NS:
                raise ValueError(f"a message has the time {log_time} ns")
        except (SerdeError, ValueError, IndexError, MemoryError) as error:
            self._undecodable += 1
            self._error = self._error or describe_error(error)
            return
        stamp = message.header.stamp.sec * NS + message.header.stamp.nanosec
        start = log_time if self.clock.clock == LOG_CLOCK or stamp == 0 else stamp
        self.names.update(dict.fromkeys(message.joint_names))
        self._sent.append((start, log_time, message))

    def finish(self) -> Series:
        """Knots of the set-point, in order; see `TopicReader.finish` for errors."""
        if not self._sent:
            reason = f" ({self._error})" if self._error else ""
            raise SourceError(f"{self._where}: expected messages, got none{reason}; choose another topic")
        starts = np.array([start for start, *_ in self._sent], np.int64)
        backward = np.diff(starts)
        sent = [self._sent[index] for index in np.argsort(starts, kind="stable")]
        times: list[npt.NDArray[np.int64]] = []
        log_times: list[npt.NDArray[np.int64]] = []
        values: list[list[npt.NDArray[np.float64]]] = [[] for _ in self.requests]
        before: list[npt.NDArray[np.float64] | None] = [None] * len(self.requests)
        ends = [start for start, *_ in sent[1:]] + [None]
        knots = np.empty(0, np.int64)
        for (start, log_time, message), end in zip(sent, ends, strict=True):
            points = np.array(
                [start + point.time_from_start.sec * NS + point.time_from_start.nanosec for point in message.points],
                np.int64,
            )
            previous, knots = knots, np.concatenate(([start], points))
            if len(points) and points[0] <= start:
                knots = points
            for at, request in enumerate(self.requests):
                rows = self._read_points(message, request)
                if len(knots) > len(points):
                    rows = np.concatenate([_value_at(start, previous, before[at], rows), rows])
                before[at] = rows
                values[at].append(rows[: len(knots)] if end is None else rows[knots < end])
            kept = knots if end is None else knots[knots < end]
            times.append(kept)
            log_times.append(np.full(len(kept), log_time, np.int64))
        time = np.concatenate(times) - round(self.clock.latency * NS)
        flaws = Flaws(int((backward < 0).sum()), max(0, -int(backward.min(initial=0))), 0, 0, self._undecodable)
        return Series(time, np.concatenate(log_times), tuple(np.concatenate(one) for one in values), flaws)

    def _read_points(self, message: Any, request: Request) -> npt.NDArray[np.float64]:
        """Values (P, K) of the wanted joints; NaN for one that the message does not name."""
        names = list(message.joint_names)
        found = np.full((len(message.points), len(request.axes)), np.nan)
        for row, point in enumerate(message.points):
            numbers = getattr(point, request.field.partition(".")[2])
            for axis, name in enumerate(request.elements or request.axes):
                if name in names and names.index(name) < len(numbers):
                    found[row, axis] = numbers[names.index(name)]
        return found


def _value_at(
    start: int,
    knots: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64] | None,
    points: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The set-point in force at `start`, (1, K): of the trajectory before; without one, the first new point."""
    axes = points.shape[1]
    first = points[:1] if len(points) else np.full((1, axes), np.nan)
    if values is None or not len(knots):
        return first
    held = np.array([[np.interp(start - knots[0], knots - knots[0], values[:, axis]) for axis in range(axes)]])
    return np.where(np.isnan(held), first, held)
