"""One topic as numbers over time: messages are decoded in groups, and long columns wait on the disk.

Legend: n messages, K axes of one signal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError

from ...errors import ConfigError, SourceError, describe_error
from ..disk_arrays import Column, blocks_of, copy_array, make_array, release, select
from ..layout import missing_value
from .clock_steps import Line
from .layout import Layout, LayoutError, group_messages
from .mapping import LOG_CLOCK, NS, TopicClock
from .message_types import load_types
from .quality import iterate_steps
from .ragged import RaggedMessages, split_list
from .recording import LATEST_NS, Topic

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
_NAME_LISTS = ("name", "joint_names")
_MOST_LISTS = 65_536
"""Lists of names that are kept, before they are found anew."""
_NANOSECONDS = ("nanosec", "nsec", "nanosecond")
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
    picture: tuple[int, int, int] | None = None
    """Of a picture: height, width and channels; see `pictures.PictureReader`."""


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
    uneven: tuple[str, ...] = ()
    """What does not fit in the sequences that are wanted: as many numbers as names, or as in other messages."""


class Series(NamedTuple):
    """A topic in the order of its clock, or the stretch of one between two steps back of it."""

    time: Times
    """(n,), ns, without the latency."""
    log_time: Times
    """(n,), ns."""
    values: tuple[Array, ...]
    """(n, K) for each request; missing values are NaN, or the integer that data never has."""
    flaws: Flaws
    """Of the whole topic."""
    angles: frozenset[tuple[int, int]] = frozenset()
    """Request and axis of each angle of a quaternion: it goes on beyond pi."""


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
        fields = dict(self._types.fielddefs[topic.type][1])
        self._name_lists = [name for name in _NAME_LISTS if name in fields and _is_text_list(fields[name])]
        self._layouts: dict[int, list[Layout]] = {}
        self._tried = self._served = 0
        self._payloads: list[bytes] = []
        self._log_times: list[int] = []
        self._groups: list[int] = []
        self._bytes = self._undecodable = self._blank = 0
        self._error = ""
        self._time, self._log, self._group = (Column("int64", 1) for _ in range(3))
        self._whole: tuple[Line, list[Array], int] | None = None
        self._columns = [Column(request.dtype, len(request.axes)) for request in requests]
        self._angles: set[tuple[int, int]] = set()
        """Request and axis of each angle of a quaternion."""
        self.names: dict[str, None] = {}
        """Every name in the lists of names, in the order in which they came."""
        self.lengths: dict[str, int] = {}
        """Longest length of each sequence of numbers."""
        self.named: dict[str, dict[str, None]] = {}
        """For each sequence of numbers, the names that had one in some message."""
        self.counts: dict[str, dict[str, int]] = {}
        """For each sequence of numbers, in how many messages each name had one."""
        self._twice: dict[str, None] = {}
        self._uneven: dict[str, None] = {}
        self._shortest: dict[str, int] = {}
        """Shortest length of each sequence of numbers that has no names."""
        self._wanted = _list_paths(requests, clock)
        self._labels: dict[bytes, int] = {}
        """Numbers of lists of names, by their bytes in a message."""
        self._label_lists: list[tuple[str, ...]] = []
        self._longest: dict[str, npt.NDArray[np.int64]] = {}
        """For each sequence of numbers, the longest with each of these lists."""
        self._tables = [np.empty((0, len(request.axes)), np.intp) for request in requests]
        """For each request and list, where the axes stand, -1 for those that do not."""

    def add(self, log_times: Sequence[int], payloads: Sequence[bytes], group: int = 0) -> None:
        """Takes messages of one block, see `recording.Block`."""
        if len(log_times) and not -LATEST_NS <= min(log_times) <= max(log_times) <= LATEST_NS:
            bad = [time for time in log_times if not -LATEST_NS <= time <= LATEST_NS]
            self._undecodable += len(bad)
            self._error = self._error or f"a message has the time {bad[0]} ns"
            good = [-LATEST_NS <= time <= LATEST_NS for time in log_times]
            log_times, payloads = list(compress(log_times, good)), list(compress(payloads, good))
        self._payloads += payloads
        self._log_times += log_times
        self._groups += [group] * len(payloads)
        self._bytes += sum(map(len, payloads))
        if len(self._payloads) >= BLOCK_MESSAGES or self._bytes > _BLOCK_BYTES:
            self._flush()

    def line(self) -> Line:
        """When its messages came, without those that have no stamp.

        Raises:
            SourceError: no message can be decoded, or none has a stamp.
        """
        return self._finish()[0]

    def finish(self, cuts: Sequence[int] = ()) -> list[Series]:
        """Everything in the order of the clock, in stretches that begin with these messages of `line`; see there."""
        line, values, unstamped = self._finish()
        stretches = []
        backward = most_backward = repeated = 0
        for low, high in pairwise((0, *cuts, len(line.time))):
            time, log_time, *parts = (array[low:high] for array in (line.time, line.log_time, *values))
            earlier = sum(int((step < 0).sum()) for _, step in iterate_steps(time))
            if earlier:
                backward += earlier
                most_backward = max(most_backward, *(-int(step.min()) for _, step in iterate_steps(time)))
                order = np.argsort(time, kind="stable")
                time, log_time, *parts = (select(array, order) for array in (time, log_time, *parts))
            for at, axis in self._angles:
                parts[at] = _unwrap(parts[at], axis)
            repeated += sum(int((step == 0).sum()) for _, step in iterate_steps(time))
            stretches.append((time, log_time, parts))
        flaws = Flaws(
            *(backward, most_backward, repeated, unstamped, self._undecodable, self._blank),
            tuple(self._twice),
            tuple(sorted((*self._uneven, *self._list_ranges()))),
        )
        latency = round(self.clock.latency * NS)
        found = []
        for time, log_time, parts in stretches:
            moved = _shift(time, latency) if latency else time
            release(time, log_time, *parts)
            found.append(Series(moved, log_time, tuple(parts), flaws, frozenset(self._angles)))
        return found

    def _finish(self) -> tuple[Line, list[Array], int]:
        """Times and values in the order of the file, and how many messages had no stamp."""
        if self._whole is None:
            time, log_time, group = self.finish_times()
            if not len(time):
                reason = f" ({self._error})" if self._error else ""
                raise SourceError(f"{self._where}: expected messages, got none{reason}; choose another topic")
            values = [column.finish() for column in self._columns]
            stamped = self.clock.clock != LOG_CLOCK
            unstamped = len(time) - int(np.count_nonzero(time)) if stamped else 0
            if unstamped == len(time):
                raise SourceError(
                    f"{self._where}: expected times in {self.clock.clock}, got 0 in all messages; use clock = 'log'"
                )
            if unstamped:
                known = time != 0
                time, log_time, group, *values = (select(array, known) for array in (time, log_time, group, *values))
            self._whole = Line(time, log_time, group, stamped), values, unstamped
        return self._whole

    def finish_times(self) -> tuple[Times, Times, Times]:
        """Times of all messages by the clock and by the recorder, and their groups, in the order of the file."""
        self._flush()
        time, log_time, group = (column.finish()[:, 0] for column in (self._time, self._log, self._group))
        return time, log_time, group

    def _flush(self) -> None:
        """Decodes what is pending."""
        payloads, log_time = self._payloads, np.array(self._log_times, np.int64)
        group = np.array(self._groups, np.int64)
        self._payloads, self._log_times, self._groups, self._bytes = [], [], [], 0
        time = log_time.copy()
        good = np.ones(len(payloads), np.bool_)
        columns = [_empty(request, len(payloads)) for request in self.requests]
        pays = self._pays()
        single = [] if pays else [np.arange(len(payloads))]
        for rows, messages in group_messages(payloads) if pays else ():
            for part, layout, records in self._divide(rows, messages, payloads):
                if layout is None or records is None:
                    single.append(part)
                    continue
                self._learn(layout, len(part))
                if self.clock.clock != LOG_CLOCK:
                    time[part] = self._read_stamp(layout.dtype.names or (), records)
                blank = np.zeros(len(part), np.bool_)
                for at, (request, column) in enumerate(zip(self.requests, columns, strict=True)):
                    axes, angles = _fill(layout, records, request, column, part)
                    self._angles |= {(at, axis) for axis in angles}
                    if axes and request.dtype == "float64":
                        blank |= np.isnan(column[part[:, None], axes]).any(1)
                self._blank += int(blank.sum())
        left = np.sort(np.concatenate(single)) if single else np.empty(0, np.intp)
        if len(left) >= _FEW:
            left = self._read_ragged(left, payloads, time, columns)
        for row in left.tolist():
            good[row] = self._decode_one(row, payloads[row], time, columns)
        self._undecodable += int(len(good) - good.sum())
        self._time.append(time[good])
        self._log.append(log_time[good])
        self._group.append(group[good])
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

    def _read_ragged(
        self, part: npt.NDArray[np.intp], payloads: Sequence[bytes], time: Times, columns: Sequence[Array]
    ) -> npt.NDArray[np.intp]:
        """Reads messages that have a layout each, and returns those that are not read so."""
        chosen = [payloads[row] for row in part.tolist()]
        try:
            messages = RaggedMessages(self._types, self.topic.type, chosen, self.topic.encoding, self._wanted)
        except LayoutError:
            return part
        if len(self._labels) > _MOST_LISTS:
            self._labels, self._label_lists, self._longest = {}, [], {}
            self._tables = [table[:0] for table in self._tables]
        labels = {path: self._read_labels(messages, path, chosen) for path in messages.lists if self._has_names(path)}
        good = np.flatnonzero(messages.good)
        self._measure(messages, labels)
        if self.clock.clock != LOG_CLOCK:
            numbers = {path: found.values for path, found in messages.numbers.items() if len(found.rows) == len(part)}
            time[part[good]] = self._read_stamp(tuple(numbers), numbers)[good]
        blank = np.zeros(len(part), np.bool_)
        for at, (request, column) in enumerate(zip(self.requests, columns, strict=True)):
            found, angles = self._fill_ragged(messages, labels, at, chosen)
            self._angles |= {(at, axis) for axis in angles}
            column[part[good]] = found.values[good]
            if request.dtype == "float64":
                blank |= (np.isnan(found.values) & found.there).any(1)
        self._blank += int(blank[good].sum())
        return part[~messages.good]

    def _has_names(self, path: str) -> bool:
        """Whether a list of strings names numbers that somebody may want."""
        return path.rpartition(".")[2] in _NAME_LISTS

    def _read_labels(self, messages: RaggedMessages, path: str, payloads: Sequence[bytes]) -> npt.NDArray[np.intp]:
        """The number of each message's list of names, (n,); -1 where it has none."""
        pieces, known = messages.lists[path], self._labels
        found = np.full(len(payloads), -1, np.intp)
        fit = messages.good[pieces.rows]
        rows = pieces.rows[fit].tolist()
        for row, begin, end in zip(rows, pieces.begin[fit].tolist(), pieces.end[fit].tolist(), strict=True):
            key = payloads[row][begin:end]
            number = known.get(key)
            if number is None:
                names = split_list(key, pieces.fixed, self.topic.encoding)
                if names is None:
                    messages.good[row] = False
                    continue
                self._learn_names(names)
                number = known[key] = len(self._label_lists)
                self._label_lists.append(names)
            found[row] = number
        return found

    def _measure(self, messages: RaggedMessages, labels: Mapping[str, npt.NDArray[np.intp]]) -> None:
        """Learns how long sequences are, and the names of their numbers."""
        for path, found in messages.sequences.items():
            fit = messages.good[found.rows]
            count = found.length[fit]
            self.lengths[path] = max(int(count.max(initial=0)), self.lengths.get(path, 0))
            named = self.named.setdefault(path, {})
            beside = next((labels[one] for one in _name_paths(path) if one in labels), None)
            if beside is None:
                if len(count):
                    self._compare(path, int(count.min()), int(count.max()), None)
                continue
            before = self._longest.get(path, np.zeros(0, np.int64))
            longest = np.zeros(len(self._label_lists), np.int64)
            longest[: len(before)] = before
            number = beside[found.rows[fit]]
            np.maximum.at(longest, number[number >= 0], count[number >= 0])
            pairs, times = np.unique(np.stack([number[number >= 0], count[number >= 0]]), axis=1, return_counts=True)
            for (one, length), often in zip(pairs.T.tolist(), times.tolist(), strict=True):
                self._count(path, self._label_lists[one][:length], often)
                self._compare(path, length, length, len(self._label_lists[one]) or None)
            grown = longest > 0
            grown[: len(before)] = longest[: len(before)] > before
            for one in np.flatnonzero(grown).tolist():
                named.update(dict.fromkeys(self._label_lists[one][: int(longest[one])]))
            self._longest[path] = longest

    def _fill_ragged(
        self, messages: RaggedMessages, labels: Mapping[str, npt.NDArray[np.intp]], at: int, payloads: Sequence[bytes]
    ) -> tuple[_Found, list[int]]:
        """As `_fill`, from messages that have a layout each: values, and the axes that are angles of a quaternion."""
        request = self.requests[at]
        found = _Found(_empty(request, len(payloads)), np.zeros((len(payloads), len(request.axes)), np.bool_))
        numbers, angles = messages.numbers, []
        if request.marks is not None:
            if request.field in numbers:
                rows, values = numbers[request.field]
                found.values[rows, 0] = _match({request.field: values}, request)
            elif request.field in messages.texts:
                rows, texts = _cut_texts(messages, request.field, payloads)
                found.values[rows, 0] = _match({request.field: texts}, request)
        elif request.field in messages.sequences:
            rows, begin, count, format = messages.sequences[request.field]
            place = self._place(labels, at, rows, count)
            there = (place >= 0) & (place < count[:, None])
            values = messages.read(begin[:, None] + place * np.dtype(format).itemsize, format)
            found.values[rows] = np.where(there, values, found.values[rows])
            found.there[rows] = there
        elif request.field in numbers:
            rows, values = numbers[request.field]
            found.values[rows, 0], found.there[rows, 0] = values, True
        else:
            for axis, element in enumerate(request.elements or request.axes):
                path = f"{request.field}.{element}" if request.field else element
                if path in numbers:
                    rows, values = numbers[path]
                elif element in _ANGLES and f"{request.field}.w" in numbers:
                    parts = [numbers[f"{request.field}.{part}"] for part in "wxyz"]
                    rows = parts[0].rows
                    values = compute_euler(np.stack([part.values for part in parts], -1))[_ANGLES.index(element)]
                    angles.append(axis)
                else:
                    continue
                found.values[rows, axis], found.there[rows, axis] = values, True
        return found, angles

    def _place(
        self, labels: Mapping[str, npt.NDArray[np.intp]], at: int, rows: npt.NDArray[np.intp], count: Array
    ) -> npt.NDArray[np.intp]:
        """Where the axes of a request stand in the sequences of some messages, (r, K); -1 where nowhere."""
        request = self.requests[at]
        beside = next((labels[path] for path in _name_paths(request.field) if path in labels), None)
        if beside is None:
            numbers = [int(name) for name in _elements(request, None) if name.isdecimal()]
            most = min(int(count.max(initial=0)), max(numbers, default=-1) + 1)
            return np.broadcast_to(_tabulate(request, None, most), (len(rows), len(request.axes)))
        longest = max((int(name) + 1 for name in request.elements if name.isdecimal()), default=0)
        fresh = [
            _tabulate(request, names, len(names) or longest) for names in self._label_lists[len(self._tables[at]) :]
        ]
        if fresh:
            self._tables[at] = np.concatenate([self._tables[at], fresh])
        missing = np.full((1, len(request.axes)), -1, np.intp)
        return np.concatenate([self._tables[at], missing])[beside[rows]]

    def _count(self, path: str, names: Sequence[str], messages: int) -> None:
        """Notes in how many messages these names have a number."""
        known = self.counts.setdefault(path, {})
        for name in names:
            known[name] = known.get(name, 0) + messages

    def _learn(self, layout: Layout, messages: int) -> None:
        for texts in layout.texts.values():
            self._learn_names(texts)
        for name, (dtype, *_) in (layout.dtype.fields or {}).items():
            if dtype.shape:
                self.lengths[name] = max(dtype.shape[0], self.lengths.get(name, 0))
                labels = next((layout.texts[path] for path in _name_paths(name) if path in layout.texts), None)
                named = (labels or ())[: dtype.shape[0]]
                self.named.setdefault(name, {}).update(dict.fromkeys(named))
                self._count(name, named, messages)
                self._compare(name, dtype.shape[0], dtype.shape[0], len(labels) if labels else None)

    def _compare(self, path: str, least: int, most: int, names: int | None) -> None:
        """Notes a sequence of `least` to `most` numbers that goes with so many names; None where it has none at all.

        An empty sequence beside names is usual: nothing of that kind was measured.
        """
        if all(request.field != path for request in self.requests):
            return
        if names is None:
            self._shortest[path] = min(least, self._shortest.get(path, least))
        elif most not in (0, names) or least not in (0, names):
            wrong = most if most not in (0, names) else least
            self._uneven[f"{path} has {wrong} numbers and {names} names in some messages"] = None

    def _list_ranges(self) -> list[str]:
        """Of wanted sequences without names whose length changes."""
        return [
            f"{path} has {least} to {self.lengths[path]} numbers"
            for path, least in self._shortest.items()
            if least < self.lengths.get(path, least)
        ]

    def _learn_names(self, names: Sequence[str]) -> None:
        fresh = dict.fromkeys(names)
        self.names.update(fresh)
        if len(fresh) < len(names):
            self._twice.update(dict.fromkeys(name for name in fresh if names.count(name) > 1))

    def _read_stamp(self, names: Sequence[str], records: Any) -> Times:
        """The times of the clock, from fields by their path."""
        path = self.clock.clock
        for nanoseconds in _NANOSECONDS:
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
            if any(one not in self.names for one in names) or len(set(names)) < len(names):
                self._learn_names(names)
                for field, known in self.named.items():
                    numbers = _find(message, field)
                    known.update(dict.fromkeys(() if numbers is None else names[: len(numbers)]))
            for field in self.named:
                numbers = _find(message, field)
                self._count(field, () if numbers is None else names[: len(numbers)], 1)
        blank = False
        for at, request in enumerate(self.requests):
            numbers = _find(message, request.field)
            if isinstance(numbers, np.ndarray):
                labels = _find_labels(message, request.field)
                self._compare(request.field, len(numbers), len(numbers), len(labels) if labels else None)
                self.lengths[request.field] = max(len(numbers), self.lengths.get(request.field, 0))
            axes, angles = self._fill_one(message, request, columns[at], row)
            for axis in angles:
                self._angles.add((at, axis))
            if axes and request.dtype == "float64":
                blank = blank or bool(np.isnan(columns[at][row, axes]).any())
        self._blank += blank
        return True

    def _fill_one(self, message: Any, request: Request, column: Array, row: int) -> tuple[list[int], list[int]]:
        """As `_fill`, from one message that `rosbags` has decoded."""
        return _fill_one(message, request, column, row)


