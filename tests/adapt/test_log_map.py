"""The map of logs: counted ways, places, and choices that lead somewhere; on lines and grids with known answers."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.adapt import log_map
from supple.adapt.log_map import (
    MOST_PLACES,
    UNREACHED,
    LogMap,
    choose_places,
    compute_metric,
    count_skills,
    find_begins,
    find_nearest,
    lean_on,
    map_log,
    measure_gap,
    require_map,
)
from supple.errors import BundleError, SpecError

LINE = 40


def make_line() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two logged walks on a line of 40 cells, to the right and back to the left; the skill is the step itself."""
    right = np.arange(LINE, dtype=np.float32)
    state = np.concatenate([right, right[::-1]])[:, None]
    skill = np.concatenate([np.ones(LINE), -np.ones(LINE)]).astype(np.float32)[:, None]
    skill[[LINE - 1, 2 * LINE - 1]] = 0.0  # an episode's last state has none
    return state, skill, np.array([0, LINE])


def make_line_map(places: int = LINE) -> LogMap:
    """Every cell a place."""
    return LogMap(map_log(*make_line(), places))


def test_skills_between_places_are_counted_along_the_edges() -> None:
    """0 -> 1 -> 2 -> 0, and 3 -> 0, which nothing leads to."""
    found = count_skills(np.array([0, 1, 2, 3]), np.array([1, 2, 0, 0]), 4)
    no = UNREACHED
    assert found.tolist() == [[0, 1, 2, no], [2, 0, 1, no], [1, 2, 0, no], [1, 2, 3, 0]]


@given(
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(0, 69), st.integers(0, 69)), max_size=120),
)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_floyd_and_warshall(places: int, edges: list[tuple[int, int]]) -> None:
    """Also across the border of 64 bits."""
    kept = np.array([(a % places, b % places) for a, b in edges], np.int64).reshape(-1, 2)
    wanted = np.full((places, places), np.inf)
    wanted[kept[:, 0], kept[:, 1]] = 1.0
    np.fill_diagonal(wanted, 0.0)
    for middle in range(places):
        wanted = np.minimum(wanted, wanted[:, middle, None] + wanted[middle])
    found = count_skills(kept[:, 0], kept[:, 1], places).astype(float)
    assert np.array_equal(np.where(found == UNREACHED, np.inf, found), wanted)


def test_a_slow_axis_separates_states_more_than_a_fast_one() -> None:
    """Changes of .5 and of 4 standard deviations per skill: a distance of 1 along each is 2, and a quarter."""
    rng = np.random.default_rng(0)
    state = rng.uniform(-5.0, 5.0, (20_000, 2)).astype(np.float32)
    change = (rng.standard_normal((20_000, 2)) * (0.5, 4.0)).astype(np.float32)
    metric = compute_metric(state, state + change)
    assert np.linalg.norm(metric @ [1.0, 0.0]) == pytest.approx(2.0, rel=0.1)
    assert np.linalg.norm(metric @ [0.0, 1.0]) == pytest.approx(0.25, rel=0.1)


def test_an_axis_that_never_moves_leaves_the_metric_finite() -> None:
    """A constant axis of the data tells nothing and must not divide by zero."""
    state = np.stack([np.arange(50.0), np.zeros(50)], axis=1).astype(np.float32)
    assert np.isfinite(compute_metric(state, state + np.float32([1.0, 0.0]))).all()


def test_one_skill_alone_is_refused() -> None:
    """It has no deviation, and leads from nowhere to anywhere else."""
    with pytest.raises(SpecError, match="expected two skills at least, got 1; bring longer logs"):
        map_log(np.array([[0.0], [1.0]], np.float32), np.ones((2, 1), np.float32), np.array([0]), 8)


