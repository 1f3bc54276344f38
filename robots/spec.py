"""Contracts of a robot: named axes with units, limits and rates. Every array that crosses a boundary is checked here.

Axes: R rows (robots stepped together), O observation, A action, G goal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bounds import Range
from ..errors import SpecError

MOST_DIFFERENCES = 8
"""Of two robots, that a message names."""


def _is_number(value: object) -> bool:
    """Whether it is a number that a float holds; a whole number may have any number of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**1000


@dataclass(frozen=True, slots=True)
class Axis:
    """One named component of an observation, action or goal.

    Raises:
        SpecError: A field has the wrong type, or the limits are not ordered.
    """

    name: str
    """Name of the component, e.g. `x` or `panda_joint1`."""
    unit: str
    """SI unit, or the unit of the simulator where it has one of its own (`cell`)."""
    low: Annotated[float, Range(-math.inf, math.inf)]
    """Smallest value, in `unit`; -inf where there is none."""
    high: Annotated[float, Range(-math.inf, math.inf)]
    """Largest value, in `unit`; inf where there is none."""
    rate_limit: float | None = None
    """Largest change per second, in `unit` / s; None where the robot has no such limit."""
    commands: str | None = None
    """Of an action axis: name of the observation axis that it commands, such as the joint of a position servo. The
    first command of an episode is then limited from its measured value. None where the spec does not say, see
    `RobotSpec.find_commanded`."""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name and isinstance(self.unit, str)):
            raise SpecError(f"axis: expected a name and a unit, got {self.name!r} and {self.unit!r}; name the axis")
        if not (self.commands is None or (isinstance(self.commands, str) and self.commands)):
            raise SpecError(
                f"axis '{self.name}': expected commands to name an observation axis, got {self.commands!r}; use None "
                "where it commands none"
            )
        for field, value in (("low", self.low), ("high", self.high), ("rate_limit", self.rate_limit)):
            if not _is_number(value) and not (value is None and field == "rate_limit"):
                raise SpecError(
                    f"axis '{self.name}': expected a number for {field}, got {value!r:.60}; give it in {self.unit}"
                )
        if not (self.low < self.high and self.low < math.inf and self.high > -math.inf):
            raise SpecError(
                f"axis '{self.name}': expected low < high, got {self.low} and {self.high} {self.unit}; swap them"
            )
        if self.rate_limit is not None and not 0.0 < self.rate_limit < math.inf:
            raise SpecError(
                f"axis '{self.name}': expected a positive rate_limit, got {self.rate_limit} {self.unit}/s; "
                "use None where there is none"
            )


