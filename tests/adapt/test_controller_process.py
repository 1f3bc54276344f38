"""A controlling process that is killed or held in the middle of an episode leaves a robot that holds, and a stop."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supple.adapt.audit import UNFINISHED, AuditLog
from supple.robots.emulated_robot import Emulation, LinkedRobot, Mode, emulate
from supple.robots.maze_family import Maze

MAZE = Maze(layout_size=8, num_train_tasks=4, num_test_tasks=2)
TIMEOUT = 0.3
"""Of the watchdog, seconds; a loaded machine needs more than a robot's computer."""

CONTROLLER = """
import sys
import numpy as np
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watchdog import Watchdog
from supple.robots.emulated_robot import LinkedRobot, stop_robot
from supple.robots.maze_family import Maze
from supple.robots.robot import RobotRow

address, log = sys.argv[1:]
maze = Maze(layout_size=8, num_train_tasks=4, num_test_tasks=2)
dog = Watchdog(stop_robot, 0.3, [address])
robot = SafetyLimits(RobotRow(LinkedRobot(maze, address)), AuditLog(log), watchdog=dog, max_observation_age=2.0)
rows, goal = np.arange(1), np.array([maze.tasks().train[0].goal], np.float32)
robot.reset(rows, goal, np.random.default_rng(0))
while True:
    step = robot.step(rows, np.array([[1.0, 0.5]], np.float32))
    print("moving", flush=True)
    if (step.terminated | step.truncated).any():
        robot.reset(rows, goal, np.random.default_rng(0))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    # it would hold after two periods, and stop by itself only after a minute: the watchdog has to be quicker
    with emulate(MAZE, str(tmp_path / "robot"), Emulation(hold_periods=2, stop_periods=6000)):
        yield str(tmp_path / "robot")


def wait_for(robot: LinkedRobot, mode: Mode, seconds: float) -> float:
    """Seconds until the robot is in a mode; more than `seconds` where it is not."""
    begin = time.monotonic()
    while robot.mode is not mode and time.monotonic() - begin < seconds:
        pass
    return time.monotonic() - begin


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_robot_holds_at_once_and_is_stopped_by_the_watchdog(
    address: str, tmp_path: Path, how: signal.Signals
) -> None:
    log = tmp_path / "audit.jsonl"
    command = [sys.executable, "-c", CONTROLLER, address, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as controller:
        assert controller.stdout is not None
        for _ in range(20):
            assert controller.stdout.readline() == "moving\n"
        controller.send_signal(how)
        witness = LinkedRobot(MAZE, address)
        assert wait_for(witness, Mode.STOPPED, 5.0) < 2.0
        if how is signal.SIGSTOP:  # it goes on, finds out, and cannot move any more
            controller.send_signal(signal.SIGCONT)
            assert controller.wait(10.0) != 0
            assert witness.mode is Mode.STOPPED
        witness.close()
    again = AuditLog(log)
    assert again.stop_reason is not None
    if how is signal.SIGKILL:
        assert again.stop_reason == UNFINISHED
    again.close()
