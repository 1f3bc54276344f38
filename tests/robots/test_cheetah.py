import sys
import types
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.cheetah import (
    CHEETAH_DIRECTION,
    CHEETAH_DIRECTION_10MS,
    CHEETAH_VELOCITY,
    CHEETAH_VELOCITY_3,
    DIRECTIONS,
    CheetahBatch,
    Cheetahs,
)
from supple.robots.locomotion import load_gymnasium_model
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract


class TestCheetahDirectionContract(RobotContract):
    near_goal = (1.0,)
    far_goal = (-1.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> CheetahBatch:
        return CheetahBatch(CHEETAH_DIRECTION, rows, episode_steps=episode_steps)


class TestCheetahVelocityContract(RobotContract):
    near_goal = (0.5,)
    far_goal = (2.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> CheetahBatch:
        return CheetahBatch(CHEETAH_VELOCITY, rows, episode_steps=episode_steps, threads=2)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gymnasium.Env[Any, Any]]:
    """Gymnasium's own robot; its rendering module wants `imageio`, which nothing here uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("log"))  # MuJoCo writes a warning about this model to a file here
        patch.setitem(sys.modules, "imageio", types.ModuleType("imageio"))
        env = gymnasium.make("HalfCheetah-v5", ctrl_cost_weight=0.05, max_episode_steps=300)
    yield env
    env.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_is_that_of_gymnasium(published: gymnasium.Env[Any, Any], seed: int) -> None:
    batch, row = CheetahBatch(CHEETAH_DIRECTION, 3), np.array([1])
    expected, _ = published.reset(seed=seed)
    got = batch.reset(row, np.ones((1, 1), np.float32), np.random.default_rng(seed))[0]
    assert np.array_equal(got, expected.astype(np.float32))
    rng = np.random.default_rng(seed)
    for _ in range(200):
        action = rng.uniform(-1.0, 1.0, 6).astype(np.float32)
        expected, reward, *_ = published.step(action)
        step = batch.step(row, action[None])
        assert np.array_equal(step.observation[0], expected.astype(np.float32))
        assert step.reward[0] == pytest.approx(reward, abs=1e-6)


def test_the_model_is_the_one_that_results_were_made_with() -> None:
    model = load_gymnasium_model("half_cheetah")
    assert (model.nq, model.nv, model.nu, model.opt.timestep) == (9, 9, 6, 0.01)
    assert model.body_mass.sum() == pytest.approx(14.0)
    assert model.actuator_gear[:, 0].tolist() == [120, 90, 60, 120, 60, 30]
    assert model.dof_damping.tolist() == [0, 0, 0, 6, 4.5, 3, 4.5, 3, 1.5]


def test_rewards_of_the_tasks() -> None:
    row, action = np.arange(1), np.full((1, 6), 0.5, np.float32)

    def first_reward(batch: CheetahBatch, goal: float) -> float:
        batch.reset(row, np.array([[goal]], np.float32), np.random.default_rng(0))
        return float(batch.step(row, action)[1][0])

    direction, velocity = CheetahBatch(CHEETAH_DIRECTION, 1), CheetahBatch(CHEETAH_VELOCITY, 1)
    # the control cost is .05 * 6 * .25 = .075; forward and backward rewards are +-v minus it
    forward, backward = first_reward(direction, 1.0), first_reward(direction, -1.0)
    assert forward + backward == pytest.approx(-0.15, abs=1e-6)
    speed = (forward - backward) / 2.0
    for goal in (0.0, 1.5):
        assert first_reward(velocity, goal) == pytest.approx(-abs(speed - goal) - 0.075, abs=1e-6)


def test_the_short_control_period_is_one_physics_step() -> None:
    short, long = CheetahBatch(CHEETAH_DIRECTION_10MS, 1), CheetahBatch(CHEETAH_DIRECTION, 1)
    row, goal = np.arange(1), np.ones((1, 1), np.float32)
    action = np.full((1, 6), -0.3, np.float32)
    for batch in (short, long):
        batch.reset(row, goal, np.random.default_rng(0))
    steps = [short.step(row, action) for _ in range(5)]
    whole = long.step(row, action)
    assert (short.spec.control_period, long.spec.control_period) == pytest.approx((0.01, 0.05))
    assert np.array_equal(steps[-1].observation, whole.observation)
    # five rewards per velocity of 10 ms average to the one of 50 ms; the control cost is the same in each
    assert np.mean([step.reward for step in steps]) == pytest.approx(whole.reward[0], abs=1e-5)


def test_threads_do_not_change_a_bit() -> None:
    rows, goals = np.arange(6), np.ones((6, 1), np.float32)
    one, two = CheetahBatch(CHEETAH_DIRECTION, 6), CheetahBatch(CHEETAH_DIRECTION, 6, threads=2)
    first = [batch.reset(rows, goals, np.random.default_rng(0)) for batch in (one, two)]
    assert np.array_equal(*first)
    rng = np.random.default_rng(1)
    for _ in range(20):
        action = rng.uniform(-1.0, 1.0, (6, 6)).astype(np.float32)
        a, b = one.step(rows, action), two.step(rows, action)
        assert np.array_equal(a.observation, b.observation)
        assert np.array_equal(a.reward, b.reward)


def test_wrong_settings_and_goals_are_named() -> None:
    with pytest.raises(ConfigError, match="cheetah_direction rows: expected at least 1, got 0"):
        CheetahBatch(CHEETAH_DIRECTION, 0)
    with pytest.raises(ConfigError, match="cheetah_direction threads: expected at least 1, got 0"):
        CheetahBatch(CHEETAH_DIRECTION, 1, threads=0)
    with pytest.raises(SpecError, match=r"cheetah_direction reset: expected the direction 1 or -1, got 0\.5"):
        CheetahBatch(CHEETAH_DIRECTION, 1).reset(np.arange(1), np.array([[0.5]], np.float32), np.random.default_rng(0))


def test_diverged_physics_is_a_fault_and_a_reset_ends_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warning to a file here
    batch, rows, goals = CheetahBatch(CHEETAH_DIRECTION, 2), np.arange(2), np.ones((2, 1), np.float32)
    batch.reset(rows, goals, np.random.default_rng(0))
    batch._qvel[1] = 1e12
    still = np.zeros((2, 6), np.float32)
    with pytest.raises(RobotFault, match=r"cheetah_direction step: expected finite physics, got .* in row 1; reset"):
        batch.step(rows, still)
    batch.reset(rows, goals, np.random.default_rng(0))
    assert np.isfinite(batch.step(rows, still).observation).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([CHEETAH_VELOCITY, CHEETAH_VELOCITY_3]))
def test_goal_velocities_are_uniform_and_fit_the_robot(seed: int, variant: Any) -> None:
    tasks = Cheetahs(variant=variant, num_train=400, num_test=20, task_seed=seed).tasks()
    goals = goals_of(tasks.train)
    assert not {task.goal for task in tasks.train} & {task.goal for task in tasks.test}
    assert goals.min() >= 0.0
    assert goals.max() <= variant.top_speed
    # U[0, v]: mean v / 2, standard deviation v / sqrt(12), of 400 draws .0144 v; five of those
    assert goals.mean() == pytest.approx(variant.top_speed / 2.0, abs=0.072 * variant.top_speed)


def test_both_directions_are_tasks() -> None:
    batch = CheetahBatch(CHEETAH_DIRECTION, 2)
    assert batch.reset(np.arange(2), DIRECTIONS, np.random.default_rng(0)).shape == (2, 17)
    assert batch.spec.observation.names[:2] == ("rootz", "rooty")
    assert batch.spec.action.axes[1].unit == "90 N m"
    units = [axis.unit for axis in batch.spec.observation.axes]
    assert units == ["m", *["rad"] * 7, "m/s", "m/s", *["rad/s"] * 7]
