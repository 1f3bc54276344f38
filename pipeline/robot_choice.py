"""Which robot and which tasks a run is about: the maze by its layout, and its task sets by name or by number."""

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import BundleError, ConfigError
from ..robots.maze import EPISODE_STEPS, MazeBatch, maze_spec
from ..robots.maze_layout import Layout, make_layout
from ..robots.maze_tasks import PUBLISHED, published_tasks, random_tasks
from ..robots.spec import RobotSpec
from ..robots.task import TaskSet

TaskSetName = Literal["auto", "flat-40", "flat-20", "flat-10", "narrow-top", "narrow-bottom", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeConfig:
    """The maze that the robot lives in."""

    layout_size: int = 20
    """Cells per side without the border; the published maze has 20."""
    layout_seed: int = 0
    """Seed of the walls; 0 with size 20 is the published maze."""
    episode_steps: int = EPISODE_STEPS
    """Time limit of one episode, low-level steps (published)."""

    def __post_init__(self) -> None:
        """Refuses what no maze can have.

        Raises:
            ConfigError: names the field.
        """
        if self.layout_size < 8:
            raise ConfigError(f"--layout-size: expected at least 8 cells, got {self.layout_size}; use a larger maze")
        if self.layout_seed < 0 or self.episode_steps < 1:
            raise ConfigError(
                f"maze: expected layout_seed >= 0 and episode_steps >= 1, got {self.layout_seed} and "
                f"{self.episode_steps}; correct them"
            )

    @property
    def published(self) -> bool:
        """Whether this is the published maze, for which the published task sets hold."""
        return (self.layout_size, self.layout_seed) == (20, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """Goals to train on and goals to test on, disjoint."""

    task_set: TaskSetName = "auto"
    """A published set, or `random`; `auto` takes the published set of that many tasks in the published maze."""
    num_train_tasks: int = 40
    """Train goals, for `random` and `auto`."""
    num_test_tasks: int = 10
    """Test goals, for `random` and `auto`."""
    task_seed: int = 0
    """Seed of `random`."""

    def __post_init__(self) -> None:
        """Refuses empty splits.

        Raises:
            ConfigError: names the field.
        """
        for name in ("num_train_tasks", "num_test_tasks"):
            if getattr(self, name) < 1:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag}: expected at least 1 task, got {getattr(self, name)}; ask for more")


def make_maze_layout(maze: MazeConfig) -> Layout:
    """The walls."""
    return make_layout(maze.layout_size, maze.layout_seed)


def make_robot(maze: MazeConfig, rows: int, threads: int, *, terminate_at_goal: bool = True) -> MazeBatch:
    """Rows of robots in the maze."""
    layout = make_maze_layout(maze)
    steps = maze.episode_steps
    return MazeBatch(layout, rows, threads=threads, episode_steps=steps, terminate_at_goal=terminate_at_goal)


def make_spec(maze: MazeConfig) -> RobotSpec:
    """The contract of these robots."""
    return maze_spec(make_maze_layout(maze), maze.episode_steps)


def make_tasks(maze: MazeConfig, tasks: TaskConfig) -> TaskSet:
    """The train and test goals.

    Raises:
        ConfigError: a published set outside the published maze, or more goals than the maze has cells.
    """
    name = tasks.task_set
    if name == "auto":
        same = maze.published and tasks.num_test_tasks == 10 and f"flat-{tasks.num_train_tasks}" in PUBLISHED
        name = f"flat-{tasks.num_train_tasks}" if same else "random"  # type: ignore[assignment]
    if name == "random":
        return random_tasks(make_maze_layout(maze), tasks.num_train_tasks, tasks.num_test_tasks, tasks.task_seed)
    if not maze.published:
        raise ConfigError(
            f"--task-set: expected auto or random in maze {maze.layout_size}/{maze.layout_seed}, got {name}; the "
            "published goals are for the maze of size 20, seed 0"
        )
    return published_tasks(name)


def load_maze_config(record: Any, where: str) -> MazeConfig:
    """The maze that a bundle or a stage was made for.

    Raises:
        BundleError: the record names no maze.
    """
    try:
        return MazeConfig(**record)
    except TypeError as error:
        raise BundleError(f"{where}: expected the maze it was made for, got {record!r}; export it again") from error
