"""The maze of SiMPL in the meta-RL benchmark, see `robots.py`, and learners on it.

The learners are those of other cells; this file, with what it imports, is the code version of these cells, so that a
change of the maze counts.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...robots.maze import EPISODE_STEPS
from ...robots.robot import Float, RobotBatch
from ...robots.task import goals_of
from ..robot_choice import MazeConfig, TaskConfig, make_robot, make_tasks
from .cloning import BcMamlChoice, BcPearlChoice
from .maml import MamlChoice
from .pearl import PearlChoice
from .rl2 import Rl2Choice
from .robots import Split

MODULE = "pipeline/bench/maze.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class MazePearl(PearlChoice):
    """PEARL in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeRl2(Rl2Choice):
    """RL2 in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeMaml(MamlChoice):
    """MAML in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeBcPearl(BcPearlChoice):
    """BC+PEARL in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeBcMaml(BcMamlChoice):
    """BC+MAML in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMazes:
    """The point mass of Nam et al. 2022 in one maze: a goal pays 1 and ends the episode, so a return is a success."""

    maze: MazeConfig = field(default_factory=MazeConfig)
    tasks: TaskConfig = field(default_factory=TaskConfig)

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return f"point-maze-{self.maze.layout_size}-seed{self.maze.layout_seed}"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return make_robot(self.maze, rows, 1)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        tasks = make_tasks(self.maze, self.tasks)
        return Split(tasks.name, goals_of(tasks.train), goals_of(tasks.test))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: 1 where a planner is known to reach every goal in time."""
        return 1.0 if self.maze.published and self.maze.episode_steps >= EPISODE_STEPS else None
