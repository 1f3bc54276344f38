"""Reads bags of ROS 1 and 2 and MCAP logs as episodes of steps: the `Reader` of this format.

Each bag is read once into one series per topic, on the disk where it is long; its steps are then computed block by
block. Of several bags only one is held at a time, so they are read once to describe them and once more for the steps.
Legend: T steps of one episode, K axes of a signal, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ...robots.spec import RobotSpec
from ..disk_arrays import blocks_of, make_array, release
from ..episode import Episode, SourceSpec
from ..layout import find_missing
from ..schema import Feature, Schema
from ..side_arrays import TOO_FINE, find_rounded
from ..source_files import require_episode
from .bag_files import open_recording
from .control_steps import FLAGS, READ_FLAGS, cut_steps, find_whole, rows_at, rows_before
from .draft import Draft, draft_mapping
from .embedded import read_embedded
from .finding import digest_bags, find_bags, list_files
from .mapping import NS, Mapping, Signal, write_mapping
from .message_types import list_missing_field
from .quality import iterate_steps, measure_lag, measure_saturation, measure_topic
from .recording import Recording
from .series import MOST_DISORDER_NS, TRAJECTORY, Request, Series, TopicReader, is_missing
from .steps import NEVER, find_phase, follow, iterate_union, runs_of, sample, wrap
from .trajectory import TrajectoryReader

Array = npt.NDArray[Any]
Times = npt.NDArray[np.int64]
BLOCK_STEPS = 65_536
"""Steps that are computed at a time."""
MOST_STEPS = 2**28
"""Of one episode: more come from a stamp that is wrong by years."""
_EXTRA_BYTES = 8 + 8 + 4 + 1
"""Of one step: its time, its age as an integer and in seconds, and whether it is valid."""
_FLAGS_REQUEST = Request("data", READ_FLAGS, tuple(str(FLAGS.index(name)) for name in READ_FLAGS), "float64")
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
class _Tally:
    """What was found on the way through all bags."""

    lengths: list[int] = field(default_factory=list)
    quality: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    losses: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    formats: dict[str, None] = field(default_factory=dict)


class Model(NamedTuple):
    """How bags are read, as one of them says."""

    draft: Draft
    """The mapping, and what is known of it."""
    schema: Schema | None = None
    """Of the store that Supple's writer made the bag of; None for other bags, whose mapping gives it."""


