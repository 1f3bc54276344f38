"""The contract that every robot must keep, as tests: inherit `RobotContract` and say how the robot is made.

    class TestMyRobot(RobotContract):
        near_goal = (0.3, 0.0)
        far_goal = (9.0, 9.0)

        def make_batch(self, rows, episode_steps):
            return MyRobotBatch(rows, episode_steps=episode_steps)

A single `Robot` joins as `RobotRow(robot)` with `max_rows = 1`. Two flags describe robots unlike the first one: tasks
that nothing ends but the time limit, and rewards that the observation does not tell.
"""

# ruff: noqa: D102 (the name of each test says what it checks)
from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from ..errors import SpecError
from .robot import FirstRow, Float, RobotBatch, RobotRow, Rows, StepRows

EPISODE_STEPS = 25


class RobotContract(ABC):
    """What every `RobotBatch` must do; subclass it in a test module."""

    near_goal: ClassVar[tuple[float, ...]]
    """A goal that the robot reaches by its first step from any start with action 0; where no goal ends an episode, one
    whose rewards differ from the far goal's within 25 random steps."""
    far_goal: ClassVar[tuple[float, ...]]
    """A goal within the spec's limits that does not end an episode of 25 steps."""
    max_rows: ClassVar[int] = 5
    """Rows to test with; 1 for a single robot."""
    ends_at_goal: ClassVar[bool] = True
    """False where every episode lasts until the time limit."""
    rewards_observation: ClassVar[bool] = True
    """False where the reward is not a function of the observation that was reached; `compute_reward` then refuses."""

    @abstractmethod
    def make_batch(self, rows: int, episode_steps: int) -> RobotBatch:
        """The robots under test, with this time limit."""

    def start(self, rows: int, goal: Sequence[float], *, episode_steps: int = EPISODE_STEPS) -> RobotBatch:
        """A batch whose row i is reset from the seed i, by itself."""
        batch = self.make_batch(rows, episode_steps)
        for row in range(rows):
            batch.reset(np.array([row]), np.array([goal], np.float32), np.random.default_rng(row))
        return batch

    def draw_actions(self, batch: RobotBatch, steps: int) -> Float:
        """Valid actions, shape (steps, R, A); row i draws from the seed i, so all batches agree."""
        low, high, choices = batch.spec.action.low, batch.spec.action.high, len(batch.spec.choices)
        generators = [np.random.default_rng(row) for row in range(batch.rows)]
        if choices:
            rows = [rng.integers(choices, size=(steps, 1)).astype(np.float64) for rng in generators]
        else:
            rows = [rng.uniform(low, high, (steps, len(low))) for rng in generators]
        return np.stack(rows, axis=1).astype(np.float32)

    def run(self, batch: RobotBatch, actions: Float) -> list[StepRows]:
        """Steps all rows by `actions`, shape (steps, R, A)."""
        return [batch.step(np.arange(batch.rows), action) for action in actions]

    # What comes out

    def test_arrays_have_the_shapes_and_types_of_the_contract(self) -> None:
        batch = self.make_batch(self.max_rows, EPISODE_STEPS)
        rows = np.arange(self.max_rows)
        goals = np.tile(np.array(self.far_goal, np.float32), (self.max_rows, 1))
        first = batch.reset(rows, goals, np.random.default_rng(0))
        step = batch.step(rows, self.draw_actions(batch, 1)[0])
        assert batch.rows == self.max_rows
        assert batch.spec.episode_steps == EPISODE_STEPS
        for observation in (first, step.observation):
            assert observation.dtype == np.float32
            assert observation.shape == (self.max_rows, *batch.spec.observation.shape)
        assert step.reward.dtype == np.float32
        assert step.terminated.dtype == step.truncated.dtype == np.bool_
        assert step.reward.shape == step.terminated.shape == step.truncated.shape == (self.max_rows,)

    def test_observations_lie_within_the_spec(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        for step in self.run(batch, self.draw_actions(batch, EPISODE_STEPS)):
            batch.spec.observation.require_within(step.observation, "contract")

    def test_returned_arrays_are_the_callers_to_keep(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        actions = self.draw_actions(batch, 3)
        sent = actions.copy()
        rows = np.arange(self.max_rows)
        goals = np.tile(np.array(self.far_goal, np.float32), (self.max_rows, 1))
        kept: list[NDArray[Any]] = [batch.reset(rows, goals, np.random.default_rng(0))]
        kept += [array for step in self.run(batch, actions) for array in step if array is not None]
        copies = [array.copy() for array in kept]
        self.run(batch, actions)
        batch.reset(rows, goals, np.random.default_rng(1))
        assert all(np.array_equal(array, copy) for array, copy in zip(kept, copies, strict=True))
        assert np.array_equal(actions, sent)

    # What goes in

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_action_that_is_not_finite_is_refused_and_moves_nothing(self, value: float) -> None:
        batch, twin = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        actions = self.draw_actions(batch, 2)
        bad = actions[0].copy()
        bad[-1, -1] = value
        with pytest.raises(SpecError, match=f"finite action, got {value} .*'{batch.spec.action.names[-1]}'"):
            batch.step(np.arange(self.max_rows), bad)
        expected, got = self.run(twin, actions), self.run(batch, actions)
        assert all(_equal(a, b) for a, b in zip(expected, got, strict=True))

    def test_action_of_the_wrong_shape_is_refused(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        rows, action = np.arange(self.max_rows), self.draw_actions(batch, 1)[0]
        axes = action.shape[1]
        with pytest.raises(SpecError, match=rf"action with {axes} axes .* shape \({self.max_rows}, {axes + 1}\)"):
            batch.step(rows, np.concatenate([action, action[:, :1]], axis=1))
        with pytest.raises(
            SpecError, match=re.escape(f"shape {(self.max_rows, axes)}, got {(self.max_rows + 1, axes)}")
        ):
            batch.step(rows, np.concatenate([action, action[:1]]))
        with pytest.raises(SpecError, match=re.escape(f"shape {(self.max_rows, axes)}, got {(axes,)}")):
            batch.step(rows, action[0])

    @pytest.mark.parametrize("wrong", [-1.0, 0.5, 1.0])
    def test_a_choice_that_is_not_there_is_refused_and_moves_nothing(self, wrong: float) -> None:
        batch, twin = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        if not batch.spec.choices:
            return
        actions = self.draw_actions(batch, 2)
        bad = actions[0].copy()
        bad[-1] = wrong if wrong < 1.0 else batch.spec.action.high + wrong
        with pytest.raises(SpecError, match=f"one of the {len(batch.spec.choices)} choices .* got {bad[-1, 0]:g};"):
            batch.step(np.arange(self.max_rows), bad)
        expected, got = self.run(twin, actions), self.run(batch, actions)
        assert all(_equal(a, b) for a, b in zip(expected, got, strict=True))

    def test_action_is_clipped_to_the_limits(self) -> None:
        if self.make_batch(1, EPISODE_STEPS).spec.choices:
            return
        batch, twin = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        high: Float = np.tile(batch.spec.action.high, (5, self.max_rows, 1))
        assert np.isfinite(high).all()
        expected, got = self.run(twin, high), self.run(batch, (high + 100.0 * np.abs(high)).astype(np.float32))
        assert all(_equal(a, b) for a, b in zip(expected, got, strict=True))

    def test_rows_that_do_not_increase_or_are_not_there_are_refused(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        for rows in ([0, 0], [1, 0], [-1], [self.max_rows]):
            action = np.zeros((len(rows), *batch.spec.action.shape), np.float32)
            goals = np.tile(np.array(self.far_goal, np.float32), (len(rows), 1))
            with pytest.raises(SpecError, match=re.escape(f"rows below {self.max_rows}, got {rows}")):
                batch.step(np.array(rows), action)
            with pytest.raises(SpecError, match=re.escape(f"rows below {self.max_rows}, got {rows}")):
                batch.reset(np.array(rows), goals, np.random.default_rng(0))

    def test_no_rows_are_no_work(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        none = np.zeros(0, np.int64)
        goals = np.zeros((0, *batch.spec.goal.shape), np.float32)
        assert batch.reset(none, goals, np.random.default_rng(0)).shape == (0, *batch.spec.observation.shape)
        step = batch.step(none, np.zeros((0, *batch.spec.action.shape), np.float32))
        assert step.observation.shape == (0, *batch.spec.observation.shape)
        assert step.reward.shape == step.terminated.shape == step.truncated.shape == (0,)

    def test_goal_that_is_not_a_goal_is_refused(self) -> None:
        batch = self.make_batch(self.max_rows, EPISODE_STEPS)
        rows, rng = np.arange(self.max_rows), np.random.default_rng(0)
        goals = np.tile(np.array(self.far_goal, np.float32), (self.max_rows, 1))
        bad = goals.copy()
        bad[-1, -1] = np.nan
        with pytest.raises(SpecError, match=f"finite goal, got nan .*'{batch.spec.goal.names[-1]}'"):
            batch.reset(rows, bad, rng)
        with pytest.raises(SpecError, match=f"goal with {goals.shape[1]} axes"):
            batch.reset(rows, np.concatenate([goals, goals], axis=1), rng)
        with pytest.raises(SpecError, match=re.escape(f"goal of shape {goals.shape}")):
            batch.reset(rows, np.concatenate([goals, goals]), rng)
        high = batch.spec.goal.high[-1]
        if np.isfinite(high):
            bad[-1, -1] = 2.0 * abs(high) + 1.0
            got = re.escape(f"{bad[-1, -1]:g}")  # 1e+06 has a plus sign
            with pytest.raises(SpecError, match=f"'{batch.spec.goal.names[-1]}' within .*, got {got}"):
                batch.reset(rows, bad, rng)

    # Randomness and independence

    def test_the_same_generator_state_gives_the_same_start(self) -> None:
        batch = self.make_batch(self.max_rows, EPISODE_STEPS)
        rows = np.arange(self.max_rows)
        goals = np.tile(np.array(self.far_goal, np.float32), (self.max_rows, 1))
        first = batch.reset(rows, goals, np.random.default_rng(3))
        self.run(batch, self.draw_actions(batch, 4))
        again = batch.reset(rows, goals, np.random.default_rng(3))
        assert np.array_equal(first, again)

    def test_a_reset_forgets_the_episode_before(self) -> None:
        used, fresh = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        actions = self.draw_actions(used, EPISODE_STEPS)
        self.run(used, actions)
        for row in range(self.max_rows):
            used.reset(np.array([row]), np.array([self.far_goal], np.float32), np.random.default_rng(row))
        expected, got = self.run(fresh, actions), self.run(used, actions)
        assert all(_equal(a, b) for a, b in zip(expected, got, strict=True))

    def test_a_row_does_not_depend_on_the_batch_that_it_is_in(self) -> None:
        batch, alone = self.start(self.max_rows, self.far_goal), self.start(1, self.far_goal)
        actions = self.draw_actions(batch, EPISODE_STEPS)
        for whole, single in zip(self.run(batch, actions), self.run(alone, actions[:, :1]), strict=True):
            assert _equal(_take(whole, [0]), single)

    def test_stepping_subsets_equals_stepping_all(self) -> None:
        together, apart = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        actions = self.draw_actions(together, EPISODE_STEPS)
        halves = (np.arange(0, self.max_rows, 2), np.arange(1, self.max_rows, 2))
        for action in actions:
            expected = together.step(np.arange(self.max_rows), action)
            for rows in halves:
                assert _equal(_take(expected, rows), apart.step(rows, action[rows]))

    def test_a_row_that_is_not_stepped_waits(self) -> None:
        batch, twin = (self.start(self.max_rows, self.far_goal) for _ in range(2))
        actions = self.draw_actions(batch, EPISODE_STEPS)
        rest = np.arange(1, self.max_rows)
        for action in actions:
            batch.step(rest, action[rest])
        for action in actions:  # row 0 now lives through its own episode, time limit included
            expected, got = twin.step(np.arange(self.max_rows), action), batch.step(np.zeros(1, np.int64), action[:1])
            assert _equal(_take(expected, [0]), got)

    # The end of an episode

    def test_truncation_comes_at_the_time_limit_and_not_before(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        steps = self.run(batch, self.draw_actions(batch, EPISODE_STEPS))
        truncated = np.array([step.truncated for step in steps])
        assert not truncated[:-1].any()
        assert truncated[-1].all()
        assert not np.array([step.terminated for step in steps]).any()

    def test_each_row_has_its_own_clock(self) -> None:
        batch = self.start(self.max_rows, self.far_goal)
        actions = self.draw_actions(batch, EPISODE_STEPS)
        self.run(batch, actions[:10])
        batch.reset(np.zeros(1, np.int64), np.array([self.far_goal], np.float32), np.random.default_rng(0))
        truncated = np.array([step.truncated for step in self.run(batch, actions[10:])])
        assert not truncated[:, 0].any()
        assert truncated[-1, 1:].all()

    def test_reaching_the_goal_terminates_and_does_not_truncate(self) -> None:
        if not self.ends_at_goal:
            return
        # with a limit of one step the end of the task and of the time coincide: the task counts
        for episode_steps in (1, EPISODE_STEPS):
            batch = self.start(self.max_rows, self.near_goal, episode_steps=episode_steps)
            far = self.start(self.max_rows, self.far_goal, episode_steps=episode_steps)
            still = np.zeros_like(self.draw_actions(batch, 1))
            step = self.run(batch, still)[0]
            assert step.terminated.all()
            assert not step.truncated.any()
            assert (step.reward > self.run(far, still)[0].reward).all()

    def test_each_row_follows_the_goal_that_it_was_given(self) -> None:
        near, far = (self.start(self.max_rows, goal) for goal in (self.near_goal, self.far_goal))
        mixed, last = self.start(self.max_rows, self.far_goal), self.max_rows - 1
        mixed.reset(np.array([last]), np.array([self.near_goal], np.float32), np.random.default_rng(last))
        rows, rewards = np.arange(self.max_rows), []
        for action in self.draw_actions(mixed, 1 if self.ends_at_goal else EPISODE_STEPS):
            expected, other, got = near.step(rows, action), far.step(rows, action), mixed.step(rows, action)
            assert _equal(_take(got, [last]), _take(expected, [last]))
            assert _equal(_take(got, rows[:last]), _take(other, rows[:last]))
            rewards.append((expected.reward, other.reward))
        assert any(not np.array_equal(a, b) for a, b in rewards)

    def test_each_row_has_its_own_goal(self) -> None:
        if not self.ends_at_goal:
            return
        batch = self.start(self.max_rows, self.far_goal)
        rows, last = np.arange(self.max_rows), np.array([self.max_rows - 1])
        still = np.zeros_like(self.draw_actions(batch, 1)[0])
        goals = np.tile(np.array(self.far_goal, np.float32), (self.max_rows, 1))
        goals[-1] = self.near_goal
        batch.reset(rows, goals, np.random.default_rng(0))
        assert np.array_equal(batch.step(rows, still).terminated, rows == self.max_rows - 1)
        batch.reset(rows, goals[::-1].copy(), np.random.default_rng(0))
        assert np.array_equal(batch.step(rows, still).terminated, rows == 0)
        batch.reset(rows, np.tile(goals[:1], (self.max_rows, 1)), np.random.default_rng(0))
        batch.reset(last, goals[-1:], np.random.default_rng(0))
        assert np.array_equal(batch.step(rows, still).terminated, rows == self.max_rows - 1)

    def test_compute_reward_agrees_with_step_and_is_pure(self) -> None:
        goals = np.array([self.near_goal, self.far_goal, self.near_goal], np.float32)
        if not self.rewards_observation:
            batch = self.make_batch(self.max_rows, EPISODE_STEPS)
            observation = batch.reset(np.zeros(1, np.int64), goals[:1], np.random.default_rng(0))
            with pytest.raises(SpecError, match=f"^{re.escape(batch.spec.name)}.* not a function of the observation"):
                batch.compute_reward(observation, goals)
            return
        for index, goal in enumerate((self.near_goal, self.far_goal)):
            batch, twin = (self.start(self.max_rows, goal) for _ in range(2))
            actions = self.draw_actions(batch, 5)
            for expected, action in zip(self.run(twin, actions), actions, strict=True):
                step = batch.step(np.arange(self.max_rows), action)
                reward, terminated = batch.compute_reward(step.observation, goals)
                assert reward.dtype == np.float32
                assert terminated.dtype == np.bool_
                assert reward.shape == terminated.shape == (self.max_rows, 3)
                assert np.array_equal(reward[:, index], step.reward)
                assert np.array_equal(terminated[:, index], step.terminated)
                assert _equal(expected, step)
        stacked = np.stack([step.observation, step.observation])
        assert np.array_equal(batch.compute_reward(stacked, goals)[0], np.stack([reward, reward]))

    # One robot

    def test_one_row_is_one_robot_and_back(self) -> None:
        batch, single = self.start(1, self.far_goal), FirstRow(self.make_batch(1, EPISODE_STEPS))
        again = RobotRow(FirstRow(self.make_batch(1, EPISODE_STEPS)))
        row, goal = np.zeros(1, np.int64), np.array(self.far_goal, np.float32)
        assert single.spec == again.spec == batch.spec
        first = single.reset(goal, np.random.default_rng(0))
        assert np.array_equal(first, again.reset(row, goal[None], np.random.default_rng(0))[0])
        for action in self.draw_actions(batch, EPISODE_STEPS):
            expected, step = batch.step(row, action), single.step(action[0])
            assert _equal(expected, again.step(row, action))
            assert np.array_equal(step.observation, expected.observation[0])
            assert (step.reward, step.terminated, step.truncated) == tuple(array[0] for array in expected[1:4])
        single.close()
        again.close()
        batch.close()


def _take(step: StepRows, rows: list[int] | Rows) -> StepRows:
    success = None if step.success is None else step.success[rows]
    return StepRows(step.observation[rows], step.reward[rows], step.terminated[rows], step.truncated[rows], success)


def _equal(a: StepRows, b: StepRows) -> bool:
    """Whether two results agree to the bit."""
    return all(
        x is y is None or (x is not None and y is not None and np.array_equal(x, y)) for x, y in zip(a, b, strict=True)
    )
