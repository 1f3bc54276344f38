"""Contracts of a robot: named axes with units, limits and rates. Every array that crosses a boundary is checked here.

Axes: R rows (robots stepped together), O observation, A action, G goal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpecError


@dataclass(frozen=True, slots=True)
class Axis:
    """One named component of an observation, action or goal."""

    name: str
    """Name of the component, e.g. `x` or `panda_joint1`."""
    unit: str
    """SI unit, or the unit of the simulator where it has one of its own (`cell`)."""
    low: float
    """Smallest value, in `unit`; -inf where there is none."""
    high: float
    """Largest value, in `unit`; inf where there is none."""
    rate_limit: float | None = None
    """Largest change per second, in `unit` / s; None where the robot has no such limit."""


@dataclass(frozen=True)
class ArraySpec:
    """A named vector and its axes, in order."""

    name: str
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int]:
        """Shape of one vector: (number of axes,)."""
        return (len(self.axes),)

    @property
    def names(self) -> tuple[str, ...]:
        """Axis names, in order."""
        return tuple(axis.name for axis in self.axes)

    @cached_property
    def low(self) -> NDArray[np.float32]:
        """Lower limits, shape (axes,)."""
        return np.array([axis.low for axis in self.axes], np.float32)

    @cached_property
    def high(self) -> NDArray[np.float32]:
        """Upper limits, shape (axes,)."""
        return np.array([axis.high for axis in self.axes], np.float32)

    def validate(self, value: ArrayLike, where: str) -> NDArray[np.float32]:
        """Returns `value` as float32, shape (..., axes).

        Args:
            value: Anything that converts to an array with the last dimension equal to the number of axes.
            where: Who hands the value over, for the message.

        Raises:
            SpecError: The last dimension differs, or a component is not finite.
        """
        array = np.asarray(value, np.float32)
        if array.ndim == 0 or array.shape[-1] != len(self.axes):
            raise SpecError(
                f"{where}: expected {self.name} with {len(self.axes)} axes {list(self.names)}, got shape {array.shape}; "
                "pass one value per axis"
            )
        if not np.isfinite(array).all():
            column = int(np.argwhere(~np.isfinite(array))[0][-1])
            raise SpecError(
                f"{where}: expected finite {self.name}, got {array[~np.isfinite(array)][0]} in axis "
                f"'{self.axes[column].name}'; stop and find the source of the value"
            )
        return array

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, with infinite limits as null."""
        axes = []
        for axis in self.axes:
            row = asdict(axis)
            row["low"] = None if np.isneginf(axis.low) else axis.low
            row["high"] = None if np.isposinf(axis.high) else axis.high
            axes.append(row)
        return {"name": self.name, "axes": axes}

    @staticmethod
    def from_json(data: dict[str, Any]) -> ArraySpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: A field is missing or unknown.
        """
        try:
            axes = tuple(
                Axis(
                    row["name"],
                    row["unit"],
                    -np.inf if row["low"] is None else row["low"],
                    np.inf if row["high"] is None else row["high"],
                    row["rate_limit"],
                )
                for row in data["axes"]
            )
            return ArraySpec(data["name"], axes)
        except (KeyError, TypeError) as error:
            raise SpecError(f"array spec: expected the fields of ArraySpec, got {error}; write it with to_json") from error


@dataclass(frozen=True)
class RobotSpec:
    """What a robot senses, does and is asked for, and how often."""

    name: str
    observation: ArraySpec
    action: ArraySpec
    goal: ArraySpec
    control_period: float
    """Time between two actions, seconds."""
    episode_steps: int
    """Low-level steps after which an episode is truncated (not terminated)."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description."""
        return {
            "name": self.name,
            "observation": self.observation.to_json(),
            "action": self.action.to_json(),
            "goal": self.goal.to_json(),
            "control_period": self.control_period,
            "episode_steps": self.episode_steps,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> RobotSpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: A field is missing.
        """
        try:
            return RobotSpec(
                data["name"],
                ArraySpec.from_json(data["observation"]),
                ArraySpec.from_json(data["action"]),
                ArraySpec.from_json(data["goal"]),
                float(data["control_period"]),
                int(data["episode_steps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"robot spec: expected the fields of RobotSpec, got {error}; write it with to_json") from error

    def require_match(self, other: RobotSpec, where: str) -> None:
        """Raises SpecError naming the first field in which `other` differs from this spec (the name may differ)."""
        if abs(self.control_period - other.control_period) > 0.05 * self.control_period:
            raise SpecError(
                f"{where}: expected control_period {self.control_period} s, got {other.control_period} s; "
                "run the robot at the rate that the policy was trained for"
            )
        for mine, theirs in (
            (self.observation, other.observation),
            (self.action, other.action),
            (self.goal, other.goal),
        ):
            if mine.names != theirs.names:
                raise SpecError(
                    f"{where}: expected {mine.name} axes {list(mine.names)}, got {list(theirs.names)}; "
                    "reorder or rename the robot's axes"
                )
            for a, b in zip(mine.axes, theirs.axes, strict=True):
                if a != b:
                    raise SpecError(f"{where}: expected {mine.name} axis {a}, got {b}; use the robot of the bundle")
