"""What `supple ingest` takes of a robot: names, units, limits, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import open_store, write_d4rl
from supple.pipeline.cli import main
from supple.robots.maze_family import Maze
from supple.robots.spec import RobotSpec

MAZE = Maze().spec()
Arrays = dict[str, np.ndarray[Any, Any]]


def make_arrays(rows: int = 40) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.uniform(0.0, 9.0, (rows, 4)).astype(np.float32),
        "actions": rng.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32),
        "rewards": np.zeros(rows, np.float32),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": np.arange(rows) % 20 == 19,
    }


def ingest(folder: Path, arrays: Arrays, *options: str, robot: RobotSpec | None = None) -> int:
    write_d4rl(folder / "log.hdf5", arrays, robot)
    return main(["ingest", str(folder / "log.hdf5"), "--out", str(folder / "out"), *options])


def refusal(capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The one line with which the command ended, which left nothing."""
    assert not list(folder.glob("out*"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("supple: ")]
    return line


def test_the_store_carries_the_robot_that_was_named(tmp_path: Path) -> None:
    assert ingest(tmp_path, make_arrays(), "--robot", "maze", "--robot.layout-size", "12") == 0
    schema = open_store(tmp_path / "out" / "store").schema
    assert schema.robot == Maze(layout_size=12).spec()
    assert schema.feature("action").axes == ("force_x", "force_y")
    assert schema.control_period == MAZE.control_period


def test_the_store_carries_the_robot_that_the_file_names(tmp_path: Path) -> None:
    arm = replace(MAZE, name="arm")
    assert ingest(tmp_path, make_arrays(), robot=arm) == 0
    assert open_store(tmp_path / "out" / "store").schema.robot == arm


def test_without_a_robot_the_data_stay_as_they_are_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = make_arrays()
    arrays["actions"] *= 1000.0
    assert ingest(tmp_path, arrays) == 0
    assert "nobody says which robot this is from: names and units are those of the source" in capsys.readouterr().err
    store = open_store(tmp_path / "out" / "store")
    assert store.schema.robot is None
    assert store.schema.feature("action").units == ("", "")
    np.testing.assert_array_equal(store.load("action"), arrays["actions"])


@pytest.mark.parametrize(
    ("name", "row", "axis", "value", "message"),
    [
        ("actions", 21, 1, 100.0, "action axis 'force_y' within -1 .. 1 (unit: 100 N), got 100 in row 21 (episode 1)"),
        ("observations", 3, 0, 90.0, "observation axis 'x' within -1 .. 22 (unit: cell), got 90 in row 3 (episode 0)"),
    ],
)
def test_values_beyond_the_robots_limits_are_refused(
    name: str, row: int, axis: int, value: float, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = make_arrays()
    arrays[name][row, axis] = value
    assert ingest(tmp_path, arrays, "--robot", "maze") == 2
    assert f"expected {message}; choose the robot" in refusal(capsys, tmp_path)


def test_actions_are_clipped_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = make_arrays()
    arrays["actions"][[4, 30], 0] = 5.0
    assert ingest(tmp_path, arrays, "--robot", "maze", "--clip-actions") == 0
    assert "clipped the actions of 2 of 40 steps" in capsys.readouterr().err
    action = open_store(tmp_path / "out" / "store").load("action")
    np.testing.assert_array_equal(action, np.clip(arrays["actions"], -1.0, 1.0))


def test_clipping_needs_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(tmp_path, make_arrays(), "--clip-actions") == 2
    assert "--clip-actions: expected a robot whose limits are known, got none" in refusal(capsys, tmp_path)


@pytest.mark.parametrize(
    ("robot", "message"),
    [
        (replace(MAZE, name="arm"), "expected data of robot 'maze', got data of robot 'arm'"),
        (replace(MAZE, control_period=0.05), "expected control_period 0.01 s, got 0.05 s"),
        (Maze(layout_size=10).spec(), "expected observation axis 'x' with high 22.0 cell, got 12.0"),
    ],
)
def test_a_file_of_another_robot_is_refused(
    robot: RobotSpec, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ingest(tmp_path, make_arrays(), "--robot", "maze", robot=robot) == 2
    assert message in refusal(capsys, tmp_path)


def test_a_spec_in_a_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import h5py

    write_d4rl(tmp_path / "log.hdf5", make_arrays())
    for value in (np.bytes_(b"{"), np.bytes_(json.dumps({"name": "arm"})), np.arange(3.0), np.float32(2.0)):
        with h5py.File(tmp_path / "log.hdf5", "a") as file:
            file.pop("metadata", None)
            file.create_dataset("metadata/robot_spec", data=value)
        assert main(["ingest", str(tmp_path / "log.hdf5"), "--out", str(tmp_path / "out")]) == 2
        assert "log.hdf5: metadata/robot_spec: expected" in refusal(capsys, tmp_path)
