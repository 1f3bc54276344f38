"""One topic as numbers over time: messages are decoded in groups, and long columns wait on the disk.

Legend: n messages, K axes of one signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError

from ...errors import ConfigError, SourceError
from ..disk_arrays import Column, blocks_of, copy_array, make_array, release, select
from ..layout import missing_value
from .layout import Layout, LayoutError, group_messages
from .mapping import LOG_CLOCK, NS, TopicClock
from .message_types import load_types
from .quality import iterate_steps
from .recording import LATEST_NS, Topic, describe_error

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

Array = npt.NDArray[Any]
Times = npt.NDArray[np.int64]
BLOCK_MESSAGES = 8192
"""Messages of a topic that are decoded together."""
_BLOCK_BYTES = 2**24
_FEW = 16
"""Messages for which a layout pays; below, `rosbags` decodes them one by one."""
_TRIALS = 16
"""Layouts that are made before that is asked."""
MOST_DISORDER_NS = NS
"""A stamp that runs back further than this has been set anew, and no order can be made."""
_NAME_LISTS = ("name", "joint_names")
_ANGLES = ("roll", "pitch", "yaw")
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


@dataclass(frozen=True, slots=True)
class Request:
    """One column of a topic: the axes of a signal, or the values of a marker."""

    field: str
    axes: tuple[str, ...]
    elements: tuple[str, ...]
    dtype: str
    """float64, int64 or uint64: holds every value of the signal's own type."""
    marks: tuple[str, str] | None = None
    """Of a marker: the values that read 1 and 0; any other is missing."""


class Flaws(NamedTuple):
    """What was wrong with the times and the messages of one topic."""

    backward: int
    """Messages that are earlier than the one before them."""
    most_backward_ns: int
    repeated: int
    """Messages with the time of another one."""
    unstamped: int
    """Messages left out, as their stamp is 0."""
    undecodable: int
    """Messages left out, as they are not of their type."""
    blank: int = 0
    """Messages with NaN for a wanted axis, which counts as not measured."""
    twice: tuple[str, ...] = ()
    """Names that stand more than once in one message: the first one counts."""


class Series(NamedTuple):
    """A topic in the order of its clock."""

    time: Times
    """(n,), ns, without the latency."""
    log_time: Times
    """(n,), ns."""
    values: tuple[Array, ...]
    """(n, K) for each request; missing values are NaN, or the integer that data never has."""
    flaws: Flaws


def is_missing(values: Array) -> npt.NDArray[np.bool_]:
    """Where no value was measured."""
    found: npt.NDArray[np.bool_] = (
        np.isnan(values) if values.dtype.kind == "f" else values == missing_value(values.dtype.name)
    )
    return found


