"""A robot as a `dm_env.Environment`, for whoever has an agent of that kind.

The interface is that of Muldal et al., "dm_env: A Python interface for reinforcement learning environments", 2019.
The goal is the task, so it is not part of the observation: set `goal` before `reset`.

Axes: O observation, A action, G goal.
"""

from __future__ import annotations

import dm_env
import numpy as np
from dm_env import specs
from numpy.typing import ArrayLike

from .robot import Float, Robot
from .spec import ArraySpec


def make_bounded_array(spec: ArraySpec) -> specs.BoundedArray:
    """The dm_env spec of a spec: its limits, float32."""
    return specs.BoundedArray(spec.shape, np.float32, spec.low, spec.high, name=spec.name)


class DmRobot(dm_env.Environment):  # type: ignore[misc] # dm_env ships no types
    """One robot with the interface of dm_env.

    Termination gives a LAST step with discount 0; truncation gives one with discount 1, because the task could go on
    and its value must be bootstrapped. As dm_env asks, `step` after a LAST step, or before any, starts an episode and
    ignores the action.

    Args:
        robot: The robot; it is closed with the view.
        goal: Goal of the coming episodes, shape (G,).
        rng: Source of the reset noise.

    Raises:
        SpecError: The goal has the wrong shape, is not finite or lies outside the limits.
    """

    def __init__(self, robot: Robot, goal: ArrayLike, rng: np.random.Generator) -> None:
        self._robot = robot
        self._rng = rng
        self._running = False
        self.goal = goal

    @property
    def goal(self) -> Float:
        """Goal of the next episode, shape (G,).

        Raises:
            SpecError: It is set to something of the wrong shape, not finite or outside the limits.
        """
        return self._goal.copy()

    @goal.setter
    def goal(self, goal: ArrayLike) -> None:
        self._goal = self._robot.spec.goal.require_one(goal, "robot goal").copy()

    def reset(self) -> dm_env.TimeStep:
        """Starts an episode with the current goal."""
        self._running = True
        return dm_env.restart(self._robot.reset(self._goal, self._rng))

    def step(self, action: Float) -> dm_env.TimeStep:
        """Applies one action, shape (A,), clipped to the limits, for one control period.

        Raises:
            SpecError: The action has the wrong shape or is not finite.
        """
        if not self._running:
            return self.reset()
        step = self._robot.step(action)
        self._running = not (step.terminated or step.truncated)
        if step.terminated:
            return dm_env.termination(step.reward, step.observation)
        if step.truncated:
            return dm_env.truncation(step.reward, step.observation, discount=1.0)
        return dm_env.transition(step.reward, step.observation)

    def observation_spec(self) -> specs.BoundedArray:
        """Shape (O,), float32."""
        return make_bounded_array(self._robot.spec.observation)

    def action_spec(self) -> specs.BoundedArray:
        """Shape (A,), float32."""
        return make_bounded_array(self._robot.spec.action)

    def close(self) -> None:
        """Releases the robot."""
        self._robot.close()
