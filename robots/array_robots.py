"""Robots whose whole state is arrays: the checks, the clock and the time limit that all of them share.

A family says how a row begins and how one action moves it. All that is random in an episode is drawn by `_begin`, for
the whole episode, so that a row never depends on which other rows are stepped with it.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SpecError, UntoldReward
from .robot import Bool, Float, Rows, StepRows, require_rows
from .spec import RobotSpec

Index = slice | Rows
"""Rows as an index: a slice where all rows are meant, which costs a third of an index array."""


class ArrayRobots(ABC):
    """Rows of robots of one family; see `RobotBatch` for the contract.

    Args:
        spec: The contract of every row.
        rows: Number of robots, R.

    Raises:
        ConfigError: There are no rows.
    """

    def __init__(self, spec: RobotSpec, rows: int) -> None:
        if rows < 1:
            raise ConfigError(f"{spec.name} rows: expected at least 1, got {rows}; ask for one row per robot")
        self._spec = spec
        self._elapsed = np.zeros(rows, np.int64)
        self._goal = np.zeros((rows, *spec.goal.shape), np.float32)

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return len(self._elapsed)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`; a family may refuse more goals than the limits of the spec do."""
        where = f"{self._spec.name} reset"
        rows = require_rows(rows, self.rows, where)
        goals = self._spec.goal.require_rows(self._spec.goal.require_within(goals, where), len(rows), where)
        self._check_goals(goals, where)
        index = self._index(rows)
        self._goal[index] = goals
        self._elapsed[index] = 0
        return self._require_shape(
            self._begin(index, goals, rng), rows, self._spec.observation.shape, "an observation", where
        )

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`; a choice is never clipped.

        Raises:
            SpecError: As `RobotBatch.step`, an action is not the index of a choice, or an episode is over.
        """
        where = f"{self._spec.name} step"
        rows = require_rows(rows, self.rows, where)
        taken: NDArray[Any]
        if self._spec.choices:
            taken = self._spec.require_choices(action, len(rows), where)
        else:
            taken = self._spec.action.require_rows(action, len(rows), where)
            taken = np.minimum(np.maximum(taken, self._spec.action.low), self._spec.action.high)
        index = self._index(rows)
        elapsed = self._elapsed[index].copy()
        late = elapsed >= self._spec.episode_steps
        if late.any():
            raise SpecError(
                f"{where}: expected a running episode, got row {rows[late][0]} after its {self._spec.episode_steps} "
                "steps; reset the row first"
            )
        self._elapsed[index] += 1
        moved = self._advance(rows, index, taken, elapsed)
        if not isinstance(moved, tuple) or len(moved) != 3:
            raise SpecError(
                f"{where}: expected an observation, a reward and an end from _advance, got "
                f"{len(moved) if isinstance(moved, tuple) else type(moved).__name__}; return these three"
            )
        observation = self._require_shape(moved[0], rows, self._spec.observation.shape, "an observation", where)
        reward = self._require_shape(moved[1], rows, (), "a reward", where)
        terminated = self._require_shape(moved[2], rows, (), "an end", where).astype(np.bool_, copy=False)
        truncated = (elapsed == self._spec.episode_steps - 1) & ~terminated
        return StepRows(observation, reward, terminated, truncated)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`.

        Raises:
            UntoldReward: The observation does not tell the reward, unless the family says otherwise.
        """
        raise UntoldReward(
            f"{self._spec.name} compute_reward: expected a robot whose observation tells its reward, got one whose "
            "reward is not a function of the observation; use the rewards of step"
        )

    def close(self) -> None:  # noqa: B027 (arrays need no release)
        """See `RobotBatch.close`."""

    def _require_shape(self, value: Any, rows: Rows, shape: tuple[int, ...], what: str, where: str) -> NDArray[Any]:
        """What a family gave for some rows, numbers as float32; numpy would spread other shapes over all rows.

        Raises:
            SpecError: It has another shape, or holds no numbers.
        """
        array = np.asarray(value)
        if array.shape != (len(rows), *shape) or array.dtype.kind not in "biuf":
            raise SpecError(
                f"{where}: expected {what} for each row, of shape {(len(rows), *shape)}, got {array.dtype} "
                f"{array.shape}; correct _begin and _advance of the robots"
            )
        return array if array.dtype.kind == "b" else array.astype(np.float32, copy=False)

    def _index(self, rows: Rows) -> Index:
        return slice(None) if len(rows) == self.rows else rows

    def _check_goals(self, goals: Float, where: str) -> None:  # noqa: B027 (most families have nothing to add)
        """Refuses goals, shape (r, G), that are within the limits and yet no task."""

    @abstractmethod
    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        """Puts rows at their start, draws what is random in their episode, and returns observations, shape (r, O)."""

    @abstractmethod
    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        """Moves rows by one action.

        Args:
            rows: Row indices, shape (r,).
            index: The same rows, cheaper where all are meant.
            action: Indices of choices, shape (r,), where the spec has choices; else clipped actions, shape (r, A).
            elapsed: Steps that the episode of each row had before this one, shape (r,).

        Returns:
            Observations, shape (r, O), rewards, shape (r,), and terminated, shape (r,); new arrays.
        """


def require_whole(values: Float, what: str, where: str) -> NDArray[np.int64]:
    """Returns `values` as int64 if they are whole numbers.

    Raises:
        SpecError: One is not.
    """
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise SpecError(
            f"{where}: expected {what} as whole numbers, got {values[whole != values][0]:g}; round it on purpose"
        )
    return whole