class BagReader:
    """Bags as a source of episodes.

    Args:
        path: A bag, or a folder of bags.
        mapping: How topics become steps. None takes the one that Supple's writer left in the bag, else a draft.
        spec: Robot that it was recorded on: a draft takes its axes, units and period, and a mapping must give them.
        like: Model of another bag, that this one is read by; None takes that of the first one of the path.
    """

    def __init__(
        self,
        path: str | Path,
        mapping: Mapping | None = None,
        spec: RobotSpec | None = None,
        like: Model | None = None,
    ) -> None:
        self._path, self._given, self._spec, self._like = Path(path), mapping, spec, like
        self._last: tuple[Path, _Bag] | None = None

    @property
    def robot(self) -> RobotSpec | None:
        """See `Reader.robot`: as the caller says, or Supple's writer left it in the bag."""
        return self._spec or (self.model.schema.robot if self.model.schema is not None else None)

    @cached_property
    def _bags(self) -> list[Path]:
        return find_bags(self._path)

    @cached_property
    def _first(self) -> Recording:
        return open_recording(self._bags[0])

    @cached_property
    def model(self) -> Model:
        """How these bags are read; raises as `describe`."""
        if self._like is not None:
            return self._like
        if self._given is not None:
            return Model(Draft(self._given, drafted=False))
        where = str(self._bags[0])
        stored = read_embedded(self._first.embedded, where)
        if stored is not None:
            return Model(Draft(stored.mapping, drafted=False), stored.schema)
        return Model(draft_mapping(self._first, where, self._spec))

    @property
    def _draft(self) -> Draft:
        return self.model.draft

    @property
    def mapping(self) -> Mapping:
        """How topics become steps."""
        return self._draft.mapping

    def write_mapping(self) -> str:
        """The mapping as a file to be looked at and changed, with what the bag leaves open at its head."""
        draft = self._draft
        asked = [f"TO DECIDE: {question}" for question in draft.questions]
        return write_mapping(draft.mapping, (*asked, *draft.notes, *(f"{n}: {w}" for n, w in draft.contents.items())))

    @cached_property
    def _schema(self) -> Schema:
        schema = self.model.schema or self.mapping.schema()
        robot = self.robot
        if robot is None or schema.robot is not None:
            return schema
        near = round(robot.control_period * NS) == self.mapping.period_ns
        return replace(schema, robot=robot, control_period=robot.control_period if near else schema.control_period)

    def describe(self) -> SourceSpec:
        """See `Reader.describe`. Reads every message of the topics that are used, and says what is wrong with them.

        Raises:
            SourceError: a bag cannot be read, or a topic, a field or an axis of the mapping is not in it.
            ConfigError: the mapping does not fit the types of its topics.
            SpecError: the robot has other axes, units or another period.
        """
        schema, tally = self._schema, self._tally
        if not tally.lengths:
            raise SourceError(
                f"{self._path}: expected steps with all measurements and a command, got none "
                f"({'; '.join(tally.notes) or 'no topic has two messages at once'}); compare the mapping with supple "
                "inspect"
            )
        notes = (*self._draft.notes, *tally.notes)
        return SourceSpec(
            schema=schema,
            episodes=len(tally.lengths),
            rows=sum(tally.lengths),
            provenance=self._provenance,
            contents={**tally.contents, **self._draft.contents},
            ignored=tally.ignored,
            notes=notes,
            questions=self._draft.questions,
            losses=tuple(f"{loss['bag']}: {_describe_loss(loss)}" for loss in tally.losses),
        )

    def episodes(self) -> Iterator[Episode]:
        """See `Reader.episodes`; raises as `describe`."""
        for _, episode, _ in self._read_all(_Tally()):
            yield episode

    @cached_property
    def _tally(self) -> _Tally:
        tally = _Tally()
        for name, episode, quality in self._read_all(tally):
            tally.lengths.append(episode.length)
            tally.quality.append({"bag": name, "steps": episode.length, **quality})
        return tally

    def _read_all(self, tally: _Tally) -> Iterator[tuple[str, Episode, dict[str, Any]]]:
        for path in self._bags:
            if self._last is None or self._last[0] != path:
                self._last = None  # frees the other bag before this one is read
                recording = self._first if path == self._bags[0] else open_recording(path)
                self._last = (path, _Bag(path, recording, self.mapping, self.robot))
            bag = self._last[1]
            name = path.name if len(self._bags) > 1 else ""
            bag.report(tally, name)
            for episode, quality in bag.cut(tally):
                yield name, episode, quality

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        tally = self._tally
        sha256, size = digest_bags(self._path, self._bags)
        facts: dict[str, Any] = {
            "format": ", ".join(tally.formats),
            "bytes": size,
            "sha256": sha256,
            "mapping": _to_plain(asdict(self.mapping)),
            "mapping_drafted": self._draft.drafted,
            "quality": tally.quality,
        }
        return facts | ({"recovered": tally.losses} if tally.losses else {})


