import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError
from supple.robots.maze_layout import geodesic_distance, layout_to_text, make_layout, start_cell

LAYOUTS = st.builds(make_layout, st.integers(8, 24), st.integers(0, 2**32 - 1))

# first axis downwards, as the robot's x; second axis to the right, as its y
PUBLISHED = [
    "######################",
    "#OOOOOOOOOOOO#OOO#OOO#",
    "#OOOO#O#OOOOO#OOO#OOO#",
    "#OOO##O####OO#OOO#OOO#",
    "#OOOO#O#OOOOO#OOO#OOO#",
    "#OOOOOOOOOOOO#OO###OO#",
    "#OOOOOO#O#OOO#OOOOOOO#",
    "#O######O#OO###O###OO#",
    "#OOOOOO#O#OOOOOO#OOOO#",
    "#O#O#OOOOOOO###O#OOOO#",
    "#O#O####OOOOOOOO#OOOO#",
    "#O#O#OOOOOOOOOOO#OOOO#",
    "#OO#OOOO#O#OOOO####OO#",
    "#OO#OOOO#O######OO#OO#",
    "#OO#OOOO#O#OOOO####OO#",
    "#O###OOOOOOOOOOO#O#OO#",
    "#OOOOOOOOO#O#OOOO###O#",
    "#O###OO####O###OOOOOO#",
    "#OO#OOOOOO#O#OOOO###O#",
    "#OO#OOOOOOOOOOOOOO#OO#",
    "#OOOOOOOOOOOOOOOOO#OO#",
    "######################",
]


def test_published_layout() -> None:
    assert layout_to_text(make_layout(20, 0)).split("\\") == PUBLISHED


def test_layouts_of_other_sizes_and_seeds_stay_what_they_are() -> None:
    # the generator of the paper's authors, run once, drew these 150 layouts too
    digest = hashlib.sha256()
    for size in (10, 12, 16, 20, 40):
        for seed in range(30):
            digest.update(layout_to_text(make_layout(size, seed)).encode())
    assert digest.hexdigest() == "30b01c574097fb5872e4d50778eb4ef7ce066750ccd803737bfc835f0945ace8"


def test_published_layout_has_the_published_counts() -> None:
    layout = make_layout(20, 0)
    distance = geodesic_distance(layout, (10, 10))
    assert start_cell(layout) == (10, 10)
    assert np.count_nonzero(~layout) == 292
    assert np.count_nonzero(layout) == 192
    assert np.count_nonzero(distance >= 0) == 289
    assert distance.max() == 23
    # the pocket that no goal may stand in
    assert {(int(i), int(j)) for i, j in np.argwhere(~layout & (distance < 0))} == {(15, 17), (13, 17), (13, 16)}


@given(LAYOUTS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_layout_has_a_border_and_at_least_the_asked_walls(layout: np.ndarray) -> None:
    assert layout[0].all()
    assert layout[-1].all()
    assert layout[:, 0].all()
    assert layout[:, -1].all()
    assert layout[1:-1, 1:-1].mean() >= 0.25


@given(st.integers(8, 16), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_layout_is_a_function_of_its_seed(size: int, seed: int) -> None:
    assert np.array_equal(make_layout(size, seed), make_layout(size, seed))
    assert not np.array_equal(make_layout(size, seed), make_layout(size, seed + 1))


@given(LAYOUTS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_geodesic_distance_differs_by_one_between_neighbours(layout: np.ndarray) -> None:
    start = start_cell(layout)
    distance = geodesic_distance(layout, start)
    assert distance[start] == 0
    assert (distance[layout] == -1).all()
    for axis in (0, 1):
        here = np.take(distance, range(layout.shape[0] - 1), axis)
        there = np.take(distance, range(1, layout.shape[0]), axis)
        both_free = ~np.take(layout, range(layout.shape[0] - 1), axis) & ~np.take(
            layout, range(1, layout.shape[0]), axis
        )
        # a neighbour of a reachable cell is reachable, one move nearer or farther (a grid has no odd cycles)
        assert (np.abs(here - there)[both_free & (here >= 0)] == 1).all()
        assert (there[both_free & (here < 0)] < 0).all()
    for cell in np.argwhere(distance > 0):
        neighbours = [distance[tuple(cell + move)] for move in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        assert distance[tuple(cell)] - 1 in neighbours


def test_geodesic_distance_from_a_wall_reaches_nothing() -> None:
    layout = make_layout(20, 0)
    assert (geodesic_distance(layout, (0, 0)) == -1).all()


def test_start_is_in_the_largest_part_even_if_the_middle_is_not() -> None:
    layout = np.ones((12, 12), np.bool_)
    layout[5, 5] = False  # nearest to the middle, but alone
    layout[8, 1:11] = False
    assert start_cell(layout) == (8, 5)


def test_maze_without_a_free_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected a free cell, got a layout of 100 walls"):
        start_cell(np.ones((10, 10), np.bool_))


def test_bad_layout_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"maze size: expected at least 8 cells, got 7;"):
        make_layout(7, 0)
    with pytest.raises(ConfigError, match=r"min_length_fraction <= max_length_fraction <= 1, got 0\.6 and 0\.5;"):
        make_layout(20, 0, min_length_fraction=0.6)
    with pytest.raises(ConfigError, match=r"maze coverage: expected above 0 and at most 0\.5, got 0\.6;"):
        make_layout(20, 0, coverage=0.6)
