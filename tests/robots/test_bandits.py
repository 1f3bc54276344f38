import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from supple.errors import SpecError
from supple.robots.array_robots import ArrayRobots
from supple.robots.bandits import (
    BernoulliBanditBatch,
    GaussianBanditBatch,
    draw_bernoulli_goals,
    draw_gaussian_goals,
    make_bernoulli_bandit_tasks,
    make_gaussian_bandit_tasks,
)
from supple.robots.testing import RobotContract


class TestBernoulliContract(RobotContract):
    near_goal = (0.9, 0.1, 0.5)
    far_goal = (0.1, 0.9, 0.4)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> BernoulliBanditBatch:
        return BernoulliBanditBatch(rows, arms=3, episode_steps=episode_steps)


class TestGaussianContract(RobotContract):
    near_goal = (1.0, -1.0)
    far_goal = (-1.0, 1.0)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GaussianBanditBatch:
        return GaussianBanditBatch(rows, arms=2, episode_steps=episode_steps)


def pull(batch: ArrayRobots, goals: np.ndarray, arms: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rewards, shape (T, R), of pulling `arms`, shape (T, R)."""
    rows = np.arange(batch.rows)
    batch.reset(rows, goals.astype(np.float32), np.random.default_rng(seed))
    return np.array([batch.step(rows, one[:, None].astype(np.float32)).reward for one in arms])


def test_certain_arms_are_certain() -> None:
    goals = np.tile([0.0, 1.0], (50, 1))
    arms = np.random.default_rng(1).integers(2, size=(100, 50))
    assert np.array_equal(pull(BernoulliBanditBatch(50, arms=2), goals, arms), arms)


def test_each_arm_pays_as_often_as_its_goal_says() -> None:
    goals = np.tile([0.2, 0.5, 0.9], (400, 1))
    for arm, probability in enumerate((0.2, 0.5, 0.9)):
        rewards = pull(BernoulliBanditBatch(400, arms=3), goals, np.full((100, 400), arm), seed=arm)
        assert set(np.unique(rewards)) == {0.0, 1.0}
        # 40 000 pulls: the standard deviation of the mean is at most 0.5 / 200 = 0.0025
        assert abs(rewards.mean() - probability) < 0.01
        # pulls are independent in time: neighbours are not correlated
        assert abs(np.corrcoef(rewards[:-1].ravel(), rewards[1:].ravel())[0, 1]) < 0.02


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)), st.integers(0, 1000))
def test_a_better_arm_pays_whenever_a_worse_one_does(goals: np.ndarray, seed: int) -> None:
    rewards = [pull(BernoulliBanditBatch(4, arms=3), goals, np.full((20, 4), arm), seed) for arm in range(3)]
    order = goals.argsort(axis=1)
    for row in range(4):
        low, middle, high = (rewards[arm][:, row] for arm in order[row])
        assert (low <= middle).all()
        assert (middle <= high).all()


def test_gaussian_arms_pay_their_mean_and_unit_variance() -> None:
    goals = np.tile([-2.0, 3.0], (400, 1))
    low, high = (pull(GaussianBanditBatch(400, arms=2), goals, np.full((100, 400), arm)) for arm in range(2))
    # the noise is drawn at the reset, whichever arm is pulled: 3 - (-2) = 5 at every pull
    assert np.allclose(high - low, 5.0, atol=1e-5)
    noise = np.random.default_rng(0).standard_normal((400, 100), np.float32)
    assert np.allclose(low, noise.T - 2.0, atol=1e-6)  # the first numbers of the reset's generator, with their sign
    assert abs(low.mean() + 2.0) < 0.02  # 40 000 pulls: standard deviation 0.005
    assert abs(low.std() - 1.0) < 0.02


def test_observation_tells_nothing() -> None:
    batch, rows = BernoulliBanditBatch(6, arms=2), np.arange(6)
    first = batch.reset(rows, draw_bernoulli_goals(6, np.random.default_rng(0), arms=2), np.random.default_rng(0))
    assert not first.any()
    assert not batch.step(rows, np.ones((6, 1), np.float32)).observation.any()


def test_spec_names_the_arms() -> None:
    spec = BernoulliBanditBatch(1).spec
    assert (spec.choices, spec.episode_steps) == (("arm0", "arm1", "arm2", "arm3", "arm4"), 100)
    assert spec.goal.names[0] == "probability0"
    with pytest.raises(SpecError, match=r"two or more distinct names, got \['arm0'\]"):
        BernoulliBanditBatch(1, arms=1)


def test_goals_follow_their_distributions() -> None:
    uniform = draw_bernoulli_goals(20_000, np.random.default_rng(0), arms=2)
    # U[0, 1]: mean 1/2, variance 1/12
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(uniform.var() - 1 / 12) < 0.002
    normal = draw_gaussian_goals(20_000, np.random.default_rng(0), arms=2)
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1.0) < 0.02


def test_task_sets_fit_their_robots() -> None:
    for tasks, batch in (
        (make_bernoulli_bandit_tasks(30, 20, 3, arms=4), BernoulliBanditBatch(1, arms=4)),
        (make_gaussian_bandit_tasks(30, 20, 3, arms=4), GaussianBanditBatch(1, arms=4)),
    ):
        assert (len(tasks.train), len(tasks.test)) == (30, 20)
        for task in (*tasks.train, *tasks.test):
            batch.spec.goal.require_one(task.goal, "test")
