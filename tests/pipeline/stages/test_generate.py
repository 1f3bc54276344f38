from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from supple.errors import SpecError
from supple.meta.testing import PointBatch
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.progress import make_progress
from supple.pipeline.settings.generate import GenerateConfig
from supple.pipeline.stage import Machine, Stage, Work
from supple.pipeline.stages.generate import generate, make_arrays
from supple.robots.family import PlayChunk, Plays


def make_chunk(rows: int, steps: int, first: int) -> PlayChunk:
    """An episode per row whose observations count on from `first`."""
    count = np.arange(first, first + rows * steps, dtype=np.float32).reshape(rows, steps)
    return PlayChunk(count[..., None], -count[..., None], 0.5 * count, {"twice": 2.0 * count})


def test_episodes_of_any_length_stand_one_after_the_other() -> None:
    arrays = make_arrays([make_chunk(2, 3, 0), make_chunk(1, 2, 6), make_chunk(1, 4, 8)], 11)
    assert arrays["observations"].ravel().tolist() == list(range(11))
    assert np.array_equal(arrays["actions"], -arrays["observations"])
    assert np.array_equal(arrays["infos/twice"], 4.0 * arrays["rewards"])
    assert np.flatnonzero(arrays["timeouts"]).tolist() == [2, 5, 7, 10]  # the last is cut off
    assert not arrays["terminals"].any()
    assert {len(array) for array in arrays.values()} == {11}


def test_play_that_is_no_number_is_said_of_the_robot_and_not_of_the_file(tmp_path: Path) -> None:
    class Broken(Plays):
        play_steps = 3

        def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
            yield make_chunk(1, 3, 0)._replace(reward=np.array([[0.0, np.nan, 0.0]], np.float32))

    stage = Stage(name="generate", folder=tmp_path / "g", config={}, seed=0, module="x", libraries=(), body=print)
    work = Work(stage, Machine(), tmp_path, make_progress("json"), StopRequest())
    with pytest.raises(SpecError, match=r"expected a finite reward of robot 'point' .* got nan; correct the robot"):
        generate(Broken(), PointBatch(1).spec, GenerateConfig(steps=3, rows=1), work)
    work.close()
