"""Robots of ROS 2 across a process boundary: one driver, contract and loop over DDS and over zenoh, on loopback."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.link_faults import TURN
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import RobotFault
from supple.pipeline.robots import find_robot
from supple.robots.adapter import RobotAdapter
from supple.robots.adapter_testing import AdapterContract
from supple.robots.emulated_robot import Emulation, LinkedRobot, Mode
from supple.robots.hardware_family import HardwareFamily
from supple.robots.robot import Bool, Float, RobotRow
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.driver import RosConnection, RosDriver, stop_ros_robot, survey
from supple.robots.ros.emulated import emulate_ros
from supple.robots.ros.messages import Element, ForwardController, JointValue, TrajectoryController
from supple.robots.ros.ros_robot import RosRobot
from supple.robots.ros.transport import OpensTransport
from supple.robots.ros.zenoh import Zenoh
from tests.robots.test_payment import Laps, play_twice

STEPS = 20
FAMILY = replace(TURN, episode_steps=STEPS, control_period=0.01)
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
FORWARD = ForwardController(topic="/forward_position_controller/commands", joints=("elbow",))
TRAJECTORY = TrajectoryController(topic="/joint_trajectory_controller/joint_trajectory", joints=("elbow",))


def reach(observation: Float, goals: Float) -> tuple[Float, Bool]:
    near = np.abs(observation[..., None, :1] - goals)[..., 0] < 0.02
    return near.astype(np.float32), near


def make_robot(transport: OpensTransport, **changes: object) -> RosRobot:
    """The joint `turn` is `elbow` in ROS, in milliradians, and its speed is a number of another topic."""
    given: dict[str, object] = {
        "transport": transport,
        "contract": FAMILY.spec(),
        "observation": {
            "turn": JointValue("elbow", "position", 1e-3),
            "turn_v": Element("/speeds", 1, 2.0),
        },
        "action": {FAMILY.spec().action.names[0]: JointValue("elbow", "position", 1e-3)},
        "controller": FORWARD,
        "home": (0.0,),
        "home_seconds": 0.1,
        "home_tolerance": 0.1,
        "stop_topic": "/stop",
        "ready_topic": "/ready",
        "timeout": 20.0,
        "max_age": 10.0,  # a busy machine
    }
    return RosRobot(**given | changes)  # type: ignore[arg-type]


def go_on(safe: SafetyLimits, deadline: float) -> None:
    """Episode after episode, until something is wrong."""
    row = np.arange(1)
    while time.monotonic() < deadline:
        if safe.step(row, np.array([[1.0]], np.float32)).truncated.any():
            safe.reset(row, np.array([[1.9]], np.float32), np.random.default_rng(0))


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_example_is_the_arm_that_it_emulates_and_another_process_finds_its_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "my_arm", raising=False)  # another file of this name, of a test before
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    choice = find_robot(f"{Path(__file__).parents[3] / 'examples' / 'ros2_arm.py'}:ARM")
    family = choice.family
    assert isinstance(family, HardwareFamily)
    assert isinstance(family.connect, RosConnection)
    assert family.spec() == find_robot(f"{Path(choice.module or '').with_name('my_arm.py')}:ARM").family.spec()
    assert family.connect.robot.controller.joints != family.spec().action.names
    assert family.limits().spec == family.spec()
    assert choice.record["config"]["connect"]["robot"]["joint_topic"] == "/joint_states"
    assert family.stop is not None


class RosContract(AdapterContract):
    """The contract over a transport."""

    goal = (1.9,)
    episode_steps = STEPS
    freed_by_reset = False
    drift = 5e-3
    robot: RosRobot
    path: str
    pid: int

    @classmethod
    def sides(cls) -> tuple[RosRobot, RosRobot]:
        """As the driver and as the robot's process see it."""
        raise NotImplementedError

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def process(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.path = str(tmp_path_factory.mktemp("ros") / "robot")
        cls.robot, theirs = cls.sides()
        with emulate_ros(FAMILY, cls.path, theirs, Emulation(noise=1e-4, stop_periods=10**6)) as process:
            cls.pid = process.pid or 0
            yield

    def connect(self) -> RobotAdapter:
        self.recover()
        driver = RosDriver(self.robot, reach)
        deadline = time.monotonic() + 20.0
        while not driver._ready and time.monotonic() < deadline:  # a word of before may still be under way
            driver.read()
        return driver

    def recover(self) -> None:
        panel = LinkedRobot(FAMILY, self.path)
        deadline = time.monotonic() + 20.0
        try:
            panel.recover()
            while panel.mode is Mode.STOPPED and time.monotonic() < deadline:  # a stop may still be under way
                time.sleep(0.05)
                panel.recover()
            assert panel.mode is not Mode.STOPPED
        finally:
            panel.close()

    def free(self, robot: RobotAdapter) -> None:
        assert isinstance(robot, RosDriver)
        self.recover()
        deadline = time.monotonic() + 20.0
        robot.read()
        while not robot._ready and time.monotonic() < deadline:
            robot.read()

    def test_the_loop_runs_behind_the_safety_limits_and_a_silent_robot_is_stopped(self, tmp_path: Path) -> None:
        driver, row = self.connect(), np.arange(1)
        log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
        safe = SafetyLimits(RobotRow(driver), log, max_observation_age=10.0)
        seen = safe.reset(row, np.array([[1.0]], np.float32), np.random.default_rng(0))
        for _ in range(STEPS):
            step = safe.step(row, np.array([[1.0]], np.float32))
            if (step.terminated | step.truncated).any():
                break
        assert step.observation[0, 0] > seen[0, 0] + 0.2
        safe.reset(row, np.array([[1.9]], np.float32), np.random.default_rng(0))
        stop_ros_robot(self.robot, "a second process")
        deadline = time.monotonic() + 20.0
        with pytest.raises(RobotFault, match="stopped"):
            go_on(safe, deadline)
        assert safe.stop_reason is not None
        safe.close()
        log.close()

    def test_lost_commands_end_in_a_hold_and_a_held_robot_in_a_stop(self, tmp_path: Path) -> None:
        driver, row = self.connect(), np.arange(1)
        panel = LinkedRobot(FAMILY, self.path)
        log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
        safe = SafetyLimits(RobotRow(driver), log, max_observation_age=10.0)
        safe.reset(row, np.array([[1.9]], np.float32), np.random.default_rng(0))
        safe.step(row, np.array([[1.0]], np.float32))
        deadline = time.monotonic() + 20.0
        while panel.mode is Mode.FOLLOWING and time.monotonic() < deadline:
            pass  # no command comes: its own watchdog
        assert panel.mode is Mode.HOLDING
        os.kill(self.pid, signal.SIGSTOP)  # now no state comes
        safe._max_observation_age = 0.1
        try:
            with pytest.raises(RobotFault, match=r"expected an observation at most 0\.1 s old"):
                go_on(safe, time.monotonic() + 20.0)  # ten steps of the twenty of an episode
        finally:
            os.kill(self.pid, signal.SIGCONT)
        assert safe.stop_reason is not None
        panel.close()
        safe.close()
        log.close()

    def test_it_pays_along_the_path_of_an_episode(self) -> None:
        self.recover()
        laps: Any = Laps()
        driver = RosDriver(self.robot, laps)
        self.free(driver)
        play_twice(driver, np.array([1.9], np.float32))

    def test_it_can_be_looked_at(self) -> None:
        deadline = time.monotonic() + 20.0
        while (found := survey(self.robot, 0.2)).rates["/joint_states"] == 0.0 and time.monotonic() < deadline:
            pass
        assert set(found.rates) == {"/joint_states", "/speeds"}
        assert found.rates["/joint_states"] > 0.0
        assert found.joints == ("elbow",)
        assert found.listeners != 0
        assert 0.0 <= found.age < 20.0


class TestCycloneDdsWithForwardController(RosContract):
    @classmethod
    def sides(cls) -> tuple[RosRobot, RosRobot]:
        robot = make_robot(CycloneDds(domain=100 + WORKER, interface="127.0.0.1", peers=("127.0.0.1",)))
        return robot, robot


class TestZenohWithTrajectoryController(RosContract):
    @classmethod
    def sides(cls) -> tuple[RosRobot, RosRobot]:
        place = f"tcp/127.0.0.1:{find_port()}"
        theirs = make_robot(Zenoh(connect=(), listen=(place,)), controller=TRAJECTORY)
        return replace(theirs, transport=Zenoh(connect=(place,), mode="client")), theirs
