"""Drafts a mapping from a bag: which topics are measured and commanded, at what rate, by which clock.

A draft is only used by itself where nothing has to be guessed: one source for each measurement, one command. Everything
else becomes a question, which a person answers in the mapping. Units are those that ROS fixes for the message type; a
joint may turn or slide, so its unit stays open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError, SourceError
from ...robots.ros.pictures import KINDS as CAMERAS
from ...robots.spec import RobotSpec
from ..disk_arrays import release, select
from .clock_steps import MOST_AHEAD_NS, MOST_DISORDER_NS, find_steps
from .mapping import LOG_CLOCK, NS, STAMP, EpisodeRule, Mapping, Picture, Signal, TopicClock
from .message_types import ENCODINGS, describe_kinds, load_types
from .quality import MOST_SAMPLES, measure_topic
from .recording import DISORDER_NS, Recording, Topic
from .robot_axes import name_axes
from .series import TRAJECTORY, Request, TopicReader, is_missing

_JOINTS = "sensor_msgs/msg/JointState"
_ARRAYS = ("std_msgs/msg/Float64MultiArray", "std_msgs/msg/Float32MultiArray")
_COMMAND_NAME = re.compile(r"cmd|command|desired|target|set_?point|reference|goal", re.I)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MARK_NAMES = frozenset(
    {*("episode", "episodes", "record", "recorded", "recorder", "recording", "trial", "trials", "rollout", "rollouts")}
    | {"demo", "demos", "demonstration", "demonstrations"}
)
"""Words in the names of topics that mark episodes."""
_MARK_WORDS = (("start", "stop"), ("start", "end"), ("begin", "end"), ("started", "stopped"))
_XYZ, _TWIST_UNITS = ("x", "y", "z"), {"linear": "m/s", "angular": "rad/s"}
CMD_VEL_TIMEOUT = 0.5
"""Seconds after which ros2_control's diff_drive_controller stops, its default `cmd_vel_timeout`."""
_MOST_UNSET = 0.01
"""Share of the messages of a topic whose stamp may be 0: these are left out."""
_LEAST_MESSAGES = 10
"""A topic of fewer messages has no rate, beside one of as many times more."""
_LEAST_REGULAR = 0.5
"""Share of the steps between messages that are near the median one, of a topic that comes at a rate."""
_LEAST_SHARE = 0.9
"""Share of the messages of a topic that hold a joint; those of others come more seldom than the topic."""
_AGE_PERIODS = 5
_LEAST_AGE = 0.1
_MOST_WORDS = 16
_NEAR = 0.02
"""Share by which a rate may be off a whole number of steps per second."""


class Part(NamedTuple):
    """Some axes of a message type."""

    field: str
    elements: tuple[str, ...]
    units: tuple[str, ...]
    suffix: str = ""
    """Added to the names of the elements in the store."""


_TWIST = tuple(
    Part("", tuple(f"{side}.{axis}" for axis in axes), (_TWIST_UNITS[side],) * len(axes))
    for side, axes in (("linear", ("x", "y")), ("angular", ("z",)))
)
MEASURED: dict[str, tuple[Part, ...]] = {
    "nav_msgs/msg/Odometry": (
        Part("pose.pose.position", ("x", "y"), ("m", "m")),
        Part("pose.pose.orientation", ("yaw",), ("rad",)),
        *(part._replace(field="twist.twist") for part in _TWIST),
    ),
    "geometry_msgs/msg/PoseStamped": (
        Part("pose.position", _XYZ, ("m",) * 3),
        Part("pose.orientation", (*_XYZ, "w"), ("",) * 4, "_quaternion"),
    ),
    "geometry_msgs/msg/WrenchStamped": (
        Part("wrench.force", _XYZ, ("N",) * 3, "_force"),
        Part("wrench.torque", _XYZ, ("N m",) * 3, "_torque"),
    ),
}
"""What is taken from messages that measure."""
COMMANDED: dict[str, tuple[Part, ...]] = {
    "geometry_msgs/msg/Twist": _TWIST,
    "geometry_msgs/msg/TwistStamped": tuple(part._replace(field="twist") for part in _TWIST),
}
"""What is taken from messages that command; arrays, joints and trajectories have names of their own."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A mapping, and what a person should know of it."""

    mapping: Mapping
    drafted: bool = True
    questions: tuple[str, ...] = ()
    """What the bag leaves open; the mapping then holds one of the answers."""
    notes: tuple[str, ...] = ()
    contents: dict[str, str] = field(default_factory=dict)
    """One line on each topic."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Joints of each topic; other bags may have more."""
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    """Longest length of each sequence of numbers of each topic."""