class _Found(NamedTuple):
    """What was found of one request."""

    values: Array
    """(n, K)."""
    there: npt.NDArray[np.bool_]
    """Which of them are in their messages, (n, K)."""


def _is_text_list(description: Any) -> bool:
    node, inner = description
    return node in (Nodetype.SEQUENCE, Nodetype.ARRAY) and inner[0][1][0] == "string"


def _list_paths(requests: Sequence[Request], clock: TopicClock) -> frozenset[str]:
    """Paths of all numbers and strings of a message that some requests, and the clock, may need."""
    found = {f"{clock.clock}.{part}" for part in ("sec", *_NANOSECONDS)} if clock.clock != LOG_CLOCK else set()
    for request in requests:
        start = f"{request.field}." if request.field else ""
        found |= {request.field, *(start + element for element in (*request.axes, *request.elements, *"wxyz"))}
    return frozenset(found)


def _cut_texts(
    messages: RaggedMessages, path: str, payloads: Sequence[bytes]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bytes_]]:
    """The strings at a path of the messages that are good, and which these are."""
    rows, begin, end, _ = messages.texts[path]
    fit = messages.good[rows]
    places = zip(rows[fit].tolist(), begin[fit].tolist(), end[fit].tolist(), strict=True)
    return rows[fit], np.array([payloads[row][start:stop] for row, start, stop in places], np.bytes_)


