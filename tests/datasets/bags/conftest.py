"""Bags as robots record them, written by the libraries of their formats: `rosbags` and `mcap`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_typestore

START = 1_700_000_000 * 10**9
KINDS = (
    *("rosbag1", "rosbag1-bz2", "rosbag1-lz4", "sqlite", "sqlite-message", "sqlite-file"),
    *("mcap", "mcap-storage", "mcap-message", "mcap-file", "plain", "plain-zstd", "plain-lz4", "plain-unchunked"),
)
"""Ways in which a bag is stored; `plain` ones are single MCAP files of the mcap library."""


class Sent(NamedTuple):
    """One message."""

    topic: str
    type: str
    log_time: int
    fields: dict[str, Any]


class Bags:
    """Writes bags; `ros1` and `ros2` know the message types."""

    ros2 = get_typestore(Stores.ROS2_HUMBLE)
    ros1 = get_typestore(Stores.ROS1_NOETIC)
    start = START

    def make(self, types: Any, name: str, fields: dict[str, Any]) -> Any:
        """A message with these fields; the others are empty."""
        values = {}
        for field, (node, inner) in types.fielddefs[name][1]:
            if node.name == "NAME":
                values[field] = self.make(types, inner, fields.get(field, {}))
            elif node.name in ("SEQUENCE", "ARRAY"):
                (kind, base), count = inner
                given = fields.get(field, [0.0] * count if node.name == "ARRAY" else [])
                if kind.name == "NAME":
                    values[field] = [self.make(types, base, one) for one in given]
                else:
                    values[field] = list(given) if base[0] == "string" else np.array(given, base[0])
            else:
                values[field] = fields.get(field, "" if inner[0] == "string" else 0)
        return types.types[name](**values)

    def write(self, path: Path, kind: str, sent: Iterable[Sent], types: Any = None) -> Path:
        """Writes a bag of this kind at `path`, and returns its path."""
        messages = list(sent)
        if kind.startswith("rosbag1"):
            return self._write_ros1(path, kind.partition("-")[2], messages, types or self.ros1)
        types = types or self.ros2
        if kind.startswith("plain"):
            return self._write_plain(path, kind.partition("-")[2], messages, types)
        storage, _, mode = kind.partition("-")
        writer = Rosbag2Writer(
            path, version=9, storage_plugin=StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        )
        if mode:
            writer.set_compression(CompressionMode[mode.upper()], CompressionFormat.ZSTD)
        with writer:
            connections = {
                (one.topic, one.type): writer.add_connection(one.topic, one.type, typestore=types)
                for one in {(one.topic, one.type): one for one in messages}.values()
            }
            for one in messages:
                data = types.serialize_cdr(self.make(types, one.type, one.fields), one.type)
                writer.write(connections[one.topic, one.type], one.log_time, data)
        return path

    def _write_ros1(self, path: Path, mode: str, messages: list[Sent], types: Any) -> Path:
        path = path.with_suffix(".bag")
        writer = Rosbag1Writer(path)
        if mode:
            writer.set_compression(Rosbag1Writer.CompressionFormat[mode.upper()])
        with writer:
            connections = {
                (one.topic, one.type): writer.add_connection(one.topic, one.type, typestore=types)
                for one in {(one.topic, one.type): one for one in messages}.values()
            }
            for one in messages:
                data = types.serialize_ros1(self.make(types, one.type, one.fields), one.type)
                writer.write(connections[one.topic, one.type], one.log_time, data)
        return path

    def _write_plain(self, path: Path, mode: str, messages: list[Sent], types: Any, **options: Any) -> Path:
        path = path.with_suffix(".mcap")
        compression = {"zstd": CompressionType.ZSTD, "lz4": CompressionType.LZ4}.get(mode, CompressionType.NONE)
        chunked = mode != "unchunked"
        with path.open("wb") as stream:
            writer = McapWriter(
                stream,
                chunk_size=4096,
                compression=compression,
                use_chunking=chunked,
                enable_data_crcs=not chunked,
                **options,
            )
            writer.start("ros2", "test")
            channels: dict[tuple[str, str], int] = {}
            for one in messages:
                key = (one.topic, one.type)
                if key not in channels:
                    text = types.generate_msgdef(one.type, ros_version=2)[0]
                    schema = writer.register_schema(one.type, "ros2msg", text.encode())
                    channels[key] = writer.register_channel(one.topic, "cdr", schema)
                data = types.serialize_cdr(self.make(types, one.type, one.fields), one.type)
                writer.add_message(channels[key], one.log_time, bytes(data), one.log_time)
            writer.finish()
        return path

    def stamp(self, time: int) -> dict[str, Any]:
        """A header with this stamp, ns."""
        return {"stamp": {"sec": time // 10**9, "nanosec": time % 10**9}, "frame_id": "base"}

    def joints(
        self,
        time: int,
        names: list[str],
        position: Any,
        *,
        topic: str = "/joint_states",
        delay: int = 0,
        velocity: Any = (),
    ) -> Sent:
        """A JointState that is recorded `delay` ns after its stamp."""
        fields = {"header": self.stamp(time), "name": names, "position": position, "velocity": velocity}
        return Sent(topic, "sensor_msgs/msg/JointState", time + delay, fields)

    def array(self, time: int, data: Any, topic: str = "/commands") -> Sent:
        """A Float64MultiArray."""
        return Sent(topic, "std_msgs/msg/Float64MultiArray", time, {"data": data})

    def text(self, time: int, data: str, topic: str = "/episode") -> Sent:
        """A String."""
        return Sent(topic, "std_msgs/msg/String", time, {"data": data})

    def arm(self, seconds: float = 2.0, start: int = START) -> list[Sent]:
        """Joint states at 100 Hz and commands at 50 Hz; every number says which message it is from."""
        sent = [
            self.joints(start + k * 10**7, ["a", "b"], [k, 1000.0 + k], velocity=[-k, 0.5])
            for k in range(int(seconds * 100))
        ]
        sent += [self.array(start + k * 2 * 10**7, [2.0 * k, 7.0]) for k in range(int(seconds * 50))]
        return sorted(sent, key=lambda one: one.log_time)


@pytest.fixture(scope="session")
def bags() -> Bags:
    return Bags()


MakeBag = Callable[[str], Path]


@pytest.fixture
def arm_bag(bags: Bags, tmp_path: Path) -> MakeBag:
    """Makes the arm's bag of a kind."""
    return lambda kind: bags.write(tmp_path / f"arm-{kind}", kind, bags.arm())