@dataclass(frozen=True)
class ArraySpec:
    """A named vector and its axes, in order.

    Raises:
        SpecError: There are no axes, or two of one name.
    """

    name: str
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if not self.axes:
            raise SpecError(f"{self.name}: expected at least one axis, got none; name every component")
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise SpecError(f"{self.name}: expected distinct axis names, got '{name}' twice; rename one")
            seen.add(name)

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

    @cached_property
    def inner_low(self) -> NDArray[np.float32]:
        """The smallest float32 numbers within the limits, shape (axes,); `low` may lie a rounding error outside."""
        return round_up(np.array([axis.low for axis in self.axes], np.float64))

    @cached_property
    def inner_high(self) -> NDArray[np.float32]:
        """The largest float32 numbers within the limits, shape (axes,)."""
        return -round_up(-np.array([axis.high for axis in self.axes], np.float64))

    def validate(self, value: ArrayLike, where: str) -> NDArray[np.float32]:
        """Returns `value` as float32, shape (..., axes).

        Args:
            value: Anything that converts to an array with the last dimension equal to the number of axes.
            where: Who hands the value over, for the message.

        Raises:
            SpecError: It is not numeric, the last dimension differs, or a component is not finite.
        """
        try:
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                array = value
            else:
                with np.errstate(over="ignore"):  # too large for float32 becomes inf and is refused below
                    array = np.asarray(value, np.float32)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"{where}: expected {self.name} as numbers {list(self.names)}, got {value!r:.80}; pass one per axis"
            ) from error
        if array.ndim == 0 or array.shape[-1] != len(self.axes):
            raise SpecError(
                f"{where}: expected {self.name} with {len(self.axes)} axes {list(self.names)}, got shape "
                f"{array.shape}; pass one value per axis"
            )
        if not np.isfinite(array).all():
            axis, got = self._first(array, ~np.isfinite(array))
            raise SpecError(
                f"{where}: expected finite {self.name}, got {got} {axis.unit} in axis '{axis.name}'; "
                "stop and find the source of the value"
            )
        return array

    def require_within(self, value: ArrayLike, where: str) -> NDArray[np.float32]:
        """Returns `value` as float32, shape (..., axes), after `validate` and a check of the limits.

        Raises:
            SpecError: As `validate`, or a component lies outside its limits.
        """
        array = self.validate(value, where)
        outside = (array < self.low) | (array > self.high)
        if outside.any():
            axis, got = self._first(array, outside)
            raise SpecError(
                f"{where}: expected {self.name} axis '{axis.name}' within {axis.low:g} .. {axis.high:g}, "
                f"got {got:g} {axis.unit}; keep it inside the limits"
            )
        return array

    def require_one(self, value: ArrayLike, where: str) -> NDArray[np.float32]:
        """Returns `value` as float32, shape (axes,), after `require_within`.

        Raises:
            SpecError: As `require_within`, or it is more than one vector.
        """
        return self.require_rows(self.require_within(value, where)[None], 1, where).reshape(self.shape)

    def require_rows(self, value: ArrayLike, rows: int, where: str) -> NDArray[np.float32]:
        """Returns `value` as float32, shape (rows, axes), after `validate`.

        Raises:
            SpecError: As `validate`, or there is not exactly one vector per row.
        """
        array = self.validate(value, where)
        if array.shape != (rows, len(self.axes)):
            raise SpecError(
                f"{where}: expected {self.name} of shape {(rows, len(self.axes))}, got {array.shape}; pass one per row"
            )
        return array

    def _first(self, array: NDArray[np.float32], wrong: NDArray[np.bool_]) -> tuple[Axis, np.float32]:
        """Axis and value of the first wrong component."""
        where = np.argwhere(wrong)[0]
        value: np.float32 = array[tuple(where)]
        return self.axes[int(where[-1])], value

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, with infinite limits as null; `commands` stands in it only where it is given."""
        axes = []
        for axis in self.axes:
            row = asdict(axis)
            row["low"] = None if np.isneginf(axis.low) else axis.low
            row["high"] = None if np.isposinf(axis.high) else axis.high
            if axis.commands is None:
                del row["commands"]
            axes.append(row)
        return {"name": self.name, "axes": axes}

    @staticmethod
    def from_json(data: dict[str, Any]) -> ArraySpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: A field is missing or has the wrong type.
        """
        try:
            axes = tuple(
                Axis(
                    row["name"],
                    row["unit"],
                    -math.inf if row["low"] is None else _as_float(row["low"]),
                    math.inf if row["high"] is None else _as_float(row["high"]),
                    _as_float(row["rate_limit"]),
                    row.get("commands"),
                )
                for row in data["axes"]
            )
            return ArraySpec(_read(data, "name", str), axes)
        except (KeyError, TypeError, AttributeError) as error:
            raise SpecError(
                f"array spec: expected the fields of ArraySpec, got {error!r}; write it with to_json"
            ) from error


