"""The explorer that knows the map, in a corridor and in the published maze."""

from itertools import pairwise

import numpy as np

from benchmarks.policies.maze_explorer import compute_found, explore
from supple.robots.maze_layout import geodesic_distance, make_layout, start_cell


def make_corridor() -> np.ndarray:
    """Nine free cells in a row inside walls; `start_cell` is somewhere among them."""
    layout = np.ones((11, 11), np.bool_)
    layout[5, 1:10] = False
    return layout


def test_an_episode_walks_over_free_cells_step_by_step() -> None:
    """From the start, so many moves at most, each to a cell beside."""
    layout = make_layout(20, 0)
    for tour in explore(layout, 2, 40, seed=0):
        assert tour[0] == start_cell(layout)
        assert len(tour) <= 41
        assert not any(layout[cell] for cell in tour)
        assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in pairwise(tour))


def test_a_corridor_is_seen_from_the_cell_before_its_end() -> None:
    """From (5, 5) 3 moves see one half: the last cell is felt from beside it. The next episode sees the other half."""
    layout = make_corridor()
    start = start_cell(layout)
    goals = np.array([(5, column) for column in range(1, 10)], np.float32)
    half = max(start[1] - 1, 9 - start[1]) - 1
    found = compute_found(layout, goals, 2, half, seed=0)
    assert found[0].sum() < len(goals)
    assert found[1].all()
    assert not (found[0] & ~found[1]).any()


def test_the_published_maze_is_seen_whole_in_eight_episodes() -> None:
    """Of 50 moves each; every cell that can be reached is felt, and one behind walls is not."""
    layout = make_layout(20, 0)
    distance = geodesic_distance(layout, start_cell(layout))
    goals = np.argwhere(distance >= 0).astype(np.float32)
    found = compute_found(layout, goals, 12, 50, seed=0)
    assert found[-1].all()
    assert found[0].mean() < 0.5
