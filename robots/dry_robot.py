"""A real robot that is read and not commanded, for a dry run: everything is computed, nothing is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, UntoldReward
from .cadence import Cadence
from .limits import RobotLimits
from .robot import Bool, Float, Holds, Observes, Robot, Rows, Sees, Step, TakesLimits, TellsAge, Wraps, take_images
from .spec import RobotSpec


class DryRobot(Wraps, TellsAge, Holds, TakesLimits, Sees):
    """The driver of a robot, which is read, asked and closed, and never commanded."""

    def __init__(self, robot: Robot, cadence: Cadence | None = None) -> None:
        """Wraps a connected robot.

        Args:
            robot: It is closed with this one.
            cadence: Of the control loop; None for the control period of the robot, in real time.

        Raises:
            ConfigError: The robot cannot be read without a command.
        """
        if not isinstance(robot, Observes):
            robot.close()
            raise ConfigError(
                f"dry run: expected a driver that can be read without a command, got {type(robot).__name__}; give it "
                "the read of supple.robots.robot.Observes, or pass --execute"
            )
        self._robot, self._reader = robot, robot
        self._spec = robot.spec
        self._cadence = Cadence(self._spec.control_period) if cadence is None else cadence
        self._goal = np.zeros((1, *self._spec.goal.shape), np.float32)
        self._steps, self._commands = 0, 0
        self._low = np.full(self._spec.action.shape, np.inf, np.float32)
        self._high = -self._low

    @property
    def inner(self) -> object:
        """See `Wraps.inner`."""
        return self._robot

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._spec

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`; the robot stays where it is."""
        self._goal = self._spec.goal.require_one(goal, "dry run reset")[None]
        self._steps = 0
        self._cadence.start()
        return self._reader.read()

    def step(self, action: Float) -> Step:
        """See `Robot.step`; the command is noted, and the control period passes."""
        command = self._spec.action.require_one(action, "dry run step")
        self._low, self._high = np.minimum(self._low, command), np.maximum(self._high, command)
        self._commands += 1
        self._steps += 1
        self._cadence.wait()
        observation = self._reader.read()
        try:
            reward = float(self.compute_reward(observation, self._goal)[0].item())
        except UntoldReward:  # nothing was done that could be paid
            reward = 0.0
        return Step(observation, reward, False, self._steps >= self._spec.episode_steps)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`; 0 where the robot does not know."""
        return self._robot.observation_age() if isinstance(self._robot, TellsAge) else 0.0

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`."""
        return take_images(self._robot, rows, self._spec.name)

    def hold(self) -> None:
        """See `Holds.hold`: nothing is sent, so that nothing moves because of this program."""

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`: nothing is sent."""
        return True

    def close(self) -> None:
        """See `Robot.close`."""
        self._robot.close()

    def describe(self) -> dict[str, Any]:
        """What would have been sent: how many commands, and their extremes by axis."""
        ends = zip(self._spec.action.names, self._low.tolist(), self._high.tolist(), strict=True)
        axes = {name: {"low": low, "high": high} for name, low, high in ends} if self._commands else {}
        return {"commands": self._commands, "sent": 0, "axes": axes}
