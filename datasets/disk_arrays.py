"""Long arrays, kept on the disk: a file without a name takes them, and a process holds the part that it looks at.

A memory map looks like any other array. Its pages count as memory of the process from the first touch on, so that who
goes through one in blocks calls `release` behind each: what lies on the disk is let go, and comes back when it is read.
Legend: n rows, K axes.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile, gettempdir
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError

Array = npt.NDArray[Any]
SPILL_BYTES = 2**24
"""Of one array, 16 MiB, above which it lies on the disk."""
BLOCK_ROWS = 65_536
_PREFIX = "supple-"


class Column:
    """Rows of one width that are appended block by block; a long column lies on the disk."""

    def __init__(self, dtype: str, width: int) -> None:
        self._dtype, self._width = np.dtype(dtype), width
        self._pending: list[Array] = []
        self._bytes = self._rows = 0
        self._file: Any = None

    def append(self, rows: Array) -> None:
        """Adds rows (n,) or (n, width).

        Raises:
            SourceError: the disk is full.
        """
        self._pending.append(np.ascontiguousarray(rows.reshape(len(rows), self._width), self._dtype))
        self._bytes += self._pending[-1].nbytes
        self._rows += len(rows)
        if self._bytes > SPILL_BYTES:
            self._write()

    def finish(self) -> Array:
        """All rows, (n, width); called once."""
        if self._file is None:
            return np.concatenate([np.empty((0, self._width), self._dtype), *self._pending])
        self._write()
        with self._file as file:  # the map keeps the bytes when the file is closed
            return np.memmap(file, self._dtype, "r", shape=(self._rows, self._width))

    def _write(self) -> None:
        with _typed_errors():
            self._file = self._file or TemporaryFile(prefix=_PREFIX)  # noqa: SIM115 it lives as long as the column
            for block in self._pending:
                self._file.write(block.data)
            self._file.flush()
        self._pending, self._bytes = [], 0


def make_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """An array to be filled, on the disk where it is long.

    Raises:
        SourceError: the disk is full. Its room is taken at once, since a map that finds none later kills the process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= SPILL_BYTES:
        return np.empty(shape, dtype)
    with _typed_errors(), TemporaryFile(prefix=_PREFIX) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=shape)


def copy_array(array: Array) -> Array:
    """The same values, to be changed."""
    found = make_array(array.shape, array.dtype)
    for block in blocks_of(len(array)):
        found[block] = array[block]
        release(found, array)
    return found


def select(array: Array, rows: Array) -> Array:
    """Rows of an array (n, ...) by their numbers, in that order, or where a mask (n,) is True."""
    if array.nbytes <= SPILL_BYTES:
        return array[rows]
    if rows.dtype == np.bool_:
        rows = np.flatnonzero(rows)
    found = make_array((len(rows), *array.shape[1:]), array.dtype)
    for block in blocks_of(len(rows)):
        found[block] = array[rows[block]]
        release(found, array)
    return found


def blocks_of(rows: int, block_rows: int | None = None) -> Iterator[slice]:
    """Consecutive slices that make up so many rows, of `BLOCK_ROWS` each unless somebody says."""
    block_rows = block_rows or BLOCK_ROWS
    return (slice(start, min(start + block_rows, rows)) for start in range(0, rows, block_rows))


def release(*arrays: Array) -> None:
    """Lets go of the memory of arrays that are on the disk; what was written into them stays. Others are left alone."""
    for array in arrays:
        owner: Any = array
        private = False  # what is written into such a map is in memory alone
        while isinstance(owner, np.ndarray):
            private |= isinstance(owner, np.memmap) and owner.mode == "c"
            owner = owner.base
        if isinstance(owner, mmap.mmap) and not private:
            owner.madvise(mmap.MADV_DONTNEED)


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{gettempdir()}: expected room for the arrays of a long recording, got '{error.strerror}'; free some "
            "space there, or name another folder in TMPDIR"
        ) from error
