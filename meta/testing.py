"""A toy robot for tests of whatever learns: points on a plane that move by their action."""

from __future__ import annotations

import numpy as np

from ..robots.robot import Bool, Float, Rows, StepRows
from ..robots.spec import ArraySpec, Axis, RobotSpec


class PointBatch:
    """Points that move by (dx, dy), at most 1 m per axis and step; a goal is reached within `radius` metres of it."""

    def __init__(self, rows: int, *, episode_steps: int = 12, radius: float = 1.0, noise: float = 0.1) -> None:
        """Episodes start at the origin, plus uniform noise of up to `noise` metres per axis."""
        plane = tuple(Axis(name, "m", -np.inf, np.inf) for name in ("x", "y"))
        self._spec = RobotSpec(
            name="point",
            observation=ArraySpec("observation", plane),
            action=ArraySpec("action", (Axis("dx", "m", -1.0, 1.0), Axis("dy", "m", -1.0, 1.0))),
            goal=ArraySpec("goal", plane),
            control_period=0.1,
            episode_steps=episode_steps,
        )
        self._radius, self._noise = radius, noise
        self._position = np.zeros((rows, 2), np.float32)
        self._goal = np.zeros((rows, 2), np.float32)
        self._elapsed = np.zeros(rows, np.int64)

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return len(self._position)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        self._position[rows] = rng.uniform(-self._noise, self._noise, (len(rows), 2))
        self._goal[rows] = goals
        self._elapsed[rows] = 0
        start: Float = self._position[rows]
        return start

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`; a point may go on after it reached its goal."""
        self._position[rows] += np.clip(action, -1.0, 1.0)
        self._elapsed[rows] += 1
        observation: Float = self._position[rows]
        reached = np.linalg.norm(observation - self._goal[rows], axis=-1) <= self._radius
        truncated = ~reached & (self._elapsed[rows] >= self._spec.episode_steps)
        return StepRows(observation, reached.astype(np.float32), reached, truncated)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        reached = np.linalg.norm(observation[..., None, :] - goals, axis=-1) <= self._radius
        return reached.astype(np.float32), reached

    def close(self) -> None:
        """Nothing to release."""
