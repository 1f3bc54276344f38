"""Play data whose every value says where it belongs: `action = step`, `observation = row`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import Episode, EpisodeStore, Feature, Schema, write_d4rl, write_store

Arrays = dict[str, np.ndarray[Any, Any]]


def _make_arrays(lengths: Sequence[int], terminated: Sequence[bool] | None = None) -> Arrays:
    rows = sum(lengths)
    ends = np.cumsum(lengths) - 1
    step = np.concatenate([np.arange(length) for length in lengths])
    timeouts = np.zeros(rows, np.bool_)
    terminals = np.zeros(rows, np.bool_)
    flags = np.array(terminated if terminated is not None else [False] * len(lengths))
    terminals[ends[flags]] = True
    timeouts[ends[~flags]] = True
    row = np.arange(rows, dtype=np.float32)
    return {
        "observations": row[:, None] + np.array([0, 0.25, 0.5, 0.75], np.float32),
        "actions": np.stack([step, -step], axis=1).astype(np.float32),
        "rewards": row / 2,
        "terminals": terminals,
        "timeouts": timeouts,
        "infos/qpos": np.stack([row, row + 1], axis=1),
        "infos/qvel": np.stack([row, row + 2], axis=1),
        "infos/goal": np.stack([row, row + 3], axis=1),
    }


@pytest.fixture
def make_arrays() -> Callable[..., Arrays]:
    return _make_arrays


@pytest.fixture
def d4rl_file(tmp_path: Path) -> Path:
    return write_d4rl(tmp_path / "play.hdf5", _make_arrays([5, 3, 7], [False, True, False]))


@pytest.fixture
def schema() -> Schema:
    return Schema(
        features=(
            Feature(name="observation", shape=(2,), units=("m", "m"), role="observation", axes=("x", "y")),
            Feature(name="action", shape=(1,), units=("N",), role="action", axes=("push",)),
            Feature(name="count", dtype="int32", shape=(), units=("",), role="other", axes=("count",)),
        ),
        control_period=0.01,
    )


def _make_episodes(lengths: Sequence[int]) -> Iterator[Episode]:
    start = 0
    for number, length in enumerate(lengths):
        row = np.arange(start, start + length)
        arrays = {
            "observation": np.stack([row, row + 0.5], axis=1).astype(np.float32),
            "action": np.arange(length, dtype=np.float32)[:, None],
            "count": row.astype(np.int32),
        }
        yield Episode(arrays, terminated=number % 2 == 0, truncated=number % 2 == 1)
        start += length


@pytest.fixture
def make_episodes() -> Callable[[Sequence[int]], Iterator[Episode]]:
    return _make_episodes


@pytest.fixture
def store(tmp_path: Path, schema: Schema, make_episodes: Callable[[Sequence[int]], Iterator[Episode]]) -> EpisodeStore:
    return write_store(tmp_path / "store", make_episodes([4, 1, 6]), schema, {"source": "made in a test"})
