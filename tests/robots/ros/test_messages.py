"""ROS messages: names, order, units, stamps; and no bytes at all that are half read, or read as zero."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, RobotFault
from supple.robots.ros import messages
from supple.robots.ros.messages import (
    FLAG,
    JOINT_STATE,
    NUMBERS,
    TRAJECTORY,
    Element,
    ForwardController,
    JointValue,
    Readings,
    TrajectoryController,
    decode,
    encode_flag,
    encode_joints,
    encode_numbers,
    load_types,
    name_dds_type,
)
from supple.robots.spec import ArraySpec, Axis

SECOND = 1_000_000_000
SPEC = ArraySpec(
    "observation",
    (Axis("q1", "rad", -9.0, 9.0), Axis("q2", "deg", -900.0, 900.0), Axis("v1", "rad/s", -9.0, 9.0)),
)
SOURCES = {
    "q2": JointValue("elbow", "position", 180.0 / np.pi),
    "q1": JointValue("shoulder"),
    "v1": JointValue("shoulder", "velocity"),
}
TOPIC = "/joint_states"
JTC = TrajectoryController(topic="/t", joints=("shoulder", "elbow"), lookahead=2.0)
FORWARD = ForwardController(topic="/f", joints=("shoulder", "elbow"))


def make_readings(**changes: Any) -> Readings:
    given = {"spec": SPEC, "sources": SOURCES, "joint_topic": TOPIC, "stamped": True, "where": "arm"}
    return Readings(**given | changes)


def joint_state(
    names: Sequence[str],
    position: Sequence[float] = (),
    velocity: Sequence[float] = (),
    *,
    stamp: int = 5 * SECOND,
) -> bytes:
    types = load_types().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND)
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
    numbers = [np.array(values, np.float64) for values in (position, velocity, ())]
    message = types[JOINT_STATE](
        header=header, name=list(names), position=numbers[0], velocity=numbers[1], effort=numbers[2]
    )
    return messages.encode(JOINT_STATE, message)


GOOD = joint_state(["gripper", "elbow", "shoulder"], [9.0, np.pi / 2, 1.5], [8.0, 7.0, -0.5])
NOW = 6 * SECOND


def test_the_bytes_are_those_of_ros_2() -> None:
    # head (CDR, little endian), an empty layout (no dimensions, offset 0), two doubles on a border of eight
    assert encode_numbers([1.0, -2.0]) == struct.pack("<4sIII4x2d", b"\x00\x01\x00\x00", 0, 0, 2, 1.0, -2.0)
    assert encode_flag(True) == b"\x00\x01\x00\x00\x01"
    assert name_dds_type(JOINT_STATE) == "sensor_msgs::msg::dds_::JointState_"
    # the hash that the nodes of Jazzy and later publish for this type
    text = load_types().hash_rihs01("std_msgs/msg/String")
    assert text == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"


def test_joints_are_picked_by_name_and_put_in_order_with_their_units() -> None:
    readings = make_readings()
    assert readings.missing == SPEC.names
    readings.take(TOPIC, GOOD, 0, NOW)
    np.testing.assert_allclose(readings.observation, [1.5, 90.0, -0.5], rtol=1e-6)
    assert readings.missing == ()
    assert readings.oldest_ns == 5 * SECOND
    assert readings.seen == {"gripper", "elbow", "shoulder"}


def test_joint_states_may_come_in_parts_and_the_oldest_part_counts() -> None:
    readings = make_readings()
    readings.take(TOPIC, joint_state(["shoulder"], [1.0], [2.0], stamp=5 * SECOND), 0, NOW)
    assert readings.missing == ("q2",)
    assert readings.oldest_ns == -1
    readings.take(TOPIC, joint_state(["elbow"], [0.0], stamp=4 * SECOND), 0, NOW)
    assert readings.oldest_ns == 4 * SECOND
    readings.take(TOPIC, joint_state(["shoulder"], [9.0], [9.0], stamp=4 * SECOND), 0, NOW)  # overtaken
    np.testing.assert_allclose(readings.observation, [1.0, 0.0, 2.0])
    assert readings.overtaken == 2


def test_numbers_of_other_topics_and_messages_without_stamps_are_as_old_as_their_publication() -> None:
    sources = {**SOURCES, "v1": Element("/speeds", 2, 0.5)}
    readings = make_readings(sources=sources, stamped=False)
    assert readings.topics == {"/speeds": NUMBERS, TOPIC: JOINT_STATE}
    readings.take(TOPIC, joint_state(["elbow", "shoulder"], [0.0, 1.0], stamp=0), 3 * SECOND, NOW)
    readings.take("/speeds", encode_numbers([0.0, 0.0, 4.0]), 2 * SECOND, NOW)
    np.testing.assert_allclose(readings.observation, [1.0, 0.0, 2.0])
    assert readings.oldest_ns == 2 * SECOND
    with pytest.raises(RobotFault, match=r"arm: topic /speeds: expected 3 numbers or more, got 2"):
        readings.take("/speeds", encode_numbers([0.0, 0.0]), 2 * SECOND, NOW)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (joint_state(["elbow", "elbow"], [0.0, 1.0]), "each joint once"),
        (joint_state(["elbow", "shoulder"], [0.0]), "2 numbers of position, one for each joint, or none, got 1"),
        (joint_state(["elbow", "shoulder"], [0.0, 1.0], [0.0, 1.0, 2.0]), "2 numbers of velocity"),
        (joint_state(["elbow"], [np.nan]), "a finite number for 'q2', got nan"),
        (joint_state(["elbow"], [np.inf]), "a finite number for 'q2', got inf"),
        (joint_state(["elbow"], [1e300]), "a finite number for 'q2', got 5"),
        (joint_state(["elbow"], [1.0], stamp=0), "a stamp in its header"),
        (joint_state(["elbow"], [1.0], stamp=-SECOND), "a stamp in its header"),
        (joint_state(["elbow"], [1.0], stamp=NOW + SECOND), "a stamp of the past, got one 1.000 s in the future"),
        (encode_numbers([1.0]), "a whole sensor_msgs/msg/JointState in CDR"),
        (b"", "of at most 65536 bytes, got 0 bytes"),
        (GOOD[:-4], "a whole sensor_msgs/msg/JointState in CDR"),
        (b"\x00\x0a" + GOOD[2:], "in CDR"),
        (GOOD + bytes(65536), "of at most 65536 bytes"),
        (GOOD + bytes(64), "a whole sensor_msgs/msg/JointState in CDR"),
    ],
)
def test_what_does_not_fit_together_is_one_fault_that_names_the_topic(data: bytes, expected: str) -> None:
    readings = make_readings()
    readings.take(TOPIC, GOOD, 0, NOW)
    before = readings.observation
    with pytest.raises(RobotFault, match=f"arm: topic {TOPIC}: expected .*{expected}"):
        readings.take(TOPIC, data, 0, NOW)
    np.testing.assert_array_equal(readings.observation, before)


def test_numbers_that_nobody_asks_for_may_be_anything() -> None:
    readings = make_readings()
    readings.take(TOPIC, joint_state(["gripper", "elbow"], [np.nan, 1.0]), 0, NOW)
    assert readings.missing == ("q1", "v1")


@settings(max_examples=100, deadline=None)
@given(
    which=st.sampled_from(
        [(JOINT_STATE, GOOD), (NUMBERS, encode_numbers([1.0])), (TRAJECTORY, JTC.encode([1, 2], 0.1))]
    ),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 300),
    rubbish=st.binary(max_size=200),
)
def test_any_bytes_are_a_message_or_a_fault(
    which: tuple[str, bytes], flips: list[tuple[int, int]], cut: int, rubbish: bytes
) -> None:
    kind, good = which
    data = bytearray(good[: len(good) - cut % 40] + rubbish[: cut % 7])
    for place, value in flips:
        if data:
            data[place % len(data)] = value
    for tried in (bytes(data), good[:4] + rubbish, rubbish):
        with suppress(RobotFault):
            decode(kind, tried, "arm")
    readings = make_readings()
    readings.take(TOPIC, GOOD, 0, NOW)
    with suppress(RobotFault):
        readings.take(TOPIC, bytes(data), 0, NOW)
    assert np.isfinite(readings.observation).all()
    assert not readings.missing


def test_a_flood_that_says_it_is_long_costs_neither_time_nor_memory() -> None:
    for count in (0x7FFFFFFF, 0xFFFFFFFF, 100_000):
        data = GOOD[:16] + struct.pack("<I", count) + GOOD[20:]
        with pytest.raises(RobotFault):
            decode(JOINT_STATE, data, "arm")


def test_commands_are_what_the_controllers_of_ros2_control_take() -> None:
    assert FORWARD.encode([0.5, -0.5], 0.02) == encode_numbers([0.5, -0.5])
    assert FORWARD.decode(encode_numbers([0.5, -0.5]), "f") == [0.5, -0.5]
    message = decode(TRAJECTORY, JTC.encode([0.5, -0.5], 0.02), "t")
    assert message.joint_names == ["shoulder", "elbow"]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)  # it starts when it arrives
    (point,) = message.points
    assert point.positions.tolist() == [0.5, -0.5]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 40_000_000)  # two periods
    assert len(point.velocities) == len(point.accelerations) == len(point.effort) == 0
    other = TrajectoryController(topic="/t", joints=("elbow", "shoulder"))
    assert other.decode(JTC.encode([0.5, -0.5], 0.02), "t") == [-0.5, 0.5]
    for controller, data in ((FORWARD, encode_numbers([1.0])), (JTC, FORWARD.encode([1.0, 2.0], 0.1))):
        with pytest.raises(RobotFault):
            controller.decode(data, "c")
    with pytest.raises(RobotFault, match="a point for shoulder, elbow"):
        JTC.decode(TrajectoryController(topic="/t", joints=("shoulder",)).encode([1.0], 0.1), "c")


def test_an_emulated_robot_says_nothing_of_what_it_does_not_know() -> None:
    data = encode_joints(
        {JointValue("a"): 1.0, JointValue("b"): 2.0, JointValue("a", "velocity", 2.0): 3.0}, 7 * SECOND
    )
    message = decode(JOINT_STATE, data, "x")
    assert message.name == ["a", "b"]
    np.testing.assert_array_equal(message.position, [1.0, 2.0])
    np.testing.assert_array_equal(message.velocity, [1.5, np.nan])
    assert len(message.effort) == 0
    assert not decode(FLAG, encode_flag(False), "x").data


def test_sources_are_one_for_each_axis() -> None:
    with pytest.raises(ConfigError, match="arm observation: expected a source for each of q1, q2, v1, got q1"):
        make_readings(sources={"q1": JointValue("shoulder")})
    with pytest.raises(ConfigError, match="axis 'q1': expected a finite factor other than 0, got 0"):
        make_readings(sources={**SOURCES, "q1": JointValue("shoulder", "position", 0.0)})


def test_a_library_that_is_missing_is_one_line_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    load_types.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "rosbags.typesys", None)
    with pytest.raises(ConfigError, match=r"expected the library rosbags.typesys, got none; .*'supple\[cyclonedds\]'"):
        load_types()
