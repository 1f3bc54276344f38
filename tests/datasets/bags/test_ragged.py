"""Messages with a layout each, read together, are those that rosbags decodes one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from supple.datasets.bags.mapping import TopicClock
from supple.datasets.bags.ragged import MOST_ENTRIES, RaggedMessages, split_list
from supple.datasets.bags.recording import Topic
from supple.datasets.bags.series import Flaws, Request, TopicReader
from tests.datasets.bags.test_layout import NAMES, TYPES, make_message

JOINTS = "sensor_msgs/msg/JointState"
KEPT = 40


class Everything(frozenset[str]):
    """Paths of which all are wanted."""

    def __contains__(self, path: object) -> bool:
        return True


def pack(message: Any, name: str, encoding: str = "cdr") -> bytes:
    serialize = TYPES.serialize_ros1 if encoding == "ros1" else TYPES.serialize_cdr
    return bytes(serialize(message, name))


def require_same(found: RaggedMessages, row: int, payload: bytes, message: Any, path: str, name: str) -> int:
    """Compares every field of one message; returns how many were."""
    compared, encoding = 0, "cdr" if found._cdr else "ros1"
    for field, (node, inner) in TYPES.fielddefs[name][1]:
        here, value = f"{path}.{field}" if path else field, getattr(message, field)
        if field == "structure_needs_at_least_one_member":
            continue
        if node.name == "NAME":
            compared += require_same(found, row, payload, value, here, inner)
            continue
        compared += 1
        if isinstance(value, np.ndarray):
            part = found.sequences[here]
            (at,) = np.flatnonzero(part.rows == row)
            places = part.begin[at] + np.arange(part.length[at]) * np.dtype(part.format).itemsize
            assert found.read(places, part.format).tolist() == value.tolist()
        elif isinstance(value, list) and inner[0][0].name == "NAME":
            for index, item in enumerate(value):
                compared += require_same(found, row, payload, item, f"{here}.{index}", inner[0][1])
        elif isinstance(value, list):
            pieces = found.lists[here]
            (at,) = np.flatnonzero(pieces.rows == row)
            assert split_list(payload[pieces.begin[at] : pieces.end[at]], pieces.fixed, encoding) == tuple(value)
        elif isinstance(value, str):
            pieces = found.texts[here]
            (at,) = np.flatnonzero(pieces.rows == row)
            assert payload[pieces.begin[at] : pieces.end[at]].decode() == value
        else:
            part = found.numbers[here]
            (at,) = np.flatnonzero(part.rows == row)
            assert part.values[at] == (value % 256 if inner[0] == "byte" else value)
    return compared


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
def test_every_field_is_that_of_rosbags(name: str, encoding: str) -> None:
    rng = np.random.default_rng(0)
    messages = [make_message(rng, name) for _ in range(KEPT)]
    payloads = [pack(message, name, encoding) for message in messages]
    found = RaggedMessages(TYPES, name, payloads, encoding, Everything())
    assert found.good.all()
    for row, (payload, message) in enumerate(zip(payloads, messages, strict=True)):
        assert require_same(found, row, payload, message, "", name) > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
def test_damaged_messages_among_whole_ones_change_nothing_of_these(name: str, encoding: str) -> None:
    rng = np.random.default_rng(1)
    messages = [make_message(rng, name) for _ in range(2 * KEPT)]
    payloads = [pack(message, name, encoding) for message in messages]
    for row in range(0, 2 * KEPT, 2):
        data = bytearray(payloads[row])
        if rng.integers(2):
            del data[int(rng.integers(len(data))) :]
        for place in rng.integers(0, len(data), 4) if data else ():
            data[place] ^= 1 << int(rng.integers(8))
        payloads[row] = bytes(data)
    found = RaggedMessages(TYPES, name, payloads, encoding, Everything())
    for row in range(1, 2 * KEPT, 2):
        assert found.good[row]
        require_same(found, row, payloads[row], messages[row], "", name)
    for row in np.flatnonzero(found.good).tolist():
        where = [part.begin[part.rows == row] for part in found.sequences.values()]
        assert all((begin >= 0).all() and (begin <= sum(map(len, payloads))).all() for begin in where)


def test_messages_of_the_other_order_of_bytes_and_long_lists_are_left_to_rosbags() -> None:
    kind, header = TYPES.types[JOINTS], TYPES.types["std_msgs/msg/Header"]
    stamp = TYPES.types["builtin_interfaces/msg/Time"](1, 2)

    def make(count: int) -> Any:
        nothing = np.zeros(0)
        return kind(header(stamp, ""), [f"j{index}" for index in range(count)], np.zeros(count), nothing, nothing)

    big = bytes(TYPES.serialize_cdr(make(2), JOINTS, little_endian=False))
    payloads = [pack(make(2), JOINTS), big, pack(make(MOST_ENTRIES), JOINTS), pack(make(MOST_ENTRIES + 1), JOINTS), b""]
    assert RaggedMessages(TYPES, JOINTS, payloads, "cdr", frozenset()).good.tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]


# --- as numbers over time


def make_joint_states(rng: np.random.Generator, count: int) -> list[bytes]:
    """Joints that come and go in any order, some twice, some without a number; every twentieth message is damaged."""
    kind, header, time = (TYPES.types[one] for one in (JOINTS, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"))
    payloads = []
    for index in range(count):
        names = [str(one) for one in rng.choice(["a", "b", "c", "dä", "e"], int(rng.integers(0, 5)))]
        position = rng.normal(size=len(names) if rng.integers(3) else int(rng.integers(0, 4)))
        position[position > 1.5] = np.nan
        velocity = rng.normal(size=len(names) * int(rng.integers(2)))
        stamp = time(100 + index // 10, index % 10 * 10**8)
        message = kind(header(stamp, "x" * int(rng.integers(30))), names, position, velocity, np.zeros(0))
        data = bytearray(pack(message, JOINTS))
        if index % 20 == 7:
            data[int(rng.integers(12, len(data)))] ^= 0x41  # behind the stamp
        payloads.append(bytes(data))
    return payloads


def read(payloads: Sequence[bytes], topic: Topic, requests: tuple[Request, ...], clock: str) -> tuple[Any, TopicReader]:
    reader = TopicReader(topic, TopicClock(name=topic.name, clock=clock), requests, "test")
    half = len(payloads) // 2
    for part, first in ((payloads[:half], 0), (payloads[half:], half)):
        reader.add([10**9 * (first + index) for index in range(len(part))], part)
        reader._flush()
    return reader.finish()[0], reader


def compare(
    payloads: Sequence[bytes],
    topic: Topic,
    requests: tuple[Request, ...],
    clock: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Flaws:
    """Reads all together and each by itself; all that is known afterwards is the same."""
    monkeypatch.setattr(TopicReader, "_pays", lambda _: False)
    together, reader = read(payloads, topic, requests, clock)
    monkeypatch.setattr(TopicReader, "_read_ragged", lambda _, part, *others: part)
    alone, single = read(payloads, topic, requests, clock)
    for mine, theirs in zip(
        (together.time, together.log_time, *together.values), (alone.time, alone.log_time, *alone.values), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert together.flaws == alone.flaws
    assert list(reader.names) == list(single.names)
    return alone.flaws


@pytest.mark.parametrize("clock", ["log", "header.stamp"])
def test_joints_that_come_and_go_are_read_as_one_by_one(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a damaged byte may be one of the text that rosbags decodes and nobody else looks at: no text is damaged here
    payloads = [one for one in make_joint_states(np.random.default_rng(0), 600) if is_readable(one)]
    requests = (
        Request("position", ("c", "a", "nobody"), (), "float64"),
        Request("velocity", ("x", "y"), ("b", "dä"), "float64"),
        Request("header.stamp", ("sec",), (), "int64"),
        Request("position", ("nobody",), (), "float64"),
    )
    topic = Topic("/joints", JOINTS, "cdr", "", "")
    flaws = compare(payloads, topic, requests, clock, monkeypatch)
    assert flaws.blank > 0
    assert flaws.twice


def is_readable(payload: bytes) -> bool:
    try:
        TYPES.deserialize_cdr(payload, JOINTS)
    except Exception:  # noqa: BLE001 - whatever it is, both refuse it
        found = RaggedMessages(TYPES, JOINTS, [payload], "cdr", frozenset())
        return not found.good[0]
    return True


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("nav_msgs/msg/Odometry", (Request("pose.pose.orientation", ("yaw", "w"), (), "float64"),)),
        ("nav_msgs/msg/Odometry", (Request("pose.covariance", ("a", "b"), ("35", "0"), "float64"),)),
        ("std_msgs/msg/Float64MultiArray", (Request("data", ("a", "b", "c"), (), "float64"),)),
        ("std_msgs/msg/Bool", (Request("data", ("mark",), (), "float64", ("true", "false")),)),
        ("std_msgs/msg/String", (Request("data", ("mark",), (), "float64", ("a", "")),)),
        (
            "my_robot/msg/Everything",
            (Request("points.1", ("x", "z"), (), "float64"), Request("e", ("e",), (), "int64")),
        ),
        (
            "my_robot/msg/Everything",
            (Request("c", ("p", "q"), ("2", "7"), "float64"), Request("", ("b",), (), "float64")),
        ),
    ],
)
def test_every_kind_of_request_is_read_as_one_by_one(
    name: str, requests: tuple[Request, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    payloads = [pack(make_message(rng, name), name) for _ in range(100)]
    text = TYPES.generate_msgdef(name, ros_version=2)[0] if name.startswith("my_robot") else ""
    compare(payloads, Topic("/topic", name, "cdr", text, "msg" if text else ""), requests, "log", monkeypatch)


def test_sequences_are_measured_and_their_numbers_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the draft of a mapping is made of: of a list [a, b] whose positions are one number long, that is a."""
    monkeypatch.setattr(TopicReader, "_pays", lambda _: False)
    kind, header, time = (TYPES.types[one] for one in (JOINTS, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"))
    payloads = [
        pack(kind(header(time(1, index), ""), names, np.zeros(count), np.zeros(0), np.zeros(0)), JOINTS)
        for index, (names, count) in enumerate([(["a", "b"], 1)] * 20 + [(["c", "d"], 2), (["e"], 0)])
    ]
    reader = TopicReader(Topic("/joints", JOINTS, "cdr", "", ""), TopicClock(name="/joints"), (), "test")
    reader.add(range(22), payloads)
    reader.finish()
    assert list(reader.names) == ["a", "b", "c", "d", "e"]
    assert reader.lengths == {"position": 2, "velocity": 0, "effort": 0}
    assert list(reader.named["position"]) == ["a", "c", "d"]
    assert not reader.named["velocity"]
