"""How many episodes are needed: by hand, and that what is claimed holds on tasks that are drawn alike."""

import numpy as np
import pytest

from supple.errors import ConfigError
from supple.pipeline.replay.episodes_needed import (
    TAILS,
    calibrate,
    compute_distances,
    find_bound,
    find_interval,
    find_needed,
    predict_needed,
    rank_bundles,
    summarise,
)


def marks(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_needed_episodes_by_hand() -> None:
    success = marks("..###.", "#.##..", "......", "###...", "...###", "....##")
    assert find_needed(success, 3).tolist() == [3, 7, 7, 1, 4, 7]
    assert find_needed(success, 1).tolist() == [3, 1, 7, 1, 4, 5]
    with pytest.raises(ConfigError, match=r"1 to 6.*got 7"):
        find_needed(success, 7)


def test_bounds_by_hand() -> None:
    # after 4 episodes: none in a row at the end, one, two, and three of which two can count
    assert find_bound(marks("...."), 3).tolist() == [5]
    assert find_bound(marks("...#"), 3).tolist() == [4]
    assert find_bound(marks("..##"), 3).tolist() == [3]
    assert find_bound(marks(".###"), 3).tolist() == [3]
    assert find_bound(np.zeros((2, 0), np.bool_), 3).tolist() == [1, 1]


def test_summaries_by_hand() -> None:
    found = summarise(marks("#..#"), np.array([[1.0, 0.0, 0.0, 3.0]]))
    assert found.tolist() == [[2.0, 1.0, 1.0]]


def test_weighted_ends_by_hand() -> None:
    needed, weights = np.array([10, 30, 20]), np.array([0.2, 0.3, 0.5])
    assert find_interval(needed, weights, (0.0, 0.0)) == (10, 30)
    assert find_interval(needed, weights, (0.25, 0.35)) == (20, 20)
    assert find_interval(needed, weights, (None, 0.1)) == (None, 30)
    assert find_interval(needed, np.zeros(3), (0.1, 0.1)) == (None, None)


def draw(rng: np.random.Generator, count: int, episodes: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Tasks of different difficulty; the first successes come as late as the steady ones, roughly."""
    start = rng.geometric(rng.choice([0.5, 0.1, 0.04], count))
    at = np.arange(1, episodes + 1)
    early = rng.random((count, episodes)) < np.minimum(0.6 * at / start[:, None], 0.5)
    success = np.where(at >= start[:, None], True, early)
    return success, success.astype(np.float64)


def predict_all(count: int, seed: int, tasks: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    success, returns = draw(rng, 2 * tasks)
    needed = find_needed(success, 3)
    known, new = slice(None, tasks), range(tasks, 2 * tasks)
    features = summarise(success[:, :count], returns[:, :count])
    bounds = find_bound(success[:, :count], 3)
    between = compute_distances(features[0], features[known])[1]
    calibration = calibrate(needed[known], between, bounds[known], np.arange(tasks))
    covered, wrong, plain = [], [], []
    for index in new:
        if needed[index] < bounds[index]:
            continue
        distance, _ = compute_distances(features[index], features[known])
        told = predict_needed(needed[known], 40, distance, int(bounds[index]), calibration)
        covered.append(told.low <= needed[index] <= told.high)
        wrong.append(abs(told.median - needed[index]))
        plain.append(abs(np.median(needed[known]) - needed[index]))
        assert told.low <= told.median <= told.high
    return float(np.mean(covered)), float(np.mean(wrong)), float(np.mean(plain))


@pytest.mark.parametrize("count", [0, 2, 5])
def test_intervals_cover_as_often_as_they_claim(count: int) -> None:
    found = np.array([predict_all(count, seed, 40) for seed in range(6)])
    assert found[:, 0].mean() > 0.86
    assert found[:, 0].mean() < 0.995
    if count:
        assert found[:, 1].mean() < found[:, 2].mean()


def test_too_few_tasks_give_the_whole_range() -> None:
    needed = np.array([3, 8, 5])
    between = np.zeros((3, 3))
    calibration = calibrate(needed, between, np.ones(3, np.int64), np.arange(3))
    assert calibration.tails == TAILS[-1] == (None, None)
    told = predict_needed(needed, 20, np.zeros(3), 2, calibration)
    assert (told.low, told.high) == (2, 21)


def test_adaptations_of_one_task_do_not_predict_each_other() -> None:
    # two tasks, twice each: left out alone, each would be told by its double
    needed, between = np.array([2, 2, 30, 30]), np.abs(np.subtract.outer([0, 0, 1, 1], [0, 0, 1, 1])).astype(float)
    alone = calibrate(needed, between, np.ones(4, np.int64), np.array([0, 1, 2, 3]))
    together = calibrate(needed, between, np.ones(4, np.int64), np.array([0, 0, 1, 1]))
    assert alone.coverage >= 0.9
    assert alone.width < np.inf
    assert together.tails == (None, None)
    with pytest.raises(ConfigError, match="at least 2 reference tasks, got 1"):
        calibrate(needed, between, np.ones(4, np.int64), np.zeros(4, np.int64))


def test_a_task_that_takes_longer_than_all_others_is_beyond_the_record() -> None:
    needed = np.arange(1, 25)
    calibration = calibrate(needed, np.zeros((24, 24)), np.ones(24, np.int64), np.arange(24))
    told = predict_needed(needed, 40, np.zeros(24), 30, calibration)
    assert (told.median, told.low, told.high, told.reached) == (41, 30, 41, 0.0)


def test_the_better_bundle_is_ranked_first() -> None:
    rng = np.random.default_rng(0)
    tasks = tuple((float(index),) for index in range(30))
    good, bad = rng.integers(1, 20, 30), rng.integers(10, 40, 30)
    even = np.full(30, 1.0 / 30.0)
    first, second = rank_bundles({"bad": (tasks, bad, even), "good": (tasks, good, even)}, rng)
    assert (first.label, second.label) == ("good", "bad")
    assert first.mean == pytest.approx(good.mean())
    assert first.low < first.mean < first.high
    assert first.best > 0.99
    assert first.best + second.best == pytest.approx(1.0)


def test_bundles_of_the_same_tasks_are_compared_task_by_task() -> None:
    # one episode more in every task is certain on the same tasks, and not on others
    rng = np.random.default_rng(0)
    needed, even = rng.integers(1, 40, 20), np.full(20, 0.05)
    same = rank_bundles({"a": ("x", needed, even), "b": ("x", needed + 1, even)}, rng)
    other = rank_bundles({"a": ("x", needed, even), "b": ("y", needed + 1, even)}, rng)
    assert same[0].best == 1.0
    assert other[0].best < 0.9
