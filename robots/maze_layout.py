"""Random maze layouts and their geometry.

The generator draws the layouts of Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, which took it
from the SPiRL fork of D4RL (Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020): walls of
random length and orientation, each with one door, placed where few walls are. The order of the random draws is part
of the layout.

Axes: the first index of a layout is the x axis of the robot, the second its y axis; cell (i, j) of the padded layout
has its centre at (i - 0.2, j - 0.2) in the robot's coordinates (see `maze.py`).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

Layout = NDArray[np.bool_]
_CLEARANCE = 5
"""Width of the box, cells, in which existing walls repel a new one."""


def make_layout(
    size: int,
    seed: int,
    *,
    min_length_fraction: float = 0.3,
    max_length_fraction: float = 0.5,
    coverage: float = 0.25,
    temperature: float = 20.0,
) -> Layout:
    """Draws a maze; True is a wall. Shape (size + 2, size + 2): the outermost cells are the border.

    Args:
        size: Cells per side without the border, at least 8.
        seed: Seed of the layout; (20, 0) is the published maze.
        min_length_fraction: Shortest wall, fraction of `size`.
        max_length_fraction: Longest wall, fraction of `size`.
        coverage: Stop when this fraction of the inner cells is wall, at most 0.5.
        temperature: The higher, the less the walls overlap.

    Raises:
        ConfigError: `size` is too small for a wall with a door, the length fractions are not ordered within 0 .. 1, or
            `coverage` is not within 0 .. 0.5 (doors keep it from rising much further).
    """
    if size < 8:
        raise ConfigError(f"maze size: expected at least 8 cells, got {size}; use a larger maze")
    if not 0.0 <= min_length_fraction <= max_length_fraction <= 1.0:
        raise ConfigError(
            "maze walls: expected 0 <= min_length_fraction <= max_length_fraction <= 1, got "
            f"{min_length_fraction} and {max_length_fraction}; swap or lower them"
        )
    if not 0.0 < coverage <= 0.5:
        raise ConfigError(f"maze coverage: expected above 0 and at most 0.5, got {coverage}; use fewer walls")
    rng = np.random.default_rng(seed)
    inner = np.zeros((size, size), np.float64)
    while inner.mean() < coverage:
        along_first_axis = rng.random() < 0.5
        spread = (max_length_fraction - min_length_fraction) * size
        length = int(max(spread * rng.random() + min_length_fraction * size, 3))
        door = int(rng.choice(np.arange(1, length - 1)))
        # Working on the transposed view makes the wall always run along the first axis.
        view = inner if along_first_axis else inner.T
        density = _box_mean(view, length)
        if not along_first_axis:
            density = density.T
        weight = np.exp(-temperature * density)
        flat = int(rng.choice(np.arange(weight.size), p=(weight / np.sum(weight)).ravel()))
        first, second = np.unravel_index(flat, weight.shape)
        start, across = (int(first), int(second)) if along_first_axis else (int(second), int(first))
        across += _CLEARANCE // 2
        view[start : start + length, across] = 1.0
        view[start + door, across] = 0.0
        for jamb in (start + door - 1, start + door + 1):
            view[jamb, across - 1] = 1.0
            view[jamb, across + 1] = 1.0
    return np.pad(inner.astype(np.bool_), 1, constant_values=True)


def _box_mean(walls: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Mean of `walls` in every box of `length` by `_CLEARANCE` cells that lies inside."""
    windows = np.lib.stride_tricks.sliding_window_view(walls, (length, _CLEARANCE))
    mean: NDArray[np.float64] = windows.mean(axis=(2, 3))
    return mean


def layout_to_text(layout: Layout) -> str:
    """The layout as D4RL maze text: rows joined by a backslash, `#` wall, `O` free."""
    return "\\".join("".join("#" if wall else "O" for wall in row) for row in layout)


def geodesic_distance(layout: Layout, cell: tuple[int, int]) -> NDArray[np.int64]:
    """Number of moves along free 4-neighbours from `cell` to each cell; -1 where it cannot be reached."""
    distance = np.full(layout.shape, -1, np.int64)
    if layout[cell]:
        return distance
    distance[cell] = 0
    queue = deque([cell])
    while queue:
        i, j = queue.popleft()
        for neighbour in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if not layout[neighbour] and distance[neighbour] < 0:
                distance[neighbour] = distance[i, j] + 1
                queue.append(neighbour)
    return distance


def start_cell(layout: Layout) -> tuple[int, int]:
    """The cell nearest to the middle of the largest connected part of the maze; (10, 10) in the published maze.

    Raises:
        ConfigError: The layout has no free cell.
    """
    best = np.empty((0, 2), np.int64)
    seen = layout.copy()
    while not seen.all():
        i, j = np.argwhere(~seen)[0]
        part = geodesic_distance(layout, (int(i), int(j))) >= 0
        seen |= part
        if np.count_nonzero(part) > len(best):
            best = np.argwhere(part)
    if len(best) == 0:
        raise ConfigError(f"maze: expected a free cell, got a layout of {layout.size} walls; use another layout")
    middle = (np.array(layout.shape) - 2) / 2.0
    i, j = best[np.argmin(((best - middle) ** 2).sum(axis=1))]
    return int(i), int(j)
