import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.movement_bandits import (
    MovementBanditBatch,
    draw_movement_bandit_goals,
    make_movement_bandit_tasks,
)
from supple.robots.testing import RobotContract

STAY, RIGHT, LEFT, UP, DOWN = range(5)


class TestMovementBanditContract(RobotContract):
    near_goal = (1.0,)
    far_goal = (0.0,)
    max_rows = 16
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> MovementBanditBatch:
        return MovementBanditBatch(rows, episode_steps=episode_steps)


class TestFourPointsContract(RobotContract):
    near_goal = (2.0,)
    far_goal = (3.0,)
    max_rows = 16
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> MovementBanditBatch:
        return MovementBanditBatch(rows, points=4, episode_steps=episode_steps)


def test_moves_by_hand() -> None:
    batch, row = MovementBanditBatch(1), np.arange(1)
    first = batch.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    assert first[0, :2].tolist() == [0.5, 0.5]  # 200 of 400
    # a move is 20 of 400 = 0.05
    for action, x, y in (
        (RIGHT, 0.55, 0.5),
        (UP, 0.55, 0.55),
        (LEFT, 0.5, 0.55),
        (STAY, 0.5, 0.55),
        (DOWN, 0.5, 0.5),
        (DOWN, 0.5, 0.45),
    ):
        step = batch.step(row, np.array([[action]], np.float32))
        assert np.allclose(step.observation[0, :2], [x, y], atol=1e-6)
        assert np.array_equal(step.observation[0, 2:], first[0, 2:])


def test_the_field_has_no_walls() -> None:
    batch, row = MovementBanditBatch(1), np.arange(1)
    batch.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    for _ in range(15):
        step = batch.step(row, np.array([[LEFT]], np.float32))
    assert step.observation[0, 0] == pytest.approx(-0.25)  # 200 - 15 * 20 = -100


def test_reward_needs_less_than_50_pixels_by_hand() -> None:
    batch = MovementBanditBatch(1)
    goals = np.array([[0.0], [1.0]], np.float32)
    # the first point is 50 / 400 = 0.125 away, not less, exact in float32; the second 30 and 39.6 pixels: 49.7
    observation = np.array([0.5, 0.5, 0.625, 0.5, 0.425, 0.401], np.float32)
    reward, terminated = batch.compute_reward(observation, goals)
    assert reward.tolist() == [0.0, 1.0]
    assert not terminated.any()
    observation[2:4] = observation[4:6] = (0.5, 0.9)
    assert batch.compute_reward(observation, goals)[0].tolist() == [0.0, 0.0]


def test_only_the_reward_tells_which_point_is_correct() -> None:
    batches = [MovementBanditBatch(200) for _ in range(2)]
    rows = np.arange(200)
    for correct, batch in enumerate(batches):
        batch.reset(rows, np.full((200, 1), correct, np.float32), np.random.default_rng(4))
    rng, differs = np.random.default_rng(5), False
    for _ in range(50):
        action = rng.integers(5, size=(200, 1)).astype(np.float32)
        one, other = (batch.step(rows, action) for batch in batches)
        assert np.array_equal(one.observation, other.observation)
        differs |= not np.array_equal(one.reward, other.reward)
    assert differs


def test_points_are_drawn_anew_at_each_reset() -> None:
    batch, rows, rng = MovementBanditBatch(5000), np.arange(5000), np.random.default_rng(0)
    first, second = (batch.reset(rows, np.zeros((5000, 1), np.float32), rng)[:, 2:] for _ in range(2))
    assert (first != second).all()
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.02  # uniform: standard error 0.004
    assert np.abs(first.var(axis=0) - 1 / 12).max() < 0.005


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 100))
def test_goals_and_tasks_are_points(points: int, seed: int) -> None:
    goals = draw_movement_bandit_goals(30, np.random.default_rng(seed), points=points)
    assert set(goals[:, 0]) <= set(range(points))
    tasks = make_movement_bandit_tasks(points - 1, 1, seed, points=points)
    assert sorted(task.goal[0] for task in (*tasks.train, *tasks.test)) == list(range(points))


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^movement-bandit-2 tasks: expected at most 2 tasks, got 2 train \+ 1 test;"
    ):
        make_movement_bandit_tasks(2, 1, 0)
    with pytest.raises(ConfigError, match=r"^movement bandit points: expected at least 2, got 1;"):
        MovementBanditBatch(1, points=1)
    with pytest.raises(SpecError, match=r"reset: expected the index of the correct point as whole numbers, got 0\.5;"):
        MovementBanditBatch(1).reset(np.arange(1), np.full((1, 1), 0.5, np.float32), np.random.default_rng(0))


def test_spec() -> None:
    spec = MovementBanditBatch(1).spec
    assert spec.observation.names == ("x", "y", "point0_x", "point0_y", "point1_x", "point1_y")
    assert (spec.episode_steps, len(spec.choices)) == (50, 5)
