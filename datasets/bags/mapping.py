"""How the topics of a bag become observations and actions at a fixed rate: a small TOML file, read strictly.

    period = 0.02                      # seconds between two steps

    [[topic]]                          # one for each topic that is used
    name = "/joint_states"
    clock = "header.stamp"             # or "log": when the recorder received it
    max_age = 0.1                      # seconds; older measurements make a step invalid

    [[signal]]                         # one for each part of an observation or action
    feature = "observation"
    topic = "/joint_states"
    field = "position"
    axes = ["shoulder", "elbow"]
    units = ["rad", "rad"]

    [[picture]]                        # of a camera, if there is one
    topic = "/camera/image_raw"
    height = 96
    width = 128

Every field is explained in the dataclasses below; one that is not named there is refused.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from ...bounds import Bounded, Count, Positive, Range, require_bounds
from ...errors import ConfigError, SpecError, describe_error
from ...plain_config import read_config
from ...plain_files import read_plain_file
from ..schema import IMAGE, Feature, Role, Schema, make_image_feature

LOG_CLOCK = "log"
STAMP = "header.stamp"
NS = 1_000_000_000
_REMEDY = "draft one with supple inspect BAG --write-mapping FILE"
_ROLES: dict[str, Role] = {"observation": "observation", "action": "action", "reward": "reward"}
Extra = Literal["valid", "age", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicClock(Bounded):
    """The clock of one topic."""

    name: str
    """As in the bag."""
    clock: str = STAMP
    """Field of the message that holds its time, or `log` for the time at which the recorder received it."""
    latency: Annotated[float, Range(-60.0, 60.0)] = 0.0
    """Seconds from the moment that was measured to the time on the message; it is subtracted."""
    max_age: Positive | None = None
    """Seconds after which a measurement is no longer taken for the present; None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(Bounded):
    """Numbers of one field of a topic: some axes of one feature of the store."""

    feature: str
    """`observation`, `action`, `reward`, or the name of another array of the store."""
    topic: str
    """Where it comes from."""
    field: str = ""
    """Path in the message, such as `position` or `twist.linear`; empty for the message itself."""
    axes: tuple[str, ...]
    """Names in the store, in order."""
    units: tuple[str, ...]
    """Of each axis; "" where nobody knows."""
    elements: tuple[str, ...] = ()
    """Name of each axis in the message: a joint, a member (`x`), an index (`0`), or `yaw`, `pitch`, `roll` of a
    quaternion. Without them: the names in `axes`, or the indices from 0 where entries have no names."""
    interpolate: Literal["hold", "linear", "angle", "quaternion"] = "hold"
    """`hold` keeps the last measurement, as a policy sees it while the robot runs. The others look one message ahead:
    along a line, along the shorter arc, or by slerp over four axes."""
    timeout: Positive | None = None
    """Of a command, seconds: what the robot's controller no longer follows. None: it follows the last one for ever."""
    max_age: Positive | None = None
    """Of a measurement, seconds, where it comes less often than others of its topic; None: that of the topic."""
    after_timeout: Literal["zero", "invalid"] = "zero"
    """What is in force then: the controller commands zero, or nobody knows."""
    dtype: Literal["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"] = (
        "float32"
    )
    """Type in the store; the same for all signals of a feature."""
    scalar: bool = False
    """Whether the feature is one number per step, not a vector of one."""
    role: Literal["", "observation", "action", "reward", "state", "goal", "other"] = ""
    """What the feature is to a policy; "" takes it from its name."""

    def __post_init__(self) -> None:
        require_bounds(self)
        where = f"signal of {self.topic}, {self.field or 'message'}"
        if not self.axes or len(set(self.axes)) < len(self.axes) or not all(self.axes):
            raise ConfigError(f"{where}: expected distinct names in axes, got {list(self.axes)}; name each axis")
        for name, values in (("units", self.units), ("elements", self.elements)):
            if len(values) != len(self.axes) and (values or name == "units"):
                raise ConfigError(f"{where}: expected {len(self.axes)} {name}, got {len(values)}; give one per axis")
        if self.interpolate == "quaternion" and len(self.axes) != 4:
            raise ConfigError(f"{where}: expected 4 axes of a quaternion, got {len(self.axes)}; give x, y, z and w")
        if self.scalar and len(self.axes) != 1:
            raise ConfigError(f"{where}: expected one axis of a scalar, got {len(self.axes)}; leave scalar out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Bounded):
    """The camera of a topic of `sensor_msgs/Image` or `CompressedImage`: a feature with the role `image`.

    A step shows the last picture at or before it, as any measurement.
    """

    topic: str
    """Where it comes from."""
    height: Annotated[int, Range(8, 4096)]
    """In the store, pixels: pictures are scaled down, each pixel the mean of its area, whatever their proportions."""
    width: Annotated[int, Range(8, 4096)]
    """In the store, pixels."""
    channels: Literal[1, 3] = 3
    """1 is grey, 3 are red, green and blue."""
    feature: str = IMAGE
    """Name in the store; `image` is what skills see."""
    max_age: Positive | None = None
    """Seconds after which a picture is no longer taken for the present; None: that of the topic."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels

    @property
    def signal(self) -> Signal:
        """The number of the picture that a step shows, as a signal."""
        return Signal(
            feature=self.feature,
            topic=self.topic,
            axes=(self.feature,),
            units=("",),
            dtype="int64",
            max_age=self.max_age,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRule(Bounded):
    """Where one episode ends and the next begins. Nothing is held or interpolated across such a cut."""

    by: Literal["bag", "gap", "marker", "table", "steps"] = "bag"
    """One per bag; cut where no measurement comes for `max_gap`; between the marks of a topic; by a table; or as the
    log of `supple adapt` has its steps, each of which is one row, see `control_steps.py`."""
    max_gap: Positive = 1.0
    """Seconds."""
    topic: str = ""
    """Of the marks, or of the flags of steps."""
    field: str = "data"
    """Of the marks' message: a text, a truth value or a number."""
    start: str = "true"
    """Value that starts an episode."""
    stop: str = "false"
    """Value that ends one. A mark that repeats the one before changes nothing. Empty: each start ends the episode
    before it."""
    table: tuple[tuple[float, float], ...] = ()
    """First and last second of each episode, counted from the first message of the topics that are used."""
    min_steps: Count = 2
    """Shorter episodes are left out, and counted."""

    def __post_init__(self) -> None:
        require_bounds(self)
        if (self.by in ("marker", "steps")) != bool(self.topic):
            raise ConfigError(
                f"episodes: expected a topic with by = 'marker' or 'steps' only, got {self.topic!r}; correct it"
            )
        if (self.by == "table") != bool(self.table) or any(begin >= end for begin, end in self.table):
            raise ConfigError(
                f"episodes: expected a table of [begin, end] with by = 'table' only, got {self.table}; correct it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping(Bounded):
    """The whole file."""

    version: Annotated[int, Range(1, 1)] = 1
    """Of this layout."""
    period: Annotated[float, Range(1e-6, 3600.0)]
    """Seconds between two steps; rounded to whole nanoseconds."""
    action_source: Literal["command", "next_state", "delta"] = "command"
    """The command in force; or, for logs without commands, the state of the next step, or the change to it. The
    signals of `action` then name measurements."""
    invalid: Literal["cut", "keep"] = "cut"
    """What becomes of steps whose measurements are too old, or that have no command: episodes are cut there, or the
    steps stay, with 0 in the array `valid`."""
    extras: tuple[Extra, ...] = ("valid", "age", "time")
    """Arrays that are added: whether a step is valid, the age of its oldest measurement (s), its time (ns)."""
    episodes: EpisodeRule = field(default_factory=EpisodeRule)
    topic: tuple[TopicClock, ...]
    """Clock of every topic that is used."""
    signal: tuple[Signal, ...]
    """In the order of the axes."""
    picture: tuple[Picture, ...] = ()
    """Cameras."""

    def __post_init__(self) -> None:
        require_bounds(self)
        known = [clock.name for clock in self.topic]
        if len(set(known)) < len(known):
            raise ConfigError(f"topic: expected each topic once, got {known}; remove the repeated one")
        for signal in self.signals:
            if signal.topic not in known:
                raise ConfigError(
                    f"{'signal' if signal in self.signal else 'picture'}: expected a topic of {', '.join(known)}, got "
                    f"{signal.topic!r}; add [[topic]]"
                )
        shown = [picture.feature for picture in self.picture]
        taken = {signal.feature for signal in self.signal}
        if len(set(shown)) < len(shown) or not taken.isdisjoint(shown):
            raise ConfigError(f"picture: expected a feature for each, got {shown} beside {sorted(taken)}; rename one")
        if not any(signal in self.observations for signal in self.signal):
            raise ConfigError(
                "signal: expected one with feature = 'observation', got none; add what the robot measures"
            )
        self.schema()

    @property
    def period_ns(self) -> int:
        """The period in whole nanoseconds."""
        return round(self.period * NS)

    @property
    def observations(self) -> tuple[Signal, ...]:
        """Signals that are measured: they decide where an episode begins, and whether a step is valid."""
        return tuple(signal for signal in self.signals if not self.is_command(signal))

    @property
    def signals(self) -> tuple[Signal, ...]:
        """All that comes from topics: numbers, and pictures by their number."""
        return (*self.signal, *(picture.signal for picture in self.picture))

    def is_command(self, signal: Signal) -> bool:
        """Whether a signal is a command, which is in force until the next one or its timeout."""
        return signal.feature == "action" and self.action_source == "command"

    def clock(self, topic: str) -> TopicClock:
        """Of a topic; the log time where none is given, which is allowed for a marker."""
        return next((clock for clock in self.topic if clock.name == topic), TopicClock(name=topic, clock=LOG_CLOCK))

    def parts(self) -> dict[str, list[Signal]]:
        """Signals by feature, in order."""
        found: dict[str, list[Signal]] = {}
        for signal in self.signals:
            found.setdefault(signal.feature, []).append(signal)
        return found

    def features(self) -> list[Feature]:
        """Features of the store, without extras.

        Raises:
            SpecError: names or axes do not fit together.
            ConfigError: signals of one feature differ in type or role.
        """
        features = []
        pictures = {picture.feature: picture for picture in self.picture}
        for name, parts in self.parts().items():
            if name in pictures:
                features.append(make_image_feature(name, pictures[name].shape))
                continue
            kinds = {(part.dtype, part.role, part.scalar) for part in parts}
            if len(kinds) > 1 or (parts[0].scalar and len(parts) > 1):
                raise ConfigError(
                    f"signal: expected the same dtype, role and scalar for all of {name}, got {sorted(kinds)}; correct "
                    "them"
                )
            ((dtype, role, scalar),) = kinds
            axes = tuple(axis for part in parts for axis in part.axes)
            features.append(
                Feature(
                    name=name,
                    dtype=dtype,
                    shape=() if scalar else (len(axes),),
                    axes=axes,
                    units=tuple(unit for part in parts for unit in part.units),
                    role=role if role else _ROLES.get(name, "other"),
                )
            )
        return features

    def schema(self) -> Schema:
        """What a store of this mapping holds; see `features` for errors."""
        extras = {
            "valid": Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",)),
            "age": Feature(name="age", shape=(), units=("s",), role="other", axes=("age",)),
            "time": Feature(name="time", dtype="int64", shape=(), units=("ns",), role="other", axes=("time",)),
        }
        return Schema(
            features=(*self.features(), *(extras[name] for name in self.extras)), control_period=self.period_ns / NS
        )


def load_mapping(path: Path) -> Mapping:
    """Reads a mapping.

    Raises:
        ConfigError: it is no TOML, or a field is unknown, missing, of another type or out of bounds.
    """
    return parse_mapping(read_plain_file(path, ConfigError, _REMEDY, "a mapping of a bag"), str(path))


def parse_mapping(content: bytes | str, where: str) -> Mapping:
    """The mapping in the text of a file; see `load_mapping` for errors."""
    try:
        value = tomllib.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
        found: Mapping = read_config(Mapping, value, where, failure=(ConfigError, _REMEDY), defaults=True)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: expected TOML, got {describe_error(error)}; {_REMEDY}") from error
    except SpecError as error:
        raise ConfigError(f"{where}: {error}") from error
    return found


def write_mapping(mapping: Mapping, comments: tuple[str, ...] = ()) -> str:
    """The text of a mapping, with only what differs from the defaults, and comments at its head."""
    lines = [f"# {' '.join(line.split())}" for line in comments]
    lines += [*([""] if lines else []), *_write_fields(mapping)]
    for name, tables in (
        ("episodes", [mapping.episodes]),
        ("topic", mapping.topic),
        ("signal", mapping.signal),
        ("picture", mapping.picture),
    ):
        for table in tables:
            body = _write_fields(table)
            if body:
                lines += ["", f"[{name}]" if name == "episodes" else f"[[{name}]]", *body]
    return "\n".join([*lines, ""])


def _write_fields(config: Any) -> list[str]:
    lines = []
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in ("episodes", "topic", "signal", "picture") and isinstance(config, Mapping):
            continue
        if value != item.default or item.name in ("version", "clock"):
            lines.append(f"{item.name} = {_write_value(value)}")
    return lines


def _write_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_write_value, value))}]"
    if isinstance(value, str):  # a TOML string is a JSON string, but for this control character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
