"""What a robot of ROS 2 is made of, and what its driver does when a part of it is missing, late or odd."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.bounded_robot import BoundedRobot, DriverThread, DriverTimes
from supple.robots.limits import RobotLimits
from supple.robots.robot import RobotRow, WrappedRobots
from supple.robots.ros.driver import RosDriver, pay_nothing, stop_ros_robot
from supple.robots.ros.messages import (
    FLAG,
    ForwardController,
    JointValue,
    TrajectoryController,
    decode,
    encode_flag,
    encode_joints,
)
from supple.robots.ros.ros_robot import RosRobot
from supple.robots.ros.transport import Sample, Transport
from supple.robots.spec import ArraySpec, Axis, RobotSpec

PERIOD = 0.002
SPEC = RobotSpec(
    name="arm",
    observation=ArraySpec("observation", (Axis("q1", "rad", -3.0, 3.0), Axis("q2", "deg", -180.0, 180.0))),
    action=ArraySpec(
        "action", (Axis("t1", "rad", -2.0, 2.0, 100.0, "q1"), Axis("t2", "deg", -90.0, 90.0, 9000.0, "q2"))
    ),
    goal=ArraySpec("goal", (Axis("goal", "rad", -3.0, 3.0),)),
    control_period=PERIOD,
    episode_steps=10,
)
DEGREE = 180.0 / np.pi
JOINTS = {"q1": JointValue("shoulder"), "q2": JointValue("elbow", "position", DEGREE)}
TARGETS = {"t2": JointValue("elbow", "position", DEGREE), "t1": JointValue("shoulder")}
COMMANDS = "/commands"
FORWARD = ForwardController(topic=COMMANDS, joints=("elbow", "shoulder"))


@dataclass(frozen=True)
class Memory(Transport):
    """A robot in the same thread, which goes where it is told at once: settings and transport in one."""

    place: dict[str, float] = field(default_factory=lambda: {"shoulder": 1.0, "elbow": 0.5})
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    hook: dict[str, Callable[[], list[Sample]]] = field(default_factory=dict)
    listeners: int = 1
    closed: list[bool] = field(default_factory=list)

    def open(self) -> Transport:
        return self

    def subscribe(self, topic: str, type: str) -> None:
        pass

    def take(self, topic: str) -> list[Sample]:
        return self.hook.get(topic, self.tell)()

    def tell(self) -> list[Sample]:
        now = time.time_ns()
        return [Sample(encode_joints({JointValue(name): value for name, value in self.place.items()}, now), now)]

    def advertise(self, topic: str, type: str) -> None:
        pass

    def publish(self, topic: str, data: bytes) -> None:
        self.sent.append((topic, data))
        if topic == COMMANDS:
            self.place.update(zip(FORWARD.joints, FORWARD.decode(data, "test"), strict=True))

    def count_listeners(self, topic: str) -> int | None:
        return self.listeners

    def close(self) -> None:
        self.closed.append(True)


def make_robot(memory: Memory, **changes: Any) -> RosRobot:
    given: dict[str, Any] = {
        "transport": memory,
        "contract": SPEC,
        "observation": JOINTS,
        "action": TARGETS,
        "controller": FORWARD,
        "home_seconds": 0.01,
        "timeout": 0.05,
        "max_age": 0.1,
    }
    return RosRobot(**given | changes)


def connect(memory: Memory, **changes: Any) -> RosDriver:
    return RosDriver(make_robot(memory, **changes), pay_nothing)


GOAL = np.zeros(1, np.float32)
RNG = np.random.default_rng(0)


def test_commands_are_in_the_units_and_the_order_of_the_controller() -> None:
    memory = Memory()
    driver = connect(memory)
    np.testing.assert_allclose(driver.reset(GOAL, RNG), [1.0, 0.5 * DEGREE], rtol=1e-6)
    step = driver.step(np.array([0.25, 90.0], np.float32))
    assert FORWARD.decode(memory.sent[-1][1], "test") == pytest.approx([np.pi / 2, 0.25], abs=1e-6)
    np.testing.assert_allclose(step.observation, [0.25, 90.0], rtol=1e-5)
    np.testing.assert_array_equal(driver.sent, [0.25, 90.0])
    driver.step(np.array([1e9, 1e9], np.float32))
    np.testing.assert_array_equal(driver.sent, SPEC.action.inner_high)
    driver.close()


def test_home_is_reached_along_a_line_within_the_rate_limits() -> None:
    memory = Memory()
    driver = connect(memory, home=(-1.0, 0.0))
    driver.reset(GOAL, RNG)
    way = np.array([FORWARD.decode(data, "test") for topic, data in memory.sent if topic == COMMANDS])
    assert len(way) >= 10  # 2 rad at 100 rad/s and 0.002 s per step
    change = np.diff(np.vstack([[0.5, 1.0], way]), axis=0)
    assert (np.abs(change[:, 1]) <= 0.2 + 1e-6).all()
    np.testing.assert_allclose(way[-1], [0.0, -1.0], atol=1e-6)
    memory.hook["/joint_states"] = lambda: Memory({"shoulder": 0.3, "elbow": 0.0}).tell()
    with pytest.raises(RobotFault, match=r"arm home: expected 't1' within 0\.05 of -1, got 1\.3 away"):
        driver.home()
    driver.close()


def limit(**tables: Any) -> RobotLimits:
    return RobotLimits.of(SPEC).override_by({"action": tables}, "file")


WRAPS: dict[str, Any] = {
    "a driver": lambda driver: driver,
    "a row": RobotRow,
    "a wrapper of a driver in a thread of its own": lambda driver: WrappedRobots(
        RobotRow(BoundedRobot(driver, DriverThread("arm"), DriverTimes()))
    ),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    "table",
    [
        {"velocity": 5.0},
        {"velocity": 50.0, "acceleration": 2000.0},
        {"acceleration": 2000.0, "jerk": 4e5},
        {"velocity": 80.0, "acceleration": 1e4, "jerk": 1e6},
    ],
)
def test_the_way_home_keeps_to_the_limits_that_hold(wrap: str, table: dict[str, float]) -> None:
    memory = Memory()
    driver = connect(memory, home=(-1.0, 0.0), timeout=5.0)
    limits = limit(t1=table)
    assert WRAPS[wrap](driver).take_limits(limits)
    assert memory.sent == []
    driver.reset(GOAL, RNG)
    way = np.array([FORWARD.decode(data, "test")[1] for topic, data in memory.sent if topic == COMMANDS])
    rates = np.concatenate([[1.0] * 3, way, [way[-1]] * 3])
    for order, name in enumerate(("velocity", "acceleration", "jerk"), start=1):
        rates = np.diff(rates) / SPEC.control_period
        if name in limits.action[0]:
            assert np.abs(rates).max() <= limits.action[0][name].high * (1 + 1e-6) + 1e-6 / SPEC.control_period**order
    driver.close()


def test_a_home_out_of_the_limits_is_refused_before_anything_moves() -> None:
    memory = Memory()
    driver = connect(memory, home=(-1.0, 0.0))
    with pytest.raises(ConfigError, match=r"arm home: expected 't1' within \[-0\.5, 2\] .* of file, got -1; give the"):
        RobotRow(driver).take_limits(limit(t1={"position": [-0.5, 2.0]}))
    seen = RobotLimits.of(SPEC).override_by({"observation": {"q1": [-0.5, 3.0]}}, "file")
    with pytest.raises(ConfigError, match="arm home: expected 't1' within"):
        driver.take_limits(seen)
    driver.take_limits(limit(t1={"position": [-2.0, 0.5]}))
    with pytest.raises(
        RobotFault, match=r"arm home: expected 't1' within \[-2, 0\.5\].*got 1; move the robot there by"
    ):
        driver.reset(GOAL, RNG)
    assert memory.sent == []
    driver.close()


def test_the_end_of_an_episode_and_a_stop_command_the_measured_place() -> None:
    memory = Memory()
    driver = connect(memory, stop_topic="/stop")
    driver.reset(GOAL, RNG)
    for _ in range(SPEC.episode_steps):
        step = driver.step(np.array([0.5, 10.0], np.float32))
    assert step.truncated
    memory.place["shoulder"] = -0.7
    driver.stop("enough")
    topics = [topic for topic, _ in memory.sent]
    assert topics[-2:] == [COMMANDS, "/stop"]
    assert decode(FLAG, memory.sent[-1][1], "test").data
    assert FORWARD.decode(memory.sent[-2][1], "test")[1] == pytest.approx(-0.7, abs=1e-6)
    with pytest.raises(RobotFault, match="arm step: expected a robot that may move, got one stopped by 'enough'"):
        driver.step(np.zeros(2, np.float32))
    driver.reset(GOAL, RNG)
    driver.step(np.zeros(2, np.float32))
    driver.close()
    assert memory.closed == [True]


def test_a_stop_by_another_process_waits_for_the_word_of_the_robot() -> None:
    memory = Memory()
    memory.hook["/ready"] = lambda: [Sample(encode_flag("/stop" not in dict(memory.sent)), 0)]
    robot = make_robot(memory, stop_topic="/stop", ready_topic="/ready")
    stop_ros_robot(robot, "enough")
    assert memory.closed == [True]
    memory.hook["/ready"] = lambda: [Sample(encode_flag(True), 0)]
    with pytest.raises(RobotFault, match="expected the word on /ready that it has stopped, got none within"):
        stop_ros_robot(robot, "enough")
    assert memory.closed == [True, True]


def test_a_silent_robot_is_not_sent_back_to_where_it_was_last_seen() -> None:
    memory = Memory()
    driver = connect(memory)
    driver.reset(GOAL, RNG)
    memory.hook["/joint_states"] = list  # nothing comes any more
    driver.step(np.array([1.5, 60.0], np.float32))
    time.sleep(0.12)
    driver.stop("stale")
    np.testing.assert_array_equal(driver.sent, [1.5, 60.0])  # the last command stands: 1.0 would be a jump back
    driver.close()


def test_a_place_far_outside_the_limits_is_never_commanded_and_the_stop_is_told_all_the_same() -> None:
    memory = Memory({"shoulder": 3.0, "elbow": 0.01})
    driver = connect(memory, stop_topic="/stop", home=(0.0, 0.0))
    for call in (driver.hold, lambda: driver.stop("outside"), driver.home):
        with pytest.raises(RobotFault, match=r"arm hold: expected 'q1' within .* got 3; no command was sent"):
            call()
    assert [topic for topic, _ in memory.sent] == ["/stop"]  # the nearest command would be a jump
    memory.place["shoulder"] = 0.5
    driver.home()
    driver.step(np.array([0.3, 10.0], np.float32))
    memory.place["shoulder"] = -3.0
    driver.stop("outside")
    assert driver.sent[0] == np.float32(0.3)  # the last command stands
    driver.close()


def test_rubbish_latches_the_stop_behind_the_safety_limits(tmp_path: Any) -> None:
    memory = Memory()
    driver = connect(memory)
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    safe, row = SafetyLimits(RobotRow(driver), log, max_observation_age=1.0), np.arange(1)
    safe.reset(row, GOAL[None], RNG)
    safe.step(row, np.array([[1.0, 20.0]], np.float32))
    memory.hook["/joint_states"] = lambda: [Sample(b"\x00\x01\x00\x00rubbish", 0)]
    with pytest.raises(RobotFault, match="topic /joint_states: expected a whole sensor_msgs/msg/JointState"):
        safe.step(row, np.array([[1.0, 20.0]], np.float32))
    assert "JointState" in str(safe.stop_reason)
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(row, np.array([[1.0, 20.0]], np.float32))
    safe.close()
    log.close()


def test_clocks_that_disagree_are_no_young_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = connect(Memory())
    assert 0.0 <= driver.observation_age() < 1.0
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    assert driver.observation_age() < -3000.0  # the safety limits refuse it
    driver.close()


def test_a_robot_that_says_that_it_is_stopped_is_not_commanded() -> None:
    memory, ready = Memory(), [True]
    memory.hook["/ready"] = lambda: [Sample(encode_flag(ready[0]), 0)]
    driver = connect(memory, ready_topic="/ready")
    driver.reset(GOAL, RNG)
    ready[0] = False
    with pytest.raises(
        RobotFault, match="arm step: expected a robot that may move, got one that is stopped, as /ready"
    ):
        driver.step(np.zeros(2, np.float32))
    sent = len(memory.sent)
    with pytest.raises(RobotFault, match="is stopped, as /ready says"):
        driver.reset(GOAL, RNG)
    assert len(memory.sent) == sent
    driver.close()


@pytest.mark.parametrize(
    ("memory", "changes", "message"),
    [
        (
            Memory({"shoulder": 0.0, "wrist": 0.0}),
            {},
            "expected q2 on /joint_states within 0.05 s, got shoulder, wrist",
        ),
        (Memory(hook={"/joint_states": list}), {}, "expected q1, q2 on /joint_states .* got no joint at all"),
        (Memory(listeners=0), {}, "expected a controller that listens to /commands, got none"),
        (Memory(hook={"/ready": list}), {"ready_topic": "/ready"}, "expected a word on /ready within 0.05 s, got none"),
    ],
)
def test_a_robot_that_is_not_all_there_is_not_connected(memory: Memory, changes: Any, message: str) -> None:
    with pytest.raises(RobotFault, match=f"arm connect: {message}"):
        connect(memory, **changes)
    assert memory.closed == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controller": ForwardController(topic="/c", joints=("elbow",))}, "expected the joints of the action axes"),
        ({"controller": ForwardController(topic="commands", joints=("elbow", "shoulder"))}, "expected a full name"),
        (
            {"action": TARGETS | {"t1": JointValue("shoulder", "velocity")}},
            "expected one kind of command that the controller takes, got position, velocity",
        ),
        (
            {
                "action": {name: replace(value, field="velocity") for name, value in TARGETS.items()},
                "controller": TrajectoryController(topic="/c", joints=("elbow", "shoulder")),
            },
            "a trajectory controller takes positions",
        ),
        (
            {"controller": TrajectoryController(topic="/c", joints=("elbow", "shoulder"), lookahead=0.0)},
            "expected a positive number of control periods, got 0",
        ),
        (
            {"action": {name: replace(value, field="velocity") for name, value in TARGETS.items()}, "home": (0.0, 0.0)},
            "home: expected none for a robot that is not sent to places",
        ),
        ({"observation": {"q1": JointValue("shoulder")}}, "expected a source for each of q1, q2"),
        ({"timeout": 0.0}, "timeout: expected"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_robot(Memory(), **changes)


def test_home_is_a_command() -> None:
    with pytest.raises(SpecError, match="arm home: expected action axis 't1' within"):
        make_robot(Memory(), home=(9.0, 0.0))
