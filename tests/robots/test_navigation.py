import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.robots.navigation import (
    NAVIGATION_2D,
    POINT_ROBOT,
    SEMICIRCLE,
    SPARSE_SEMICIRCLE,
    Navigation,
    NavigationBatch,
    PointNavigation,
    draw_navigation_goals,
)
from supple.robots.testing import RobotContract

VARIANTS = [NAVIGATION_2D, POINT_ROBOT, SEMICIRCLE, SPARSE_SEMICIRCLE]


class TestNavigation2DContract(RobotContract):
    near_goal = (0.0, 0.0)
    far_goal = (-0.5, 0.5)

    def make_batch(self, rows: int, episode_steps: int) -> NavigationBatch:
        return NavigationBatch(NAVIGATION_2D, rows, episode_steps=episode_steps)


class TestPointRobotContract(RobotContract):
    near_goal = (0.3, 0.2)
    far_goal = (-1.0, -1.0)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> NavigationBatch:
        return NavigationBatch(POINT_ROBOT, rows, episode_steps=episode_steps)


class TestSparseSemicircleContract(RobotContract):
    near_goal = (0.1, 0.1)
    far_goal = (-1.0, 0.0)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> NavigationBatch:
        return NavigationBatch(SPARSE_SEMICIRCLE, rows, episode_steps=episode_steps)


def run(variant: Navigation, goal: tuple[float, float], actions: list[tuple[float, float]]) -> list[tuple[float, bool]]:
    """Reward and termination of each step."""
    batch, row = NavigationBatch(variant, 1), np.arange(1)
    batch.reset(row, np.array([goal], np.float32), np.random.default_rng(0))
    steps = [batch.step(row, np.array([action], np.float32)) for action in actions]
    return [(float(step.reward[0]), bool(step.terminated[0])) for step in steps]


def test_dense_rewards_and_the_end_by_hand() -> None:
    steps = run(NAVIGATION_2D, (0.3, -0.295), [(0.0, 0.0), (1.0, -1.0), (1.0, -1.0), (1.0, -0.5), (0.0, -0.5)])
    rewards, ends = zip(*steps, strict=True)
    # offsets: (.3, .295), (.2, .195), (.1, .095), (0, .045), (0, -.005), the last within 0.01 on both axes
    assert np.allclose(rewards, [-0.420744, -0.279330, -0.137931, -0.045, -0.005], atol=1e-5)
    assert ends == (False, False, False, False, True)


def test_one_axis_at_the_goal_does_not_end_the_episode() -> None:
    assert run(NAVIGATION_2D, (0.1, 0.2), [(1.0, 1.0)])[0][1] is False
    assert run(NAVIGATION_2D, (0.2, 0.1), [(1.0, 1.0)])[0][1] is False


def test_sparse_rewards_by_hand() -> None:
    goal = (0.6, 0.8)
    rewards = [reward for reward, _ in run(SPARSE_SEMICIRCLE, goal, [(1.0, 1.0)] * 8)]
    # after 6 steps (.6, .6): .2 away, on the rim; after 7 (.7, .7): sqrt(.02) = .1414; after 8 (.8, .8): .2 again
    assert rewards[:5] == [0.0] * 5  # after 5 (.5, .5): sqrt(.01 + .09) = .316
    assert rewards[6] == pytest.approx(1.0 - 0.141421, abs=1e-5)
    assert all(reward == 0.0 or reward == pytest.approx(0.8, abs=1e-5) for reward in (rewards[5], rewards[7]))
    assert run(SPARSE_SEMICIRCLE, (0.5, 0.5), [(1.0, 1.0)] * 5)[-1] == (pytest.approx(1.0, abs=1e-6), False)


def test_dense_rewards_relabel_sparse_episodes() -> None:
    dense, sparse = NavigationBatch(SEMICIRCLE, 8), NavigationBatch(SPARSE_SEMICIRCLE, 8)
    rows, rng = np.arange(8), np.random.default_rng(0)
    goals = draw_navigation_goals(SEMICIRCLE, 8, rng)
    assert np.array_equal(
        dense.reset(rows, goals, np.random.default_rng(1)), sparse.reset(rows, goals, np.random.default_rng(1))
    )
    for _ in range(20):
        action = rng.uniform(-1.0, 1.0, (8, 2)).astype(np.float32)
        one, other = dense.step(rows, action), sparse.step(rows, action)
        relabelled, _ = dense.compute_reward(other.observation, goals)
        assert np.array_equal(np.diagonal(relabelled), one.reward)


def test_starts() -> None:
    rows = np.arange(4000)
    for variant in VARIANTS:
        goals = draw_navigation_goals(variant, 4000, np.random.default_rng(1))
        start = NavigationBatch(variant, 4000).reset(rows, goals, np.random.default_rng(0))
        if variant is POINT_ROBOT:
            # U[-1, 1]: variance 1/3, standard error of the mean 0.009
            assert np.abs(start).max() <= 1.0
            assert np.abs(start.mean(axis=0)).max() < 0.05
            assert np.abs(start.var(axis=0) - 1 / 3).max() < 0.03
        else:
            assert not start.any()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(VARIANTS), st.integers(0, 1000))
def test_goals_lie_where_the_variant_says(variant: Navigation, seed: int) -> None:
    goals = draw_navigation_goals(variant, 50, np.random.default_rng(seed))
    NavigationBatch(variant, 1).spec.goal.require_within(goals, "test")
    if variant.goals == "semicircle":
        assert np.allclose(np.linalg.norm(goals, axis=1), 1.0, atol=1e-6)
        assert (goals[:, 1] >= 0.0).all()


def test_goals_are_uniform() -> None:
    square = draw_navigation_goals(NAVIGATION_2D, 20_000, np.random.default_rng(0))
    assert np.abs(square.var(axis=0) - 1 / 12).max() < 0.003  # U[-.5, .5]
    circle = draw_navigation_goals(SEMICIRCLE, 20_000, np.random.default_rng(0))
    # uniform angles: E[y] = 2 / pi = 0.6366, E[x] = 0
    assert np.allclose(circle.mean(axis=0), [0.0, 0.6366], atol=0.02)


def test_published_numbers() -> None:
    specs = [NavigationBatch(variant, 1).spec for variant in VARIANTS]
    assert [spec.episode_steps for spec in specs] == [100, 20, 20, 20]
    assert [spec.goal.high.tolist() for spec in specs] == [[0.5, 0.5], [1, 1], [1, 1], [1, 1]]
    assert [spec.goal.low.tolist() for spec in specs] == [[-0.5, -0.5], [-1, -1], [-1, 0], [-1, 0]]
    assert [variant.end_extent for variant in VARIANTS] == [0.01, 0.0, 0.0, 0.0]


def test_task_sets_fit_the_robot() -> None:
    for variant in VARIANTS:
        tasks = PointNavigation(variant=variant, num_train=80, num_test=20).tasks()
        assert (len(tasks.train), len(tasks.test)) == (80, 20)
        for task in (*tasks.train, *tasks.test):
            NavigationBatch(variant, 1).spec.goal.require_one(task.goal, "test")
