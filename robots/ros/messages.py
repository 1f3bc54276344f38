"""ROS 2 messages as bytes (CDR) and as the axes of a contract: joints by name, stamps as ages, units.

Whatever a robot or a stranger sends is read as a message of the expected type or refused as one `RobotFault`. Bytes
are never half read: a message that is no message changes nothing.

Axes: O observation, A action, J joints of a message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...errors import ConfigError, RobotFault, describe_error
from ..robot import Float
from ..spec import ArraySpec
from .pictures import KINDS

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

JOINT_STATE = "sensor_msgs/msg/JointState"
NUMBERS = "std_msgs/msg/Float64MultiArray"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
FLAG = "std_msgs/msg/Bool"
_MOST_BYTES = 1 << 16
"""Of a message: a thousand joints fit."""
_MOST_PICTURE_BYTES = 1 << 26
"""Of a picture, 64 MiB."""
MOST_SKEW_NS = 10_000_000
"""So far a stamp may lie in the future before the clocks of the two computers count as different."""
NS = 1_000_000_000
_HEADERS = (b"\x00\x00", b"\x00\x01")
"""Plain CDR, big and little endian; what ROS 2 sends."""
_LARGEST = float(np.finfo(np.float32).max)
Field = Literal["position", "velocity", "effort"]


@lru_cache
def load_types() -> Typestore:
    """The message types of ROS 2.

    Raises:
        ConfigError: The library that knows them is missing.
    """
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise make_missing(error, "cyclonedds") from error
    return get_typestore(Stores.ROS2_JAZZY)


def make_missing(error: ImportError, extra: str) -> ConfigError:
    """The error of a library that is not installed."""
    return ConfigError(
        f"ROS 2: expected the library {error.name}, got none; install it with: pip install 'supple[{extra}]'"
    )


def name_dds_type(type: str) -> str:
    """The name of a ROS type on the wire: `sensor_msgs/msg/JointState` is `sensor_msgs::msg::dds_::JointState_`."""
    package, kind, name = type.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def limit_bytes(type: str) -> int:
    """How long a message of a type may be."""
    return _MOST_PICTURE_BYTES if type in KINDS else _MOST_BYTES


def decode(type: str, data: bytes, where: str) -> Any:
    """The message in some bytes.

    Args:
        type: Of the message, such as `JOINT_STATE`.
        data: CDR with its four bytes of head.
        where: The topic, for the message of an error.

    Raises:
        RobotFault: They are no message of this type.
        ConfigError: See `load_types`.
    """
    types, most = load_types(), limit_bytes(type)
    if not 4 < len(data) <= most or data[:2] not in _HEADERS:
        raise _refuse(where, f"a {type} in CDR of at most {most} bytes", f"{len(data)} bytes {data[:4].hex()}")
    try:
        return types.deserialize_cdr(bytes(data), type)
    except Exception as error:  # a decoder that is made by a program raises whatever fits
        got = f"{error.__class__.__name__} {describe_error(error)}"
        raise _refuse(where, f"a whole {type} in CDR", f"one that cannot be read ({got})") from error


def encode(type: str, message: Any) -> bytes:
    """The bytes of a message, little endian."""
    return bytes(load_types().serialize_cdr(message, type))


def _refuse(where: str, expected: str, got: object) -> RobotFault:
    return RobotFault(f"{where}: expected {expected}, got {got}; check what publishes there")


# What is measured


@dataclass(frozen=True, slots=True)
class JointValue:
    """A number of a joint: where an axis stands in messages about joints."""

    joint: str
    """Its name in the messages."""
    field: Field = "position"
    factor: float = 1.0
    """Unit of the axis per unit of ROS (rad, m, rad/s, N m): 1 for the same one."""


@dataclass(frozen=True, slots=True)
class Element:
    """A number of a topic of `Float64MultiArray`, such as the place of a tool that another node computes."""

    topic: str
    index: int
    factor: float = 1.0


Source = JointValue | Element


class Readings:
    """The newest measurement of each observation axis, from messages of several topics.

    Joint states may come in parts, from several publishers: each axis is as old as its own message. A message that was
    overtaken by a newer one is counted and left out.
    """

    def __init__(
        self, spec: ArraySpec, sources: Mapping[str, Source], joint_topic: str, *, stamped: bool, where: str
    ) -> None:
        """Nothing is known yet.

        Args:
            spec: Of the observation.
            sources: Where each axis stands, by its name.
            joint_topic: Topic of joint states.
            stamped: Whether ages count from the stamp of the message; else from the moment at which it was published,
                as the transport says.
            where: The robot, for messages of errors.

        Raises:
            ConfigError: An axis has no source, or a source no axis, or a factor is not finite or 0.
        """
        require_sources(spec, sources, where)
        self._where, self._stamped, self._joint_topic = where, stamped, joint_topic
        self._sources = tuple(sources[name] for name in spec.names)
        self._names = spec.names
        self._values = np.full(spec.shape, np.nan, np.float64)
        self._stamps = [-1] * len(self._sources)
        self.overtaken = 0
        """Numbers that were left out."""
        self.seen: set[str] = set()
        """Names of the joints that were in messages."""

    @property
    def topics(self) -> dict[str, str]:
        """Topics that are listened to, with their types."""
        found = {source.topic: NUMBERS for source in self._sources if isinstance(source, Element)}
        return found | {self._joint_topic: JOINT_STATE}

    @property
    def missing(self) -> tuple[str, ...]:
        """Axes that were never measured."""
        return tuple(name for name, stamp in zip(self._names, self._stamps, strict=True) if stamp < 0)

    @property
    def oldest_ns(self) -> int:
        """When the oldest axis was measured, by the clock of the stamps; -1 where one never was."""
        return min(self._stamps)

    @property
    def observation(self) -> Float:
        """Shape (O,); NaN for an axis that was never measured."""
        with np.errstate(over="ignore"):
            return self._values.astype(np.float32)

    def take(self, topic: str, data: bytes, published_ns: int, now_ns: int) -> None:
        """Takes in a message.

        Args:
            topic: Where it came.
            data: Its bytes.
            published_ns: When it was published, as the transport says, by the wall clock of its sender.
            now_ns: Wall clock of this computer.

        Raises:
            RobotFault: It is none, it does not fit together, a number that is asked for is not finite, or its stamp is
                in the future.
        """
        if topic == self._joint_topic:
            self._take_joints(decode(JOINT_STATE, data, self._at(topic)), topic, published_ns, now_ns)
        else:
            self._take_numbers(decode(NUMBERS, data, self._at(topic)), topic, published_ns, now_ns)

    def _at(self, topic: str) -> str:
        return f"{self._where}: topic {topic}"

    def _take_joints(self, message: Any, topic: str, published_ns: int, now_ns: int) -> None:
        names = list(message.name)
        if len(set(names)) < len(names):
            raise _refuse(self._at(topic), "each joint once", sorted(names))
        for field in ("position", "velocity", "effort"):
            length = len(getattr(message, field))
            if length not in (0, len(names)):
                raise _refuse(self._at(topic), f"{len(names)} numbers of {field}, one for each joint, or none", length)
        stamp = published_ns
        if self._stamped:
            stamp = read_stamp(message.header.stamp, self._at(topic))
        require_past(stamp, now_ns, self._at(topic))
        self.seen.update(names)
        place = {name: index for index, name in enumerate(names)}
        for axis, source in enumerate(self._sources):
            if isinstance(source, JointValue) and source.joint in place:
                numbers = getattr(message, source.field)
                if len(numbers):
                    self._keep(axis, float(numbers[place[source.joint]]) * source.factor, stamp, topic)

    def _take_numbers(self, message: Any, topic: str, published_ns: int, now_ns: int) -> None:
        require_past(published_ns, now_ns, self._at(topic))
        for axis, source in enumerate(self._sources):
            if isinstance(source, Element) and source.topic == topic:
                if not 0 <= source.index < len(message.data):
                    raise _refuse(self._at(topic), f"{source.index + 1} numbers or more", len(message.data))
                self._keep(axis, float(message.data[source.index]) * source.factor, published_ns, topic)

    def _keep(self, axis: int, value: float, stamp: int, topic: str) -> None:
        if not abs(value) <= _LARGEST:  # nor NaN
            raise _refuse(self._at(topic), f"a finite number for '{self._names[axis]}'", value)
        if stamp < self._stamps[axis]:
            self.overtaken += 1
            return
        self._values[axis], self._stamps[axis] = value, stamp


def read_stamp(stamp: Any, where: str) -> int:
    """The time in the header of a message, ns.

    Raises:
        RobotFault: There is none.
    """
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if seconds < 0 or not 0 <= nanoseconds < NS or (seconds, nanoseconds) == (0, 0):
        got = f"{seconds} s {nanoseconds} ns; where a driver gives none, set stamped=False. Until then"
        raise _refuse(where, "a stamp in its header", got)
    return seconds * NS + nanoseconds


def require_past(stamp: int, now_ns: int, where: str) -> None:
    """Refuses a stamp that is ahead of the clock of this computer.

    Raises:
        RobotFault: It is.
    """
    if stamp > now_ns + MOST_SKEW_NS:
        got = f"one {(stamp - now_ns) / NS:.3f} s in the future; set the clocks of both computers (chrony), and"
        raise _refuse(where, "a stamp of the past", got)


def require_sources(spec: ArraySpec, sources: Mapping[str, Source], where: str) -> None:
    """Refuses axes without a source, sources without an axis, and factors that are none.

    Raises:
        ConfigError: Naming them.
    """
    if set(sources) != set(spec.names):
        raise ConfigError(
            f"{where} {spec.name}: expected a source for each of {', '.join(spec.names)}, got "
            f"{', '.join(sources) or 'none'}; name the joint of each axis"
        )
    for name, source in sources.items():
        if not math.isfinite(source.factor) or source.factor == 0.0:
            raise ConfigError(
                f"{where} {spec.name} axis '{name}': expected a finite factor other than 0, got {source.factor}; 1 "
                "keeps the unit"
            )


# What is commanded


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardController:
    """A forward command controller of ros2_control: numbers in the order of its parameter `joints`.

    It has no timeout: without another watchdog a robot goes on with the last command.
    """

    topic: str
    """Such as `/forward_position_controller/commands`."""
    joints: tuple[str, ...]
    """Its parameter of that name, in order."""

    @property
    def type(self) -> str:
        """Type of its topic."""
        return NUMBERS

    def encode(self, values: Sequence[float], period: float) -> bytes:
        """The message of a command.

        Args:
            values: In the order of `joints`, in the units of ROS.
            period: Control period, seconds; it does not count here.
        """
        types = load_types().types
        layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        return encode(NUMBERS, types[NUMBERS](layout=layout, data=np.array(values, np.float64)))

    def decode(self, data: bytes, where: str) -> list[float]:
        """The command in a message, as the controller reads it.

        Raises:
            RobotFault: It is none, or has another number of joints.
        """
        message = decode(NUMBERS, data, where)
        if len(message.data) != len(self.joints):
            raise _refuse(where, f"{len(self.joints)} numbers", len(message.data))
        return [float(value) for value in message.data]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryController:
    """A joint trajectory controller of ros2_control: a trajectory of one point, which each command replaces.

    Its parameter `cmd_timeout` is off by default: it holds the last point. Commands are positions.
    """

    topic: str
    """Such as `/joint_trajectory_controller/joint_trajectory`."""
    joints: tuple[str, ...]
    """Joints of the controller."""
    lookahead: float = 1.0
    """Control periods in which the point is reached; more are smoother and later."""

    @property
    def type(self) -> str:
        """Type of its topic."""
        return TRAJECTORY

    def encode(self, values: Sequence[float], period: float) -> bytes:
        """The message of a command; see `ForwardController.encode`."""
        types = load_types().types
        time = types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)  # it starts when it arrives
        seconds, nanoseconds = divmod(round(self.lookahead * period * NS), NS)
        none = np.empty(0, np.float64)
        point = types["trajectory_msgs/msg/JointTrajectoryPoint"](
            positions=np.array(values, np.float64),
            velocities=none,
            accelerations=none,
            effort=none,
            time_from_start=types["builtin_interfaces/msg/Duration"](sec=seconds, nanosec=nanoseconds),
        )
        header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
        return encode(TRAJECTORY, types[TRAJECTORY](header=header, joint_names=list(self.joints), points=[point]))

    def decode(self, data: bytes, where: str) -> list[float]:
        """The last point of a trajectory, as the controller reads it; see `ForwardController.decode`."""
        message = decode(TRAJECTORY, data, where)
        names = list(message.joint_names)
        if sorted(names) != sorted(self.joints) or not message.points:
            raise _refuse(where, f"a point for {', '.join(self.joints)}", f"{len(message.points)} for {names}")
        positions = message.points[-1].positions
        if len(positions) != len(names):
            raise _refuse(where, f"{len(names)} positions", len(positions))
        return [float(positions[names.index(joint)]) for joint in self.joints]


Controller = ForwardController | TrajectoryController


def encode_flag(value: bool) -> bytes:
    """A `Bool`."""
    return encode(FLAG, load_types().types[FLAG](data=value))


def encode_joints(values: Mapping[JointValue, float], stamp_ns: int) -> bytes:
    """A `JointState` of these numbers, which are in the units of the axes.

    A field that no axis has is left empty; in others, a joint without a number has NaN.
    """
    types = load_types().types
    names = list(dict.fromkeys(value.joint for value in values))
    fields = {}
    for field in ("position", "velocity", "effort"):
        known = {value.joint: number / value.factor for value, number in values.items() if value.field == field}
        fields[field] = np.array([known.get(name, np.nan) for name in names] if known else [], np.float64)
    seconds, nanoseconds = divmod(stamp_ns, NS)
    time = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
    return encode(JOINT_STATE, types[JOINT_STATE](header=header, name=names, **fields))


def encode_numbers(values: Sequence[float]) -> bytes:
    """A `Float64MultiArray`."""
    return ForwardController(topic="", joints=()).encode(values, 0.0)