def test_axes_that_repeat_others_and_a_thing_that_rests_leave_the_metric_finite() -> None:
    """As of a base whose joint is its place: rounding made values of the covariance negative, and its roots NaN.

    What rests at 2 m trembles by a millionth of that: it separates nothing beside 0.1 m of motion.
    """
    rng = np.random.default_rng(0)
    moving = rng.uniform(-1.0, 1.0, (3000, 2))
    change = 0.1 * rng.standard_normal((3000, 2))
    resting = np.full((3000, 5), 2.0) + 2e-7 * rng.standard_normal((3000, 5))
    state = np.concatenate([moving, moving, resting, np.zeros((3000, 3))], axis=1).astype(np.float32)
    change = np.concatenate([change, change, 2e-7 * rng.standard_normal((3000, 5)), np.zeros((3000, 3))], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric = compute_metric(state, (state + change).astype(np.float32))
    assert np.isfinite(metric).all()
    near = np.zeros(12)
    near[4:9] = 1e-9
    assert np.linalg.norm(metric @ near) < 0.1
    assert np.linalg.norm(metric @ np.eye(12)[0]) > 5.0


@pytest.mark.parametrize(("steps", "left"), [(1000, 1.0), (100, 0.1)])
def test_what_is_not_rewarded_separates_less_where_logs_are_thin(steps: int, left: float) -> None:
    """A hand moves along one line, and eight joints at random: 1 % of what ten dimensions need is seen again by few.

    Of 50,000 states in a plane, one of another episode is always near.
    """
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((50, steps, 2 if left == 1.0 else 9)), axis=1)
    state = (20.0 * np.abs((walk / 20.0) % 2.0 - 1.0)).reshape(50 * steps, -1).astype(np.float32)
    start = np.arange(0, len(state), steps)
    begins = find_begins(len(state), start)
    metric = compute_metric(state[begins], state[begins + 1])
    hand = 3.0 * np.eye(1, state.shape[1], dtype=np.float32)
    found = lean_on(hand, metric, state, start, 1, 0)
    offset = rng.standard_normal(state.shape[1])
    offset[0] = 0.0
    assert np.allclose(found @ offset, left * (metric @ offset), atol=1e-4)
    assert np.allclose(found @ hand[0], metric @ hand[0], atol=1e-4)
    if left == 1.0:
        assert np.array_equal(found, metric)


def test_the_gap_of_logs_is_to_another_episode() -> None:
    """Skills of 1; each state of the first episode is .25 from one of the second, and 1 from the next of its own."""
    point = np.array([[0.0], [1.0], [2.0], [0.25], [1.25], [2.25]], np.float32)
    assert measure_gap(point, np.array([0, 3]), 1, np.arange(6)) == pytest.approx(0.25)


def test_each_place_is_the_farthest_from_those_before_it() -> None:
    """Of 0, 1, 2, 10 whoever comes first, the ends are among the first three."""
    for seed in range(5):
        point = np.array([[0.0], [1.0], [2.0], [10.0]], np.float32)
        chosen = choose_places(point, 3, np.random.default_rng(seed))[:, 0]
        assert {0.0, 10.0} <= set(chosen.tolist())
    assert len(choose_places(np.zeros((5, 1), np.float32), 3, np.random.default_rng(0))) == 1  # no place twice


def test_the_nearest_places_come_in_order() -> None:
    """Of places 0, 3, 4, 9 the nearest to 3.4 are 3, 4 and 0, at .16, .36 and 11.56."""
    place = np.array([[0.0], [3.0], [4.0], [9.0]], np.float32)
    index, squared = find_nearest(np.array([[3.4]], np.float32), place, 3)
    assert index.tolist() == [[1, 2, 0]]
    assert squared[0] == pytest.approx([0.16, 0.36, 11.56], rel=1e-4)