def _tabulate(request: Request, labels: Sequence[str] | None, length: int) -> npt.NDArray[np.intp]:
    """Where each axis stands in an array of `length` entries, (K,); -1 where nowhere."""
    place = np.full(len(request.axes), -1, np.intp)
    axes, places = _locate(request, labels, length)
    place[axes] = places
    return place


def _empty(request: Request, rows: int) -> Array:
    return np.full((rows, len(request.axes)), missing_value(request.dtype), request.dtype)


def _elements(request: Request, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the request's axes in a message whose entries have these names, or none."""
    if request.elements:
        return request.elements
    return request.axes if labels is not None else tuple(map(str, range(len(request.axes))))


def _locate(request: Request, labels: Sequence[str] | None, length: int) -> tuple[list[int], list[int]]:
    """Which axes are in an array of `length` entries, and where."""
    if not labels and request.elements and all(name.isdecimal() for name in request.elements):
        labels = None  # a message whose entries have no names, where somebody asks for them by number
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


def _match(records: Any, request: Request) -> Array:
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
    return request.marks is not None and set(request.marks) <= {"true", "false", ""}


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


def _find_labels(message: Any, field: str) -> Sequence[str] | None:
    """The names of the entries of a field; a single text of that name, such as of a robot, is none."""
    found = (_find(message, path) for path in _name_paths(field))
    return next((names for names in found if isinstance(names, list)), None)


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
        labels = _find_labels(message, request.field)
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
