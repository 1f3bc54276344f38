"""Long arrays on the disk are the same arrays, and leave the memory of the process."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from supple.datasets import disk_arrays
from supple.datasets.disk_arrays import Column, blocks_of, copy_array, make_array, release, select
from supple.errors import SourceError


@pytest.fixture(autouse=True)
def everything_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_arrays, "SPILL_BYTES", 0)
    monkeypatch.setattr(disk_arrays, "BLOCK_ROWS", 3)


def test_a_column_gives_back_what_was_appended() -> None:
    column, parts = Column("float64", 2), [np.arange(2 * n, dtype=float).reshape(n, 2) for n in (1, 0, 5)]
    for part in parts:
        column.append(part)
    found = column.finish()
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, np.concatenate(parts))


def test_rows_are_selected_by_number_and_by_mask() -> None:
    array = copy_array(np.arange(20).reshape(10, 2))
    assert select(array, np.array([7, 0, 0, 9]))[:, 0].tolist() == [14, 0, 0, 18]
    assert select(array, np.arange(10) % 4 == 1)[:, 1].tolist() == [3, 11, 19]


def test_released_memory_comes_back_and_keeps_what_was_written() -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem")))

    array = make_array((2**20, 8), np.float64)  # 64 MiB
    before = resident()
    for block in blocks_of(len(array), 2**16):
        array[block] = np.arange(block.start, block.stop)[:, None]
    assert resident() - before > 60_000
    release(array[5:7, 1:])  # any part stands for the whole
    assert resident() - before < 4000
    np.testing.assert_array_equal(array[:: 2**17, 3], np.arange(0, 2**20, 2**17))
    release(np.zeros(3))  # nothing to do


def test_a_private_map_keeps_its_changes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(5000))
    array = np.load(tmp_path / "a.npy", mmap_mode="c")
    array[:] = 7.0
    release(array[3:], np.asarray(array))
    assert (array == 7.0).all()


@pytest.mark.parametrize("owner", [(os, "posix_fallocate"), (disk_arrays, "TemporaryFile")])
def test_a_full_disk_is_named(owner: tuple[object, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*owner, refuse)
    with pytest.raises(SourceError, match=r"got 'No space left on device'; free some space there, or .* in TMPDIR"):
        make_array((5,), np.float64)
    if owner[0] is disk_arrays:
        with pytest.raises(SourceError, match="No space left on device"):
            Column("float64", 1).append(np.zeros(10))


def test_blocks_make_up_all_rows() -> None:
    assert list(blocks_of(7, 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(blocks_of(0)) == []
