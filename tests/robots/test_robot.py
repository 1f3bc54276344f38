import numpy as np
import pytest

from supple.errors import SpecError
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import FirstRow, RobotRow, require_rows


@pytest.mark.parametrize("rows", [[], [0], [0, 1, 2], [1, 4]])
def test_increasing_rows_pass(rows: list[int]) -> None:
    got = require_rows(np.array(rows, np.int32), 5, "test")
    assert got.dtype == np.int64
    assert got.tolist() == rows


@pytest.mark.parametrize("rows", [[1, 0], [2, 2], [-1, 0], [0, 5], [[0, 1]]])
def test_other_rows_are_named(rows: list[int]) -> None:
    with pytest.raises(SpecError, match=r"^test: expected strictly increasing rows below 5, got \[.*\]; sort them"):
        require_rows(np.array(rows), 5, "test")


def test_first_row_leaves_the_other_rows_alone() -> None:
    batch = MazeBatch(make_layout(20, 0), 3)
    goals = np.full((3, 2), 1.0, np.float32)
    observation = batch.reset(np.arange(3), goals, np.random.default_rng(0))
    robot = FirstRow(batch)
    for _ in range(10):
        robot.step(np.ones(2, np.float32))
    others = batch.step(np.array([1, 2]), np.zeros((2, 2), np.float32)).observation
    assert np.abs(others - observation[1:]).max() < 0.01


def test_single_robot_types_and_reward() -> None:
    robot = FirstRow(MazeBatch(make_layout(20, 0), 1))
    robot.reset(np.array([10.0, 10.0]), np.random.default_rng(0))
    step = robot.step([0.0, 0.0])
    assert (type(step.reward), type(step.terminated), type(step.truncated)) == (float, bool, bool)
    assert (step.reward, step.terminated, step.truncated) == (1.0, True, False)
    assert robot.compute_reward(step.observation, np.array([[10.0, 10.0], [1.0, 1.0]]))[0].tolist() == [1.0, 0.0]
    assert RobotRow(robot).compute_reward(step.observation[None], np.array([[1.0, 1.0]]))[1].tolist() == [[False]]


def test_single_robot_names_what_is_wrong() -> None:
    robot = FirstRow(MazeBatch(make_layout(20, 0), 1))
    with pytest.raises(SpecError, match=r"expected goal with 2 axes \['x', 'y'\], got shape \(1, 3\)"):
        robot.reset(np.zeros(3, np.float32), np.random.default_rng(0))
    with pytest.raises(SpecError, match=r"expected action with 2 axes .* got shape \(1, 1\)"):
        robot.step(np.zeros(1, np.float32))
    row = RobotRow(robot)
    with pytest.raises(SpecError, match=r"robot step: expected strictly increasing rows below 1, got \[0, 1\]"):
        row.step(np.arange(2), np.zeros((2, 2), np.float32))
