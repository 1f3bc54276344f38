"""Episodes are those of the real d4rl package; skipped only where it is not installed."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import D4RLReader, load_d4rl_info, write_d4rl
from supple.errors import SourceError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="d4rl is not installed")
Arrays = dict[str, np.ndarray[Any, Any]]
NAMES = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "infos/qpos": "qpos",
    "infos/qvel": "qvel",
    "infos/goal": "goal",
}


def reference(path: Path, out: Path, *limit: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("reference_sequences.py")
    command = [sys.executable, str(script), str(path), str(out), *limit]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    episodes: dict[int, dict[str, Any]] = {}
    with np.load(out) as arrays:
        for entry in arrays.files:
            number, key = entry.split("|")
            episodes.setdefault(int(number), {})[key] = arrays[entry]
    return [episodes[number] for number in sorted(episodes)]


@pytest.mark.parametrize("timeouts", [True, False])
def test_the_same_episodes_as_sequence_dataset(
    tmp_path: Path, make_arrays: Callable[..., Arrays], timeouts: bool
) -> None:
    rng = np.random.default_rng(0)
    lengths = [int(length) for length in rng.integers(1, 40, size=30)]
    arrays = make_arrays(lengths, [bool(flag) for flag in rng.random(30) < 0.5])
    tail = 7  # rows after the last boundary, which d4rl drops
    arrays = {name: np.concatenate([value, value[:1].repeat(tail, axis=0)]) for name, value in arrays.items()}
    arrays["terminals"][-tail:] = False
    arrays["timeouts"][-tail:] = False
    if not timeouts:
        del arrays["timeouts"]
    path = write_d4rl(tmp_path / "play.hdf5", arrays)

    ours = list(D4RLReader(path).episodes())
    theirs = reference(path, tmp_path / "out.npz")
    assert len(ours) == len(theirs) + 1 > 10
    assert ours[-1].truncated
    assert not ours[-1].terminated
    for mine, other in zip(ours, theirs, strict=False):
        for key, name in NAMES.items():
            np.testing.assert_array_equal(mine.arrays[name], other[key])
        assert mine.terminated == other["terminals"][-1]
        if timeouts:
            assert mine.truncated == other["timeouts"][-1]


def test_where_we_depart_from_its_time_limit(tmp_path: Path, make_arrays: Callable[..., Arrays]) -> None:
    """In files without `timeouts`, d4rl cuts every episode but the first one row early; we cut at the limit."""
    arrays = make_arrays([12])
    del arrays["timeouts"]
    path = write_d4rl(tmp_path / "play.hdf5", arrays)
    assert [len(episode["rewards"]) for episode in reference(path, tmp_path / "out.npz", "4")] == [4, 3, 3]
    assert [episode.length for episode in D4RLReader(path, episode_steps=4).episodes()] == [4, 4, 4]


def test_addresses_and_scores_come_from_the_package() -> None:
    info = load_d4rl_info("maze2d-large-v1")
    assert info.url.startswith("http")
    assert info.url.endswith("maze2d-large-sparse-v1.hdf5")
    assert info.reference_min_score == pytest.approx(6.7)
    assert info.reference_max_score == pytest.approx(273.99)


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(SourceError, match=r"such as .*maze2d-large-v1.*, got 'maze2d-larg-v1'; choose one"):
        load_d4rl_info("maze2d-larg-v1")
