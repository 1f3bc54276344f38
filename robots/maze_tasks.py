"""Task sets of the maze: the published goal lists, and a generator of disjoint ones for any layout, size and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError, SourceError
from .maze_layout import Layout, geodesic_distance, start_cell
from .task import Task, TaskSet

Goals = tuple[tuple[int, int], ...]

FLAT_40_TRAIN: Goals = (
    (8, 2), (19, 19), (8, 6), (5, 11), (14, 2), (2, 4), (9, 6), (15, 20), (6, 14), (7, 19),
    (11, 8), (9, 19), (11, 6), (19, 5), (14, 6), (20, 5), (11, 18), (2, 6), (18, 16), (17, 16),
    (4, 4), (4, 18), (12, 9), (14, 1), (14, 4), (12, 19), (4, 8), (4, 12), (18, 5), (10, 8),
    (12, 5), (20, 2), (6, 15), (1, 16), (18, 2), (19, 12), (4, 10), (6, 18), (3, 2), (15, 9),
)  # fmt: skip
FLAT_20_TRAIN: Goals = (
    (12, 13), (8, 20), (14, 7), (18, 15), (14, 12), (1, 11), (15, 15), (20, 6), (18, 4), (6, 14),
    (5, 10), (6, 15), (14, 9), (3, 14), (12, 19), (12, 4), (2, 11), (19, 13), (8, 18), (18, 5),
)  # fmt: skip
FLAT_TEST: Goals = (
    (12, 7), (1, 19), (5, 12), (2, 8), (5, 19), (19, 11), (11, 20), (7, 8), (15, 19), (20, 16),
)  # fmt: skip
NARROW_TRAIN: Goals = (
    (3, 20), (2, 18), (10, 19), (6, 18), (20, 19), (1, 20), (1, 18), (2, 20), (12, 20), (15, 20),
)  # fmt: skip
NARROW_TOP_TEST: Goals = (
    (5, 19), (13, 19), (11, 19), (17, 17), (9, 19), (2, 19), (1, 19), (8, 17), (3, 19), (9, 18),
)  # fmt: skip
NARROW_BOTTOM_TEST: Goals = (
    (4, 3), (13, 2), (11, 3), (12, 1), (20, 2), (1, 1), (9, 3), (7, 1), (1, 2), (14, 1),
)  # fmt: skip
PUBLISHED: dict[str, tuple[Goals, Goals]] = {
    "flat-40": (FLAT_40_TRAIN, FLAT_TEST),
    "flat-20": (FLAT_20_TRAIN, FLAT_TEST),
    "flat-10": (FLAT_20_TRAIN[:10], FLAT_TEST),
    "narrow-top": (NARROW_TRAIN, NARROW_TOP_TEST),
    "narrow-bottom": (NARROW_TRAIN, NARROW_BOTTOM_TEST),
}
"""Published task sets of the size-20 seed-0 maze: name -> (train goals, test goals), cells; the start is (10, 10)."""


def _tasks(goals: Goals) -> tuple[Task, ...]:
    return tuple(Task(f"goal_{x}_{y}", (float(x), float(y))) for x, y in goals)


def published_tasks(name: str) -> TaskSet:
    """A published task set.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in PUBLISHED:
        raise ConfigError(f"task set: expected one of {sorted(PUBLISHED)}, got '{name}'; choose a known set")
    train, test = PUBLISHED[name]
    return TaskSet(name, _tasks(train), _tasks(test))


def random_tasks(
    layout: Layout,
    num_train: int,
    num_test: int,
    seed: int,
    *,
    min_moves: int = 2,
    max_moves: int | None = None,
    start: tuple[int, int] | None = None,
) -> TaskSet:
    """Draws distinct goals among the cells that can be reached from the start.

    Args:
        layout: The maze.
        num_train: Train goals.
        num_test: Test goals; the first draw, so that they are the same for any `num_train`.
        seed: Seed of the draw.
        min_moves: Smallest geodesic distance of a goal from the start, cells.
        max_moves: Largest one; None for any.
        start: The start cell; None takes `start_cell(layout)`.

    Raises:
        ConfigError: The maze has too few such cells.
    """
    distance = geodesic_distance(layout, start_cell(layout) if start is None else start)
    cells = np.argwhere((distance >= min_moves) & (distance <= (distance.max() if max_moves is None else max_moves)))
    if len(cells) < num_train + num_test:
        raise ConfigError(
            f"task set: expected at most {len(cells)} goals in this maze, got {num_train} train + {num_test} test; "
            "ask for fewer tasks or a larger maze"
        )
    order = np.random.default_rng(seed).permutation(len(cells))[: num_train + num_test]
    goals: Goals = tuple((int(i), int(j)) for i, j in cells[order])
    return TaskSet(f"random-{num_train}-{num_test}-{seed}", _tasks(goals[num_test:]), _tasks(goals[:num_test]))


def require_reachable(layout: Layout, tasks: Sequence[Task], where: str) -> None:
    """Checks that every goal lies in a free cell that the robot can reach; for goals that a user wrote.

    Args:
        layout: The maze.
        tasks: Tasks with goals x, y in cells; they need not be whole numbers.
        where: What the tasks were read from, for the message.

    Raises:
        SourceError: Naming the first task whose goal cannot be reached.
    """
    cells = np.argwhere(geodesic_distance(layout, start_cell(layout)) >= 0)
    for task in tasks:
        goal = np.array(task.goal)
        if goal.shape != (2,):
            raise SourceError(f"{where}: expected goals x, y, got {task.goal} for '{task.name}'; correct the goal")
        # a cell is one wide and its centre is c - 0.2 in the robot's coordinates
        if not ((cells - 0.7 <= goal) & (goal <= cells + 0.3)).all(axis=1).any():
            raise SourceError(
                f"{where}: expected goals in free cells (cell c goes from c - 0.7 to c + 0.3), got {task.goal} for "
                f"'{task.name}'; move the goal into a corridor"
            )