@dataclass(slots=True)
class _Seen:
    """One topic, after all its messages."""

    topic: Topic
    clock: str
    names: tuple[str, ...]
    lengths: dict[str, int]
    facts: dict[str, float]
    line: str
    words: tuple[str, ...] = ()
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Joints that have a number in each sequence."""
    set_back: int = 0
    """By how much the recorder's clock was set back while it came, ns."""
    delay: int = 0
    """By which the clock is behind the recorder's, ns; the median."""
    unusable: str = ""
    """Why its stamps are not its clock; empty where they are, or where there are none."""
    regular: bool = True
    """Whether it comes at a rate, and not now and then."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Messages in which each joint has a number, for each sequence."""

    @property
    def period(self) -> float:
        """Seconds between two messages; 0 where there are less than two."""
        return 1.0 / self.facts["rate"] if self.facts["rate"] else 0.0


def draft_mapping(recording: Recording, where: str, robot: RobotSpec | None = None) -> Draft:
    """Reads all messages once and proposes a mapping.

    Args:
        recording: The bag.
        where: The same, for messages.
        robot: That it was recorded on: gives the names, units and order of the axes, and the period. None takes
            those of the bag.

    Raises:
        SourceError: no topic holds a measurement that is known here; the message lists the topics.
    """
    seen = _survey(recording, where, robot is not None and robot.image is not None)
    contents = {one.topic.name: one.line for one in seen}
    names = [one.topic.name for one in seen]
    usable = [one for one in seen if one.facts["messages"] > 1 and names.count(one.topic.name) == 1]
    measured = [one for one in usable if _is_measured(one)]
    commands = [one for one in usable if _is_command(one)]
    questions: list[str] = []
    notes = [
        f"topic {name} comes with {describe_kinds([one.topic for one in seen if one.topic.name == name])}, and cannot "
        "be used"
        for name in dict.fromkeys(name for name in names if names.count(name) > 1)
    ]
    observation = list(_list_measured(measured, questions))
    if not observation:
        known = "; ".join((*recording.loss.reasons, *notes, *(f"{name}: {line}" for name, line in contents.items())))
        raise SourceError(
            f"{where}: expected two messages or more of a topic that measures ({_JOINTS}, {', '.join(MEASURED)}), got "
            f"{known[:600] or 'no topic'}; write a mapping for your own message types, see docs/bags.md"
        )
    single = [one.topic.name for one in seen if _is_command(one) and one.facts["messages"] < 2]
    action, source = _choose_action(commands, observation, single, questions)
    if robot is not None:
        observation, action = (
            name_axes(part, array, questions)
            for part, array in ((observation, robot.observation), (action, robot.action))
        )
    pictures = _choose_camera(usable, robot, questions, notes)
    signals = (*observation, *action)
    filmed = {picture.topic for picture in pictures}
    rule = _find_marker([one for one in seen if names.count(one.topic.name) == 1], notes)
    timed = [one for one in seen if one.topic.name in {rule.topic, *(signal.topic for signal in signals), *filmed}]
    notes += [
        f"topic {one.topic.name}: {one.unusable}: it goes by the recorder's clock" for one in timed if one.unusable
    ]
    notes += _agree_on_clock(timed)
    used = [one for one in timed if one.topic.name != rule.topic or one.topic.name in {one.topic for one in signals}]
    periods = {one.topic.name: _measure_joints(one, signals, recording, where) for one in used}
    numbers = (*signals, *(picture.signal for picture in pictures))
    signals = tuple(
        part
        for signal in signals
        for part in _split_ages(
            signal, periods[signal.topic], source == "command" and signal.feature == "action", notes
        )
    )
    if robot is None:
        notes += [
            f"topic {one.topic.name} comes now and then, with {one.facts['messages']:g} messages: the period is that "
            "of the others"
            for one in used
            if _is_sporadic(one, used)
            and one.topic.type != TRAJECTORY
            and not all(_is_sporadic(one, used) for one in used)
        ]
    if any(not unit for signal in signals for unit in signal.units):
        notes.append("the bag does not say the unit of every axis: these stay open; give units in a mapping")
    mapping = Mapping(
        period=_choose_period(used) if robot is None else robot.control_period,
        action_source=source,
        episodes=rule,
        topic=tuple(_make_clock(one, numbers, min(periods[one.topic.name].values(), default=0.0)) for one in used),
        signal=signals,
        picture=pictures,
    )
    joints = {one.topic.name: one.names for one in used}
    lengths = {one.topic.name: one.lengths for one in used}
    return Draft(mapping, True, tuple(questions), tuple(notes), contents, joints, lengths)


