import sys
import types
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import SpecError
from supple.robots.ant import ANT_DIRECTION, ANT_GOAL, Ant, AntBatch, Ants, draw_ant_goals
from supple.robots.locomotion import load_gymnasium_model
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract


class TestAntDirectionContract(RobotContract):
    near_goal = (1.0, 0.0)
    far_goal = (0.0, -1.0)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> AntBatch:
        return AntBatch(ANT_DIRECTION, rows, episode_steps=episode_steps)


class TestAntGoalContract(RobotContract):
    near_goal = (0.1, 0.0)
    far_goal = (-2.0, 1.5)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> AntBatch:
        return AntBatch(ANT_GOAL, rows, episode_steps=episode_steps, threads=2)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gymnasium.Env[Any, Any]]:
    """Gymnasium's own robot; its rendering module wants `imageio`, which nothing here uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("log"))  # MuJoCo writes a warning about this model to a file here
        patch.setitem(sys.modules, "imageio", types.ModuleType("imageio"))
        env = gymnasium.make("Ant-v5", include_cfrc_ext_in_observation=False, contact_cost_weight=0.0)
    yield env
    env.close()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_step_is_that_of_gymnasium(published: gymnasium.Env[Any, Any], seed: int) -> None:
    batch, row = AntBatch(ANT_DIRECTION, 3), np.array([1])
    expected, _ = published.reset(seed=seed)
    got = batch.reset(row, np.array([[1.0, 0.0]], np.float32), np.random.default_rng(seed))[0]
    assert np.array_equal(got, expected.astype(np.float32))
    rng = np.random.default_rng(seed)
    for _ in range(100):
        action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
        expected, reward, terminated, _, _ = published.step(action)
        step = batch.step(row, action[None])
        assert np.array_equal(step.observation[0], expected.astype(np.float32))
        assert step.reward[0] == pytest.approx(reward, abs=1e-5)
        assert step.terminated[0] == terminated
        if terminated:
            break


def test_an_ant_that_is_too_high_or_too_low_ends_one_task_and_not_the_other() -> None:
    row, still = np.arange(1), np.zeros((1, 8), np.float32)
    # from 3 m below the ground it is pushed up to a height of 0.09 m
    for height, healthy in ((-3.0, False), (0.6, True), (1.3, False)):
        ends, rewards = [], []
        for variant, goal in ((ANT_DIRECTION, (1.0, 0.0)), (ANT_GOAL, (0.0, 0.0))):
            batch = AntBatch(variant, 1)
            batch.reset(row, np.array([goal], np.float32), np.random.default_rng(0))
            qpos = batch._qpos.copy()
            qpos[:, 2], qpos[:, 3:7] = height, (1.0, 0.0, 0.0, 0.0)
            batch._place(slice(None), qpos, np.zeros_like(batch._qvel))
            step = batch.step(row, still)
            ends.append(bool(step.terminated[0]))
            rewards.append(float(step.reward[0]))
        assert ends == [not healthy, False]
        assert (rewards[0] > 0.7) == healthy  # 1 for being upright


def test_reward_of_a_goal_by_hand() -> None:
    batch, row = AntBatch(ANT_GOAL, 1), np.arange(1)
    still, goal = np.full((1, 8), 0.25, np.float32), np.array([[1.0, -2.0]], np.float32)
    batch.reset(row, goal, np.random.default_rng(0))
    step = batch.step(row, still)
    x, y = step.observation[0, :2]
    # |x - 1| + |y + 2|, and 0.1 * 8 * .0625 = .05 of control; the torso's place is up to one physics step old
    assert step.reward[0] == pytest.approx(-abs(x - 1.0) - abs(y + 2.0) - 0.05, abs=0.02)
    assert abs(step.reward[0] + 3.05) < 0.2


def test_direction_reward_is_linear_in_the_direction() -> None:
    batch, row, action = AntBatch(ANT_DIRECTION, 1), np.arange(1), np.full((1, 8), 0.5, np.float32)

    def first_reward(*goal: float) -> float:
        batch.reset(row, np.array([goal], np.float32), np.random.default_rng(3))
        return float(batch.step(row, action)[1][0])

    # 1 for being upright and .5 * 8 * .25 = 1 of control cancel: what is left is the velocity along the direction
    along_x, along_y = first_reward(1.0, 0.0), first_reward(0.0, 1.0)
    assert first_reward(-1.0, 0.0) == pytest.approx(-along_x, abs=1e-5)
    assert first_reward(0.6, 0.8) == pytest.approx(0.6 * along_x + 0.8 * along_y, abs=1e-5)


def test_the_model_is_the_one_that_results_were_made_with() -> None:
    model = load_gymnasium_model("ant")
    assert (model.nq, model.nv, model.nu, model.opt.timestep) == (15, 14, 8, 0.01)
    assert model.actuator_gear[:, 0].tolist() == [150.0] * 8
    assert model.body_mass.sum() == pytest.approx(0.91088, abs=1e-5)


def test_wrong_goals_are_named() -> None:
    row, rng = np.arange(1), np.random.default_rng(0)
    with pytest.raises(SpecError, match=r"ant_direction reset: expected a direction of length 1, got \[0\.5, 0\.5\]"):
        AntBatch(ANT_DIRECTION, 1).reset(row, np.array([[0.5, 0.5]], np.float32), rng)
    with pytest.raises(SpecError, match=r"ant_goal reset: expected a place within 3 m, got \[3\.0, 3\.0\]"):
        AntBatch(ANT_GOAL, 1).reset(row, np.array([[3.0, 3.0]], np.float32), rng)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([ANT_DIRECTION, ANT_GOAL]))
def test_goals_fit_the_robot_and_splits_are_disjoint(seed: int, variant: Ant) -> None:
    tasks = Ants(variant=variant, num_train=30, num_test=10, task_seed=seed).tasks()
    assert not {task.goal for task in tasks.train} & {task.goal for task in tasks.test}
    goals = goals_of((*tasks.train, *tasks.test))
    assert AntBatch(variant, 40).reset(np.arange(40), goals, np.random.default_rng(0)).shape[0] == 40


def test_goals_are_uniform() -> None:
    length = np.linalg.norm(draw_ant_goals(ANT_GOAL, 20_000, np.random.default_rng(0)), axis=1)
    # uniform in a disc of radius 3: E[r] = 2, a quarter lies within 1.5
    assert length.mean() == pytest.approx(2.0, abs=0.02)
    assert (length < 1.5).mean() == pytest.approx(0.25, abs=0.02)
    directions = draw_ant_goals(ANT_DIRECTION, 20_000, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(directions, axis=1), 1.0, atol=1e-6)
    assert np.abs(directions.mean(axis=0)).max() < 0.02


def test_only_the_goal_task_shows_the_place() -> None:
    direction, goal = AntBatch(ANT_DIRECTION, 1).spec.observation, AntBatch(ANT_GOAL, 1).spec.observation
    assert (len(direction.axes), len(goal.axes)) == (27, 29)
    assert (direction.names[0], goal.names[:3]) == ("root_z", ("root_x", "root_y", "root_z"))