def round_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The smallest float32 numbers that are not below float64 numbers."""
    with np.errstate(over="ignore"):  # beyond the largest float32 is inf, and one below that is it
        nearest = values.astype(np.float32)
    return np.where(nearest < values, np.nextafter(nearest, np.float32(np.inf)), nearest)


@dataclass(frozen=True)
class ImageSpec:
    """The picture that a robot shows beside its observation, uint8 of shape (height, width, channels).

    Raises:
        SpecError: A side is no whole number within its range.
    """

    height: int
    """Rows of pixels, 8 .. 4096."""
    width: int
    """Pixels of a row, 8 .. 4096."""
    channels: int
    """Numbers of a pixel, 1 .. 16: 1 is grey, 3 are red, green and blue."""

    def __post_init__(self) -> None:
        for name, least, most in (("height", 8, 4096), ("width", 8, 4096), ("channels", 1, 16)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise SpecError(
                    f"image: expected {name} from {least} to {most}, got {value!r:.40}; scale the pictures down, or "
                    "leave out what is no colour"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return (self.height, self.width, self.channels)

    def make_dark(self) -> NDArray[np.uint8]:
        """A picture without light, (height, width, channels): to try a policy without a robot."""
        return np.zeros(self.shape, np.uint8)

    def require_rows(self, value: NDArray[Any], rows: int, where: str) -> NDArray[np.uint8]:
        """Returns `value` if it is one picture per row, uint8 of shape (rows, height, width, channels).

        Raises:
            SpecError: It has another shape or type.
        """
        if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.shape != (rows, *self.shape):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise SpecError(
                f"{where}: expected pictures as uint8 of shape {(rows, *self.shape)}, got {got}; convert them to bytes "
                "of the size in the robot's spec"
            )
        return value

    @staticmethod
    def from_json(data: object) -> ImageSpec:
        """The spec whose fields these are.

        Raises:
            SpecError: A field is missing, unknown or wrong.
        """
        names = ("height", "width", "channels")
        if not isinstance(data, dict) or set(data) != set(names):
            raise SpecError(f"image: expected the fields {', '.join(names)}, got {data!r:.80}; write it with to_json")
        return ImageSpec(**data)


def make_choice_spec(choices: Sequence[str]) -> ArraySpec:
    """The action spec of a robot that chooses among named actions: one axis that holds the index of the choice.

    Raises:
        SpecError: There are fewer than two choices, a name is empty, or two are the same.
    """
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise SpecError(
            f"choices: expected two or more distinct names, got {list(choices)}; name each action differently"
        )
    return ArraySpec("action", (Axis("action", "1", 0.0, float(len(choices) - 1)),))


@dataclass(frozen=True)
class RobotSpec:
    """What a robot senses, does and is asked for, and how often.

    Raises:
        SpecError: The control period or the episode length is not positive, or there are choices and the action spec is
            not theirs.
    """

    name: str
    observation: ArraySpec
    action: ArraySpec
    goal: ArraySpec
    control_period: float
    """Time between two actions, seconds."""
    episode_steps: int
    """Low-level steps after which an episode is truncated (not terminated)."""
    choices: tuple[str, ...] = ()
    """Names of the actions where there are finitely many, else empty. The action is then one axis, `make_choice_spec`,
    that holds the index of a choice; an index is never clipped, since no choice is nearer to it than another."""
    image: ImageSpec | None = None
    """The picture that the robot takes at every step, see `robot.Sees`; None where it has no camera."""

    def __post_init__(self) -> None:
        if self.choices and self.action != make_choice_spec(self.choices):
            raise SpecError(
                f"robot '{self.name}': expected the action spec of {len(self.choices)} choices, got axes "
                f"{list(self.action.axes)}; make it with make_choice_spec"
            )
        if not (_is_number(self.control_period) and 0.0 < self.control_period < math.inf):
            raise SpecError(
                f"robot '{self.name}': expected a positive control_period, got {self.control_period!r:.60} s; "
                "give the time between two actions"
            )
        if type(self.episode_steps) is not int:
            raise SpecError(
                f"robot '{self.name}': expected a whole number of episode_steps, got {self.episode_steps!r:.60}; "
                "correct the time limit"
            )
        if not 1 <= self.episode_steps < 2**31:
            expected = "at least 1 episode step" if self.episode_steps < 1 else "fewer than 2**31 episode steps"
            raise SpecError(
                f"robot '{self.name}': expected {expected}, got {self.episode_steps}; correct the time limit"
            )
        units = {axis.name: axis.unit for axis in self.observation.axes}
        for axis in self.action.axes:
            if axis.commands is not None and units.get(axis.commands) != axis.unit:
                raise SpecError(
                    f"robot '{self.name}': expected action axis '{axis.name}' to command an observation axis in "
                    f"{axis.unit}, got '{axis.commands}' in {units.get(axis.commands)}; name one of {list(units)}"
                )
        for axis in (*self.observation.axes, *self.goal.axes):
            if axis.commands is not None:
                raise SpecError(
                    f"robot '{self.name}': expected only action axes to command, got axis '{axis.name}' that commands "
                    f"'{axis.commands}'; leave commands out"
                )

    def find_commanded(self) -> tuple[str | None, ...]:
        """For each action axis the observation axis that it commands; None for a command that rests at 0.

        Where `Axis.commands` does not say, it is the only observation axis with the same unit and the same finite
        limits: a place is commanded in the coordinate in which it is measured.
        """
        found: list[str | None] = []
        for axis in self.action.axes:
            like = [
                seen.name
                for seen in self.observation.axes
                if (seen.unit, seen.low, seen.high) == (axis.unit, axis.low, axis.high) and math.isfinite(axis.low)
            ]
            found.append(axis.commands or (like[0] if len(like) == 1 and not self.choices else None))
        return tuple(found)

    def compute_resting(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The command at which a robot stays as it is, shape (..., A).

        The measured value, where the axis commands one, also outside the limits; else the command nearest to zero.

        Args:
            observation: Shape (..., O).
        """
        resting = np.empty((*observation.shape[:-1], *self.action.shape), np.float32)
        resting[:] = np.clip(np.float32(0.0), self.action.inner_low, self.action.inner_high)
        for axis, name in enumerate(self.find_commanded()):
            if name is not None:
                resting[..., axis] = observation[..., self.observation.names.index(name)]
        return resting

    def require_choices(self, action: ArrayLike, rows: int, where: str) -> NDArray[np.int64]:
        """Returns the chosen indices, shape (rows,), of actions of shape (rows, 1).

        Raises:
            SpecError: As `ArraySpec.require_rows`, or an action is not the index of one of the choices.
        """
        array = self.action.require_rows(action, rows, where)[:, 0]
        wrong = (array != np.floor(array)) | (array < 0.0) | (array >= len(self.choices))
        if wrong.any():
            raise SpecError(
                f"{where}: expected the index of one of the {len(self.choices)} choices {list(self.choices)}, got "
                f"{array[wrong][0]:g}; pass a whole number below {len(self.choices)}"
            )
        return array.astype(np.int64)

    def require_command(self, action: ArrayLike, where: str) -> NDArray[np.float32]:
        """The allowed command that is nearest to an action, shape (A,), as a fresh array.

        Raises:
            SpecError: The action has the wrong shape, is not finite, or is none of the choices.
        """
        command = self.action.require_rows(np.asarray(action)[None], 1, where)
        if self.choices:
            self.require_choices(command, 1, where)
            chosen: NDArray[np.float32] = command[0].copy()
            return chosen
        nearest: NDArray[np.float32] = np.minimum(np.maximum(command[0], self.action.inner_low), self.action.inner_high)
        return nearest

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description; `choices` and `image` stand in it only where there are some."""
        data: dict[str, Any] = {
            "name": self.name,
            "observation": self.observation.to_json(),
            "action": self.action.to_json(),
            "goal": self.goal.to_json(),
            "control_period": self.control_period,
            "episode_steps": self.episode_steps,
        }
        if self.choices:
            data["choices"] = list(self.choices)
        if self.image is not None:
            data["image"] = asdict(self.image)
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> RobotSpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: A field is missing or has the wrong type.
        """
        try:
            return RobotSpec(
                _read(data, "name", str),
                ArraySpec.from_json(data["observation"]),
                ArraySpec.from_json(data["action"]),
                ArraySpec.from_json(data["goal"]),
                float(_read(data, "control_period", float, int)),
                _read(data, "episode_steps", int),
                tuple(str(name) for name in data.get("choices", ())),
                ImageSpec.from_json(data["image"]) if "image" in data else None,
            )
        except SpecError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SpecError(
                f"robot spec: expected the fields of RobotSpec, got {error!r}; write it with to_json"
            ) from error

    def require_match(self, other: RobotSpec, where: str) -> None:
        """Checks that a policy made for this spec can drive a robot of the `other` spec.

        The robot's name and the time limit may differ, and the control period by 5 %. What an action axis commands
        differs only where both specs say it.

        Raises:
            SpecError: Naming the fields that differ: control period, choices, image, then the axes of observation,
                action, goal, each by name, unit, limits, rate limit and the axis that it commands.
        """
        difference = self._describe_differences(other, ("observation", "action", "goal"))
        if difference is not None:
            raise SpecError(f"{where}: {difference}; use the robot that the policy was trained for")

    def require_source(self, source: RobotSpec | None, where: str) -> None:
        """Checks that data, or what was learned from data, are of a robot of this spec.

        Goals and the time limit may differ, since neither is in the data, and the control period by 5 %.

        Args:
            source: Of the robot that the data are from; None where it is unknown.
            where: The data or what was learned from them, for the message.

        Raises:
            SpecError: The robot is unknown; else naming the fields that differ: name, control period, choices, image,
                then the axes of observation and action, each by name, unit, limits and rate limit.
        """
        if source is None:
            raise SpecError(
                f"{where}: expected data of robot '{self.name}', got data of a robot that nobody named; "
                "ingest them again with --robot, which checks them against its limits"
            )
        difference = self._describe_differences(source, ("observation", "action"))
        if self.name != source.name:
            difference = f"expected data of robot '{self.name}', got data of robot '{source.name}'"
        if difference is not None:
            raise SpecError(f"{where}: {difference}; use data of that robot, or choose the robot of the data")

    def _describe_differences(self, other: RobotSpec, arrays: Sequence[str]) -> str | None:
        """All fields of `other` that are others, each as `expected ..., got ...`; None where there are none."""
        found = list(self._find_differences(other, arrays))
        if not found:
            return None
        more = [f"also {difference}" for difference in found[1:MOST_DIFFERENCES]]
        left = len(found) - MOST_DIFFERENCES
        return "; ".join([found[0], *more, *([f"and {left} more"] if left > 0 else [])])

    def _find_differences(self, other: RobotSpec, arrays: Sequence[str]) -> Iterator[str]:
        if abs(self.control_period - other.control_period) > 0.05 * self.control_period:
            yield f"expected control_period {self.control_period} s, got {other.control_period} s"
        if self.choices != other.choices:
            yield f"expected choices {list(self.choices)}, got {list(other.choices)}"
        if self.image is not None and self.image != other.image:  # a camera that nobody needs does no harm
            mine, theirs = (None if image is None else image.shape for image in (self.image, other.image))
            yield f"expected {_describe_image(mine)}, got {_describe_image(theirs)}"
        for array in arrays:
            mine, theirs = getattr(self, array), getattr(other, array)
            if mine.names != theirs.names:
                order = " in another order" if sorted(mine.names) == sorted(theirs.names) else ""
                yield f"expected {array} axes {list(mine.names)}, got {list(theirs.names)}{order}"
            by_name = {axis.name: axis for axis in theirs.axes}
            for axis in mine.axes:
                if axis.name in by_name:
                    yield from _compare_axes(array, axis, by_name[axis.name])


