"""A robot family: all that Supple has to know of a robot, as one frozen dataclass that a user may own.

    @dataclass(frozen=True, kw_only=True)
    class MyArm:
        reach: float = 0.8

        name = "my-arm"

        def spec(self) -> RobotSpec: ...
        def make(self, rows: int, threads: int = 1) -> RobotBatch: ...
        def tasks(self) -> TaskSet: ...

The fields of the dataclass are options of the command line (`--robot.reach 0.7`) and part of every stage's key. What
only some families can do is a small abstract class each, below; a family inherits those that it has.

Axes: R rows, r rows of this call, T time steps, O observation, A action, G goal, V vertices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .robot import Bool, Float, RobotBatch, Rows, StepRows, WrappedRobots, require_told
from .spec import RobotSpec
from .task import Task, TaskSet

ONLY_TASKS: Mapping[str, bool] = MappingProxyType({"only_tasks": True})
"""Metadata of a field that decides tasks and nothing else: `field(default=40, metadata=ONLY_TASKS)`.

Play data and skills stay what they are when it changes."""


class RobotFamily(Protocol):
    """Robots of one kind, and the tasks that they are trained and tested on."""

    @property
    def name(self) -> str:
        """Of the family with these settings, for records and folders, e.g. `point-maze-20-seed0`."""
        ...

    def spec(self) -> RobotSpec:
        """The contract of every robot; cheap, since nothing is simulated for it."""
        ...

    def make(self, rows: int, threads: int = 1) -> RobotBatch:
        """Rows of robots.

        Args:
            rows: Robots side by side, R.
            threads: Physics threads; what the robots do does not depend on them.

        Raises:
            ConfigError: The family has no such robots, or a library of an extra is missing.
        """
        ...

    def tasks(self) -> TaskSet:
        """The train and test tasks, the same at every call."""
        ...


class PlayChunk(NamedTuple):
    """One finished episode of play data per row, all of the same length."""

    observation: Float
    """Shape (R, T, O): before the action."""
    action: Float
    """Shape (R, T, A): as applied."""
    reward: Float
    """Shape (R, T): what the file says; nothing that Supple trains reads it."""
    infos: Mapping[str, NDArray[np.generic]]
    """Further arrays by their names in the file, each (R, T, ...)."""
    image: NDArray[np.uint8] | None = None
    """Shape (R, T, height, width, channels): the picture that goes with the observation, of robots with a camera."""


class Plays(ABC):
    """A family that makes play data of its own kind: motion without any task in mind."""

    __slots__ = ()

    @property
    @abstractmethod
    def play_steps(self) -> int:
        """T, length of one episode of play data, low-level steps, or the largest where some end early."""

    @property
    def play_origin(self) -> str | None:
        """Who or what moved the robot, for the provenance of the data; None where nobody could take it for a person."""
        return None

    @abstractmethod
    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """Yields episodes of play data without end, `rows` at a time, or fewer where episodes end early.

        Args:
            rows: Robots side by side; each plays for itself.
            seed: Seed of all that is random.
            threads: Physics threads; the data does not depend on them.
        """


class PlaysElsewhere(Plays):
    """A family whose play data are of other places than its tasks, so that they do not say where the robot can go."""

    __slots__ = ()


class TellsSuccess(ABC):
    """A family whose tasks are solved or not, whatever the scale of their rewards."""

    __slots__ = ()

    @abstractmethod
    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """Whether the task is solved by one control step; pure.

        Args:
            observation: Where the step led, shape (r, O).
            reward: What it paid, shape (r,).
            goals: Shape (r, G).

        Returns:
            Shape (r,). An episode is a success if one of its steps is.
        """


class SetsState(ABC):
    """A family whose simulator can be put into the state that an observation describes."""

    __slots__ = ()

    @property
    @abstractmethod
    def place_axes(self) -> tuple[str, ...]:
        """Names of the observation axes that say where the robot is; they share a unit."""

    @property
    def shown_windows(self) -> int:
        """Windows of the data that are decoded in the simulator to show how good skills are; fewer where it is slow."""
        return 512

    @abstractmethod
    def set_state(self, robot: RobotBatch, rows: Rows, observation: Float) -> Float:
        """Starts an episode from given observations, with a goal that does not end it.

        Args:
            robot: Of this family's `make`.
            rows: Row indices, shape (r,), strictly increasing.
            observation: Shape (r, O).

        Returns:
            The observations now, shape (r, O).
        """


class Subdivides(ABC):
    """A family whose control period holds several steps of its physics."""

    __slots__ = ()

    @property
    @abstractmethod
    def physics_steps(self) -> int:
        """Steps of the physics in one control period."""

    @abstractmethod
    def subdivide(self, parts: int) -> RobotFamily:
        """The same robots with a control period that is shorter, and episodes of as many seconds.

        Args:
            parts: By which the control period is divided; divides `physics_steps`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a report draws an episode into: a plane of two observation axes."""

    axes: tuple[str, str]
    """Names of the observation axes that are the plane's x and y."""
    goal_axes: tuple[str, str] | None = None
    """Names of the goal axes on the same plane; None where goals are no places."""
    unit: str
    """Of both axes."""
    limits: tuple[tuple[float, float], tuple[float, float]]
    """(low, high) of x and of y."""
    polygons: tuple[NDArray[np.float64], ...] = field(default=(), compare=False)
    """Outlines of obstacles, each (V, 2)."""
    goal_radius: float | None = None
    """Distance at which a goal counts as reached, in `unit`; None where there is none."""
    start: tuple[float, float] | None = None
    """Where every episode starts, roughly; None where starts differ."""


