"""Wrappers between the safety limits and a robot: none may hide that it can be stopped, or stand before its stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap, Watch
from supple.errors import RobotFault, UntoldReward
from supple.meta.testing import PointBatch
from supple.robots.family import SuccessRows, TellsSuccess
from supple.robots.robot import RobotBatch, Stops, TellsAge

ROW, GOAL = np.arange(1), np.zeros((1, 2), np.float32)


class StoppedPoints(PointBatch, Stops):
    """Points that can be told to stop, and do not know how old what they say is."""

    def __init__(self) -> None:
        super().__init__(1)
        self.stopped: list[str] = []

    def stop(self, reason: str) -> None:
        self.stopped.append(reason)


class OldPoints(PointBatch, TellsAge):
    """Points whose observations are hours old, and which cannot be told to stop."""

    def observation_age(self) -> float:
        return 9999.0


class Teller(TellsSuccess):
    def compute_success(self, observation: Any, reward: Any, goals: Any) -> NDArray[np.bool_]:
        return np.zeros(len(observation), np.bool_)


class FullDisk:
    def write(self, event: str, **facts: Any) -> None:
        raise RobotFault(f"log: expected space for {event}, got none; free some")


def wrap(kind: str, robot: RobotBatch) -> CommandTap | SuccessRows:
    return CommandTap(robot) if kind == "tap" else SuccessRows(robot, Teller())


@pytest.mark.parametrize("kind", ["tap", "success"])
def test_a_robot_that_stops_and_knows_no_age_is_stopped_through_a_wrapper(kind: str, tmp_path: Path) -> None:
    robot, log = StoppedPoints(), AuditLog(tmp_path / "audit.jsonl", simulator=True)
    limits = SafetyLimits(wrap(kind, robot), log)
    limits.reset(ROW, GOAL, np.random.default_rng(0))
    with pytest.raises(RobotFault, match="finite"):
        limits.step(ROW, np.full((1, 2), np.nan, np.float32))
    assert len(robot.stopped) == 1
    log.close()


@pytest.mark.parametrize("kind", ["tap", "success"])
def test_the_age_of_observations_is_told_through_a_wrapper(kind: str, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    with pytest.raises(RobotFault, match="9999"):
        SafetyLimits(wrap(kind, OldPoints(1)), log).reset(ROW, GOAL, np.random.default_rng(0))
    log.close()


def test_robots_whose_observation_tells_no_reward_are_watched(tmp_path: Path) -> None:
    """Nothing says then whether told rewards contradict those of the contract."""

    class Untold(PointBatch):
        def compute_reward(self, observation: Any, goals: Any) -> Any:
            raise UntoldReward("point compute_reward: expected a robot whose observation tells its reward, got another")

    log, taps = AuditLog(tmp_path / "audit.jsonl", simulator=True), CommandTap(Untold(1))
    watch = Watch(SafetyLimits(taps, log), taps)
    watch.reset(ROW, GOAL, np.random.default_rng(0))
    watch.step(ROW, np.ones((1, 2), np.float32))
    assert np.isnan(watch.take_signals().agreement)
    log.close()


def test_a_log_that_is_full_does_not_keep_the_robot_from_its_stop(tmp_path: Path) -> None:
    robot, log = StoppedPoints(), AuditLog(tmp_path / "audit.jsonl", simulator=True)
    taps = CommandTap(robot)
    watch = Watch(SafetyLimits(taps, log), taps, sink=FullDisk())
    with pytest.raises(RobotFault, match="free some"):
        watch.stop("a person")
    assert robot.stopped == ["a person"]
    log.close()
