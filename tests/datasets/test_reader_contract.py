from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from supple.datasets import D4RLReader, Episode, Reader, SourceSpec, write_d4rl
from supple.datasets.testing import ReaderContract
from supple.robots.spec import RobotSpec


class TestD4RLReader(ReaderContract):
    def make_source(self, folder: Path) -> Path:
        rows = np.arange(11)
        return write_d4rl(
            folder / "play.hdf5",
            {
                "observations": np.stack([rows, rows + 0.5], axis=1),
                "actions": rows[:, None],
                "rewards": rows,
                "terminals": rows == 3,
                "timeouts": rows == 7,
            },
        )

    def make_reader(self, path: Path) -> Reader:
        return D4RLReader(path)


class _Broken:
    """A reader that forgets its last episode."""

    def __init__(self, path: Path) -> None:
        self._reader = D4RLReader(path)

    @property
    def robot(self) -> RobotSpec | None:
        return self._reader.robot

    def describe(self) -> SourceSpec:
        return self._reader.describe()

    def episodes(self) -> Iterator[Episode]:
        episodes = list(self._reader.episodes())
        yield from episodes[:-1]


def test_the_contract_can_fail(tmp_path: Path) -> None:
    class Broken(TestD4RLReader):
        def make_reader(self, path: Path) -> Reader:
            return _Broken(path)

    with pytest.raises(AssertionError):
        Broken().test_episodes_are_what_describe_promises(tmp_path)
