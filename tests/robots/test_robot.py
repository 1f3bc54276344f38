from typing import Any, cast

import numpy as np
import pytest

from supple.errors import RobotFault, SpecError
from supple.meta.testing import PointBatch
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import FirstRow, RobotRow, Step, require_rows


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


class Told:
    """A robot of four axes whose driver says whatever it is given."""

    spec = PointBatch(1).spec

    def __init__(self, **said: Any) -> None:
        usual = Step(np.zeros(2, np.float32), 0.0, terminated=False, truncated=False)
        self.said = usual._replace(**said)

    def reset(self, goal: Any, rng: np.random.Generator) -> Any:
        return self.said.observation

    def step(self, action: Any) -> Step:
        return self.said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"observation": np.zeros((2, 1), np.float32)}, r"an observation of 2 numbers, got float32 of shape \(2, 1\)"),
        ({"observation": np.zeros((1, 2), np.float32)}, r"an observation of 2 numbers, got float32 of shape \(1, 2\)"),
        ({"observation": np.zeros(3, np.float32)}, r"an observation of 2 numbers, got float32 of shape \(3,\)"),
        ({"observation": ["1.0", "2.0"]}, r"an observation of 2 numbers, got <U3 of shape \(2,\)"),
        ({"observation": np.zeros(2, np.bool_)}, "an observation of 2 numbers, got bool"),
        ({"observation": np.array([None, 1.0])}, "an observation of 2 numbers, got object"),
        ({"observation": np.zeros(2, np.complex64)}, "an observation of 2 numbers, got complex64"),
        ({"reward": "1.0"}, "a number as reward, got"),
        ({"reward": None}, "a number as reward, got"),
        ({"reward": np.zeros(1)}, "a number as reward, got"),
        ({"terminated": "no"}, "true or false for terminated, got 'no'"),
        ({"truncated": 2}, "true or false for truncated, got 2"),
        ({"success": np.nan}, "true or false for success, got nan"),
    ],
)
def test_what_numpy_would_make_something_of_is_refused(said: dict[str, Any], message: str) -> None:
    """The safety limits see rows that are arrays of numbers already: a row of texts, or of another shape, is none."""
    row: Any = RobotRow(cast("Any", Told(**said)))
    with pytest.raises(RobotFault, match=f"point step: expected {message}"):
        row.step(np.arange(1), np.zeros((1, 2), np.float32))
    if "observation" in said:
        with pytest.raises(RobotFault, match=f"point reset: expected {message}"):
            row.reset(np.arange(1), np.zeros((1, 2), np.float32), np.random.default_rng(0))


def test_numbers_of_any_type_and_lists_of_them_are_taken() -> None:
    row: Any = RobotRow(cast("Any", Told(observation=[1, 2.5], reward=np.int64(3), terminated=np.True_, success=True)))
    step = row.step(np.arange(1), np.zeros((1, 2), np.float32))
    assert step.observation.tolist() == [[1.0, 2.5]]
    assert (step.reward.tolist(), step.terminated.tolist(), step.success.tolist()) == ([3.0], [True], [True])