def _survey(recording: Recording, where: str, sees: bool) -> list[_Seen]:
    """Every topic with its clock, names and rates; pictures are counted alone where no policy `sees`."""
    readers: dict[int, TopicReader] = {}
    problems: dict[int, str] = {}
    counts, first, last = ([0] * len(recording.topics) for _ in range(3))
    words: dict[int, dict[str, None]] = {}
    for row, topic in enumerate(recording.topics):
        try:
            if _is_of_interest(topic) or (topic.type in CAMERAS and sees):
                has_stamp = any(name == "header" for name, _ in load_types(topic, where).fielddefs[topic.type][1])
                clock = TopicClock(name=topic.name, clock=STAMP if has_stamp else LOG_CLOCK)
                readers[row] = TopicReader(topic, clock, (), where)
        except (SourceError, ConfigError) as error:
            problems[row] = str(error).partition(": expected ")[2].partition("; ")[0]
    for row, log_times, payloads, group in recording.blocks(range(len(recording.topics))):
        counts[row] += len(payloads)
        first[row], last[row] = first[row] or log_times[0], log_times[-1]
        if row in readers:
            readers[row].add(log_times, payloads, group)
            topic = recording.topics[row]
            read = {"std_msgs/msg/String": _read_text, "std_msgs/msg/Bool": _read_truth}.get(topic.type)
            if read is not None:
                said = words.setdefault(row, {})
                fresh = dict.fromkeys(read(payload, topic.encoding) for payload in payloads)
                said.update(islice(fresh.items(), max(0, _MOST_WORDS - len(said))))
    seen = []
    for row, topic in enumerate(recording.topics):
        if row in readers:
            seen.append(_describe(readers[row], tuple(words.get(row, ()))))
            continue
        span = (last[row] - first[row]) / NS
        facts = {"messages": counts[row], "rate": (counts[row] - 1) / span if counts[row] > 1 and span > 0 else 0.0}
        line = f"{topic.type or 'no type'}, {counts[row]} messages, {facts['rate']:.4g} Hz"
        problem = f"; cannot be decoded: expected {problems[row]}" if row in problems else ""
        if topic.encoding not in ENCODINGS:
            known = " or ".join(ENCODINGS)
            problem = f"; cannot be decoded: its messages are in {topic.encoding or 'no encoding'}, not in {known}"
        seen.append(_Seen(topic, LOG_CLOCK, (), {}, facts, line + problem))
    return seen


def _read_text(payload: bytes, encoding: str) -> str:
    """The text of a `std_msgs/String`."""
    start, end = (8, -1) if encoding == "cdr" else (4, None)
    return payload[start:end].decode(errors="replace")[:80]


def _read_truth(payload: bytes, encoding: str) -> str:
    """The value of a `std_msgs/Bool`, as a mark has it."""
    at = 4 if encoding == "cdr" else 0
    return str(payload[at : at + 1] not in (b"", b"\0")).lower()


