"""The Franka kitchen as a robot family: its published tasks, and play data from scripted demonstrations.

Tasks of Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022; see `kitchen.py` and `kitchen_play.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..bounds import Bounded, Count, NonNegative
from ..errors import SourceError, SpecError
from .family import (
    BuiltFrom,
    Camera,
    ChecksData,
    ChecksTasks,
    Films,
    HasParts,
    Parts,
    PlayChunk,
    Plays,
    SetsState,
    TellsSuccess,
)
from .kitchen import (
    EPISODE_STEPS,
    RADIUS,
    SUBTASKS,
    Credit,
    compute_away,
    compute_paid,
    is_complete,
    kitchen_spec,
    require_kitchen_goals,
    require_shown_goal,
)
from .kitchen_play import DemonstrationConfig, play_demonstrations
from .robot import Bool, Float, RobotBatch, Rows
from .spec import RobotSpec
from .task import Task, TaskSet, goals_of

if TYPE_CHECKING:
    from .kitchen_robots import KitchenRobots

TRAIN = (
    "5603 5013 5124 6024 5041 6123 5630 6230 5601 5634 5031 6021 5612 5624 5023 6012 5234 5014 6034 0132 5623 6014 0123"
)
TEST = "5021 5012 6023 5614 6031 6234 6013 5034 0134 5604"
"""Published tasks; each digit is an index of `kitchen.SUBTASKS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kitchen(Plays, TellsSuccess, SetsState, HasParts, Films, ChecksTasks, ChecksData, BuiltFrom, Bounded):
    """A Franka arm in a kitchen; a task is four subtasks in an order.

    Raises:
        ConfigError: A field is one that no kitchen can have; the message names it.
    """

    observation: Literal["with-goal", "state"] = "with-goal"
    """`with-goal` ends with the constant goal of D4RL: 60 numbers, as published. `state` has the 30 positions alone."""
    credit: Credit = "ordered"
    """`ordered` pays subtasks in the order of the task (published); `any` pays each when it is complete, as
    Gymnasium's FrankaKitchen does."""
    noise_ratio: NonNegative = 0.1
    """Of the readings, in amplitudes of the model's package (published)."""
    episode_steps: Count = EPISODE_STEPS
    """Time limit of one episode, actions (published)."""
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    """How play data is made."""

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return "kitchen"

    @property
    def _show_goal(self) -> bool:
        return self.observation == "with-goal"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return kitchen_spec(show_goal=self._show_goal, episode_steps=self.episode_steps)

    def make(self, rows: int, threads: int = 1) -> KitchenRobots:
        """See `RobotFamily.make`."""
        from .kitchen_robots import KitchenRobots

        return KitchenRobots(
            rows,
            threads=threads,
            show_goal=self._show_goal,
            noise_ratio=self.noise_ratio,
            credit=self.credit,
            episode_steps=self.episode_steps,
        )

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: the published 23 and 10."""
        train, test = (tuple(_make_task(order) for order in orders.split()) for orders in (TRAIN, TEST))
        return TaskSet("kitchen", train, test)

    def require_tasks(self, tasks: Sequence[Task], where: str) -> None:
        """See `ChecksTasks.require_tasks`."""
        try:
            require_kitchen_goals(goals_of(tasks), where)
        except SpecError as error:
            raise SourceError(str(error)) from error

    def require_data(self, observation: Float, where: str) -> None:
        """See `ChecksData.require_data`: the goal in the observation is that of all tasks."""
        if self._show_goal:
            require_shown_goal(observation, where)

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: all four subtasks are complete now."""
        chosen = np.take_along_axis(is_complete(observation), goals.astype(np.int64), axis=1)
        success: Bool = np.all(chosen, axis=1)
        return success

    def compute_parts(self, path: Float, goal: Float) -> Parts:
        """See `HasParts.compute_parts`: the four subtasks, and the distance of their joints from the goal."""
        chosen = goal.astype(np.int64)
        credited = compute_paid(path[None], goal[None], self.credit)[0, :, 0]
        names = tuple(SUBTASKS[index].name for index in chosen)
        return Parts(names, compute_away(path)[:, chosen], RADIUS, credited)

    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """See `Films.open_camera`: from behind the arm; the goal is not shown."""
        from .kitchen_robots import KitchenRobots, load_kitchen_model
        from .mujoco_camera import MujocoCamera, View

        if not isinstance(robot, KitchenRobots):
            raise SpecError(f"kitchen camera: expected robots of this family, got {type(robot).__name__}; make them")
        view = View(center=(-0.1, 0.5, 2.05), distance=2.5, azimuth=75.0, elevation=-28.0)
        return MujocoCamera(load_kitchen_model(), lambda row: robot.qpos[row], view, height, width)

    @property
    def place_axes(self) -> tuple[str, ...]:
        """See `SetsState.place_axes`: the angles of the arm."""
        return self.spec().observation.names[:7]

    @property
    def shown_windows(self) -> int:
        """See `SetsState.shown_windows`."""
        return 32

    def set_state(self, robot: RobotBatch, rows: Rows, observation: Float) -> Float:
        """See `SetsState.set_state`; everything is at rest, as velocities are not observed."""
        from .kitchen_robots import KitchenRobots

        if not isinstance(robot, KitchenRobots):
            raise SpecError(f"kitchen set_state: expected robots of this family, got {type(robot).__name__}; make them")
        return robot.reset_to(rows, observation)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.episode_steps

    @property
    def play_origin(self) -> str:
        """See `Plays.play_origin`."""
        orders = "random orders without those of the published test tasks"
        return f"scripted demonstrations of four subtasks in {orders}; no person"

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: scripted demonstrations of four subtasks, none in the order of a test task."""
        return play_demonstrations(
            self.demonstrations,
            rows,
            seed,
            held_out=goals_of(self.tasks().test),
            threads=threads,
            show_goal=self._show_goal,
            noise_ratio=self.noise_ratio,
            episode_steps=self.episode_steps,
        )

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("mujoco", "gymnasium-robotics")


def _make_task(order: str) -> Task:
    return Task(order, tuple(float(digit) for digit in order))
