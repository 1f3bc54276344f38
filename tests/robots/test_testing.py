"""The contract itself: each way to break a robot must be noticed by the test that is there for it."""

from collections.abc import Callable

import numpy as np
import pytest

from supple.robots.gridnavi import GridNaviBatch
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import StepRows
from supple.robots.testing import RobotContract

LAYOUT = make_layout(20, 0)


class Forgiving(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        return super().step(rows, np.nan_to_num(action))


class MovesBeforeItRefuses(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        self._qpos[rows] += 0.01
        return super().step(rows, action)


class Unclipped(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        return (
            super()
            .step(rows, action / np.maximum(1.0, np.abs(action) / 2.0))
            ._replace(reward=np.float32(np.abs(action).max(axis=1) > 1.0))
        )


class Double(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        step = super().step(rows, action)
        return step._replace(reward=step.reward.astype(np.float64))


class SharesItsBuffer(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        step = super().step(rows, action)
        self._buffer = getattr(self, "_buffer", np.zeros((self.rows, 4), np.float32))
        self._buffer[rows] = step.observation
        return step._replace(observation=self._buffer if len(rows) == self.rows else self._buffer[rows])


class TerminatesAtTheTimeLimit(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        step = super().step(rows, action)
        return step._replace(terminated=step.terminated | step.truncated, truncated=np.zeros_like(step.truncated))


class TruncatesWithTheGoal(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        step = super().step(rows, action)
        return step._replace(truncated=self._elapsed[rows] >= self.spec.episode_steps)


class EndsOneStepEarly(MazeBatch):
    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        observation = super().reset(rows, goals, rng)
        self._elapsed[rows] = 1
        return observation


class ForgetsItsClock(MazeBatch):
    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        elapsed = self._elapsed.copy()
        observation = super().reset(rows, goals, rng)
        self._elapsed[:] = elapsed
        return observation


class OwnNoise(MazeBatch):
    noise = np.random.default_rng(0)

    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return super().reset(rows, goals, self.noise)


class StepsEverybody(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        others = np.setdiff1d(np.arange(self.rows), rows)
        if len(others) and len(rows):
            super().step(others, np.zeros((len(others), 2), np.float32))
        return super().step(rows, action)


class DependsOnItsNeighbours(MazeBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        return super().step(rows, action - 0.01 * action.sum(axis=0))


class AnotherReward(MazeBatch):
    def compute_reward(self, observation: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reward, terminated = super().compute_reward(observation, goals)
        return np.float32(1.0) - reward, terminated


class OneGoalForAll(MazeBatch):
    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        observation = super().reset(rows, goals, rng)
        if len(rows):
            self._goal[:] = goals[-1]
        return observation


class AnyGoal(MazeBatch):
    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return super().reset(rows, np.clip(np.nan_to_num(goals), -1.0, 22.0), rng)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Forgiving, lambda c: c.test_action_that_is_not_finite_is_refused_and_moves_nothing(np.nan)),
        (MovesBeforeItRefuses, lambda c: c.test_action_that_is_not_finite_is_refused_and_moves_nothing(np.nan)),
        (Unclipped, lambda c: c.test_action_is_clipped_to_the_limits()),
        (Double, lambda c: c.test_arrays_have_the_shapes_and_types_of_the_contract()),
        (SharesItsBuffer, lambda c: c.test_returned_arrays_are_the_callers_to_keep()),
        (TerminatesAtTheTimeLimit, lambda c: c.test_truncation_comes_at_the_time_limit_and_not_before()),
        (TruncatesWithTheGoal, lambda c: c.test_reaching_the_goal_terminates_and_does_not_truncate()),
        (EndsOneStepEarly, lambda c: c.test_truncation_comes_at_the_time_limit_and_not_before()),
        (ForgetsItsClock, lambda c: c.test_each_row_has_its_own_clock()),
        (ForgetsItsClock, lambda c: c.test_a_reset_forgets_the_episode_before()),
        (OwnNoise, lambda c: c.test_the_same_generator_state_gives_the_same_start()),
        (StepsEverybody, lambda c: c.test_a_row_that_is_not_stepped_waits()),
        (StepsEverybody, lambda c: c.test_stepping_subsets_equals_stepping_all()),
        (DependsOnItsNeighbours, lambda c: c.test_a_row_does_not_depend_on_the_batch_that_it_is_in()),
        (AnotherReward, lambda c: c.test_compute_reward_agrees_with_step_and_is_pure()),
        (OneGoalForAll, lambda c: c.test_each_row_has_its_own_goal()),
        (AnyGoal, lambda c: c.test_goal_that_is_not_a_goal_is_refused()),
    ],
)
def test_contract_notices_a_broken_robot(broken: type[MazeBatch], test: Callable[[RobotContract], None]) -> None:
    class Contract(RobotContract):
        near_goal = (10.0, 10.0)
        far_goal = (3.0, 4.0)

        def make_batch(self, rows: int, episode_steps: int) -> MazeBatch:
            return broken(LAYOUT, rows, episode_steps=episode_steps)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(Contract())


class RoundsChoices(GridNaviBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        return super().step(rows, np.trunc(action))


class ClipsChoices(GridNaviBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        inside = np.clip(action, 0.0, 4.0)
        return super().step(rows, np.where(np.isfinite(action), inside, action))


class OneGridGoalForAll(GridNaviBatch):
    def reset(self, rows: np.ndarray, goals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        observation = super().reset(rows, goals, rng)
        self._goal[:] = goals[-1]
        return observation


class NoGoalForAnyone(GridNaviBatch):
    def step(self, rows: np.ndarray, action: np.ndarray) -> StepRows:
        step = super().step(rows, action)
        return step._replace(reward=np.full_like(step.reward, -0.1))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (RoundsChoices, lambda c: c.test_a_choice_that_is_not_there_is_refused_and_moves_nothing(0.5)),
        (ClipsChoices, lambda c: c.test_a_choice_that_is_not_there_is_refused_and_moves_nothing(-1.0)),
        (ClipsChoices, lambda c: c.test_a_choice_that_is_not_there_is_refused_and_moves_nothing(1.0)),
        (OneGridGoalForAll, lambda c: c.test_each_row_follows_the_goal_that_it_was_given()),
        (NoGoalForAnyone, lambda c: c.test_each_row_follows_the_goal_that_it_was_given()),
        (NoGoalForAnyone, lambda c: c.test_compute_reward_agrees_with_step_and_is_pure()),
    ],
)
def test_contract_notices_a_broken_choosing_robot(
    broken: type[GridNaviBatch], test: Callable[[RobotContract], None]
) -> None:
    class Contract(RobotContract):
        near_goal = (0.0, 1.0)
        far_goal = (4.0, 4.0)
        ends_at_goal = False

        def make_batch(self, rows: int, episode_steps: int) -> GridNaviBatch:
            return broken(rows, episode_steps=episode_steps)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(Contract())


def test_contract_wants_a_refusal_where_the_reward_cannot_be_computed() -> None:
    class Contract(RobotContract):
        near_goal = (0.0, 1.0)
        far_goal = (4.0, 4.0)
        rewards_observation = False

        def make_batch(self, rows: int, episode_steps: int) -> GridNaviBatch:
            return GridNaviBatch(rows, episode_steps=episode_steps)

    with pytest.raises(pytest.fail.Exception):
        Contract().test_compute_reward_agrees_with_step_and_is_pure()