def _is_of_interest(topic: Topic) -> bool:
    """Whether a mapping is drafted from messages of this type; pictures and clouds are only counted."""
    kinds = (_JOINTS, *_ARRAYS, TRAJECTORY, *MEASURED, *COMMANDED, "std_msgs/msg/Bool", "std_msgs/msg/String")
    return topic.type in kinds


def _describe(reader: TopicReader, words: tuple[str, ...]) -> _Seen:
    """Chooses the clock: the stamp where there is one that goes on, else the recorder's time."""
    time, log_time, _ = reader.finish_times()
    topic, clock, note, unusable = reader.topic, reader.clock.clock, "", ""
    if clock == STAMP and len(time):
        unset = len(time) - int(np.count_nonzero(time))
        known = time != 0
        stamps, logged = (select(array, known) for array in (time, log_time)) if unset else (time, log_time)
        back = _measure_steps(stamps, find_steps(stamps))
        if back or unset > _MOST_UNSET * len(time):
            unusable = f"its stamps cannot be used ({unset} are 0, and they are set back by up to {back / NS:g} s)"
            note = f"; {unusable}"
            time, clock = log_time, LOG_CLOCK
        else:
            time, log_time = stamps, logged
    cuts = find_steps(time)
    whole = max((time[low:high] for low, high in pairwise((0, *cuts, len(time)))), key=len)
    whole = np.sort(whole)
    facts = measure_topic(whole) | {"messages": len(time)}
    near = np.diff(whole)[:MOST_SAMPLES]
    near = near[near > 0]
    regular = not len(near) or float((np.abs(near / np.median(near) - 1) <= 0.5).mean()) >= _LEAST_REGULAR
    parts = [f"{topic.type}, {len(time)} messages, {facts['rate']:.4g} Hz"]
    if len(time) > 1:
        parts.append(f"jitter {1e3 * facts['jitter_p99']:.3g} ms (99 %), longest gap {facts['longest_gap']:.3g} s")
    some = slice(None, None, max(1, -(-len(time) // MOST_SAMPLES)))
    late = log_time[some] - time[some]
    release(time, log_time)
    if clock == STAMP and len(time):
        delay: npt.NDArray[Any] = late / NS
        parts.append(
            f"recorded {1e3 * np.median(delay):.3g} ms after its stamp (99 %: {1e3 * np.percentile(delay, 99):.3g})"
        )
    names = tuple(name for name in reader.names if name)
    if names:
        parts.append(f"joints {', '.join(names)}")
    if len(names) < len(reader.names):
        note += "; entries without a name are left out"
    if topic.type == _JOINTS and not reader.names and any(reader.lengths.values()):
        note += "; its numbers have no names: a mapping can take them by elements = ['0', ...]"
    named = {name: tuple(joint for joint in joints if joint) for name, joints in reader.named.items()}
    usual = int(np.median(late)) if len(time) else 0
    line, back = ", ".join(parts) + note, _measure_steps(log_time, find_steps(log_time))
    return _Seen(
        topic, clock, names, reader.lengths, facts, line, words, named, back, usual, unusable, regular, reader.counts
    )


def _measure_steps(time: npt.NDArray[np.int64], steps: Sequence[int]) -> int:
    """By how much a clock was set back at most, ns."""
    return max((int(time[row - 1]) - int(time[row]) for row in steps), default=0)


def _is_command(one: _Seen) -> bool:
    kind = one.topic.type
    named = _COMMAND_NAME.search(one.topic.name) is not None
    return kind in (*COMMANDED, TRAJECTORY) or (named and kind in (_JOINTS, *_ARRAYS))


def _is_measured(one: _Seen) -> bool:
    return not _is_command(one) and one.topic.type in (_JOINTS, *MEASURED)


def _list_measured(measured: Sequence[_Seen], questions: list[str]) -> Iterator[Signal]:
    """Signals of the observation; what has two sources is a question."""
    sources: dict[str, str] = {}
    joints = [one for one in measured if one.topic.type == _JOINTS]
    for name in ("position", "velocity"):
        suffix = "" if name == "position" else "_velocity"
        for one in joints:
            axes = list(one.named.get(name, ()))
            repeated = [
                joint for joint in axes if sources.setdefault(f"{joint}{suffix}", one.topic.name) != one.topic.name
            ]
            if repeated:
                questions.append(
                    f"expected one source of joint {repeated[0]}, got {sources[repeated[0] + suffix]} and "
                    f"{one.topic.name}; keep one of them in --mapping"
                )
            axes = [joint for joint in axes if joint not in repeated]
            if axes:
                yield Signal(
                    feature="observation",
                    topic=one.topic.name,
                    field=name,
                    axes=tuple(f"{joint}{suffix}" for joint in axes),
                    elements=tuple(axes) if suffix else (),
                    units=("",) * len(axes),
                )
    for kind, parts in MEASURED.items():
        topics = [one.topic.name for one in measured if one.topic.type == kind]
        if len(topics) > 1:
            questions.append(f"expected one topic of {kind}, got {', '.join(topics)}; keep one of them in --mapping")
        for topic in topics[:1]:
            yield from (_make_signal("observation", topic, part) for part in parts)


def _make_signal(feature: str, topic: str, part: Part, timeout: float | None = None) -> Signal:
    axes = tuple(f"{element.replace('.', '_')}{part.suffix}" for element in part.elements)
    elements = part.elements if axes != part.elements else ()
    return Signal(
        feature=feature,
        topic=topic,
        field=part.field,
        axes=axes,
        elements=elements,
        units=part.units,
        timeout=timeout,
    )


def _choose_action(
    commands: Sequence[_Seen], observation: Sequence[Signal], single: Sequence[str], questions: list[str]
) -> tuple[list[Signal], Any]:
    """Signals of the action, and where they come from; `single` are topics that would command, with one message."""
    names = ", ".join(one.topic.name for one in commands)
    named = [one for one in commands if one.names]
    joints = [joint for one in named for joint in one.names]
    disjoint = len(named) == len(commands) and len(set(joints)) == len(joints)
    if len(commands) > 1 and not disjoint:
        questions.append(
            f"expected one topic that commands, got {names}; keep in --mapping the one that the robot follows (the "
            "applied command, where both are recorded)"
        )
        commands = commands[:1]
    if not commands:
        questions.append(
            f"expected a topic that commands, got none{' but ' * bool(single)}{', '.join(single)}"
            f"{' with a single message' * bool(single)}; draft a mapping, and keep action_source = 'next_state' (or "
            "'delta') in it if the robot was led by hand"
        )
        return _take_next_state(observation), "next_state"
    signals = {one.topic.name: list(_list_command(one)) for one in commands}
    unread = [name for name, found in signals.items() if not found]
    if unread:
        questions.append(
            f"expected numbers with names in the topic that commands, got none in {', '.join(unread)}; draft a "
            "mapping, and take them by number, as elements = ['0', '1'], or choose another topic"
        )
    if not any(signals.values()):
        return _take_next_state(observation), "next_state"
    return [signal for found in signals.values() for signal in found], "command"


def _take_next_state(observation: Sequence[Signal]) -> list[Signal]:
    """The action of a robot that was led by hand."""
    source = next((one for one in observation if one.field == "position"), observation[0])
    axes = tuple(source.elements or source.axes)
    return [Signal(feature="action", topic=source.topic, field=source.field, axes=axes, units=source.units)]


def _choose_camera(
    usable: Sequence[_Seen], robot: RobotSpec | None, questions: list[str], notes: list[str]
) -> tuple[Picture, ...]:
    """The camera of a robot whose policies see, in the size of its picture; of others, cameras are named in a note."""
    cameras = [one.topic.name for one in usable if one.topic.type in CAMERAS]
    if robot is None or robot.image is None:
        if cameras:
            notes.append(
                f"{', '.join(cameras)[:400]} {'show' if len(cameras) > 1 else 'shows'} pictures, which are left out; "
                "for skills that see, add [[picture]] to --mapping"
            )
        return ()
    height, width, channels = robot.image.shape
    if len(cameras) != 1 or channels not in (1, 3):
        questions.append(
            f"expected one camera of 1 or 3 channels for the robot's picture of {height} x {width} x {channels}, got "
            f"{', '.join(cameras)[:400] or 'no topic of pictures'}; name its topic under [[picture]] in --mapping"
        )
    if not cameras or channels not in (1, 3):
        return ()
    return (Picture(topic=cameras[0], height=height, width=width, channels=1 if channels == 1 else 3),)


def _list_command(one: _Seen) -> Iterator[Signal]:
    kind, topic = one.topic.type, one.topic.name
    if kind in COMMANDED:
        yield from (_make_signal("action", topic, part, CMD_VEL_TIMEOUT) for part in COMMANDED[kind])
    elif kind in _ARRAYS:
        count = one.lengths.get("data", 0)
        if count:
            axes = tuple(f"command_{index}" for index in range(count))
            yield Signal(feature="action", topic=topic, field="data", axes=axes, units=("",) * count)
    else:
        field = "points.positions" if kind == TRAJECTORY else "position"
        if kind == _JOINTS and not one.lengths.get("position"):
            field = "velocity" if one.lengths.get("velocity") else "effort"
        joints = one.named.get(field, ()) if kind == _JOINTS else one.names
        if joints:
            yield Signal(feature="action", topic=topic, field=field, axes=joints, units=("",) * len(joints))


def _measure_joints(
    one: _Seen, signals: Sequence[Signal], recording: Recording, where: str
) -> dict[tuple[str, str], float]:
    """Seconds between two numbers of each field and joint that is used; none where every message holds all of them."""
    wanted = {
        (signal.field, element): None
        for signal in signals
        if signal.topic == one.topic.name and signal.field in one.counts
        for element in signal.elements or signal.axes
    }
    counts = [one.counts[field].get(joint, 0) for field, joint in wanted]
    if one.topic.type != _JOINTS or min(counts, default=0) >= _LEAST_SHARE * one.facts["messages"]:
        return {}
    requests = tuple(Request(field, (joint,), (joint,), "float64") for field, joint in wanted)
    row = recording.topics.index(one.topic)
    reader = TopicReader(one.topic, TopicClock(name=one.topic.name, clock=one.clock), requests, where)
    for _, log_times, payloads, group in recording.blocks([row]):
        reader.add(log_times, payloads, group)
    stretch = max(reader.finish(find_steps(reader.line().time)), key=lambda part: len(part.time))
    rates = (measure_topic(select(stretch.time, ~is_missing(column)[:, 0]))["rate"] for column in stretch.values)
    return {key: 1.0 / rate if rate else one.period for key, rate in zip(wanted, rates, strict=True)}


def _round_age(period: float) -> float:
    """Seconds after which what comes with this period is too old."""
    return max(_LEAST_AGE, float(f"{_AGE_PERIODS * period:.2g}"))


def _split_ages(
    signal: Signal, periods: dict[tuple[str, str], float], commands: bool, notes: list[str]
) -> Iterator[Signal]:
    """A signal by how often its axes come: those that come seldom may be older than the others of their topic."""
    if not periods or commands:
        yield signal
        return
    usual = _round_age(min(periods.values()))
    elements = signal.elements or signal.axes
    ages = [_round_age(periods.get((signal.field, element), 0.0)) for element in elements]
    for age, group in groupby(range(len(elements)), key=ages.__getitem__):
        places = list(group)
        axes, names, units = (
            tuple(values[place] for place in places) for values in (signal.axes, elements, signal.units)
        )
        if age > usual:
            notes.append(
                f"topic {signal.topic}: {', '.join(axes)[:200]} comes less often than its other axes, and is taken for "
                f"the present for {age:g} s, not for {usual:g} s"
            )
        yield replace(
            signal,
            axes=axes,
            elements=names if names != axes else (),
            units=units,
            max_age=age if age > usual else None,
        )


def _make_clock(one: _Seen, signals: Sequence[Signal], period: float) -> TopicClock:
    """The clock of a topic whose fastest axis has a period of its own, or that of its messages where it is 0."""
    measured = any(signal.topic == one.topic.name and signal.feature != "action" for signal in signals)
    period = period or (one.period if one.regular else one.facts["longest_gap"])
    age = _round_age(period) if measured else None
    return TopicClock(name=one.topic.name, clock=one.clock, max_age=age)


def _agree_on_clock(timed: Sequence[_Seen]) -> list[str]:
    """Gives all topics the recorder's clock where their own ones differ, such as simulated from real time; a note.

    The stamp of a trajectory says when it shall start, and so nothing of a clock.
    """
    set_back = max((one.set_back for one in timed), default=0)
    if set_back and not all(one.clock == STAMP for one in timed):
        for one in timed:
            one.clock = LOG_CLOCK
        return [
            f"the recorder's clock was set back by up to {set_back / NS:g} s, and not all topics have stamps that go "
            "on: all topics go by the recorder's"
        ]
    clocks = [one for one in timed if one.topic.type != TRAJECTORY]
    delays = [one.delay for one in clocks]
    apart = max(delays, default=0) - min(delays, default=0)
    impossible = min(delays, default=0) < -MOST_AHEAD_NS and apart > DISORDER_NS
    if apart <= MOST_DISORDER_NS and not impossible:
        return []
    off = max(clocks, key=lambda one: abs(one.delay))
    for one in timed:
        one.clock = LOG_CLOCK
    side = "ahead of" if off.delay < 0 else "behind"
    return [
        f"the stamps of {off.topic.name} are {abs(off.delay) / NS:g} s {side} the recorder's clock, unlike those of "
        "others: all topics go by the recorder's"
    ]


def _choose_period(used: Sequence[_Seen]) -> float:
    """Of the slowest topic that comes at a rate; a rate near a whole number is that number."""
    steady = [one for one in used if one.topic.type != TRAJECTORY and not _is_sporadic(one, used)] or used
    period = max((one.period for one in steady if one.topic.type != TRAJECTORY), default=0.0) or 1.0
    rate = round(1.0 / period)
    return 1.0 / rate if rate and abs(rate * period - 1.0) < _NEAR else float(f"{period:.4g}")


def _is_sporadic(one: _Seen, among: Sequence[_Seen]) -> bool:
    """Whether a topic comes now and then: by an event, or a few times beside topics that come all the time."""
    messages = one.facts["messages"]
    most = max(other.facts["messages"] for other in among)
    return not one.regular or (messages < _LEAST_MESSAGES and most > _LEAST_MESSAGES * messages)


def _find_marker(seen: Sequence[_Seen], notes: list[str]) -> EpisodeRule:
    """By the one topic that marks episodes, if there is one whose marks are known."""
    found = []
    for one in seen:
        if _MARK_NAMES.isdisjoint(word.lower() for word in _WORD.findall(one.topic.name)):
            continue
        if one.topic.type == "std_msgs/msg/Bool" and "true" in one.words:
            found.append(EpisodeRule(by="marker", topic=one.topic.name))
        elif one.topic.type == "std_msgs/msg/Bool" and one.words:
            notes.append(f"topic {one.topic.name} may mark episodes, but never starts one: it is not used")
        if one.topic.type != "std_msgs/msg/String":
            continue
        started = [pair for pair in _MARK_WORDS if pair[0] in one.words]
        known = [pair for pair in started if pair[1] in one.words] or started
        if known:
            found.append(EpisodeRule(by="marker", topic=one.topic.name, start=known[0][0], stop=known[0][1]))
        elif one.words:
            words = ", ".join(map(repr, one.words))
            notes.append(
                f"topic {one.topic.name} may mark episodes, with {words[:200]}: none of them is known to, so choose in "
                "--mapping if it does"
            )
    if len(found) == 1:
        (rule,) = found
        notes.append(
            f"topic {rule.topic} marks episodes, by its name: {rule.start!r} starts one and {rule.stop!r} ends it; "
            "choose in --mapping if it does not"
        )
        return rule
    if found:
        notes.append(
            f"{', '.join(rule.topic for rule in found)} may mark episodes: each bag is one; choose in --mapping"
        )
    return EpisodeRule()