@pytest.mark.parametrize(("here", "there", "wanted"), [(10.0, 30.0, 1.0), (30.0, 10.0, -1.0), (0.0, 39.0, 1.0)])
def test_the_chosen_skill_leads_to_the_target(here: float, there: float, wanted: float) -> None:
    """Both skills began in every cell: only what is left of the way tells them apart."""
    log = make_line_map()
    state = np.array([[here]], np.float32)
    near, _ = log.locate(state)
    target = log.locate(np.array([[there]], np.float32))[0][:, 0]
    stayed = np.zeros((1, log.places), np.float32)
    assert log.choose(state, near, target, stayed)[0, 0] == wanted
    assert log.skills[near[0, 0], target[0]] == abs(there - here)


def test_ways_are_counted_from_where_a_skill_leads_and_not_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0 skill 1 leads to 20 in four; skill 7 leads to -10, which is one skill behind 20, and not before it."""
    monkeypatch.setattr(log_map, "OFFSET_COST", 100.0)  # only skills that began at 0 count
    state = np.array([0.0, 5.0, 10.0, 15.0, 20.0, -10.0, 0.0, -10.0, -30.0], np.float32)[:, None]
    log = LogMap(map_log(state, np.arange(1.0, 10.0, dtype=np.float32)[:, None], np.array([0, 6]), 8))
    here = np.array([[0.0]], np.float32)
    target = log.locate(np.array([[20.0]], np.float32))[0][:, 0]
    stayed = np.zeros((1, log.places), np.float32)
    assert log.choose(here, log.locate(here)[0], target, stayed)[0, 0] == 1.0


def test_a_place_that_was_stayed_in_is_led_to_no_more() -> None:
    """To the right lies the target; after many decisions in the cells there, the other skill costs less."""
    log = make_line_map()
    state, near = np.array([[10.0]], np.float32), log.locate(np.array([[10.0]], np.float32))[0]
    target = log.locate(np.array([[12.0]], np.float32))[0][:, 0]
    stayed = np.zeros((1, log.places), np.float32)
    stayed[:, log.state[:, 0] >= 10.0] = 50.0
    assert log.choose(state, near, target, stayed)[0, 0] == -1.0


def test_episodes_do_not_follow_each_other() -> None:
    """The last state of a walk is no way to the first of the next."""
    walks = np.array([[0.0], [1.0], [0.0], [39.0], [38.0], [39.0]], np.float32)
    log = LogMap(map_log(walks, np.ones((6, 1), np.float32), np.array([0, 3]), 4))
    at = {round(float(state[0])): index for index, state in enumerate(log.state)}
    assert log.skills[at[0], at[1]] == log.skills[at[39], at[38]] == 1
    assert log.skills[at[0], at[39]] == log.skills[at[39], at[0]] == UNREACHED


def test_states_are_kept_in_two_bytes_and_the_rest_exactly() -> None:
    """The size that the card states is that of two bytes for each number of a state."""
    state, skill, start = make_line()
    arrays = map_log(state, skill, start, LINE)
    assert arrays["state"].nbytes == 2 * state.size
    assert arrays["skill"].nbytes == 2 * skill.size


@pytest.mark.parametrize("name", ["state", "skill", "start", "metric", "place", "place_of"])
def test_an_array_that_lacks_is_named(name: str) -> None:
    """One line, with the name and the remedy."""
    arrays = map_log(*make_line(), LINE)
    with pytest.raises(BundleError, match=f"'{name}'.*map the logs again"):
        require_map({key: value for key, value in arrays.items() if key != name})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("skill", lambda value: value[:-1]),
        ("start", lambda value: value + 1),
        ("start", lambda value: value[::-1].copy()),
        ("place_of", lambda value: value + 1000),
        ("place_of", lambda value: value - 1),
        ("metric", lambda value: value * np.float32(np.nan)),
        ("place", lambda value: value[:0]),
        ("place", lambda value: np.zeros((MOST_PLACES + 1, value.shape[1]), np.float32)),  # gigabytes of tables
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, change) -> None:  # type: ignore[no-untyped-def]
    """Never an index out of range later, on the robot."""
    arrays = map_log(*make_line(), LINE)
    with pytest.raises(BundleError, match="map the logs again"):
        LogMap({**arrays, name: change(arrays[name])})
