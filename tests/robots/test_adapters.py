"""One contract for every robot adapter, and the faults that the fake one injects."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.link_faults import TURN, attack_operator, attack_readings, sweep_drops
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import ConfigError, RobotFault
from supple.robots.adapter import RobotAdapter
from supple.robots.adapter_testing import AdapterContract
from supple.robots.cadence import Cadence
from supple.robots.emulated_robot import Emulation, LinkedRobot, emulate
from supple.robots.faulty_robot import Fault, FaultyRobot
from supple.robots.robot import RobotRow
from supple.robots.simulated_adapter import SimulatedAdapter
from tests.robots.test_dm_control_family import POINT as DM_POINT
from tests.robots.test_gymnasium_family import POINT as GYMNASIUM_POINT
from tests.robots.test_lerobot_robot import SPEC as LEROBOT_SPEC
from tests.robots.test_lerobot_robot import FakeArm, make

STEPS = 20


class TestMujocoInLockStep(AdapterContract):
    goal = (1.9,)
    episode_steps = STEPS

    def connect(self) -> RobotAdapter:
        return SimulatedAdapter(replace(TURN, episode_steps=STEPS).make(1))


class TestMujocoInRealTime(AdapterContract):
    goal = (1.9,)
    episode_steps = STEPS

    def connect(self) -> RobotAdapter:
        return SimulatedAdapter(replace(TURN, episode_steps=STEPS, control_period=0.01).make(1), Cadence(0.01))


class TestGymnasium(AdapterContract):
    goal = (14.0,)
    episode_steps = STEPS

    def connect(self) -> RobotAdapter:
        return SimulatedAdapter(replace(GYMNASIUM_POINT, episode_steps=STEPS).make(1))


class TestDmEnv(AdapterContract):
    goal = (14.0,)
    episode_steps = STEPS

    def connect(self) -> RobotAdapter:
        return SimulatedAdapter(replace(DM_POINT, episode_steps=STEPS).make(1))


class TestFaultlessFake(AdapterContract):
    goal = (1.9,)
    episode_steps = STEPS

    def connect(self) -> RobotAdapter:
        return FaultyRobot(SimulatedAdapter(replace(TURN, episode_steps=STEPS).make(1)), {})


class TestEmulated(AdapterContract):
    goal = (1.9,)
    episode_steps = STEPS
    freed_by_reset = False
    drift = 5e-3
    family = replace(TURN, episode_steps=STEPS, control_period=0.01)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def address(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.path = str(tmp_path_factory.mktemp("emulated") / "robot")
        with emulate(cls.family, cls.path, Emulation(noise=1e-4, latency=0.001, jitter=0.001, stop_periods=10**6)):
            yield

    def connect(self) -> RobotAdapter:
        robot = LinkedRobot(self.family, self.path)
        self.free(robot)
        return robot

    def free(self, robot: RobotAdapter) -> None:
        assert isinstance(robot, LinkedRobot)
        robot.recover()


class TestLeRobot(AdapterContract):
    goal = (2.9, -2.9)
    episode_steps = STEPS
    drift = 1e-5

    def connect(self) -> RobotAdapter:
        return make(FakeArm(0.5), spec=replace(LEROBOT_SPEC, episode_steps=STEPS))


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in (Fault.LOSE, Fault.REPEAT)])
def test_each_fault_of_a_driver_latches_the_stop_in_the_step_in_which_it_comes(fault: Fault, tmp_path: Path) -> None:
    robot = FaultyRobot(SimulatedAdapter(TURN.make(1)), {3: fault})
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    safe, row = SafetyLimits(RobotRow(robot), log), np.arange(1)
    safe.reset(row, np.array([[1.9]], np.float32), np.random.default_rng(0))
    for _ in range(3):
        safe.step(row, np.full((1, 1), 0.5, np.float32))
    if fault is Fault.OVERTAKEN:  # simulated steps take no time: nothing else was measured that long ago
        safe._max_observation_age = 0.1
    with pytest.raises(RobotFault):
        safe.step(row, np.full((1, 1), 0.5, np.float32))
    assert safe.stop_reason is not None
    assert len(robot.stops) == 1
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(row, np.full((1, 1), 0.5, np.float32))
    safe.close()
    log.close()


def test_an_observation_that_comes_again_is_found_where_that_is_asked_for(tmp_path: Path) -> None:
    robot = FaultyRobot(SimulatedAdapter(TURN.make(1)), dict.fromkeys(range(3, 6), Fault.REPEAT))
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    safe, row = SafetyLimits(RobotRow(robot), log, max_frozen_steps=2), np.arange(1)
    safe.reset(row, np.array([[1.9]], np.float32), np.random.default_rng(0))
    for _ in range(5):
        safe.step(row, np.full((1, 1), 0.5, np.float32))
    with pytest.raises(RobotFault, match="the same one 3 times"):
        safe.step(row, np.full((1, 1), 0.5, np.float32))
    log.close()


def test_a_lost_command_leaves_the_robot_where_it_is() -> None:
    robot = FaultyRobot(SimulatedAdapter(TURN.make(1)), dict.fromkeys(range(20, 40), Fault.LOSE))
    robot.reset(np.array([1.9], np.float32), np.random.default_rng(0))
    places = [float(robot.step(np.array([0.5], np.float32)).observation[0]) for _ in range(20)]
    held = [float(robot.step(np.array([1.5], np.float32)).observation[0]) for _ in range(20)]
    assert places[-1] == pytest.approx(0.5, abs=0.05)
    assert held[-1] == pytest.approx(places[-1], abs=0.05)
    assert float(robot.step(np.array([1.5], np.float32)).observation[0]) > held[-1] + 0.01


def test_dropped_and_late_commands_end_in_a_hold_within_the_bound_or_need_none() -> None:
    counts, worst = sweep_drops(range(1, 26, 8), range(1, 201, 66))
    assert counts["injected"] == counts["detected"] == 16
    assert worst == 2


def test_rubbish_reaches_neither_a_robot_of_ros_2_nor_an_operator(tmp_path: Path) -> None:
    readings = attack_readings(1000)
    assert (readings["silent"], readings["crashed"]) == (0, 0)
    assert readings["detected"] > 700  # the others were whole: a flipped bit of a number is another number
    operator = attack_operator(500, tmp_path)
    assert (operator["detected"], operator["silent"], operator["crashed"]) == (500, 0, 0)


def test_an_adapter_has_one_row() -> None:
    with pytest.raises(ConfigError, match="rows: expected 1 for an adapter, got 2"):
        SimulatedAdapter(TURN.make(2))