class TopicReader:
    """Collects the messages of one topic.

    Args:
        topic: As in the recording.
        clock: Whose time counts.
        requests: What of the messages is wanted.
        where: The bag, for messages.

    Raises:
        SourceError: the type cannot be decoded.
    """

    def __init__(self, topic: Topic, clock: TopicClock, requests: Sequence[Request], where: str) -> None:
        self.topic, self.clock, self.requests = topic, clock, requests
        self._where = f"{where}: topic {topic.name}"
        self._types: Typestore = load_types(topic, where)
        fields = [name for name, _ in self._types.fielddefs[topic.type][1]]
        self._name_lists = [name for name in _NAME_LISTS if name in fields]
        self._layouts: dict[int, list[Layout]] = {}
        self._tried = self._served = 0
        self._payloads: list[bytes] = []
        self._log_times: list[int] = []
        self._bytes = self._undecodable = self._blank = 0
        self._error = ""
        self._time, self._log = Column("int64", 1), Column("int64", 1)
        self._columns = [Column(request.dtype, len(request.axes)) for request in requests]
        self._angles: set[tuple[int, int]] = set()
        """Request and axis of each angle of a quaternion."""
        self.names: dict[str, None] = {}
        """Every name in the lists of names, in the order in which they came."""
        self.lengths: dict[str, int] = {}
        """Longest length of each sequence of numbers."""
        self.named: dict[str, dict[str, None]] = {}
        """For each sequence of numbers, the names that had one in some message."""
        self._twice: dict[str, None] = {}

    def add(self, log_times: Sequence[int], payloads: Sequence[bytes]) -> None:
        """Takes messages."""
        if len(log_times) and not -LATEST_NS <= min(log_times) <= max(log_times) <= LATEST_NS:
            bad = [time for time in log_times if not -LATEST_NS <= time <= LATEST_NS]
            self._undecodable += len(bad)
            self._error = self._error or f"a message has the time {bad[0]} ns"
            good = [-LATEST_NS <= time <= LATEST_NS for time in log_times]
            log_times, payloads = list(compress(log_times, good)), list(compress(payloads, good))
        self._payloads += payloads
        self._log_times += log_times
        self._bytes += sum(map(len, payloads))
        if len(self._payloads) >= BLOCK_MESSAGES or self._bytes > _BLOCK_BYTES:
            self._flush()

    def finish(self) -> Series:
        """Everything in the order of the clock.

        Raises:
            SourceError: no message can be decoded, none has a stamp, or the stamps run back too far.
        """
        time, log_time = self.finish_times()
        if not len(time):
            reason = f" ({self._error})" if self._error else ""
            raise SourceError(f"{self._where}: expected messages, got none{reason}; choose another topic")
        values = [column.finish() for column in self._columns]
        unstamped = 0 if self.clock.clock == LOG_CLOCK else len(time) - int(np.count_nonzero(time))
        if unstamped == len(time):
            raise SourceError(
                f"{self._where}: expected times in {self.clock.clock}, got 0 in all messages; use clock = 'log'"
            )
        if unstamped:
            stamped = time != 0
            time, log_time, *values = (select(array, stamped) for array in (time, log_time, *values))
        backward = sum(int((step < 0).sum()) for _, step in iterate_steps(time))
        most_backward, at = max(
            ((-int(step.min()), start + int(step.argmin())) for start, step in iterate_steps(time)), default=(0, 0)
        )
        if most_backward > MOST_DISORDER_NS and self.clock.clock != LOG_CLOCK:
            raise SourceError(
                f"{self._where}: expected {self.clock.clock} to go on, got a step back of {most_backward / NS:g} s at "
                f"message {at + 1}; use clock = 'log', or split the bag there"
            )
        if backward:
            order = np.argsort(time, kind="stable")
            time, log_time, *values = (select(array, order) for array in (time, log_time, *values))
        for at, axis in self._angles:
            values[at] = _unwrap(values[at], axis)
        repeated = sum(int((step == 0).sum()) for _, step in iterate_steps(time))
        flaws = Flaws(
            *(backward, max(0, most_backward), repeated, unstamped, self._undecodable, self._blank), tuple(self._twice)
        )
        latency = round(self.clock.latency * NS)
        if latency:
            time = _shift(time, latency)
        release(time, log_time, *values)
        return Series(time, log_time, tuple(values), flaws)

    def finish_times(self) -> tuple[Times, Times]:
        """Times of all messages by the clock, and by the recorder, in the order of the file."""
        self._flush()
        return self._time.finish()[:, 0], self._log.finish()[:, 0]

    def _flush(self) -> None:
        """Decodes what is pending."""
        payloads, log_time = self._payloads, np.array(self._log_times, np.int64)
        self._payloads, self._log_times, self._bytes = [], [], 0
        time = log_time.copy()
        good = np.ones(len(payloads), np.bool_)
        columns = [_empty(request, len(payloads)) for request in self.requests]
        pays = self._pays()
        for row, payload in enumerate(() if pays else payloads):
            good[row] = self._decode_one(row, payload, time, columns)
        for rows, messages in group_messages(payloads) if pays else ():
            for part, layout, records in self._divide(rows, messages, payloads):
                if layout is None or records is None:
                    for row in part:
                        good[row] = self._decode_one(int(row), payloads[row], time, columns)
                    continue
                self._learn(layout)
                if self.clock.clock != LOG_CLOCK:
                    time[part] = self._read_stamp(layout, records)
                blank = np.zeros(len(part), np.bool_)
                for at, (request, column) in enumerate(zip(self.requests, columns, strict=True)):
                    axes, angles = _fill(layout, records, request, column, part)
                    self._angles |= {(at, axis) for axis in angles}
                    if axes and request.dtype == "float64":
                        blank |= np.isnan(column[part[:, None], axes]).any(1)
                self._blank += int(blank.sum())
        self._undecodable += int(len(good) - good.sum())
        self._time.append(time[good])
        self._log.append(log_time[good])
        for stored, column in zip(self._columns, columns, strict=True):
            stored.append(column[good])

    def _pays(self) -> bool:
        """Whether the layouts so far served enough messages to be worth making more."""
        return self._tried < _TRIALS or self._served >= _FEW * self._tried

    def _divide(
        self, rows: npt.NDArray[np.intp], messages: npt.NDArray[np.uint8], payloads: Sequence[bytes]
    ) -> list[tuple[npt.NDArray[np.intp], Layout | None, Array | None]]:
        """Messages of one size by their layout; without one those that are decoded singly."""
        known = self._layouts.setdefault(messages.shape[1], [])
        parts: list[tuple[npt.NDArray[np.intp], Layout | None, Array | None]] = []
        left = np.arange(len(rows))
        for layout in list(known):
            if len(left):
                left = self._take(layout, left, rows, messages, parts)
        misses = 0
        while len(left):
            if (len(left) < _FEW and known) or misses > len(rows) // _FEW or not self._pays():
                break
            self._tried += 1
            try:
                layout = Layout(self._types, self.topic.type, payloads[rows[left[0]]], self.topic.encoding)
            except LayoutError:
                parts.append((rows[left[:1]], None, None))
                left, misses = left[1:], misses + 1
                continue
            before = len(left)
            left = self._take(layout, left, rows, messages, parts)
            if before - len(left) >= _FEW or len(known) < 4:
                known.append(layout)
            else:
                misses += 1
        if len(left):
            parts.append((rows[left], None, None))
        return parts

    def _take(
        self,
        layout: Layout,
        left: npt.NDArray[np.intp],
        rows: npt.NDArray[np.intp],
        messages: npt.NDArray[np.uint8],
        parts: list[tuple[npt.NDArray[np.intp], Layout | None, Array | None]],
    ) -> npt.NDArray[np.intp]:
        """Reads those of `left` that have the layout, and returns the others."""
        whole = len(left) == len(messages)
        among = messages if whole else messages[left]
        same = layout.select(among)
        self._served += int(same.sum())
        if same.all():
            parts.append((rows[left], layout, layout.read(among)))
            return left[:0]
        if same.any():
            parts.append((rows[left[same]], layout, layout.read(among[same])))
        return left[~same]

    def _learn(self, layout: Layout) -> None:
        for texts in layout.texts.values():
            self._learn_names(texts)
        for name, (dtype, *_) in (layout.dtype.fields or {}).items():
            if dtype.shape:
                self.lengths[name] = max(dtype.shape[0], self.lengths.get(name, 0))
                labels = next((layout.texts[path] for path in _name_paths(name) if path in layout.texts), ())
                self.named.setdefault(name, {}).update(dict.fromkeys(labels[: dtype.shape[0]]))

    def _learn_names(self, names: Sequence[str]) -> None:
        fresh = dict.fromkeys(names)
        self.names.update(fresh)
        if len(fresh) < len(names):
            self._twice.update(dict.fromkeys(name for name in fresh if names.count(name) > 1))

    def _read_stamp(self, layout: Layout, records: Array) -> Times:
        path = self.clock.clock
        names = layout.dtype.names or ()
        for nanoseconds in ("nanosec", "nsec", "nanosecond"):
            if f"{path}.sec" in names and f"{path}.{nanoseconds}" in names:
                seconds = records[f"{path}.sec"].astype(np.int64)
                stamp: Times = seconds * NS + records[f"{path}.{nanoseconds}"]
                return stamp
        raise self._refuse_clock()

    def _refuse_clock(self) -> ConfigError:
        return ConfigError(
            f"{self._where}: expected a time in {self.clock.clock}, got none in {self.topic.type}; use clock = 'log'"
        )

    def _decode_one(self, row: int, payload: bytes, time: Times, columns: list[Array]) -> bool:
        """Decodes one message with `rosbags`; False for one that cannot be decoded."""
        try:
            if self.topic.encoding == "cdr":
                message = self._types.deserialize_cdr(payload, self.topic.type)
            else:
                message = self._types.deserialize_ros1(payload, self.topic.type)
        except (SerdeError, ValueError, IndexError, MemoryError, KeyError, AssertionError) as error:
            self._error = self._error or describe_error(error)
            return False
        if self.clock.clock != LOG_CLOCK:
            stamp = _find(message, self.clock.clock)
            if stamp is None:
                raise self._refuse_clock()
            time[row] = stamp.sec * NS + stamp.nanosec
        for name in self._name_lists:
            names = getattr(message, name)
            if any(one not in self.names for one in names):
                self._learn_names(names)
                for field, known in self.named.items():
                    numbers = _find(message, field)
                    known.update(dict.fromkeys(() if numbers is None else names[: len(numbers)]))
        blank = False
        for at, request in enumerate(self.requests):
            axes, angles = _fill_one(message, request, columns[at], row)
            for axis in angles:
                self._angles.add((at, axis))
            if axes and request.dtype == "float64":
                blank = blank or bool(np.isnan(columns[at][row, axes]).any())
        self._blank += blank
        return True


