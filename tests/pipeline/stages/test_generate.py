import numpy as np

from supple.pipeline.stages.generate import make_arrays
from supple.robots.family import PlayChunk


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
