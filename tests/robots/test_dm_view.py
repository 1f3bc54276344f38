from collections.abc import Iterator

import dm_env
import numpy as np
import pytest
from absl.testing import absltest
from dm_env.test_utils import EnvironmentTestMixin

from supple.errors import SpecError
from supple.robots.dm_view import DmRobot
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import FirstRow

NEAR, FAR = (10.0, 10.0), (3.0, 4.0)
STILL = np.zeros(2, np.float32)


def make_env(goal: tuple[float, ...] = FAR, *, episode_steps: int = 20, seed: int = 0) -> DmRobot:
    robot = FirstRow(MazeBatch(make_layout(20, 0), 1, episode_steps=episode_steps))
    return DmRobot(robot, goal, np.random.default_rng(seed))


class TestTruncatingEnvironment(EnvironmentTestMixin, absltest.TestCase):
    """dm_env's own tests, through three ends of an episode."""

    def make_object_under_test(self) -> DmRobot:
        return make_env()

    def make_action_sequence(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(65):
            yield rng.uniform(-1.0, 1.0, 2).astype(np.float32)


class TestTerminatingEnvironment(EnvironmentTestMixin, absltest.TestCase):
    def make_object_under_test(self) -> DmRobot:
        return make_env(NEAR)


def test_truncation_keeps_the_discount() -> None:
    env = make_env(episode_steps=2)
    first, middle, last = env.reset(), env.step(STILL), env.step(STILL)
    assert first == dm_env.TimeStep(dm_env.StepType.FIRST, None, None, first.observation)
    assert (middle.step_type, middle.reward, middle.discount) == (dm_env.StepType.MID, 0.0, 1.0)
    assert (last.step_type, last.reward, last.discount) == (dm_env.StepType.LAST, 0.0, 1.0)


def test_termination_ends_the_discount() -> None:
    env = make_env(NEAR, episode_steps=1)  # the time ends in the same step
    env.reset()
    last = env.step(STILL)
    assert (last.step_type, last.reward, last.discount) == (dm_env.StepType.LAST, 1.0, 0.0)


def test_specs_are_the_robots() -> None:
    env = make_env()
    assert env.observation_spec().shape == (4,)
    assert env.observation_spec().dtype == env.action_spec().dtype == np.float32
    assert env.action_spec().minimum.tolist() == [-1.0, -1.0]
    assert env.action_spec().maximum.tolist() == [1.0, 1.0]
    assert env.action_spec().name == "action"


def test_goal_counts_from_the_next_episode() -> None:
    env = make_env()
    env.reset()
    env.goal = NEAR
    assert not env.step(STILL).last()
    env.reset()
    assert env.step(STILL).last()
    assert env.goal.tolist() == list(NEAR)
    env.goal[:] = 0.0  # a copy: the environment keeps its own
    assert env.goal.tolist() == list(NEAR)


def test_generator_decides_the_start() -> None:
    env, twin, other = make_env(), make_env(), make_env(seed=1)
    first = env.reset().observation
    assert np.array_equal(first, twin.reset().observation)
    assert not np.array_equal(first, other.reset().observation)
    assert not np.array_equal(first, env.reset().observation)


def test_wrong_goals_and_actions_are_named() -> None:
    env = make_env()
    with pytest.raises(SpecError, match=r"robot goal: expected goal with 2 axes \['x', 'y'\], got shape \(3,\)"):
        env.goal = (1.0, 2.0, 3.0)
    with pytest.raises(SpecError, match=r"robot goal: expected goal axis 'x' within -1 \.\. 22, got -9 cell"):
        make_env((-9.0, 1.0))
    env.reset()
    with pytest.raises(SpecError, match=r"expected finite action, got inf 100 N in axis 'force_x'"):
        env.step(np.array([np.inf, 0.0], np.float32))
