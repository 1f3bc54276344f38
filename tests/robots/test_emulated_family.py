"""The emulated robot as a family: one real-time row, which `supple adapt` treats like hardware."""

import time
from pathlib import Path

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import ConfigError, RobotFault
from supple.pipeline.robots import find_robot
from supple.robots.emulated_robot import Connection, Emulation, Mode, emulate, make_emulated_family
from supple.robots.family import Plays
from supple.robots.hardware_family import HardwareFamily
from supple.robots.maze_family import Maze

EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated.py"
MAZE = Maze(layout_size=8, num_train_tasks=4, num_test_tasks=2)


@pytest.mark.parametrize("name", ["MAZE", "ARM"])
def test_the_example_has_the_contract_and_the_tasks_of_what_it_emulates(name: str) -> None:
    choice = find_robot(f"{EXAMPLE}:{name}")
    family = choice.family
    assert isinstance(family, HardwareFamily)
    assert not isinstance(family, Plays)
    assert isinstance(family.connect, Connection)
    simulated = family.connect.family
    assert family.spec() == simulated.spec()
    for mine, theirs in zip(family.tasks().test, simulated.tasks().test, strict=True):
        assert mine.goal == theirs.goal
    assert choice.record["family"] == f"emulated.py:{name}"


def test_one_row_moves_in_real_time_and_who_is_not_there_is_named(tmp_path: Path) -> None:
    family = make_emulated_family(MAZE, str(tmp_path / "robot"))
    assert family.name == f"emulated-{MAZE.name}"
    with pytest.raises(ConfigError, match=f"{family.name} rows: expected 1, got 2; there is one real robot"):
        family.make(2)
    row, rows = family.make(1), np.arange(1)
    goals = np.array([MAZE.tasks().train[0].goal], np.float32)
    with emulate(MAZE, str(tmp_path / "robot"), Emulation(stop_periods=200)):
        first = row.reset(rows, goals, np.random.default_rng(0))
        for _ in range(20):
            step = row.step(rows, np.ones((1, 2), np.float32))
        assert step.success is not None
        assert np.linalg.norm(step.observation[0, :2] - first[0, :2]) > 0.01
        # an episode that somebody else ends: the robot does not know, and stops when it hears nothing for 2 s
        log = AuditLog(tmp_path / "audit.jsonl")
        safe = SafetyLimits(row, log)
        safe.reset(rows, goals, np.random.default_rng(0))
        safe.step(rows, np.ones((1, 2), np.float32))
        safe.hold()
        time.sleep(2.5)
        assert row._robot._robot.mode is Mode.HOLDING
        safe.reset(rows, goals, np.random.default_rng(0))
        safe.step(rows, np.ones((1, 2), np.float32))
        np.testing.assert_array_equal(row.sent, [[1.0, 1.0]])
        safe.hold()
        log.close()
        row.stop("enough")
        with pytest.raises(RobotFault, match="stopped"):
            row.reset(rows, goals, np.random.default_rng(0))
    row.close()
