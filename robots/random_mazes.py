"""Random mazes: find a goal that cannot be seen, again and again, in a maze that is new in each task.

Sources: Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever, "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018 (arXiv 1803.01118), Section 4.2: 20 x 20 squares, a single goal, a random start, a
penalty for running into walls, observations of the state only. From its public code come the 3 x 3 window of walls, the
reward (1 + 1/H) goal - 0.001 wall - 1/H with H the time limit, and the end of the episode at the goal. Its mazes were
never published.

Ours:
  - Mazes are carved by a randomised depth-first walk over rooms, which gives exactly one path between any two cells;
    with probability `braid` a dead end is then opened into a loop. Sides are odd and count the outer walls.
  - The start is uniform over the free cells, the goal uniform over those at 1 .. `max_path` steps from it, and the time
    limit is four times `max_path`, so every task can be solved in a quarter of its time. Both belong to the task.
  - The code also shows the last action and reward and marks new episodes; here the loop that runs the trial adds those.

Axes: R rows, r rows of this call, O observation, A = 1 action, G = 1 goal (the id), P = side^2 cells in reading order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..bounds import Count, NonNegative, Range, Share, require_bounds
from ..errors import ConfigError
from .array_robots import ArrayRobots, Index
from .board_bank import BOARD_ID, BoardBank, make_board_tasks
from .family import ONLY_TASKS, TellsSuccess
from .maze_layout import Layout, geodesic_distance
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet

MOVES = ("up", "down", "left", "right")
"""The actions."""
STEPS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Change of (row, column) by each action."""
CONTROL_PERIOD = 1.0
"""A grid has no clock; one step counts as one second."""
_LAYOUT_STREAM, _ENDS_STREAM = range(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomMazeConfig:
    """One distribution of mazes.

    Raises:
        ConfigError: A field is out of its range.
    """

    size: Annotated[int, Range(5, 101)] = 21
    """Cells per side with the outer walls; odd, 5 .. 101."""
    braid: Share = 0.0
    """Probability that a dead end is opened; 0 .. 1."""
    max_path: Count = 40
    """The goal lies at most this many steps from the start; > 0."""
    wall_penalty: NonNegative = 1e-3
    """Taken off the reward when running into a wall; >= 0."""
    show_position: bool = False
    """Add the agent's place to the observation, one-hot over the cells within the outer walls."""

    def __post_init__(self) -> None:
        require_bounds(self)
        if self.size % 2 == 0:
            raise ConfigError(f"RandomMazeConfig.size: expected an odd number, got {self.size}; change it")


RANDOM_MAZE_PRESETS: dict[str, RandomMazeConfig] = {
    "7": RandomMazeConfig(size=7, max_path=12),
    "11": RandomMazeConfig(size=11, max_path=20),
    "21": RandomMazeConfig(),
}
"""Mazes of three sizes."""


class RandomMaze(NamedTuple):
    """One task. Cells are indices in reading order, outer walls included."""

    target: NDArray[np.int16]
    """Where a move leads from a cell; the cell itself where a wall is in the way. Shape (4, P)."""
    window: NDArray[np.uint8]
    """1 for each wall among the 3 x 3 cells around a cell, shape (P, 9); 0 around walls, where nobody stands."""
    start: NDArray[np.int64]
    """Shape ()."""
    goal: NDArray[np.int64]
    """Shape ()."""
    shortest: NDArray[np.int64]
    """Steps of the shortest path from start to goal, shape ()."""


def carve_layout(config: RandomMazeConfig, rng: np.random.Generator) -> Layout:
    """Walls of a random maze, shape (size, size); rooms stand at odd rows and columns."""
    layout = np.ones((config.size, config.size), np.bool_)
    rooms = (config.size - 1) // 2
    room = (int(rng.integers(rooms)), int(rng.integers(rooms)))
    layout[_cell(room)] = False
    trail = [room]
    while trail:
        room = trail[-1]
        closed = [other for other in _neighbours(room, rooms) if layout[_cell(other)]]
        if not closed:
            trail.pop()
            continue
        other = closed[int(rng.integers(len(closed)))]
        layout[_cell(other)] = layout[_door(room, other)] = False
        trail.append(other)
    for room in [(a, b) for a in range(rooms) for b in range(rooms)]:
        walled = [_door(room, other) for other in _neighbours(room, rooms) if layout[_door(room, other)]]
        doors = len(_neighbours(room, rooms)) - len(walled)
        if doors == 1 and rng.random() < config.braid:
            layout[walled[int(rng.integers(len(walled)))]] = False
    return layout


def _cell(room: tuple[int, int]) -> tuple[int, int]:
    return 2 * room[0] + 1, 2 * room[1] + 1


def _door(room: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The cell between two rooms side by side."""
    return room[0] + other[0] + 1, room[1] + other[1] + 1


def _neighbours(room: tuple[int, int], rooms: int) -> list[tuple[int, int]]:
    around = ((room[0] + down, room[1] + right) for down, right in STEPS.tolist())
    return [(a, b) for a, b in around if 0 <= a < rooms and 0 <= b < rooms]


def build_maze(layout: Layout, start: tuple[int, int], goal: tuple[int, int]) -> RandomMaze:
    """The task of going from `start` to `goal`.

    Args:
        layout: Walls, shape (n, n), all of the outermost cells among them.
        start: Free cell, row and column.
        goal: Another free cell.

    Raises:
        ConfigError: The layout is open at its border, or there is no path of at least one step.
    """
    border = np.ones(layout.shape, np.bool_)
    border[1:-1, 1:-1] = False
    if layout.shape[0] != layout.shape[1] or not layout[border].all():
        raise ConfigError(f"random maze: expected a square with walls all around, got {layout.shape}; close it")
    distance = int(geodesic_distance(layout, start)[goal])
    if distance < 1:
        raise ConfigError(f"random maze: expected a path from {start} to {goal}, got none; move them")
    width, walls = len(layout), layout.ravel()
    target = np.tile(np.arange(walls.size, dtype=np.int16), (4, 1))
    window = np.zeros((walls.size, 9), np.uint8)
    free = np.flatnonzero(~walls)
    around = (width * np.arange(-1, 2)[:, None] + np.arange(-1, 2)).ravel()
    window[free] = walls[free[:, None] + around]
    for action, step in enumerate(STEPS @ (width, 1)):
        ahead = free + step
        target[action, free] = np.where(walls[ahead], free, ahead)
    first, last = (np.array(row * width + column) for row, column in (start, goal))
    maze = RandomMaze(target, window, first, last, np.array(distance))
    for array in maze:
        array.setflags(write=False)
    return maze


def draw_maze(config: RandomMazeConfig, maze_id: int) -> RandomMaze:
    """The maze of an id: the same size, braid, longest path and id give the same maze."""
    layout_rng, ends_rng = (np.random.default_rng([maze_id, stream]) for stream in (_LAYOUT_STREAM, _ENDS_STREAM))
    layout = carve_layout(config, layout_rng)
    start = _draw_cell(~layout, ends_rng)
    distance = geodesic_distance(layout, start)
    return build_maze(layout, start, _draw_cell((distance >= 1) & (distance <= config.max_path), ends_rng))


def _draw_cell(among: Layout, rng: np.random.Generator) -> tuple[int, int]:
    cells = np.argwhere(among)
    row, column = cells[rng.integers(len(cells))]
    return int(row), int(column)


def make_random_maze_tasks(num_train: int = 32, num_test: int = 64) -> TaskSet:
    """The numbers of train and test mazes of Stadie et al., Appendix C: ids 0 .. 31 and 100 .. 163.

    Raises:
        SpecError: A split is empty.
    """
    return make_board_tasks("random-mazes", num_train, num_test)


def random_maze_spec(config: RandomMazeConfig, episode_steps: int | None = None) -> RobotSpec:
    """The contract of random mazes under this config; the time limit is four times the longest path by default."""
    names = [f"wall_{i}_{j}" for i in ("up", "at", "down") for j in ("left", "at", "right")]
    if config.show_position:
        inside = range(1, config.size - 1)
        names += [f"agent_{i}_{j}" for i in inside for j in inside]
    return RobotSpec(
        name="random_maze",
        observation=ArraySpec("observation", tuple(Axis(name, "1", 0.0, 1.0) for name in names)),
        action=make_choice_spec(MOVES),
        goal=BOARD_ID,
        control_period=CONTROL_PERIOD,
        episode_steps=4 * config.max_path if episode_steps is None else episode_steps,
        choices=MOVES,
    )


@final
class RandomMazeBatch(ArrayRobots):
    """Rows of agents, each in a maze of its own; see `RobotBatch` for the contract.

    Args:
        config: The mazes.
        rows: Number of agents, R.
        episode_steps: Time limit H, steps; None for four times the longest path.
        mazes: Mazes to use for some ids in place of the drawn ones.

    Mazes are drawn when they are first asked for (milliseconds) and kept (some kB each) as long as the batch.

    Raises:
        ConfigError: There are no rows, or a given maze does not have the size of the config.
        SpecError: `episode_steps` is below 1.
    """

    def __init__(
        self,
        config: RandomMazeConfig,
        rows: int,
        *,
        episode_steps: int | None = None,
        mazes: Mapping[int, RandomMaze] | None = None,
    ) -> None:
        super().__init__(random_maze_spec(config, episode_steps), rows)
        self._config = config
        self._cells = config.size**2
        given = dict(mazes or {})
        for maze_id, maze in given.items():
            if len(maze.window) != self._cells:
                raise ConfigError(
                    f"random maze {maze_id}: expected {self._cells} cells, got {len(maze.window)}; use a maze of the "
                    "config's size"
                )
        self._bank = BoardBank(lambda one: given[one] if one in given else draw_maze(config, one), next(iter(given), 0))
        inside = np.pad(np.arange((config.size - 2) ** 2).reshape((config.size - 2,) * 2), 1)
        self._place = inside.ravel()  # of a cell among those within the outer walls
        self._slot = np.zeros(rows, np.int64)
        self._cell = np.full(rows, config.size + 1)
        self._goal_cell = np.zeros(rows, np.int64)

    def shortest_steps(self, goals: Float) -> NDArray[np.int64]:
        """Steps of the shortest path of some tasks, shape (N, 1) -> (N,); what to compare an agent's steps with.

        Raises:
            SpecError: The goals are not maze ids.
        """
        where = "random_maze shortest_steps"
        slots = self._bank.slots(BOARD_ID.require_within(goals, where), where)  # before `arrays`, which may grow
        return self._bank.arrays.shortest[slots]

    def _check_goals(self, goals: Float, where: str) -> None:
        self._bank.slots(goals, where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        slot = self._bank.slots(goals, "random_maze reset")
        self._slot[index] = slot
        self._cell[index] = self._bank.arrays.start[slot]
        self._goal_cell[index] = self._bank.arrays.goal[slot]
        return self._observe(index)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        cell = self._cell[rows]
        after = self._bank.arrays.target.take((4 * self._slot[index] + action) * self._cells + cell)
        reached = after == self._goal_cell[index]
        pace = 1.0 / self._spec.episode_steps
        reward = (1.0 + pace) * reached - self._config.wall_penalty * (after == cell) - pace
        self._cell[index] = after
        return self._observe(index), reward.astype(np.float32), reached

    def _observe(self, index: Index) -> Float:
        cell = self._cell[index]
        seen: NDArray[np.uint8] = self._bank.arrays.window.reshape(-1, 9).take(
            self._slot[index] * self._cells + cell, axis=0
        )
        if not self._config.show_position:
            return seen.astype(np.float32)
        observation: Float = np.zeros((len(cell), *self._spec.observation.shape), np.float32)
        observation[:, :9] = seen
        observation[np.arange(len(cell)), 9 + self._place.take(cell)] = 1.0
        return observation


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomMazes(TellsSuccess):
    """Random mazes, 32 to train on and 64 others to test on, as Stadie et al."""

    maze: RandomMazeConfig = field(default_factory=RandomMazeConfig)
    num_train: int = field(default=32, metadata=ONLY_TASKS)
    num_test: int = field(default=64, metadata=ONLY_TASKS)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"maze-{self.maze.size}"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return random_maze_spec(self.maze)

    def make(self, rows: int, threads: int = 1) -> RandomMazeBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return RandomMazeBatch(self.maze, rows)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        return make_random_maze_tasks(self.num_train, self.num_test)

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: the goal pays 1, and nothing else pays."""
        success: Bool = reward > 0.0
        return success
