from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets import WindowSampler, split_episodes
from supple.datasets.windows import compute_window_starts
from supple.errors import SpecError

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def make_sampler(lengths: Sequence[int], window: int, episodes: Sequence[int] | None = None) -> WindowSampler:
    """observation = (row, episode), action = (step, -step, row)."""
    length = np.array(lengths)
    start = np.cumsum(length) - length
    row = np.arange(length.sum())
    step = row - np.repeat(start, length)
    observation = np.stack([row, np.repeat(np.arange(len(length)), length)], axis=1).astype(np.float32)
    action = np.stack([step, -step, row], axis=1).astype(np.float32)
    chosen = list(range(len(length))) if episodes is None else list(episodes)
    return WindowSampler(observation, action, start[chosen], length[chosen], window)


def test_hand_worked_starts() -> None:
    # episodes of 4, 2 and 3 rows, windows of 3: rows 0 and 1 of the first, none of the second, row 6 of the third
    starts = compute_window_starts(np.array([0, 4, 6]), np.array([4, 2, 3]), 3)
    np.testing.assert_array_equal(starts, [0, 1, 6])


@given(LENGTHS, st.integers(1, 12))
def test_windows_are_all_runs_within_one_episode(lengths: list[int], window: int) -> None:
    expected = sum(max(length - window + 1, 0) for length in lengths)
    if not expected:
        with pytest.raises(SpecError, match=f"expected an episode of >= {window} steps, got at most {max(lengths)}"):
            make_sampler(lengths, window)
        return
    sampler = make_sampler(lengths, window)
    assert sampler.num_windows == expected
    observation, action = sampler.take(np.arange(expected))
    assert observation.shape == (expected, window, 2)
    assert action.shape == (expected, window, 3)
    row, episode = observation[..., 0], observation[..., 1]
    np.testing.assert_array_equal(row, row[:, :1] + np.arange(window))  # consecutive
    assert (episode == episode[:, :1]).all()  # of one episode
    np.testing.assert_array_equal(action[..., 2], row)  # observation and action of the same row
    np.testing.assert_array_equal(action[..., 0], action[:, :1, 0] + np.arange(window))  # action = step
    assert len(np.unique(row[:, 0])) == expected  # each once


def test_sampling_reaches_every_window_evenly() -> None:
    sampler = make_sampler([4, 2, 3], 3)
    observation, _ = sampler.sample(6000, np.random.default_rng(0))
    starts, counts = np.unique(observation[:, 0, 0], return_counts=True)
    np.testing.assert_array_equal(starts, [0, 1, 6])
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(6000 * 2 / 9)  # five standard deviations of a fair draw


def test_the_same_generator_state_gives_the_same_batch() -> None:
    sampler = make_sampler([9, 9], 4)
    first = sampler.sample(32, np.random.default_rng(7))
    again = sampler.sample(32, np.random.default_rng(7))
    other = sampler.sample(32, np.random.default_rng(8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_only_the_given_episodes_are_drawn() -> None:
    observation, _ = make_sampler([6, 6, 6], 4, episodes=[2, 0]).sample(200, np.random.default_rng(0))
    assert set(np.unique(observation[..., 1])) == {0, 2}


def test_a_batch_is_a_copy() -> None:
    data = np.arange(20, dtype=np.float32).reshape(10, 2)
    sampler = WindowSampler(data, data, np.array([0]), np.array([10]), 3)
    observation, _ = sampler.take(np.array([0]))
    observation[:] = -1
    assert data[0, 0] == 0


def test_a_memory_map_is_sampled_like_an_array(tmp_path: object) -> None:
    data = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.save(f"{tmp_path}/data.npy", data)
    mapped = np.load(f"{tmp_path}/data.npy", mmap_mode="r")
    start, length = np.array([0, 8]), np.array([8, 12])
    in_memory = WindowSampler(data, data, start, length, 5).take(np.arange(4))
    on_disk = WindowSampler(mapped, mapped, start, length, 5).take(np.arange(4))
    np.testing.assert_array_equal(in_memory[0], on_disk[0])


def test_one_axis_and_one_window() -> None:
    data = np.arange(5, dtype=np.float32)[:, None]
    observation, _ = WindowSampler(data, data, np.array([0]), np.array([5]), 5).take(np.array([0]))
    np.testing.assert_array_equal(observation[0, :, 0], np.arange(5))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_window_number_outside_is_refused(index: int) -> None:
    with pytest.raises(SpecError, match=rf"expected window numbers in \[0, 3\), got {index}"):
        make_sampler([4, 2, 3], 3).take(np.array([index]))


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = np.zeros((6, 2), np.float32)
    start, length = np.array([0]), np.array([6])
    with pytest.raises(SpecError, match=r"expected action as .*\(6, dim\), got float64"):
        WindowSampler(good, good.astype(np.float64), start, length, 2)
    with pytest.raises(SpecError, match=r"expected action .* got float32 \(5, 2\)"):
        WindowSampler(good, good[:5], start, length, 2)
    with pytest.raises(SpecError, match="contiguous"):
        WindowSampler(np.zeros((6, 4), np.float32)[:, ::2], good, start, length, 2)
    with pytest.raises(SpecError, match="expected episodes within 6 rows"):
        WindowSampler(good, good, start, np.array([7]), 2)
    with pytest.raises(SpecError, match="expected episodes within 6 rows"):
        WindowSampler(good, good, np.array([-1]), np.array([3]), 2)
    with pytest.raises(SpecError, match="expected window >= 1, got 0 steps"):
        WindowSampler(good, good, start, length, 0)


@given(st.integers(1, 50), st.floats(0, 0.99), st.integers(0, 2**32))
def test_a_split_is_a_partition(episodes: int, fraction: float, seed: int) -> None:
    training, validation = split_episodes(episodes, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(episodes))
    assert len(training) > 0
    if fraction > 0 and episodes > 1:
        assert len(validation) > 0
    np.testing.assert_array_equal(training, split_episodes(episodes, fraction, seed)[0])


def test_splits_of_other_seeds_differ() -> None:
    assert not np.array_equal(split_episodes(100, 0.2, 0)[1], split_episodes(100, 0.2, 1)[1])


@pytest.mark.parametrize(("episodes", "fraction"), [(0, 0.1), (5, 1.0), (5, -0.1)])
def test_a_split_that_cannot_be_is_refused(episodes: int, fraction: float) -> None:
    with pytest.raises(SpecError, match=f"got {episodes} and {fraction}"):
        split_episodes(episodes, fraction, 0)