class _Bag:
    """One bag: its series, and the steps that they make.

    Args:
        path: The bag.
        recording: The same, opened.
        mapping: How topics become steps.
        robot: Gives the limits of its actions; None where nobody knows it.
    """

    def __init__(self, path: Path, recording: Recording, mapping: Mapping, robot: RobotSpec | None) -> None:
        self._path, self._mapping, self._robot = path, mapping, robot
        requests = self._list_requests()
        if self._has_no_steps(recording):  # a start that ended before its first step
            requests = {}
        readers = {name: self._make_reader(recording, name, wanted) for name, wanted in requests.items()}
        rows = {row: readers[topic.name] for row, topic in enumerate(recording.topics) if topic.name in readers}
        for row, log_times, payloads in recording.blocks(rows):
            rows[row].add(log_times, payloads)
        self.recording = recording
        self.series: dict[str, Series] = {name: reader.finish() for name, reader in readers.items()}
        self._columns = {
            (name, request.field, request.axes): column
            for name, wanted in requests.items()
            for request, column in zip(wanted, self.series[name].values, strict=True)
        }
        if requests:
            self._require_axes(readers)
        stored = read_embedded(recording.embedded, str(path))
        self._terminated = stored is not None and stored.terminated
        self._truncated = stored.truncated if stored is not None else True

    def _list_requests(self) -> dict[str, tuple[Request, ...]]:
        """Columns that are read, by topic."""
        found: dict[str, dict[Request, None]] = {}
        for signal in self._mapping.signal:
            found.setdefault(signal.topic, {})[_request(signal)] = None
        rule = self._mapping.episodes
        if rule.by == "marker":
            marks = Request(rule.field, ("mark",), (), "float64", (rule.start, rule.stop))
            found.setdefault(rule.topic, {})[marks] = None
        elif rule.by == "steps":
            found.setdefault(rule.topic, {})[_FLAGS_REQUEST] = None
        return {name: tuple(wanted) for name, wanted in found.items()}

    def _has_no_steps(self, recording: Recording) -> bool:
        """Whether a log of steps has none: its topics are then missing."""
        rule = self._mapping.episodes
        return rule.by == "steps" and all(topic.name != rule.topic for topic in recording.topics)

    def _make_reader(
        self, recording: Recording, name: str, wanted: tuple[Request, ...]
    ) -> TopicReader | TrajectoryReader:
        topics = [topic for topic in recording.topics if topic.name == name]
        if len(topics) != 1:
            known = ", ".join(sorted(topic.name for topic in recording.topics)) or "(none)"
            got = f"messages of {len(topics)} types" if topics else "none of that name in the bag"
            raise SourceError(
                f"{self._path}: topic {name}: expected a topic of one type, got {got}; choose among {known[:400]}"
            )
        kind = TrajectoryReader if topics[0].type == TRAJECTORY else TopicReader
        return kind(topics[0], self._mapping.clock(name), wanted, str(self._path))

    def _require_axes(self, readers: dict[str, Any]) -> None:
        """Refuses an axis that no message has.

        Raises:
            SourceError: naming the axis, and the names that the topic has.
        """
        for signal in self._mapping.signal:
            values = self._values(signal)
            absent = np.ones(len(signal.axes), np.bool_)
            for block in blocks_of(len(values), BLOCK_STEPS):
                absent &= is_missing(values[block]).all(0)
                release(values)
                if not absent.any():
                    break
            else:
                axis = int(np.flatnonzero(absent)[0])
                element = signal.elements[axis] if signal.elements else signal.axes[axis]
                reader = readers[signal.topic]
                known = list(reader.names) or [
                    f"{name} (0 to {most - 1})" for name, most in reader.lengths.items() if most
                ]
                got = "none in any message"
                fields = list_missing_field(reader.topic, signal.field)
                if fields:
                    got, known = f"no such field in {reader.topic.type}", fields
                elif element in known:
                    got = "only its name, and no number but NaN, in all messages; leave it out of the mapping"
                elif self.series[signal.topic].flaws.blank:
                    got = "no number but NaN, in all messages; leave it out of the mapping"
                raise SourceError(
                    f"{self._path}: topic {signal.topic}: expected {element!r} in {signal.field or reader.topic.type}, "
                    f"got {got}; known are {', '.join(map(str, known))[:400] or '(nothing)'}"
                )

    def _values(self, signal: Signal) -> Array:
        return self._columns[signal.topic, signal.field, signal.axes]

    def report(self, tally: _Tally, name: str) -> None:
        """Adds what is known of the bag as a whole."""
        where = f"{name}: " if name else ""
        tally.formats[self.recording.format] = None
        if self.recording.backward_ns > MOST_DISORDER_NS:
            tally.notes[
                f"{where}the recorder's clock runs back, by up to {self.recording.backward_ns / NS:g} s; messages were "
                "sorted by it"
            ] = None
        for topic, series in self.series.items():
            flaws, unit = series.flaws, f"{where}topic {topic}"
            facts = measure_topic(series.time)
            tally.contents[f"{where}{topic}"] = f"{len(series.time)} messages, {facts['rate']:g} Hz"
            if flaws.backward:
                tally.notes[
                    f"{unit}: time runs back at {flaws.backward} messages, by up to {flaws.most_backward_ns / NS:g} s; "
                    "they were sorted"
                ] = None
            if flaws.unstamped:
                tally.notes[f"{unit}: {flaws.unstamped} messages have the stamp 0 and are left out"] = None
            if flaws.blank:
                tally.notes[
                    f"{unit}: {flaws.blank} messages hold NaN for a wanted axis, which is not measured there"
                ] = None
            if flaws.twice:
                tally.notes[
                    f"{unit}: {', '.join(flaws.twice)[:200]} stands more than once in one message; the first counts"
                ] = None
            if flaws.uneven:
                tally.notes[
                    f"{unit}: {'; '.join(flaws.uneven)[:300]}; what a message has none of keeps its last number, and "
                    "what has no name is left out"
                ] = None
            if flaws.repeated:
                tally.notes[f"{unit}: {flaws.repeated} messages repeat the time of the one before"] = None
        here = (one.topic for one in self._mapping.signal if one.topic in self.series)  # a cut log may lack some
        steady = dict.fromkeys(topic for topic in here if self.recording_type(topic) != TRAJECTORY)
        for first, second in pairwise(steady):
            apart = _describe_apart(self.series[first].time, self.series[second].time)
            if apart:
                tally.notes[
                    f"{where}topics {first} and {second} share no moment: {apart}; give both the same clock"
                ] = None
        for one in self.recording.topics:
            if one.name not in self.series:
                tally.ignored[one.name] = f"{one.type or 'a topic without a type'} is in no signal of the mapping"
        if not self.recording.checksums:
            tally.notes[f"{where}the bag has no checksums: damaged numbers in it cannot be found"] = None
        undecodable = {name: one.flaws.undecodable for name, one in self.series.items() if one.flaws.undecodable}
        loss = self.recording.loss
        reasons = [
            *loss.reasons,
            *(
                f"{count} messages of {name} are not of its type, or have no possible time"
                for name, count in undecodable.items()
            ),
        ]
        if reasons:
            tally.losses.append(
                {
                    "bag": name or "bag",
                    "messages_lost": loss.messages + sum(undecodable.values()),
                    "chunks_lost": loss.chunks,
                    "bytes_unread": loss.unread_bytes,
                    "messages_read": sum(len(series.time) for series in self.series.values()),
                    "reasons": reasons,
                }
            )

    def cut(self, tally: _Tally) -> Iterator[tuple[Episode, dict[str, Any]]]:
        """Every episode with a record of its quality."""
        if self._mapping.episodes.by == "steps":
            yield from self._cut_steps(tally)
            return
        rule, short, invalid = self._mapping.episodes, 0, 0
        segments = self._find_segments()
        for number, segment in enumerate(segments):
            grid = self._make_grid(segment)
            if grid is None:
                tally.notes["segments without a complete observation are left out"] = None
                continue
            start, steps = grid
            arrays, valid = self._compute_steps(segment, start, steps)
            keep = self._mapping.invalid == "keep"
            runs = np.array([[0, steps]]) if keep else runs_of(valid)
            invalid += int(steps - valid.sum())
            for first, last in runs.tolist():
                if last - first < rule.min_steps:
                    short += 1
                    continue
                part = {name: array[first:last] for name, array in arrays.items()}
                whole = number == len(segments) - 1 and last == steps
                times = start + np.array([first, last - 1]) * self._mapping.period_ns
                quality = self._measure(part, valid[first:last], _Segment(int(times[0]), int(times[1])))
                yield Episode(part, self._terminated and whole, self._truncated or not whole), quality
        if invalid:
            what = "kept, with valid = 0" if self._mapping.invalid == "keep" else "cut out"
            tally.notes[f"{invalid} steps without a recent measurement or a command are {what}"] = None
        if short:
            tally.notes[f"{short} stretches of less than {rule.min_steps} steps are left out"] = None

    def _cut_steps(self, tally: _Tally) -> Iterator[tuple[Episode, dict[str, Any]]]:
        """As `cut`, where the log has its own steps, see `control_steps.py`."""
        mapping, rule = self._mapping, self._mapping.episodes
        if not self.series:
            tally.notes[f"{self._path.name}: no step was taken"] = None
            return
        step = np.asarray(self.series[rule.topic].time)
        flags = np.asarray(self._columns[rule.topic, _FLAGS_REQUEST.field, _FLAGS_REQUEST.axes])
        terminated, truncated, index = flags[:, 0] == 1.0, flags[:, 1] == 1.0, flags[:, 2]
        times = {signal: np.asarray(self.series[signal.topic].time) for signal in mapping.signal}
        before = {signal: time for signal, time in times.items() if signal.feature in ("observation", "action")}
        goals = {signal: time for signal, time in times.items() if signal.role == "goal"}
        observed = [time for signal, time in before.items() if not mapping.is_command(signal)]
        commanded = [time for signal, time in before.items() if mapping.is_command(signal)]
        other = [time for signal, time in times.items() if signal not in before and signal not in goals]
        whole = find_whole(step, observed, commanded, other)
        for time in goals.values():
            whole &= rows_before(time, step) >= 0
        if lost := int((~whole).sum()):
            tally.notes[f"{lost} steps without a command that was sent, or damaged, are left out"] = None
        short = 0
        for rows, ended, cut in cut_steps(whole, index, terminated, truncated):
            if len(rows) < rule.min_steps:
                short += 1
                continue
            at = step[rows]
            arrays: dict[str, Array] = {}
            for feature in mapping.features():
                parts = []
                for signal in mapping.parts()[feature.name]:
                    time = times[signal]
                    held = rows_at(time, at) if signal not in before and signal not in goals else rows_before(time, at)
                    parts.append(np.asarray(self._values(signal)[held]))
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
            yield Episode(arrays, ended, cut), self._measure(arrays, np.ones(len(rows), np.bool_), span)
        if short:
            tally.notes[f"{short} stretches of less than {rule.min_steps} steps are left out"] = None

    def _find_segments(self) -> list[_Segment]:
        rule = self._mapping.episodes
        used = [self.series[signal.topic].time for signal in self._mapping.observations]
        begin, end = min(int(time[0]) for time in used), max(int(time[-1]) for time in used)
        if rule.by == "bag":
            return [_Segment(begin, end)]
        if rule.by == "table":
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
        marks = self.series[rule.topic]
        column = self._columns[rule.topic, rule.field, ("mark",)][:, 0]
        marked = ~np.isnan(column)
        time, value = marks.time[marked], column[marked]
        following = np.append(time[1:] - 1, end)
        return [
            _Segment(int(first), int(last))
            for first, last in zip(time[value == 1.0], following[value == 1.0], strict=True)
            if first <= last
        ]

    def _slice(self, signal: Signal, segment: _Segment) -> tuple[Times, Array]:
        time = self.series[signal.topic].time
        low, high = np.searchsorted(time, segment.start, "left"), np.searchsorted(time, segment.end, "right")
        return time[low:high], self._values(signal)[low:high]

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
        for signal in mapping.signal:
            if self.recording_type(signal.topic) != TRAJECTORY:
                topics[mapping.is_command(signal)][signal.topic] = self._slice(signal, segment)[0]
        measured, commanded = (list(topics[kind].values()) for kind in (False, True))
        return find_phase(measured, commanded, start, end, mapping.period_ns) if commanded else 0

    def _compute_steps(self, segment: _Segment, start: int, steps: int) -> tuple[dict[str, Array], Array]:
        """All arrays of the store for one segment, and which steps are valid, (T,)."""
        mapping, period = self._mapping, self._mapping.period_ns
        features = mapping.features()
        step_bytes = sum(len(one.axes) * np.dtype(one.dtype).itemsize for one in features) + _EXTRA_BYTES
        require_episode(
            steps,
            step_bytes,
            self._path,
            "cut it with [episodes] by = 'gap', 'marker' or 'table', or give a longer period",
            on_disk=sum(file.stat().st_size for file in list_files(self._path)),
        )
        grid = _Grid(start, period, steps)
        arrays = {one.name: make_array((steps, len(one.axes)), one.dtype) for one in features}
        valid, age = make_array((steps,), np.bool_), make_array((steps,), np.int64)
        valid[:], age[:] = True, 0
        for feature in features:
            offset = 0
            for signal in mapping.parts()[feature.name]:
                width = len(signal.axes)
                target = arrays[feature.name][:, offset : offset + width]
                self._fill(signal, segment, grid, target, valid, age)
                offset += width
            self._require_finite(feature, arrays[feature.name], valid)
            if not feature.shape:
                arrays[feature.name] = arrays[feature.name][:, 0]
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

    def _fill(self, signal: Signal, segment: _Segment, grid: _Grid, target: Array, valid: Array, age: Times) -> None:
        """Writes one signal into its columns, and what it says of validity and age."""
        mapping = self._mapping
        time, values = self._slice(signal, segment)
        most_age = mapping.clock(signal.topic).max_age
        command = mapping.is_command(signal)
        if command and self.recording_type(signal.topic) == TRAJECTORY:
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
            release(time, values, target, valid, age)

    def recording_type(self, topic: str) -> str:
        """Message type of a topic."""
        return next(one.type for one in self.recording.topics if one.name == topic)

    def _measure(self, arrays: dict[str, Array], valid: Array, span: _Segment) -> dict[str, Any]:
        """The record of one episode; see `quality`."""
        topics = {}
        for name in sorted({signal.topic for signal in self._mapping.signal}):
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
        """Lag between the axes of action and observation that have the same name or the same element."""
        if self._mapping.action_source != "command":
            return None
        places: dict[str, tuple[int, str]] = {}
        column = 0
        for signal in self._mapping.parts().get("observation", []):
            for axis, element, unit in zip(signal.axes, signal.elements or signal.axes, signal.units, strict=True):
                if signal.field.rpartition(".")[2] not in ("velocity", "effort"):
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


def _request(signal: Signal) -> Request:
    kind = np.dtype(signal.dtype).kind
    return Request(signal.field, signal.axes, signal.elements, {"f": "float64", "i": "int64", "u": "uint64"}[kind])


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


def _describe_apart(first: Times, second: Times) -> str:
    """Where two topics were recorded, s, if these do not overlap; empty if they do."""
    spans = sorted((int(time[0]), int(time[-1])) for time in (first, second))
    if not len(first) or not len(second) or spans[1][0] <= spans[0][1]:
        return ""
    return " and ".join(f"{low / NS:.3f} to {high / NS:.3f} s" for low, high in spans)


def _describe_loss(loss: dict[str, Any]) -> str:
    """One line."""
    lost = f"{loss['messages_lost'] or 'an unknown number of'} messages"
    more = "".join(
        f", {loss[name]} {what}"
        for name, what in (("chunks_lost", "chunks"), ("bytes_unread", "bytes unread"))
        if loss[name]
    )
    return f"recovered {loss['messages_read']} messages, lost {lost}{more}: {'; '.join(loss['reasons'])}"


def _to_plain(value: Any) -> Any:
    """JSON values: lists for tuples."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value
