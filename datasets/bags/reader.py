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
from ..disk_arrays import blocks_of, release
from ..episode import Episode, SourceSpec
from ..schema import Schema
from .bag_files import open_recording
from .clock_steps import MOST_AHEAD_NS, MOST_DISORDER_NS, find_cuts
from .draft import Draft, draft_mapping
from .embedded import read_embedded
from .finding import digest_bags, find_bags
from .mapping import NS, Mapping, Signal, write_mapping
from .message_types import describe_kinds, list_missing_field
from .pictures import PictureReader
from .quality import MOST_SAMPLES, measure_topic
from .recording import Recording
from .series import TRAJECTORY, Request, TopicReader, is_missing
from .stretch import FLAGS_REQUEST, LeftOut, Stretch
from .trajectory import TrajectoryReader

Array = npt.NDArray[Any]
Times = npt.NDArray[np.int64]


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
        notes = [*self._draft.notes, *tally.notes]
        lags = [record["lag_steps"] for record in tally.quality if "lag_steps" in record]
        if lags and np.median(lags) < 0:
            early = sum(lag < 0 for lag in lags)
            notes.append(
                f"in {early} of {len(lags)} episodes the motion comes before its command, by {-np.median(lags):g} "
                "steps: a clock or a latency is wrong"
            )
        return SourceSpec(
            schema=schema,
            episodes=len(tally.lengths),
            rows=sum(tally.lengths),
            provenance=self._provenance,
            contents={**tally.contents, **self._draft.contents},
            ignored=tally.ignored,
            notes=tuple(notes),
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
                self._last = (path, _Bag(path, recording, self._draft, self.robot))
            bag = self._last[1]
            name = path.name if len(self._bags) > 1 else ""
            bag.report(tally, name)
            for episode, quality in bag.cut(tally):
                yield name, episode, quality

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        tally = self._tally
        sha256, size = digest_bags(self._path, self._bags)
        mapping = _to_plain(asdict(self.mapping))
        facts: dict[str, Any] = {
            "format": ", ".join(tally.formats),
            "bytes": size,
            "sha256": sha256,
            "mapping": {name: one for name, one in mapping.items() if name != "picture" or one},
            "mapping_drafted": self._draft.drafted,
            "quality": tally.quality,
        }
        return facts | ({"recovered": tally.losses} if tally.losses else {})


class _Bag:
    """One bag: its series, and the steps that they make.

    Args:
        path: The bag.
        recording: The same, opened.
        draft: How topics become steps.
        robot: Gives the limits of its actions; None where nobody knows it.
    """

    def __init__(self, path: Path, recording: Recording, draft: Draft, robot: RobotSpec | None) -> None:
        self._path, self._draft, self._mapping = path, draft, draft.mapping
        requests = self._list_requests()
        if self._has_no_steps(recording):  # a start that ended before its first step
            requests = {}
        readers = {name: self._make_reader(recording, name, wanted) for name, wanted in requests.items()}
        rows = {row: readers[topic.name] for row, topic in enumerate(recording.topics) if topic.name in readers}
        for row, log_times, payloads, group in recording.blocks(rows):
            rows[row].add(log_times, payloads, group)
        self.recording = recording
        cuts = find_cuts({name: reader.line() for name, reader in readers.items()}, str(path))
        self._set_back = cuts.sizes
        found = {name: reader.finish(cuts.rows[name]) for name, reader in readers.items()}
        types = {name: reader.topic.type for name, reader in readers.items()}
        pictures = {
            request.axes[0]: shown
            for reader in readers.values()
            if isinstance(reader, PictureReader)
            for request, shown in reader.finish_pictures().items()
        }
        self._stretches: list[Stretch] = []
        for number in range(len(cuts.sizes) + 1 if requests else 0):
            series = {name: parts[number] for name, parts in found.items()}
            columns = {
                (name, request.field, request.axes): column
                for name, wanted in requests.items()
                for request, column in zip(wanted, series[name].values, strict=True)
            }
            angles = frozenset(
                (name, wanted[request].field, wanted[request].axes, axis)
                for name, wanted in requests.items()
                for request, axis in series[name].angles
            )
            before = self._stretches[-1] if self._stretches else None
            self._stretches.append(
                Stretch(path, draft.mapping, robot, types, series, columns, angles, before, pictures)
            )
        self._types = types
        self._names = {name: tuple(reader.names) for name, reader in readers.items()}
        self._lengths = {name: dict(reader.lengths) for name, reader in readers.items()}
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
        for picture in self._mapping.picture:
            request = replace(_request(picture.signal), picture=picture.shape)
            found.setdefault(picture.topic, {})[request] = None
        rule = self._mapping.episodes
        if rule.by == "marker":
            marks = Request(rule.field, ("mark",), (), "float64", (rule.start, rule.stop))
            found.setdefault(rule.topic, {})[marks] = None
        elif rule.by == "steps":
            found.setdefault(rule.topic, {})[FLAGS_REQUEST] = None
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
            known = ", ".join(sorted({topic.name for topic in recording.topics})) or "(none)"
            got, remedy = "none of that name in the bag", f"choose among {known[:400]}"
            if topics:
                got, remedy = (
                    describe_kinds(topics),
                    "split the bag at the time when that changes, and ingest the parts",
                )
            raise SourceError(f"{self._path}: topic {name}: expected a topic of one type, got {got}; {remedy}")
        kind = TrajectoryReader if topics[0].type == TRAJECTORY else TopicReader
        if any(request.picture for request in wanted):
            kind = PictureReader
        return kind(topics[0], self._mapping.clock(name), wanted, str(self._path))

    def _require_axes(self, readers: dict[str, Any]) -> None:
        """Refuses an axis that no message has.

        Raises:
            SourceError: naming the axis, and the names that the topic has.
        """
        for signal in self._mapping.signal:
            absent = np.ones(len(signal.axes), np.bool_)
            for values in (stretch.values(signal) for stretch in self._stretches):
                for block in blocks_of(len(values)):
                    if absent.any():
                        absent &= is_missing(values[block]).all(0)
                        release(values)
            if absent.any():
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
                elif self._stretches[0].series[signal.topic].flaws.blank:
                    got = "no number but NaN, in all messages; leave it out of the mapping"
                raise SourceError(
                    f"{self._path}: topic {signal.topic}: expected {element!r} in {signal.field or reader.topic.type}, "
                    f"got {got}; known are {', '.join(map(str, known))[:400] or '(nothing)'}"
                )

    def report(self, tally: _Tally, name: str) -> None:
        """Adds what is known of the bag as a whole."""
        where = f"{name}: " if name else ""
        tally.formats[self.recording.format] = None
        if self._set_back:
            times = f"{len(self._set_back)} times, by up to" if len(self._set_back) > 1 else "by"
            tally.notes[
                f"{where}the clock was set back {times} {max(self._set_back) / NS:g} s: no episode goes across, and "
                "what lies behind has times of its own"
            ] = None
        counts: dict[str, int] = {}
        damaged: dict[str, int] = {}
        delays: dict[str, float] = {}
        for topic in self._types:
            parts = [stretch.series[topic] for stretch in self._stretches]
            flaws, unit = parts[0].flaws, f"{where}topic {topic}"
            facts = measure_topic(max(parts, key=lambda one: len(one.time)).time)
            counts[topic] = sum(len(one.time) for one in parts)
            every = max(1, counts[topic] // MOST_SAMPLES)
            ahead = float(np.median(np.concatenate([one.time[::every] - one.log_time[::every] for one in parts])))
            if self._types[topic] != TRAJECTORY:
                delays[topic] = -ahead - NS * self._mapping.clock(topic).latency
            if ahead > MOST_AHEAD_NS and self._types[topic] != TRAJECTORY:
                tally.notes[
                    f"{unit}: its stamps are {ahead / NS:.3g} s ahead of the recorder's clock, which cannot be: the "
                    "two clocks differ; give all topics clock = 'log', or a latency"
                ] = None
            if flaws.undecodable:
                damaged[topic] = flaws.undecodable
            tally.contents[f"{where}{topic}"] = f"{counts[topic]} messages, {facts['rate']:g} Hz"
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
        late = max(delays, key=delays.__getitem__, default="")
        if late and delays[late] > max(0.0, min(delays.values())) + MOST_DISORDER_NS:
            usual = min(delays, key=delays.__getitem__)
            tally.notes[
                f"{where}topic {late}: its times are {delays[late] / NS:.3g} s behind the recorder's clock, those of "
                f"{usual} {max(0.0, delays[usual]) / NS:.3g} s: its messages came late, or the two clocks differ; give "
                "all topics clock = 'log' if they do"
            ] = None
        here = (one.topic for one in self._mapping.signals if one.topic in self._types)  # a cut log may lack some
        steady = dict.fromkeys(topic for topic in here if self._types[topic] != TRAJECTORY)
        for first, second in pairwise(steady) if self._mapping.episodes.by != "steps" else ():
            spans = [(one.series[first].time, one.series[second].time) for one in self._stretches]
            apart = [_describe_apart(*span) for span in spans]
            if all(apart):
                apart_text = "; ".join(apart)
                tally.notes[
                    f"{where}topics {first} and {second} share no moment: {apart_text}; give both the same clock"
                ] = None
        for note in self._list_surplus():
            tally.notes[f"{where}{note}"] = None
        for one in self.recording.topics:
            if one.name not in self._types:
                tally.ignored[one.name] = f"{one.type or 'a topic without a type'} is in no signal of the mapping"
        if not self.recording.checksums:
            tally.notes[f"{where}the bag has no checksums: damaged numbers in it cannot be found"] = None
        loss = self.recording.loss
        reasons = [
            *loss.reasons,
            *(
                f"{count} messages of {name} are not of its type, or have no possible time"
                for name, count in damaged.items()
            ),
        ]
        if reasons:
            tally.losses.append(
                {
                    "bag": name or "bag",
                    "messages_lost": loss.messages + sum(damaged.values()),
                    "chunks_lost": loss.chunks,
                    "bytes_unread": loss.unread_bytes,
                    "messages_read": sum(counts.values()),
                    "reasons": reasons,
                }
            )

    def _list_surplus(self) -> Iterator[str]:
        """What of this bag a draft of another one knows nothing of."""
        if not self._draft.drafted:
            return
        for topic, names in self._names.items():
            if topic not in self._draft.names:
                continue
            more = [name for name in names if name and name not in self._draft.names[topic]]
            if more:
                yield (
                    f"topic {topic}: {', '.join(more)[:200]} is not in the bag that the mapping was drafted from, and "
                    "is left out; draft it from a bag that has all joints"
                )
            known = self._draft.lengths[topic]
            for name in {signal.field: None for signal in self._mapping.signal if signal.topic == topic}:
                length = self._lengths[topic].get(name, 0)
                if not names and length > known.get(name, 0):
                    yield (
                        f"topic {topic}: {name} has {length} numbers, and {known.get(name, 0)} in the bag that the "
                        "mapping was drafted from: the others are left out; draft it from a bag that has them all"
                    )

    def cut(self, tally: _Tally) -> Iterator[tuple[Episode, dict[str, Any]]]:
        """Every episode with a record of its quality."""
        rule, left_out = self._mapping.episodes, LeftOut()
        if rule.by == "table" and self._set_back:
            raise SourceError(
                f"{self._path}: expected a clock that goes on with [episodes] by = 'table', got one that was set back "
                f"by {max(self._set_back) / NS:g} s; cut episodes by 'gap' or 'marker'"
            )
        for number, stretch in enumerate(self._stretches):
            for episode, last, quality in stretch.cut(left_out):
                whole = last and number == len(self._stretches) - 1
                if rule.by != "steps":
                    ended, cut = self._terminated and whole, self._truncated or not whole
                    episode = Episode(episode.arrays, terminated=ended, truncated=cut)
                yield episode, quality
        if not self._stretches:
            tally.notes[f"{self._path.name}: no step was taken"] = None
        if left_out.incomplete:
            tally.notes["segments without a complete observation are left out"] = None
        if left_out.unsent:
            tally.notes[f"{left_out.unsent} steps without a command that was sent, or damaged, are left out"] = None
        if left_out.invalid:
            what = "kept, with valid = 0" if self._mapping.invalid == "keep" else "cut out"
            (topic, axis), _ = left_out.reasons.most_common(1)[0]
            tally.notes[
                f"{left_out.invalid} steps without a recent measurement or a command are {what}, most of them "
                f"for {axis} of topic {topic}"
            ] = None
        if left_out.unmarked_ns > 0:
            tally.notes[
                f"by the marks of topic {rule.topic}, {left_out.unmarked_ns / NS:.3g} of {left_out.span_ns / NS:.3g} s "
                "are in no episode"
            ] = None
        if left_out.short:
            tally.notes[f"{left_out.short} stretches of less than {rule.min_steps} steps are left out"] = None


def _request(signal: Signal) -> Request:
    kind = np.dtype(signal.dtype).kind
    return Request(signal.field, signal.axes, signal.elements, {"f": "float64", "i": "int64", "u": "uint64"}[kind])


def _describe_apart(first: Times, second: Times) -> str:
    """Where two topics were recorded, s, if these do not overlap; empty if they do."""
    if not len(first) or not len(second):
        return ""
    spans = sorted((int(time[0]), int(time[-1])) for time in (first, second))
    if spans[1][0] <= spans[0][1]:
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
