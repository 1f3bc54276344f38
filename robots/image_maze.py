"""Mazes that a robot sees: play data from mazes that are new in each episode, tasks in one larger maze.

Source: Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, appendix C: skills from random mazes of
20 x 20 cells, pictures of 32 x 32 pixels around the agent, 10 train and 10 test goals in an unseen maze of 40 x 40
cells. Robot, reward and time limit are those of `maze.py`. The goals were never published: ours are drawn, see
`most_moves`.

Axes: r rows, R rows, T time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..bounds import Bounded, Count, Range, Seed
from .family import ONLY_TASKS, Camera, ChecksTasks, Draws, Films, PlayChunk, PlaysElsewhere, Scene, TellsSuccess
from .maze import EPISODE_STEPS, MazeBatch, maze_spec
from .maze_family import Maze
from .maze_layout import Layout, make_layout, start_cell
from .maze_picture import IMAGE, MazeCamera
from .maze_tasks import random_tasks, require_reachable
from .planner import PlannerConfig, play
from .robot import Bool, Float, RobotBatch, Rows, Sees
from .spec import RobotSpec
from .task import Task, TaskSet

PUBLISHED_START = (10, 24)
"""Of the maze of size 40, seed 0."""
_PLAY_STREAM = 1


class ImageMazeBatch(MazeBatch, Sees):
    """Rows of point masses in one maze, each with a camera above it; see `RobotBatch` and `Sees`.

    Args:
        layout: Walls, shape (W, W).
        rows: Number of robots, R.
        spec: With the limits of the largest maze that the family has.
        threads: Physics threads.
        start: Start cell.
    """

    def __init__(self, layout: Layout, rows: int, spec: RobotSpec, *, threads: int, start: tuple[int, int]) -> None:
        super().__init__(layout, rows, threads=threads, start=start, episode_steps=spec.episode_steps)
        self._spec = spec
        self._camera = MazeCamera(layout)

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`."""
        return self._camera.draw(self._qpos[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMaze(PlaysElsewhere, TellsSuccess, Draws, Films, ChecksTasks, Bounded):
    """A point mass with a camera: skills from random mazes, tasks in an unseen, larger one.

    It does not inherit `SetsState`: the states of its data are of other mazes.

    Raises:
        ConfigError: A field is one that no maze or task set can have; the message names it.
    """

    layout_size: Annotated[int, Range(8, 200)] = 40
    """Cells per side of the maze of the tasks, without the border (published: 40)."""
    layout_seed: Seed = 0
    """Seed of its walls; 0 with size 40 is the published maze."""
    play_size: Annotated[int, Range(8, 200)] = 20
    """Cells per side of the mazes of the play data (published: 20)."""
    images: bool = True
    """Whether the robot has its camera; without it the same data, tasks and limits are those of a blind robot."""
    episode_steps: Count = EPISODE_STEPS
    """Time limit of one episode, low-level steps."""
    num_train_tasks: Annotated[int, Range(1, 10_000)] = field(default=10, metadata=ONLY_TASKS)
    """Train goals (published: 10)."""
    num_test_tasks: Annotated[int, Range(1, 10_000)] = field(default=10, metadata=ONLY_TASKS)
    """Test goals (published: 10)."""
    most_moves: Annotated[int, Range(2, 10_000)] = field(default=30, metadata=ONLY_TASKS)
    """Goals lie at most so many cells from the start, along the corridors."""
    task_seed: Seed = field(default=0, metadata=ONLY_TASKS)
    """Seed of the goals."""
    planner: PlannerConfig = field(default_factory=lambda: PlannerConfig(episode_steps=500, push=0.5))
    """How play data is made; every episode is in a maze of its own (published: at most 500 steps). Pushes show
    how to come back to the middle of a corridor, which skills that see would not know otherwise."""

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"{'image' if self.images else 'blind'}-maze-{self.layout_size}-seed{self.layout_seed}"

    @property
    def _maze(self) -> Maze:
        """The maze of the tasks as a robot without a camera."""
        return Maze(layout_size=self.layout_size, layout_seed=self.layout_seed, episode_steps=self.episode_steps)

    def layout(self) -> Layout:
        """The walls of the maze of the tasks."""
        return self._maze.layout()

    @property
    def start(self) -> tuple[int, int]:
        """The start cell."""
        published = (self.layout_size, self.layout_seed) == (40, 0)
        return PUBLISHED_START if published else start_cell(self.layout())

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`; one for the mazes of the data and that of the tasks, so that their limits agree."""
        side = max(self.layout_size, self.play_size) + 2
        spec = maze_spec(np.ones((side, side), np.bool_), self.episode_steps)
        return replace(spec, name="image-maze", image=IMAGE if self.images else None)

    def make(self, rows: int, threads: int = 1) -> ImageMazeBatch:
        """See `RobotFamily.make`."""
        return ImageMazeBatch(self.layout(), rows, self.spec(), threads=threads, start=self.start)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: cells by lot, of those that can be reached from the start in `most_moves`.

        Raises:
            ConfigError: There are not so many cells.
        """
        drawn = random_tasks(
            self.layout(),
            self.num_train_tasks,
            self.num_test_tasks,
            self.task_seed,
            start=self.start,
            max_moves=self.most_moves,
        )
        return replace(drawn, name=drawn.name.replace("random", f"within-{self.most_moves}"))

    def require_tasks(self, tasks: Sequence[Task], where: str) -> None:
        """See `ChecksTasks.require_tasks`."""
        require_reachable(self.layout(), tasks, where)

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: the goal pays 1, everything else 0."""
        success: Bool = reward > 0.0
        return success

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.planner.episode_steps

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: one episode at a time, each in a new maze, whose seed is drawn from `seed`."""
        mazes = np.random.default_rng((seed, _PLAY_STREAM))
        while True:
            layout = make_layout(self.play_size, int(mazes.integers(2**62)))
            chunk = next(play(layout, self.planner, rows=1, seed=int(mazes.integers(2**62)), threads=threads))
            infos = {"qpos": chunk.observation[..., :2], "qvel": chunk.observation[..., 2:], "goal": chunk.goal}
            image = MazeCamera(layout).draw(chunk.observation[0, :, :2])[None] if self.images else None
            reward = np.zeros(chunk.observation.shape[:2], np.float32)
            yield PlayChunk(chunk.observation, chunk.action, reward, infos, image)

    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """See `Films.open_camera`: the whole maze from above, with the goal in green."""
        return self._maze.open_camera(robot, goal, height, width)

    def scene(self) -> Scene:
        """See `Draws.scene`."""
        return replace(self._maze.scene(), start=(float(self.start[0]), float(self.start[1])))
