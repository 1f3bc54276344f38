"""The maze of Nam et al. as a robot family: walls by size and seed, and its task sets.

Source: Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, see `maze.py`; play data after the maze2d
generator of Fu et al., "D4RL", 2020, see `planner.py`.

Axes: r rows, R rows, T time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from ..bounds import Bounded, Count, Range, Seed
from ..errors import ConfigError, SpecError
from .family import (
    ONLY_TASKS,
    Camera,
    ChecksTasks,
    Draws,
    Films,
    PlayChunk,
    Plays,
    Scene,
    SetsState,
    TellsSuccess,
)
from .maze import BODY_OFFSET, EPISODE_STEPS, GOAL_RADIUS, MazeBatch, make_maze_model, maze_spec
from .maze_layout import Layout, make_layout, start_cell
from .maze_tasks import PUBLISHED, published_tasks, random_tasks, require_reachable
from .planner import PlannerConfig, play
from .robot import Bool, Float, RobotBatch, Rows
from .spec import RobotSpec
from .task import Task, TaskSet

TaskSetName = Literal["auto", "flat-40", "flat-20", "flat-10", "narrow-top", "narrow-bottom", "random"]
REWARD_RADIUS = 0.5
"""D4RL's maze2d pays 1 within this distance of the planner's goal, cells; nothing that is trained reads it."""
CENTRE = -0.2
"""Centre of cell 0 in the robot's coordinates, cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maze(Plays, TellsSuccess, SetsState, Draws, Films, ChecksTasks, Bounded):
    """A point mass in a random maze; with size 20 and seed 0 the published one.

    Raises:
        ConfigError: A field is one that no maze or task set can have; the message names it.
    """

    layout_size: Annotated[int, Range(8, 200)] = 20
    """Cells per side without the border; the published maze has 20."""
    layout_seed: Seed = 0
    """Seed of the walls; 0 with size 20 is the published maze."""
    episode_steps: Count = EPISODE_STEPS
    """Time limit of one episode, low-level steps (published)."""
    task_set: TaskSetName = field(default="auto", metadata=ONLY_TASKS)
    """A published set, or `random`; `auto` takes the published set of that many tasks in the published maze."""
    num_train_tasks: Annotated[int, Range(1, 10_000)] = field(default=40, metadata=ONLY_TASKS)
    """Train goals, for `random` and `auto`."""
    num_test_tasks: Annotated[int, Range(1, 10_000)] = field(default=10, metadata=ONLY_TASKS)
    """Test goals, for `random` and `auto`."""
    task_seed: Seed = field(default=0, metadata=ONLY_TASKS)
    """Seed of `random`."""
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    """How play data is made."""

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"point-maze-{self.layout_size}-seed{self.layout_seed}"

    @property
    def published(self) -> bool:
        """Whether this is the published maze, for which the published task sets hold."""
        return (self.layout_size, self.layout_seed) == (20, 0)

    def layout(self) -> Layout:
        """The walls."""
        return make_layout(self.layout_size, self.layout_seed)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return maze_spec(self.layout(), self.episode_steps)

    def make(self, rows: int, threads: int = 1) -> MazeBatch:
        """See `RobotFamily.make`."""
        return MazeBatch(self.layout(), rows, threads=threads, episode_steps=self.episode_steps)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`.

        Raises:
            ConfigError: A published set outside the published maze, or more goals than the maze has cells.
        """
        name: str = self.task_set
        if name == "auto":
            same = self.published and self.num_test_tasks == 10 and f"flat-{self.num_train_tasks}" in PUBLISHED
            name = f"flat-{self.num_train_tasks}" if same else "random"
        if name == "random":
            return random_tasks(self.layout(), self.num_train_tasks, self.num_test_tasks, self.task_seed)
        if not self.published:
            raise ConfigError(
                f"--robot.task-set: expected auto or random in maze {self.layout_size}/{self.layout_seed}, got {name}; "
                "the published goals are for the maze of size 20, seed 0"
            )
        return published_tasks(name)

    def require_tasks(self, tasks: Sequence[Task], where: str) -> None:
        """See `ChecksTasks.require_tasks`."""
        require_reachable(self.layout(), tasks, where)

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: the goal pays 1, everything else 0."""
        success: Bool = reward > 0.0
        return success

    @property
    def place_axes(self) -> tuple[str, ...]:
        """See `SetsState.place_axes`."""
        return ("x", "y")

    def set_state(self, robot: RobotBatch, rows: Rows, observation: Float) -> Float:
        """See `SetsState.set_state`."""
        if not isinstance(robot, MazeBatch):
            raise SpecError(f"maze set_state: expected robots of this family, got {type(robot).__name__}; make them")
        goals = np.full((len(rows), 2), -1.0, np.float32)  # in the border: nothing ends there
        position, velocity = observation[:, :2].astype(np.float64), observation[:, 2:].astype(np.float64)
        return robot.reset_to(rows, goals, position, velocity)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.planner.episode_steps

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: a waypoint planner between random cells."""
        for chunk in play(self.layout(), self.planner, rows=rows, seed=seed, threads=threads):
            position = chunk.observation[..., :2]
            reached = np.linalg.norm(position - chunk.goal, axis=-1) <= REWARD_RADIUS
            infos = {"qpos": position, "qvel": chunk.observation[..., 2:], "goal": chunk.goal}
            yield PlayChunk(chunk.observation, chunk.action, reached.astype(np.float32), infos)

    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """See `Films.open_camera`: from above, with the goal in green."""
        from .mujoco_camera import Mark, MujocoCamera, View

        if not isinstance(robot, MazeBatch):
            raise SpecError(f"maze camera: expected robots of this family, got {type(robot).__name__}; make them")
        side, middle = max(robot.layout.shape), 0.5 * max(robot.layout.shape) + 0.5
        view = View(center=(middle, middle, 0.0), distance=1.25 * side, azimuth=90.0, elevation=-90.0)
        place = (float(goal[0]) + BODY_OFFSET, float(goal[1]) + BODY_OFFSET, 0.0)
        marks, grow = (Mark(place, GOAL_RADIUS, (0.1, 0.7, 0.2, 0.5)),), {"particle": 4.0}
        model = make_maze_model(robot.layout)
        return MujocoCamera(model, lambda row: robot.qpos[row], view, height, width, marks, grow=grow)

    def scene(self) -> Scene:
        """See `Draws.scene`."""
        layout = self.layout()
        ends = tuple((CENTRE - 0.5, size + CENTRE - 0.5) for size in layout.shape)
        start = start_cell(layout)
        return Scene(
            axes=("x", "y"),
            goal_axes=("x", "y"),
            unit="cell",
            limits=(ends[0], ends[1]),
            polygons=tuple(_wall_outlines(layout)),
            goal_radius=GOAL_RADIUS,
            start=(float(start[0]), float(start[1])),
        )


def _wall_outlines(layout: Layout) -> Iterator[np.ndarray]:
    """A rectangle for each run of wall cells along y, each (4, 2), in the robot's coordinates."""
    for i, row in enumerate(layout):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        for low, high in edges.reshape(-1, 2):
            left, bottom, top = i + CENTRE - 0.5, low + CENTRE - 0.5, high + CENTRE - 0.5
            yield np.array([(left, bottom), (left + 1, bottom), (left + 1, top), (left, top)])
