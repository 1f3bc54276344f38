"""A robot as a `gymnasium.Env`, for whoever has an agent of that kind.

The interface is Gymnasium's (Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments",
2024). The goal is the task, so it is not part of the observation: it is an option of `reset`.

Axes: O observation, A action, G goal.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from ..errors import SpecError
from .robot import Float, Robot
from .spec import ArraySpec, RobotSpec


def make_box(spec: ArraySpec) -> Box[np.float32]:
    """The Gymnasium space of a spec: its limits, float32."""
    return Box(spec.low, spec.high, dtype=np.float32)


class GymnasiumRobot(gymnasium.Env[Float, Float]):
    """One robot with the interface of Gymnasium.

    `terminated` and `truncated` are the robot's own: the first ends the task, the second only the episode. After
    either, and before the first `reset`, `step` is refused.

    Args:
        robot: The robot; it is closed with the view.
        goal: Goal of every episode whose `reset` names no other, shape (G,).

    Raises:
        SpecError: The goal has the wrong shape, is not finite or lies outside the limits.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 Gymnasium declares it as an instance attribute

    def __init__(self, robot: Robot, goal: ArrayLike) -> None:
        self._robot = robot
        self._goal = robot.spec.goal.require_one(goal, "robot goal").copy()
        self._running = False
        self.observation_space = make_box(robot.spec.observation)
        self.action_space = make_box(robot.spec.action)

    @property
    def robot_spec(self) -> RobotSpec:
        """The robot's contract; `spec` is Gymnasium's own."""
        return self._robot.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Float, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seeds `np_random`, the source of the reset noise; None goes on with it.
            options: `{"goal": (G,)}` sets the goal of this episode.

        Returns:
            Observation, shape (O,), and `{"goal": (G,)}`.

        Raises:
            SpecError: An option is unknown, or the goal has the wrong shape, is not finite or lies outside the limits.
        """
        super().reset(seed=seed)
        unknown = sorted(set(options or {}) - {"goal"})
        if unknown:
            raise SpecError(f"reset options: expected 'goal' only, got '{unknown[0]}'; drop it")
        goal = self._robot.spec.goal.require_one((options or {}).get("goal", self._goal), "robot goal")
        observation = self._robot.reset(goal, self.np_random)
        self._running = True
        return observation, {"goal": goal.copy()}

    def step(self, action: Float) -> tuple[Float, float, bool, bool, dict[str, Any]]:
        """Applies one action, shape (A,), clipped to the limits, for one control period.

        Raises:
            SpecError: The action has the wrong shape or is not finite.
            ResetNeeded: No episode is running.
        """
        if not self._running:
            raise ResetNeeded("robot step: expected a running episode, got none; call reset first")
        step = self._robot.step(action)
        self._running = not (step.terminated or step.truncated)
        return step.observation, step.reward, step.terminated, step.truncated, {}

    def close(self) -> None:
        """Releases the robot."""
        self._robot.close()
