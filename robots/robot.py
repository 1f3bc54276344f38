"""The robot protocols: rows of robots that are stepped together, and a single robot as a batch of one row.

After `dm_env` (Muldal et al., dm_env: A Python interface for reinforcement learning environments, 2019): one small file,
with the contract shipped as tests in `testing.py`.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .spec import RobotSpec

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Rows = NDArray[np.int64]


class StepRows(NamedTuple):
    """What one control step of some rows gave."""

    observation: Float
    """Shape (r, O)."""
    reward: Float
    """Shape (r,)."""
    terminated: Bool
    """Shape (r,): the task ended; do not bootstrap."""
    truncated: Bool
    """Shape (r,): the time limit was reached; bootstrap."""


class RobotBatch(Protocol):
    """Rows of robots of one kind. A row that ended stays where it is until it is reset."""

    @property
    def spec(self) -> RobotSpec:
        """The contract of every row."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows, R."""
        ...

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """Starts an episode in each of `rows`.

        Args:
            rows: Row indices, shape (r,).
            goals: One goal per row, shape (r, G).
            rng: Source of the reset noise; the same state gives the same start.

        Returns:
            Observations, shape (r, O).

        Raises:
            SpecError: A goal has the wrong number of axes or is not finite.
        """
        ...

    def step(self, rows: Rows, action: Float) -> StepRows:
        """Applies one action, clipped to the limits, for one control period in each of `rows`.

        Args:
            rows: Row indices, shape (r,), strictly increasing.
            action: Shape (r, A).

        Raises:
            SpecError: An action has the wrong shape or is not finite.
        """
        ...

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """Reward and termination that N tasks would give for reaching some observations; pure.

        Args:
            observation: Shape (..., O).
            goals: Shape (N, G).

        Returns:
            Reward, shape (..., N), and terminated, shape (..., N).
        """
        ...

    def close(self) -> None:
        """Releases the robot."""
        ...


class Step(NamedTuple):
    """What one control step of a single robot gave."""

    observation: Float
    """Shape (O,)."""
    reward: float
    terminated: bool
    truncated: bool


class Robot(Protocol):
    """One robot, simulated or real."""

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        ...

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """Starts an episode with this goal, shape (G,); returns the observation, shape (O,)."""
        ...

    def step(self, action: Float) -> Step:
        """Applies one action, shape (A,), clipped to the limits, for one control period.

        Raises:
            SpecError: The action has the wrong shape or is not finite.
        """
        ...

    def close(self) -> None:
        """Releases the robot."""
        ...


class FirstRow:
    """A batch of one row seen as a single robot."""

    def __init__(self, batch: RobotBatch) -> None:
        self._batch = batch
        self._row = np.zeros(1, np.int64)

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._batch.spec

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`."""
        return self._batch.reset(self._row, np.asarray(goal, np.float32)[None], rng)[0]

    def step(self, action: Float) -> Step:
        """See `Robot.step`."""
        step = self._batch.step(self._row, np.asarray(action, np.float32)[None])
        return Step(step.observation[0], float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]))

    def close(self) -> None:
        """See `Robot.close`."""
        self._batch.close()
