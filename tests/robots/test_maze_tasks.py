import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SourceError
from supple.robots import maze_tasks
from supple.robots.maze_layout import geodesic_distance, make_layout, start_cell
from supple.robots.maze_tasks import PUBLISHED, published_tasks, random_tasks, require_reachable
from supple.robots.task import Task

LAYOUT = make_layout(20, 0)
MOVES = geodesic_distance(LAYOUT, (10, 10))


@pytest.mark.parametrize(
    ("goals", "count", "low", "mean", "high"),
    [
        (maze_tasks.FLAT_40_TRAIN, 40, 2, 12.0, 22),
        (maze_tasks.FLAT_20_TRAIN, 20, 5, 11.2, 19),
        (maze_tasks.FLAT_20_TRAIN[:10], 10, 5, 11.3, 16),
        (maze_tasks.FLAT_TEST, 10, 5, 13.2, 22),
        (maze_tasks.NARROW_TRAIN, 10, 12, 18.4, 23),
        (maze_tasks.NARROW_TOP_TEST, 10, 14, 16.9, 20),
        (maze_tasks.NARROW_BOTTOM_TEST, 10, 10, 14.9, 18),
    ],
)
def test_published_goals_are_as_far_as_published(
    goals: maze_tasks.Goals, count: int, low: int, mean: float, high: int
) -> None:
    moves = np.array([MOVES[goal] for goal in goals])
    assert len(set(goals)) == count
    assert (moves.min(), moves.max()) == (low, high)
    assert moves.mean() == pytest.approx(mean, abs=0.051)


def test_published_sets_are_the_published_ones() -> None:
    assert set(PUBLISHED) == {"flat-40", "flat-20", "flat-10", "narrow-top", "narrow-bottom"}
    sizes = {name: (len(published_tasks(name).train), len(published_tasks(name).test)) for name in PUBLISHED}
    assert sizes.pop("flat-40") == (40, 10)
    assert sizes.pop("flat-20") == (20, 10)
    assert set(sizes.values()) == {(10, 10)}
    assert len(set(maze_tasks.FLAT_40_TRAIN) & set(maze_tasks.FLAT_20_TRAIN)) == 4
    assert all(y >= 18 for _, y in maze_tasks.NARROW_TRAIN)
    assert all(y >= 17 for _, y in maze_tasks.NARROW_TOP_TEST)
    assert all(y <= 3 for _, y in maze_tasks.NARROW_BOTTOM_TEST)
    first = published_tasks("flat-40").test[0]
    assert first == Task("goal_12_7", (12.0, 7.0))


def test_published_test_goals_lie_as_near_to_the_train_goals_as_published() -> None:
    test, train = np.array(maze_tasks.FLAT_TEST), np.array(maze_tasks.FLAT_40_TRAIN)
    nearest = np.linalg.norm(test[:, None] - train, axis=-1).min(axis=1)
    assert nearest == pytest.approx([1.41, 3, 1, 2, 1.41, 1, 1.41, 2.24, 1, 2], abs=0.01)


def test_unknown_published_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task set: expected one of \['flat-10', .*'narrow-top'\], got 'flat-30'"):
        published_tasks("flat-30")


@given(st.integers(8, 20), st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_random_tasks_are_disjoint_reachable_and_away_from_the_start(
    size: int, layout_seed: int, num_train: int, num_test: int, seed: int
) -> None:
    layout = make_layout(size, layout_seed)
    tasks = random_tasks(layout, num_train, num_test, seed, min_moves=3)
    assert (len(tasks.train), len(tasks.test)) == (num_train, num_test)
    train, test = {task.goal for task in tasks.train}, {task.goal for task in tasks.test}
    assert len(train | test) == num_train + num_test
    moves = geodesic_distance(layout, start_cell(layout))
    assert all(moves[int(x), int(y)] >= 3 for x, y in train | test)
    require_reachable(layout, (*tasks.train, *tasks.test), "test")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_test_goals_are_the_same_for_any_number_of_train_goals(seed: int) -> None:
    sets = [random_tasks(LAYOUT, num_train, 10, seed) for num_train in (1, 10, 40, 200)]
    assert all(a.test == b.test for a, b in itertools.pairwise(sets))
    assert sets[2].train[:10] == sets[1].train


def test_random_tasks_differ_by_seed() -> None:
    assert random_tasks(LAYOUT, 40, 10, 0).test != random_tasks(LAYOUT, 40, 10, 1).test
    assert random_tasks(LAYOUT, 40, 10, 0) == random_tasks(LAYOUT, 40, 10, 0)


def test_too_many_random_tasks_are_refused() -> None:
    cells = np.count_nonzero(MOVES >= 2)
    random_tasks(LAYOUT, cells - 10, 10, 0)
    with pytest.raises(
        ConfigError, match=rf"expected at most {cells} goals in this maze, got {cells - 9} train \+ 10 test"
    ):
        random_tasks(LAYOUT, cells - 9, 10, 0)


def test_goals_of_a_user_must_be_reachable() -> None:
    published = [task for name in PUBLISHED for task in (*published_tasks(name).train, *published_tasks(name).test)]
    require_reachable(LAYOUT, published, "goals.csv")
    # in free cells, off their middle: cell 1 goes from 0.3 to 1.3
    require_reachable(LAYOUT, [Task("a", (10.5, 10.0)), Task("b", (0.35, 1.25))], "goals.csv")
    inside = np.argwhere(LAYOUT)[0]
    # in the outer wall beside a corridor, in the middle of a wall, and far off
    for goal in ((0.25, 1.0), (float(inside[0]), float(inside[1])), (20.35, 20.0), (30.0, 5.0)):
        with pytest.raises(
            SourceError, match=rf"goals\.csv: expected goals in free cells .*\({goal[0]}, .*'far'; move"
        ):
            require_reachable(LAYOUT, [published[0], Task("far", goal)], "goals.csv")
    with pytest.raises(SourceError, match=r"goals\.csv: expected goals x, y, got \(1\.0,\) for 'flat'"):
        require_reachable(LAYOUT, [Task("flat", (1.0,))], "goals.csv")


def test_goals_in_a_pocket_are_refused() -> None:
    layout = np.ones((12, 12), np.bool_)
    layout[2, 1:11] = False
    layout[8, 8] = False
    require_reachable(layout, [Task("corridor", (2.0, 9.0))], "goals.csv")
    with pytest.raises(SourceError, match=r"got \(8\.0, 8\.0\) for 'pocket'"):
        require_reachable(layout, [Task("pocket", (8.0, 8.0))], "goals.csv")
