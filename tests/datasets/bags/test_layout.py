"""Messages that are read side by side are those that rosbags decodes one by one."""

from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from supple.datasets.bags.layout import Layout, LayoutError, group_messages

CUSTOM = "my_robot/msg/Everything"
TYPES = get_typestore(Stores.ROS2_HUMBLE)
TYPES.register(
    get_types_from_msg(
        "bool on\nint8 a\nfloat64 b\nuint16[3] c\nfloat32[] d\nstring text\nstring[] names\nint64 e\n"
        "float64[<=4] f\ngeometry_msgs/Point[] points\nstd_msgs/Empty nothing\nuint8 last\n"
        "builtin_interfaces/Time when\nstring[2] two\ngeometry_msgs/Vector3[2] pair\nchar g\nbyte h\n",
        CUSTOM,
    )
)
NAMES = (
    *("sensor_msgs/msg/JointState", "geometry_msgs/msg/TwistStamped", "trajectory_msgs/msg/JointTrajectory"),
    *("nav_msgs/msg/Odometry", "std_msgs/msg/Float64MultiArray", "geometry_msgs/msg/WrenchStamped"),
    *("std_msgs/msg/Bool", "std_msgs/msg/String", "sensor_msgs/msg/Imu", CUSTOM),
)


def make_message(rng: np.random.Generator, name: str) -> Any:
    """A message of any content."""
    values = {}
    for field, (node, inner) in TYPES.fielddefs[name][1]:
        if node.name in ("SEQUENCE", "ARRAY"):
            item, bound = inner
            count = bound if node.name == "ARRAY" else int(rng.integers(0, min(bound or 4, 4) + 1))
            entries = [make_value(rng, item) for _ in range(count)]
            numeric = item[0].name == "BASE" and item[1][0] != "string"
            values[field] = np.array(entries, item[1][0]) if numeric else entries
        else:
            values[field] = make_value(rng, (node, inner))
    return TYPES.types[name](**values)


def make_value(rng: np.random.Generator, description: Any) -> Any:
    node, inner = description
    if node.name == "NAME":
        return make_message(rng, inner)
    base = {"byte": "int8", "char": "uint8"}.get(inner[0], inner[0])
    if base == "string":
        return "".join(rng.choice(list("abcäß漢"), rng.integers(0, 6)))
    if base == "bool":
        return bool(rng.integers(2))
    if base.startswith("float"):
        return float(np.float32(rng.normal()))
    kind = np.iinfo(base)
    return int(rng.integers(kind.min, kind.max, dtype=base, endpoint=True))


def require_same(layout: Layout, record: Any, message: Any, path: str, name: str) -> int:
    """Compares every field; returns how many were."""
    compared = 0
    for field, (node, inner) in TYPES.fielddefs[name][1]:
        here, value = f"{path}.{field}" if path else field, getattr(message, field)
        if field == "structure_needs_at_least_one_member":
            continue
        if node.name == "NAME":
            compared += require_same(layout, record, value, here, inner)
        elif isinstance(value, np.ndarray):
            assert record[here].tolist() == value.tolist()
            compared += 1
        elif isinstance(value, list) and inner[0][0].name == "NAME":
            for index, item in enumerate(value):
                compared += require_same(layout, record, item, f"{here}.{index}", inner[0][1])
        elif isinstance(value, list):
            assert layout.texts[here] == tuple(value)
            compared += 1
        elif isinstance(value, str):
            assert bytes(record[here]).decode() == value
            compared += 1
        else:
            # rosbags reads a single byte as signed, and bytes in arrays as unsigned, as ROS 2 does
            assert record[here] == (value % 256 if inner[0] == "byte" else value)
            compared += 1
    return compared


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["little", "big", "ros1"])
def test_every_field_is_that_of_rosbags(name: str, encoding: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        message = make_message(rng, name)
        if encoding == "ros1":
            payload = bytes(TYPES.serialize_ros1(message, name))
        else:
            payload = bytes(TYPES.serialize_cdr(message, name, little_endian=encoding == "little"))
        layout = Layout(TYPES, name, payload, "ros1" if encoding == "ros1" else "cdr")
        ((rows, messages),) = group_messages([payload, payload])
        assert rows.tolist() == [0, 1]
        assert layout.select(messages).all()
        assert require_same(layout, layout.read(messages)[1], message, "", name) > 0


def test_messages_of_one_size_and_another_layout_are_told_apart() -> None:
    name = "sensor_msgs/msg/JointState"
    kind, header = TYPES.types[name], TYPES.types["std_msgs/msg/Header"]
    stamp = TYPES.types["builtin_interfaces/msg/Time"](1, 2)

    def pack(names: list[str], position: list[float], velocity: list[float]) -> bytes:
        message = kind(header(stamp, ""), names, np.array(position), np.array(velocity), np.array([]))
        return bytes(TYPES.serialize_cdr(message, name))

    swapped = [pack(["aa", "b"], [1, 2], []), pack(["a", "bb"], [1, 2], []), pack(["b", "aa"], [1, 2], [])]
    moved = [pack(["aa", "b"], [1, 2], []), pack(["aa", "b"], [], [1, 2])]
    for payloads in (swapped, moved):
        groups = [messages for _, messages in group_messages(payloads)]
        for messages in groups:
            chosen = [Layout(TYPES, name, bytes(row), "cdr").select(messages).tolist() for row in messages]
            assert chosen == np.eye(len(messages), dtype=bool).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_damaged_messages_are_refused_and_never_read_beyond_their_end(name: str) -> None:
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(100):
        payload = bytearray(TYPES.serialize_cdr(make_message(rng, name), name))
        if rng.integers(2):
            del payload[rng.integers(len(payload)) :]
        for place in rng.integers(0, len(payload), rng.integers(1, 8)) if payload else ():
            payload[place] ^= 1 << int(rng.integers(8))
        try:
            layout = Layout(TYPES, name, bytes(payload), "cdr")
        except LayoutError:
            refused += 1
            continue
        assert layout.dtype.itemsize == len(payload)
    assert refused > 10