def _compare_axes(array: str, axis: Axis, other: Axis) -> Iterator[str]:
    """Differences of two axes of one name; numbers in other units are not compared."""
    if axis.unit != other.unit:
        yield f"expected {array} axis '{axis.name}' in {axis.unit!r}, got {other.unit!r}"
        return
    for name, unit in (("low", axis.unit), ("high", axis.unit), ("rate_limit", f"{axis.unit}/s")):
        expected, got = getattr(axis, name), getattr(other, name)
        if expected != got:
            yield f"expected {array} axis '{axis.name}' with {name} {expected} {unit}, got {got}"
    if None not in (axis.commands, other.commands) and axis.commands != other.commands:
        yield f"expected {array} axis '{axis.name}' to command '{axis.commands}', got '{other.commands}'"


def _describe_image(shape: tuple[int, int, int] | None) -> str:
    return "no pictures" if shape is None else f"pictures of {shape[0]} x {shape[1]} pixels x {shape[2]} channels"


def _read(data: dict[str, Any], name: str, *kinds: type) -> Any:
    """A field of exactly one of these types: in JSON, true is no number and 2.0 no count."""
    if type(data[name]) not in kinds:
        raise TypeError(f"{name} {data[name]!r:.40}")
    return data[name]


def _as_float(value: Any) -> Any:
    """A whole number of JSON as the float that it stands for; all else is checked where it is used."""
    return float(value) if type(value) is int else value