class Draws(ABC):
    """A family whose episodes are better seen on a plane than as one time series for each axis."""

    __slots__ = ()

    @abstractmethod
    def scene(self) -> Scene | None:
        """The plane and what stands in it; None where these settings are seen better as time series."""


class Parts(NamedTuple):
    """How an episode went for each part of its task, P parts."""

    names: tuple[str, ...]
    """In the order in which they count."""
    away: Float
    """Shape (T, P): how far each part is from complete at each time."""
    radius: float
    """Distance below which a part is complete."""
    credited: Bool
    """Shape (T, P): what has been paid by then; it stays paid."""


class HasParts(ABC):
    """A family whose tasks have parts that are paid one by one."""

    __slots__ = ()

    @abstractmethod
    def compute_parts(self, path: Float, goal: Float) -> Parts:
        """How an episode went for each part of its task; pure.

        Args:
            path: Observations, shape (T, O), the start included.
            goal: Of the episode, shape (G,).
        """


class Camera(Protocol):
    """Looks at rows of simulated robots."""

    def take(self, row: int) -> NDArray[np.uint8]:
        """A picture of the row as it is now, shape (height, width, 3), RGB."""
        ...

    def close(self) -> None:
        """Releases the renderer."""
        ...


class Films(ABC):
    """A family whose simulator can be looked at."""

    __slots__ = ()

    @abstractmethod
    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """A camera.

        Args:
            robot: Of this family's `make`; it is looked at, and not changed.
            goal: Of the episodes, shape (G,), for families that show it.
            height: Of a picture, pixels.
            width: Of a picture, pixels.

        Raises:
            SpecError: The robots are of another family.
            ConfigError: This computer cannot draw.
        """


class ChecksTasks(ABC):
    """A family that knows goals within the limits of its spec which are no tasks (a place inside a wall)."""

    __slots__ = ()

    @abstractmethod
    def require_tasks(self, tasks: Sequence[Task], where: str) -> None:
        """Refuses tasks that no robot of the family can solve.

        Args:
            tasks: With goals within the limits of the spec.
            where: What they were read from, for the message.

        Raises:
            SourceError: Naming the first such task.
        """


class ChecksData(ABC):
    """A family that knows recordings within the limits of its spec which are of another robot."""

    __slots__ = ()

    @abstractmethod
    def require_data(self, observation: Float, where: str) -> None:
        """Refuses observations, shape (N, O), that no robot of the family shows.

        Args:
            observation: All of a recording.
            where: What they were read from, for the message.

        Raises:
            SpecError: Naming an axis, and its value in the recording.
        """


class BuiltFrom(ABC):
    """A family that depends on files or libraries, which are then part of the key of every stage."""

    __slots__ = ()

    def files(self) -> tuple[Path, ...]:
        """Model files, meshes and the like, whose content counts; none unless a family says so."""
        return ()

    @abstractmethod
    def libraries(self) -> tuple[str, ...]:
        """Names of distributions; their versions count."""


class OneRow:
    """A family of one robot: `make` has one row, so that it is adapted to one task at a time, without evaluations."""

    __slots__ = ()


class Hardware(OneRow):
    """A family of one real robot: `make` connects it.

    It is never re-armed by the program: after a fault or a stop a person looks at it first.
    """

    __slots__ = ()


def make_simulator(family: RobotFamily, rows: int, threads: int = 1) -> RobotBatch:
    """Rows of robots of a family as it makes them, of any but a real one.

    Raises:
        ConfigError: See `RobotFamily.make`; or the robot is a real one, which nothing keeps within its limits.
    """
    if isinstance(family, Hardware):
        raise ConfigError(
            f"{family.name}: expected a simulated robot, got a real one, which supple adapt alone connects; take a "
            "simulator of it"
        )
    return family.make(rows, threads)


def make_robots(family: RobotFamily, rows: int, threads: int = 1, *, real: bool = False) -> RobotBatch:
    """Rows of robots of a family, which tell success at each step where the family does.

    Args:
        family: Of the robots.
        rows: How many.
        threads: Of a simulator.
        real: It may be a real robot, which is connected: the caller keeps it within its limits.

    Raises:
        ConfigError: See `make_simulator`; or what was made is no `RobotBatch`.
    """
    robot = family.make(rows, threads) if real else make_simulator(family, rows, threads)
    missing = [
        name for name in ("spec", "rows", "reset", "step", "compute_reward", "close") if not hasattr(robot, name)
    ]
    if missing:
        raise ConfigError(
            f"{family.name} make: expected rows of robots, got {type(robot).__name__} without {', '.join(missing)}; "
            "return what has all of RobotBatch"
        )
    return SuccessRows(robot, family) if isinstance(family, TellsSuccess) else robot


class SuccessRows(WrappedRobots):
    """Rows of robots whose steps say whether the task is solved; see `RobotBatch` for the contract."""

    def __init__(self, robot: RobotBatch, teller: TellsSuccess) -> None:
        """Wraps the robots.

        Args:
            robot: Of the same family as `teller`.
            teller: Says what success is.
        """
        super().__init__(robot)
        self._teller = teller
        self._goals = np.zeros((robot.rows, *robot.spec.goal.shape), np.float32)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        observation = super().reset(rows, goals, rng)
        self._goals[rows] = goals
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        success = self._teller.compute_success(step.observation, step.reward, self._goals[rows])
        return step._replace(success=require_told(success, len(rows), f"{self.spec.name} compute_success"))
