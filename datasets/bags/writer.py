"""Episodes as MCAP logs with standard ROS 2 messages and checksums: any viewer opens them, and the way back is exact.

Axes with a unit of motion become joints: of `sensor_msgs/JointState`, `position` (rad, m), `velocity` (rad/s, m/s) or
`effort` (N m, N). Its numbers are float64, which hold every float32. All else goes into the array or number message of
its own type, such as `std_msgs/Float32MultiArray`. Step k is at start + k dt by every clock. A record in the bag tells
Supple's reader which axis is where; a bag whose writer was killed is read up to its last chunk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Mapping as Rows
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
from mcap.writer import Writer
from rosbags.typesys import Stores, get_typestore

from ...errors import SpecError, StoreError
from ...plain_files import sync
from ...robots.ros.pictures import RAW
from ..episode import Episode
from ..publish import making_folder, refuse_existing
from ..schema import Feature, Schema
from .control_steps import FLAGS
from .mapping import LOG_CLOCK, NS, STAMP, EpisodeRule, Mapping, Picture, Signal, TopicClock, write_mapping
from .mcap_recording import METADATA_NAME

_JOINTS = "sensor_msgs/msg/JointState"
JOINT_FIELDS = {
    "rad": "position",
    "m": "position",
    "rad/s": "velocity",
    "m/s": "velocity",
    "N m": "effort",
    "N": "effort",
}
_CHUNK_BYTES = 2**20
FIRST_STEP_NS = NS
"""Time of the first step without another one; a stamp of 0 would mean that there is none."""


class BagWriter:
    """Writes one episode, step by step, as a policy runs or from a store.

        with BagWriter("run.mcap", schema) as bag:
            bag.add({"observation": observation, "action": action})
            ...
            bag.end(terminated=True)

    Args:
        path: The file, which must not be there yet.
        schema: Of the steps.
        start_ns: Time of the first step, ns, above 0.
        topics: Topic of a feature by its name, in the place of `/<name>`.

    Raises:
        StoreError: something is at `path`.
        SpecError: the schema has no control period or no feature but actions.
    """

    def __init__(
        self, path: str | Path, schema: Schema, start_ns: int = FIRST_STEP_NS, topics: Rows[str, str] | None = None
    ) -> None:
        if schema.control_period is None:
            raise SpecError(f"{path}: expected a schema with a control period, got none; set Schema.control_period")
        self._path, self._schema, self._start = Path(path), schema, start_ns
        self._mapping = _map_schema(schema, None, topics)
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._step, self._flags = 0, {"terminated": "false", "truncated": "true"}
        refuse_existing(self._path, StoreError)
        self._stream: IO[bytes] = self._path.open("xb")
        self._writer = Writer(self._stream, chunk_size=_CHUNK_BYTES, enable_data_crcs=True)
        self._writer.start("ros2", "supple")
        self._writer.add_metadata(METADATA_NAME, describe_bag(schema, topics=topics))
        self._channels: dict[str, int] = {}
        self._parts = [(signal, _places(schema, signal)) for signal in _by_topic(self._mapping)]

    def add(self, step: Rows[str, Any]) -> None:
        """Writes one step.

        Args:
            step: `{feature name: (dim,) or a number}` for every feature of the schema.

        Raises:
            SpecError: a feature is missing, or of another shape or type.
        """
        time = self._start + self._step * self._mapping.period_ns
        for feature in self._schema.features:
            value = np.asarray(step[feature.name]) if feature.name in step else None
            if value is None or value.shape != feature.shape or value.dtype != np.dtype(feature.dtype):
                got = "none" if value is None else f"{value.dtype} {value.shape}"
                raise SpecError(
                    f"{self._path}: step {self._step}: expected {feature.name} as {feature.dtype} {feature.shape}, got "
                    f"{got}; convert it"
                )
        for signal, places in self._parts:
            values = np.atleast_1d(step[signal.feature])[places]
            kind, message = self._make(signal, values, time)
            data = bytes(self._types.serialize_cdr(message, kind))
            self._writer.add_message(self._channel(signal.topic, kind), time, data, time, self._step)
        for picture in self._mapping.picture:
            data = bytes(self._types.serialize_cdr(make_picture(self._types, step[picture.feature], time), RAW))
            self._writer.add_message(self._channel(picture.topic, RAW), time, data, time, self._step)
        self._step += 1

    def end(self, *, terminated: bool, truncated: bool = False) -> None:
        """Says how the episode ended; without it, it was truncated."""
        self._flags = {"terminated": str(terminated).lower(), "truncated": str(truncated).lower()}

    def close(self) -> None:
        """Writes what is pending and the index; the bag is then whole."""
        self._writer.add_metadata(METADATA_NAME, self._flags)
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._stream.close()
        sync(self._path)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _channel(self, topic: str, kind: str) -> int:
        if topic not in self._channels:
            text = self._types.generate_msgdef(kind, ros_version=2)[0]
            schema = self._writer.register_schema(kind, "ros2msg", text.encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        return self._channels[topic]

    def _make(self, signal: Signal, values: Any, time: int) -> tuple[str, Any]:
        """The message type and the message of some axes."""
        types = self._types.types
        if signal.field in JOINT_FIELDS.values():
            empty = np.empty(0)
            fields = {"position": empty, "velocity": empty, "effort": empty} | {signal.field: values.astype(np.float64)}
            return _JOINTS, types[_JOINTS](_make_header(self._types, time), list(signal.elements), **fields)
        name = signal.dtype.replace("uint", "UInt") if signal.dtype[0] == "u" else signal.dtype.capitalize()
        if signal.scalar:
            return f"std_msgs/msg/{name}", types[f"std_msgs/msg/{name}"](values[0].item())
        kind = f"std_msgs/msg/{name}MultiArray"
        size = len(values)
        dimension = types["std_msgs/msg/MultiArrayDimension"](", ".join(signal.axes), size, size)
        return kind, types[kind](types["std_msgs/msg/MultiArrayLayout"]([dimension], 0), np.ascontiguousarray(values))


def make_picture(types: Any, picture: Any, time: int) -> Any:
    """An `Image` of a picture (height, width, channels) of 1 or 3 channels, by a store of message types."""
    height, width, channels = picture.shape
    return types.types[RAW](
        header=_make_header(types, time),
        height=height,
        width=width,
        encoding="mono8" if channels == 1 else "rgb8",
        is_bigendian=0,
        step=width * channels,
        data=np.ascontiguousarray(picture).ravel(),
    )


def _make_header(types: Any, time: int) -> Any:
    stamp = types.types["builtin_interfaces/msg/Time"](time // NS, time % NS)
    return types.types["std_msgs/msg/Header"](stamp, "")


def write_episode(
    path: str | Path,
    episode: Episode,
    schema: Schema,
    start_ns: int = FIRST_STEP_NS,
    topics: Rows[str, str] | None = None,
) -> None:
    """Writes one episode as a bag; see `BagWriter` for arguments and errors."""
    with BagWriter(path, schema, start_ns, topics) as bag:
        for step in range(episode.length):
            bag.add({name: array[step] for name, array in episode.arrays.items()})
        bag.end(terminated=episode.terminated, truncated=episode.truncated)


def write_bags(folder: str | Path, episodes: Iterable[tuple[int, Episode]], schema: Schema) -> int:
    """Writes one bag per episode into a new folder, which appears whole or not at all.

    Args:
        folder: Where `episode-000000.mcap` and so on shall be.
        episodes: With their numbers.
        schema: Of all of them.

    Returns:
        How many there are.

    Raises:
        StoreError: something is there already.
        SpecError: as `BagWriter`.
    """
    folder, count = Path(folder), 0
    with making_folder(folder, StoreError) as partial:
        for number, episode in episodes:
            write_episode(partial / f"episode-{number:06}.mcap", episode, schema, find_start(episode, schema))
            count += 1
    return count


def describe_bag(schema: Schema, *, held: float | None = None, topics: Rows[str, str] | None = None) -> dict[str, str]:
    """What a bag of this schema says of itself under `METADATA_NAME`: which axis is on which topic.

    Args:
        schema: Of the steps.
        held: Seconds after which a measurement or a command counts no more; None for half a control period: a step is
            whole if all its messages are there, and none is held for another one.
        topics: See `BagWriter`.

    Raises:
        SpecError: The schema has no control period.
        ConfigError: There is no feature but actions.
    """
    return {"schema": json.dumps(schema.to_json()), "mapping": write_mapping(_map_schema(schema, held, topics))}


def describe_steps(schema: Schema, topic: str, *, held: float) -> dict[str, str]:
    """What a log of control steps says of itself, see `control_steps.py`: each step is a row of the store.

    Args:
        schema: Of the steps, each feature on the topic of its name, or among the flags; and `time` (ns), which is that
            of the observation.
        topic: Of the flags.
        held: Seconds for which a measurement and a command count, where somebody reads the log by a grid.

    Raises:
        SpecError: The schema has no control period.
    """
    logged = replace(schema, features=tuple(one for one in schema.features if one.name != "time"))
    flags = {feature.name: topic for feature in logged.features if feature.name in FLAGS}
    mapping = _map_schema(logged, held, flags)
    mapping = replace(
        mapping,
        signal=tuple(
            replace(signal, elements=(str(FLAGS.index(signal.feature)),)) if signal.feature in flags else signal
            for signal in mapping.signal
        ),
        extras=("time",),
        episodes=EpisodeRule(by="steps", topic=topic, min_steps=1),
    )
    return {"schema": json.dumps(schema.to_json()), "mapping": write_mapping(mapping)}


def find_start(episode: Episode, schema: Schema) -> int:
    """Time of the first step as the store has it, where it came from a bag; else a second."""
    known = [one for one in schema.features if (one.name, one.dtype, one.units) == ("time", "int64", ("ns",))]
    return max(FIRST_STEP_NS, int(episode.arrays["time"][0])) if known else FIRST_STEP_NS


def _map_schema(schema: Schema, held: float | None, topics: Rows[str, str] | None = None) -> Mapping:
    """Which axis of which feature is on which topic.

    Raises:
        ConfigError: there is no feature but actions.
        SpecError: there is no control period, or pictures have other channels than 1 or 3.
    """
    if schema.control_period is None:
        raise SpecError("bag: expected a schema with a control period, got none; set Schema.control_period")
    pictures = [_map_picture(feature, topics or {}) for feature in schema.features if feature.role == "image"]
    held = schema.control_period / 2 if held is None else held
    signals = tuple(
        replace(signal, timeout=held, after_timeout="invalid") if signal.feature == "action" else signal
        for feature in schema.features
        if feature.role != "image"
        for signal in _map_feature(feature, (topics or {}).get(feature.name, f"/{feature.name}"))
    )
    by_topic = {signal.topic: signal for signal in signals}
    clocks = {name: STAMP if one.field in JOINT_FIELDS.values() else LOG_CLOCK for name, one in by_topic.items()}
    clocks |= {picture.topic: STAMP for picture in pictures}
    return Mapping(
        period=schema.control_period,
        extras=(),
        episodes=EpisodeRule(min_steps=1),
        topic=tuple(TopicClock(name=name, clock=clock, max_age=held) for name, clock in clocks.items()),
        signal=signals,
        picture=tuple(pictures),
    )


def _map_picture(feature: Feature, topics: Rows[str, str]) -> Picture:
    """The camera that shows a feature.

    Raises:
        SpecError: its pictures are neither grey nor coloured.
    """
    height, width, channels = feature.shape
    if channels not in (1, 3):
        raise SpecError(
            f"bag: expected pictures of 1 or 3 channels, got '{feature.name}' with {channels}; read the store itself"
        )
    kind: Literal[1, 3] = 1 if channels == 1 else 3
    topic = topics.get(feature.name, f"/{feature.name}")
    return Picture(feature=feature.name, topic=topic, height=height, width=width, channels=kind)


def _map_feature(feature: Feature, topic: str) -> Iterable[Signal]:
    """Signals of one feature in the order of its axes, below a topic; neighbours of one kind are one signal."""
    common: dict[str, Any] = {"feature": feature.name, "dtype": feature.dtype, "role": feature.role}
    if not feature.shape:
        yield Signal(topic=topic, field="data", axes=feature.axes, units=feature.units, scalar=True, **common)
        return
    floats = np.dtype(feature.dtype).kind == "f"
    kinds = [JOINT_FIELDS.get(unit, "values") if floats else "values" for unit in feature.units]
    counts = dict.fromkeys(kinds, 0)
    for kind, run in groupby(range(len(kinds)), kinds.__getitem__):
        places = list(run)
        axes, first = tuple(feature.axes[place] for place in places), counts[kind]
        counts[kind] += len(places)
        indices = tuple(str(first + index) for index in range(len(places)))
        yield Signal(
            topic=f"{topic}/{kind}" if len(counts) > 1 else topic,
            field="data" if kind == "values" else kind,
            axes=axes,
            elements=indices if kind == "values" else axes,
            units=tuple(feature.units[place] for place in places),
            **common,
        )


def _by_topic(mapping: Mapping) -> list[Signal]:
    """One signal for each topic, with all axes that it carries."""
    found: dict[str, Signal] = {}
    for signal in mapping.signal:
        other = found.get(signal.topic)
        if other is not None:
            signal = Signal(
                feature=signal.feature,
                topic=signal.topic,
                field=signal.field,
                axes=other.axes + signal.axes,
                elements=other.elements + signal.elements,
                units=other.units + signal.units,
                dtype=signal.dtype,
            )
        found[signal.topic] = signal
    return list(found.values())


def _places(schema: Schema, signal: Signal) -> list[int]:
    """Where the axes of a signal are in its feature."""
    axes = schema.feature(signal.feature).axes
    return [axes.index(axis) for axis in signal.axes]
