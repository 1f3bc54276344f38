"""Robots and task sets of the meta-RL benchmark: what a cell of its table is trained and tested on.

Each family is a frozen dataclass, so that it is part of a stage's key. `oracle` is exact where it is a number: the mean
return of an episode, over the given tasks, of the best policy that knows the task. No learner can beat it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from ...robots.bandits import BernoulliBanditBatch, make_bernoulli_bandit_tasks
from ...robots.gridnavi import CANDIDATES, GridNaviBatch, draw_gridnavi_goals
from ...robots.krazy_boards import KrazyConfig
from ...robots.krazy_world import KrazyBatch, make_krazy_tasks
from ...robots.movement_bandits import FIELD, POINTS, MovementBanditBatch
from ...robots.navigation import NAVIGATION_2D, Navigation, NavigationBatch, make_navigation_tasks
from ...robots.oracles import (
    gridnavi_known_goal_return,
    movement_bandit_optimal_returns,
    navigation_optimal_returns,
    solve_tabular,
)
from ...robots.random_mazes import RandomMazeBatch, RandomMazeConfig, make_random_maze_tasks
from ...robots.robot import Float, RobotBatch
from ...robots.tabular import TabularBatch, make_tabular_tasks, unpack_tables
from ...robots.task import TaskSet, goals_of


class Split(NamedTuple):
    """Goals to train on and goals to test on."""

    name: str
    """What records call the tasks."""
    train: Float
    """Shape (N_train, G)."""
    test: Float
    """Shape (N_test, G)."""


class BenchRobot(Protocol):
    """A robot family with its tasks."""

    @property
    def name(self) -> str:
        """Of the family."""
        ...

    def make_robot(self, rows: int) -> RobotBatch:
        """So many robots side by side."""
        ...

    def make_split(self) -> Split:
        """The tasks, the same at every call."""
        ...

    def oracle(self, goals: Float) -> float | None:
        """Mean return of an episode of the best policy that knows these goals, shape (N, G); None where unknown."""
        ...


def split_of(tasks: TaskSet) -> Split:
    """The goals of a task set, whose splits are disjoint by construction."""
    return Split(tasks.name, goals_of(tasks.train), goals_of(tasks.test))


@dataclass(frozen=True, slots=True, kw_only=True)
class BernoulliBandits:
    """Bandits whose arms pay 1 with probabilities from U[0, 1]; an episode is all pulls."""

    pulls: int
    arms: int
    num_train: int = 100_000
    """Train tasks; Duan et al. draw new ones for each trial, and so many stand in for that."""
    num_test: int = 4096
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return f"bandit-{self.pulls}-{self.arms}"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return BernoulliBanditBatch(rows, arms=self.arms, episode_steps=self.pulls)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_bernoulli_bandit_tasks(self.num_train, self.num_test, self.task_seed, arms=self.arms))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: always the best arm."""
        return float(self.pulls * goals.max(axis=1).mean(dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularMdps:
    """The random MDPs of Duan et al.: 10 states, 5 actions, episodes of 10 steps."""

    num_train: int = 4096
    """Train tasks; Duan et al. draw new ones for each trial."""
    num_test: int = 512
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return "tabular"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return TabularBatch(rows)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_tabular_tasks(self.num_train, self.num_test, self.task_seed))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: backward induction from the first state."""
        value, _ = solve_tabular(unpack_tables(goals), TabularBatch(1).spec.episode_steps)
        return float(value[:, 0].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class PointNavigation:
    """A point that has to find a goal in the plane."""

    variant: Navigation = NAVIGATION_2D
    num_train: int = 2000
    """Train goals; Finn et al. draw new ones for each meta-update."""
    num_test: int = 40
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return self.variant.name.replace("_", "-")

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return NavigationBatch(self.variant, rows)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_navigation_tasks(self.variant, self.num_train, self.num_test, self.task_seed))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: straight to the goal, from the origin; unknown where starts are random."""
        if self.variant.start_extent > 0.0:
            return None
        return float(navigation_optimal_returns(self.variant, np.zeros_like(goals), goals).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class GridNavi:
    """GridNavi as published, trained and tested on all 21 goal cells: it measures search, no held-out task."""

    num_train: int = 2100
    """Draws, with replacement, from which tasks are taken."""
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return "gridnavi"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return GridNaviBatch(rows)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        train = draw_gridnavi_goals(self.num_train, np.random.default_rng(self.task_seed))
        return Split("gridnavi-all-21", train, np.array(CANDIDATES, np.float32))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: the shortest way to the goal."""
        return float(gridnavi_known_goal_return(goals).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementBandits:
    """MovementBandits as published, trained and tested on both tasks: it measures adapting, no held-out task."""

    num_train: int = POINTS
    """Train tasks: the two in turn."""

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return "movement-bandits"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return MovementBanditBatch(rows)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        both = np.arange(POINTS, dtype=np.float32)[:, None]
        return Split("movement-bandits-both", np.resize(both, (self.num_train, 1)), both)

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: the nearest place that pays; points are the middles of 100 x 100 cells."""
        middle = (np.arange(100, dtype=np.float32) + 0.5) * np.float32(FIELD / 100.0)
        # column by column: the oracle tries every place for every point
        columns = [np.stack((np.full_like(middle, x), middle), axis=1) for x in middle]
        return float(np.mean([movement_bandit_optimal_returns(points).mean() for points in columns]))


@dataclass(frozen=True, slots=True, kw_only=True)
class KrazyWorld:
    """Boards of Krazy World, 32 to train on and 64 others to test on, as Stadie et al."""

    board: KrazyConfig = field(default_factory=KrazyConfig)
    episode_steps: int = 50
    """Time limit; no less than `board.max_tour`, in which every board can be solved."""
    num_train: int = 32
    num_test: int = 64

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        colours = "" if self.board.shuffle_palette else "-fixed-colours"
        return f"krazy-{self.board.size}x{self.board.size}{colours}"

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return KrazyBatch(self.board, rows, episode_steps=self.episode_steps)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_krazy_tasks(self.num_train, self.num_test))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: all goals, since boards are drawn until they can be solved in `max_tour` steps."""
        return float(self.board.num_goals) if self.episode_steps >= self.board.max_tour else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomMazes:
    """Random mazes, 32 to train on and 64 others to test on, as Stadie et al."""

    maze: RandomMazeConfig = field(default_factory=RandomMazeConfig)
    num_train: int = 32
    num_test: int = 64

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return f"maze-{self.maze.size}"

    def make_robot(self, rows: int) -> RandomMazeBatch:
        """See `BenchRobot.make_robot`."""
        return RandomMazeBatch(self.maze, rows)

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_random_maze_tasks(self.num_train, self.num_test))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`: the shortest way to the goal, 1 + 1/H - d/H for d of H steps."""
        robot = self.make_robot(1)
        return float(1.0 + (1.0 - robot.shortest_steps(goals).mean()) / robot.spec.episode_steps)
