"""How soon a goal of the maze can be found: an explorer that knows the map and always goes to the nearest unseen cell.

It walks on the grid and sees its cell and the four beside it, as a goal is felt within `GOAL_RADIUS`, walls or not. An
episode is a number of cells, from the start. It is a reference and no bound: a planned tour may find more.

Axes: W side of the layout, E episodes, N goals.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from supple.robots.maze import GOAL_RADIUS
from supple.robots.maze_layout import Layout, start_cell
from supple.robots.planner import MOVES

Cell = tuple[int, int]


def explore(layout: Layout, episodes: int, cells: int, seed: int) -> list[list[Cell]]:
    """The cells that each episode visits, in order, its start first.

    Args:
        layout: Walls, (W, W).
        episodes: E.
        cells: Moves of an episode.
        seed: Decides between cells that are equally near.
    """
    rng = np.random.default_rng(seed)
    unseen = {(int(i), int(j)) for i, j in np.argwhere(~np.asarray(layout, np.bool_))}
    tours = []
    for _ in range(episodes):
        at = start_cell(layout)
        tour = [at]
        unseen -= _seen_from(at)
        while len(tour) <= cells:
            way = _find_way(layout, at, unseen, rng)
            if not way:
                break
            for at in way[: cells + 1 - len(tour)]:
                tour.append(at)
                unseen -= _seen_from(at)
        tours.append(tour)
    return tours


def _seen_from(cell: Cell) -> set[Cell]:
    """The cell and those beside it: a goal there is felt."""
    return {cell, *((cell[0] + int(move[0]), cell[1] + int(move[1])) for move in MOVES)}


def _find_way(layout: Layout, start: Cell, targets: set[Cell], rng: np.random.Generator) -> list[Cell]:
    """A shortest way to the nearest of the targets, without its start; empty where none can be reached."""
    before: dict[Cell, Cell] = {start: start}
    queue = deque([start])
    while queue:
        at = queue.popleft()
        if at in targets:
            way = []
            while at != start:
                way.append(at)
                at = before[at]
            return way[::-1]
        for move in MOVES[rng.permutation(len(MOVES))]:
            beside = (at[0] + int(move[0]), at[1] + int(move[1]))
            if not layout[beside] and beside not in before:
                before[beside] = at
                queue.append(beside)
    return []


def compute_found(
    layout: Layout, goals: NDArray[np.float32], episodes: int, cells: int, seed: int
) -> NDArray[np.bool_]:
    """Whether a goal was felt in the first 1 to E episodes, (E, N)."""
    felt = np.zeros((episodes, len(goals)), np.bool_)
    for episode, tour in enumerate(explore(layout, episodes, cells, seed)):
        distance = np.linalg.norm(np.array(tour, np.float64)[:, None] - goals, axis=-1)
        felt[episode] = (distance <= GOAL_RADIUS).any(axis=0)
    found: NDArray[np.bool_] = np.logical_or.accumulate(felt, axis=0)
    return found
