from typing import Any

import numpy as np
import pytest

from supple.errors import ConfigError, SpecError
from supple.robots.array_robots import ArrayRobots, require_whole
from supple.robots.gridnavi import GridNaviBatch
from supple.robots.navigation import POINT_ROBOT, NavigationBatch
from supple.robots.robot import Float, Rows, compute_path_reward

GOALS = np.array([[4.0, 4.0], [2.0, 0.0]], np.float32)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^gridnavi rows: expected at least 1, got 0;"):
        GridNaviBatch(0)


def test_an_episode_that_is_over_is_refused_and_moves_nothing() -> None:
    batch = GridNaviBatch(2, episode_steps=3)
    rows, right = np.arange(2), np.full((2, 1), 2.0, np.float32)
    batch.reset(rows, GOALS, np.random.default_rng(0))
    batch.step(rows[1:], right[1:])
    batch.step(rows[1:], right[1:])
    assert batch.step(rows[1:], right[1:]).truncated.tolist() == [True]
    with pytest.raises(SpecError, match=r"^gridnavi step: expected a running episode, got row 1 after its 3 steps;"):
        batch.step(rows, right)
    step = batch.step(rows[:1], right[:1])  # row 0 has not moved with the refused call
    assert step.observation.tolist() == [[1.0, 0.0]]
    assert not step.truncated.any()


def test_continuous_actions_are_clipped_per_axis() -> None:
    batch = NavigationBatch(POINT_ROBOT, 1)
    start = batch.reset(np.arange(1), np.zeros((1, 2), np.float32), np.random.default_rng(0))
    step = batch.step(np.arange(1), np.array([[-7.0, 0.5]], np.float32))
    assert np.allclose(step.observation - start, [[-0.1, 0.05]], atol=1e-6)  # -7 counts as -1, each times 0.1


def test_require_whole_names_the_first_fraction() -> None:
    assert require_whole(np.array([[2.0, -3.0]], np.float32), "cells", "run").tolist() == [[2, -3]]
    with pytest.raises(SpecError, match=r"^run: expected cells as whole numbers, got 0\.25; round it"):
        require_whole(np.array([[2.0, 0.25], [0.5, 1.0]], np.float32), "cells", "run")


class Odd(ArrayRobots):
    """Robots whose methods give whatever they are told to."""

    def __init__(self, begins: Any = None, moves: Any = None) -> None:
        super().__init__(NavigationBatch(POINT_ROBOT, 1).spec, 3)
        self.begins, self.moves = begins, moves

    def _begin(self, index: Any, goals: Float, rng: np.random.Generator) -> Float:
        return np.zeros((3, 2)) if self.begins is None else self.begins

    def _advance(self, rows: Rows, index: Any, action: Any, elapsed: Rows) -> Any:
        return self.moves

    def compute_reward(self, observation: Float, goals: Float) -> Any:
        return np.zeros((*observation.shape[:-1], len(goals), 1)), np.zeros((*observation.shape[:-1], len(goals)))


HERE, PAID, OVER = np.zeros((3, 2)), np.zeros(3), np.zeros(3, np.bool_)


@pytest.mark.parametrize(
    ("robots", "message"),
    [
        (
            Odd(begins=np.zeros(3)),
            r"reset: expected an observation for each row, of shape \(3, 2\), got float64 \(3,\)",
        ),
        (Odd(begins=np.full((3, 2), "x")), r"reset: expected an observation .*, got <U1 \(3, 2\)"),
        (Odd(moves=(HERE, PAID)), "step: expected an observation, a reward and an end from _advance, got 2; return"),
        (Odd(moves=None), "step: expected an observation, a reward and an end from _advance, got NoneType; return"),
        (Odd(moves=(HERE[:, :1], PAID, OVER)), r"step: expected an observation .*, got float64 \(3, 1\); correct"),
        (
            Odd(moves=(HERE, PAID[:, None], OVER)),
            r"step: expected a reward for each row, of shape \(3,\), got .* \(3, 1",
        ),
        (Odd(moves=(HERE, PAID, False)), r"step: expected an end for each row, of shape \(3,\), got bool \(\)"),
    ],
)
def test_what_a_family_gives_for_other_rows_is_refused_and_never_spread(robots: Odd, message: str) -> None:
    def run() -> None:
        robots.reset(np.arange(3), np.zeros((3, 2), np.float32), np.random.default_rng(0))
        robots.step(np.arange(3), np.zeros((3, 2), np.float32))

    with pytest.raises(SpecError, match=message):
        run()


def test_what_a_family_gives_is_float32() -> None:
    rows, robots = np.arange(3), Odd(moves=(HERE, PAID.astype(np.int64), OVER.astype(np.int64)))
    assert robots.reset(rows, np.zeros((3, 2), np.float32), np.random.default_rng(0)).dtype == np.float32
    step = robots.step(rows, np.zeros((3, 2), np.float32))
    assert [one.dtype for one in (step.observation, step.reward, step.terminated)] == [np.float32, np.float32, np.bool_]


def test_rewards_of_another_shape_are_refused_where_tasks_are_compared() -> None:
    with pytest.raises(SpecError, match=r"compute_reward: expected .* of shape \(1, 5, 4\) .*, got \(1, 5, 4, 1\) and"):
        compute_path_reward(Odd(), np.zeros((1, 5, 2), np.float32), np.zeros((4, 2), np.float32))