def _empty(request: Request, rows: int) -> Array:
    return np.full((rows, len(request.axes)), missing_value(request.dtype), request.dtype)


def _elements(request: Request, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the request's axes in a message whose entries have these names, or none."""
    if request.elements:
        return request.elements
    return request.axes if labels is not None else tuple(map(str, range(len(request.axes))))


def _locate(request: Request, labels: Sequence[str] | None, length: int) -> tuple[list[int], list[int]]:
    """Which axes are in an array of `length` entries, and where."""
    known = labels[:length] if labels is not None else list(map(str, range(length)))
    names = _elements(request, labels)
    if set(names).isdisjoint(known):
        return [], []
    place = {name: index for index, name in reversed(list(enumerate(known)))}
    found = [(axis, place[name]) for axis, name in enumerate(names) if name in place]
    return [axis for axis, _ in found], [index for _, index in found]


def _fill(
    layout: Layout, records: Array, request: Request, column: Array, rows: npt.NDArray[np.intp]
) -> tuple[list[int], list[int]]:
    """Writes what is asked for from messages of one layout into their rows of a column.

    Returns:
        The axes that are in these messages, and those of them that are angles of a quaternion.
    """
    there: list[int] = []
    angles: list[int] = []
    if request.marks is not None:
        column[rows, 0] = _match(records, request) if request.field in (layout.dtype.names or ()) else np.nan
        return there, angles
    fields: Any = layout.dtype.fields or {}
    if request.field in fields and fields[request.field][0].shape:
        labels = next((layout.texts[name] for name in _name_paths(request.field) if name in layout.texts), None)
        there, places = _locate(request, labels, fields[request.field][0].shape[0])
        if there:
            column[rows[:, None], there] = records[request.field][:, places]
        return there, angles
    if request.field in fields:
        if fields[request.field][0].kind not in "SV":
            column[rows, 0] = records[request.field]
            there.append(0)
        return there, angles
    for axis, element in enumerate(request.elements or request.axes):
        path = f"{request.field}.{element}" if request.field else element
        if path in fields and fields[path][0].kind not in "SV" and not fields[path][0].shape:
            column[rows, axis] = records[path]
            there.append(axis)
        elif element in _ANGLES and f"{request.field}.w" in fields:
            quaternion = np.stack([records[f"{request.field}.{part}"] for part in "wxyz"], -1)
            column[rows, axis] = compute_euler(quaternion)[_ANGLES.index(element)]
            there.append(axis)
            angles.append(axis)
    return there, angles


@lru_cache
def _name_paths(field: str) -> list[str]:
    """Where the names of the entries of a field may stand: beside it, or in the message itself."""
    parent = field.rpartition(".")[0]
    return [f"{parent}.{name}" if parent else name for name in _NAME_LISTS] + list(_NAME_LISTS)


def _match(records: Array, request: Request) -> Array:
    """1 where a marker starts, 0 where it stops, NaN elsewhere."""
    values = records[request.field]
    if values.dtype.kind in "SV":
        texts = np.char.decode(values, "utf-8", "replace") if values.dtype.itemsize else np.full(len(values), "")
    else:
        texts = np.array(["false", "true"])[(values != 0).astype(int)] if _is_truth(request) else values.astype(str)
    start, stop = request.marks or ("", "")
    found: Array = np.where(texts == start, 1.0, np.where(texts == stop, 0.0, np.nan))
    return found


def _is_truth(request: Request) -> bool:
    return request.marks is not None and set(request.marks) <= {"true", "false"}


_getter = lru_cache(attrgetter)
"""Of a path; made once."""


def _find(message: Any, path: str) -> Any:
    """What stands in a decoded message at a path; None where nothing does."""
    try:  # the usual case
        return _getter(path)(message)
    except AttributeError:
        pass
    for name in path.split(".") if path else ():
        if isinstance(message, list | np.ndarray):
            message = message[int(name)] if name.isdigit() and int(name) < len(message) else None
        else:
            message = getattr(message, name, getattr(message, f"{name}_", None))
    return message


def _fill_one(message: Any, request: Request, column: Array, row: int) -> tuple[list[int], list[int]]:
    """As `_fill`, from one message that `rosbags` has decoded."""
    there: list[int] = []
    angles: list[int] = []
    value = _find(message, request.field)
    if value is None:
        return there, angles
    if request.marks is not None:
        text = str(bool(value)).lower() if _is_truth(request) and not isinstance(value, str) else str(value)
        column[row, 0] = {request.marks[0]: 1.0, request.marks[1]: 0.0}.get(text, np.nan)
    elif isinstance(value, np.ndarray):
        labels = None
        for name in _name_paths(request.field):
            labels = _find(message, name) if labels is None else labels
        there, places = _locate(request, labels, len(value))
        if there:
            column[row, there] = value[places]
    elif isinstance(value, bool | int | float):
        column[row, 0] = value
        there.append(0)
    else:
        for axis, element in enumerate(request.elements or request.axes):
            number = _find(value, element)
            if isinstance(number, bool | int | float):
                column[row, axis] = number
                there.append(axis)
            elif element in _ANGLES and hasattr(value, "w"):
                turn = compute_euler(np.array([[value.w, value.x, value.y, value.z]]))
                column[row, axis] = turn[_ANGLES.index(element)][0]
                there.append(axis)
                angles.append(axis)
    return there, angles


def _unwrap(values: Array, axis: int) -> Array:
    """Values (n, K) with the angles of one axis without the jump at pi."""
    turned = copy_array(values)
    before = np.empty(0)
    for block in blocks_of(len(values)):
        known = ~np.isnan(turned[block, axis])
        angles = np.unwrap(np.concatenate((before, turned[block, axis][known])))
        turned[block, axis][known] = angles[len(before) :]
        before = angles[-1:]
        release(turned)
    return turned


def _shift(time: Times, latency: int) -> Times:
    """Times that are earlier by the latency, ns."""
    found = make_array(time.shape, time.dtype)
    for block in blocks_of(len(time)):
        found[block] = time[block] - latency
        release(found, time)
    return found


def compute_euler(quaternion: Array) -> tuple[Array, Array, Array]:
    """Roll, pitch and yaw (rad; about x, then y, then z of the fixed frame) of quaternions wxyz, (n, 4).

    NaN for a quaternion of zeros, which is what a message holds before anybody has set it.
    """
    w, x, y, z = np.moveaxis(quaternion.astype(np.float64), -1, 0)
    norm = w * w + x * x + y * y + z * z
    norm = np.where(norm > 0, norm, np.nan)
    roll = np.arctan2(2 * (w * x + y * z), norm - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x) / norm, -1.0, 1.0))
    yaw = np.arctan2(2 * (w * z + x * y), norm - 2 * (y * y + z * z))
    return roll, pitch, yaw
