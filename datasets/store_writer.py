"""Writes an episode store from a stream of episodes, in bounded memory, whole or not at all.

Everything is written into `<name>.partial-<id>` beside the target, hashed and synced, and renamed at the end. A writer
that dies leaves only such a folder; the next writer of the same name removes those whose owner is gone.
Legend: N steps of all episodes, E episodes, T steps of one episode, dim number of axes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from ..errors import StoreError
from ..plain_files import sync
from .compression import Compression
from .disk_arrays import release
from .episode import Episode
from .layout import (
    CHUNK_KEYS,
    CHUNK_ROWS,
    INDEX_DTYPES,
    count_image_rows,
    encode_chunk,
    find_missing,
    make_codecs,
    missing_value,
)
from .manifest import MANIFEST_NAME, Sealer
from .publish import making_folder
from .schema import Feature, Schema
from .store import EpisodeStore, open_store

Array = npt.NDArray[Any]
_BLOCK_BYTES = 2**25
"""What is handed over at a time, 32 MiB; a write takes about twice that memory, or two chunks of every feature."""


def write_store(
    path: str | Path,
    episodes: Iterable[Episode],
    schema: Schema,
    provenance: Mapping[str, Any],
    *,
    rows: int | None = None,
    compression: Compression = "none",
    replace: bool = False,
) -> EpisodeStore:
    """Writes a store and opens it; see `writing_store` for arguments and errors."""
    for _ in writing_store(path, episodes, schema, provenance, rows=rows, compression=compression, replace=replace):
        pass
    return open_store(path)


def writing_store(
    path: str | Path,
    episodes: Iterable[Episode],
    schema: Schema,
    provenance: Mapping[str, Any],
    *,
    rows: int | None = None,
    compression: Compression = "none",
    replace: bool = False,
) -> Iterator[tuple[int, int | None]]:
    """Writes a store, yields (rows written, rows in all) after every chunk; the store exists when this is exhausted.

    A generator that is closed or fails on the way removes what it wrote. The store's digest depends on data, schema and
    provenance, so the provenance must not hold times, host names or paths that change between runs.

    Args:
        path: Folder that shall appear; nothing may be there yet, without `replace`.
        episodes: As yielded by a reader; consumed once.
        schema: Of every episode.
        provenance: JSON values, stored in the root attributes.
        rows: N, if known: only yielded again, for the consumer's progress bar.
        compression: Of the chunks.
        replace: Whether a store is at `path` and is replaced at once, when the new one is whole.

    Raises:
        StoreError: something is at `path` already; no episode; an episode is empty or does not match the schema; a
            value is not finite, or is the integer that stands for missing data; the disk is full.
    """
    path = Path(path)
    try:
        with making_folder(path, StoreError, replace=replace) as folder, closing(Sealer(folder)) as sealer:
            root = zarr.create_group(
                LocalStore(folder),
                zarr_format=3,
                attributes={"schema": schema.to_json(), "provenance": dict(provenance)},
            )
            columns = [_Column(feature, sealer, compression, path) for feature in schema.features]
            for column in columns:
                (folder / column.name).mkdir(parents=True)
            lengths, flags = yield from _write_steps(path, episodes, schema, columns, sealer, rows)
            chunks = {column.name: column.describe(root) for column in columns}
            chunks |= _write_index(root, lengths, flags)
            (folder / MANIFEST_NAME).write_bytes(sealer.finish(chunks).to_bytes())
            sync(folder / MANIFEST_NAME)
            for name, _, _ in os.walk(folder, topdown=False):
                sync(Path(name))
    except OSError as error:
        raise StoreError(
            f"{path}: expected a folder that can be written, got {error.strerror or error}; "
            "free some space or choose another place"
        ) from error


def _write_steps(
    path: Path,
    episodes: Iterable[Episode],
    schema: Schema,
    columns: Sequence[_Column],
    sealer: Sealer,
    rows: int | None,
) -> Generator[tuple[int, int | None], None, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    """Writes `steps/`, yields as `writing_store`, and returns lengths (E,) and flags (E, 2)."""
    flat = [column for column in columns if not column.is_image]
    pictures = [column for column in columns if column.is_image]
    block_rows = CHUNK_ROWS * max(1, _BLOCK_BYTES // (CHUNK_ROWS * max(1, sum(column.row_bytes for column in flat))))
    lengths: list[int] = []
    flags: list[tuple[bool, bool]] = []
    written = pending = 0
    for number, episode in enumerate(episodes):
        length = episode.length
        if len(episode.arrays) != len(columns) or not all(column.fits(episode.arrays, length) for column in columns):
            raise _explain_misfit(episode, schema, f"{path}: episode {number}")
        lengths.append(length)
        flags.append((episode.terminated, episode.truncated))
        for column in pictures:
            for start in range(0, length, column.block_rows):
                column.append(episode.arrays[column.feature.name][start : start + column.block_rows])
                if column.pending_rows >= column.block_rows:
                    sealer.wait()
                    column.flush(column.pending_rows - column.pending_rows % column.chunk_rows)
        for start in range(0, length, block_rows):  # a long episode goes to the disk block by block
            for column in flat:
                column.append(episode.arrays[column.feature.name][start : start + block_rows])
            pending += min(block_rows, length - start)
            if pending < block_rows:
                continue
            whole = pending - pending % CHUNK_ROWS
            sealer.wait()  # at most one block is on its way to the disk while the next is read
            for column in flat:
                column.flush(whole)
            written, pending = written + whole, pending - whole
            yield written, rows
    if not lengths:
        raise StoreError(f"{path}: expected at least one episode, got 0; check the source")
    for column in flat:
        column.flush(pending)
    for column in pictures:
        column.flush(column.pending_rows)
    yield written + pending, rows
    return np.array(lengths, np.int64), np.array(flags, np.uint8)


class _Column:
    """One array of `steps/`, whose chunks are written one after the other."""

    def __init__(self, feature: Feature, sealer: Sealer, compression: Compression, path: Path) -> None:
        self.feature = feature
        self.name = f"steps/{feature.name}"
        self.row_bytes = math.prod(feature.shape) * np.dtype(feature.dtype).itemsize
        self.is_image = feature.role == "image"
        self.chunk_rows = count_image_rows(feature.shape) if self.is_image else CHUNK_ROWS
        self.block_rows = self.chunk_rows * max(1, _BLOCK_BYTES // (self.chunk_rows * self.row_bytes))
        self._dtype = np.dtype(feature.dtype)
        self._sealer = sealer
        self._compression = "zstd" if self.is_image else compression
        self._path = path
        self._pending: list[Array] = []
        self._written = 0

    def fits(self, arrays: Mapping[str, Array], length: int) -> bool:
        """Whether an episode of that length has the values of this array."""
        values = arrays.get(self.feature.name)
        fits = values is not None and values.dtype == self._dtype and values.shape == (length, *self.feature.shape)
        return bool(fits and length)

    @property
    def pending_rows(self) -> int:
        """Rows that are kept."""
        return sum(map(len, self._pending))

    def append(self, values: Array) -> None:
        """Keeps a reference to values, (n, dim) or (n,), until they are written; of pictures a copy, as they are large.

        A view of a few pictures would keep the whole block alive that its reader has read.
        """
        self._pending.append(values.copy() if self.is_image else values)
        if self.is_image:
            release(values)

    def flush(self, rows: int) -> None:
        """Hands the first `rows` of what is pending to the sealer, which writes them in the background."""
        if not rows:
            return
        values = np.concatenate(self._pending)
        release(*self._pending)
        block, rest = values[:rows], values[rows:]
        self._pending = [rest.copy()] if len(rest) else []
        bad = find_missing(block)
        if bad is not None:
            raise StoreError(
                f"{self._path}: {self.name}: expected finite values other than {missing_value(self.feature.dtype)}, "
                f"got {block[bad]} in row {self._written + bad}; repair the source"
            )
        for start in range(0, rows, self.chunk_rows):
            name = f"{self.name}/c.{(self._written + start) // self.chunk_rows}{'.0' * len(self.feature.shape)}"
            part = block[start : start + self.chunk_rows]
            self._sealer.write(name, partial(encode_chunk, part, self.chunk_rows, self._compression))
        self._written += rows

    def describe(self, root: zarr.Group) -> int:
        """Writes the metadata of the array, now that its length is known; returns the number of chunks."""
        shape = (self._written, *self.feature.shape)
        return _create(root, self.name, self.feature.dtype, shape, self.chunk_rows, self._compression).nchunks


def _create(
    root: zarr.Group, name: str, dtype: str, shape: tuple[int, ...], chunk_rows: int, compression: Compression
) -> zarr.Array[Any]:
    return root.create_array(
        name,
        shape=shape,
        chunks=(chunk_rows, *shape[1:]),
        dtype=dtype,
        compressors=make_codecs(compression),
        fill_value=missing_value(dtype),
        chunk_key_encoding=CHUNK_KEYS,
        config={"write_empty_chunks": True},
    )


def _write_index(root: zarr.Group, lengths: npt.NDArray[np.int64], flags: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Writes `episodes/`; returns the number of chunks of each array."""
    columns: tuple[Array, ...] = (np.cumsum(lengths) - lengths, lengths, flags[:, 0], flags[:, 1])
    for (name, dtype), values in zip(INDEX_DTYPES.items(), columns, strict=True):
        _create(root, f"episodes/{name}", dtype, (len(lengths),), len(lengths), "none")[:] = values
    return {f"episodes/{name}": 1 for name in INDEX_DTYPES}


def _explain_misfit(episode: Episode, schema: Schema, where: str) -> StoreError:
    if set(episode.arrays) != set(schema.names):
        return StoreError(
            f"{where}: expected the features {', '.join(schema.names)}, got {', '.join(episode.arrays)}; "
            "make the reader yield what it describes"
        )
    wrong = [
        (feature, array)
        for feature in schema.features
        if (array := episode.arrays[feature.name]).shape != (episode.length, *feature.shape)
        or array.dtype != np.dtype(feature.dtype)
    ]
    if not wrong:
        return StoreError(f"{where}: expected at least one step, got 0 steps; drop the episode")
    feature, array = wrong[0]
    return StoreError(
        f"{where}: {feature.name}: expected {feature.dtype} of shape {(episode.length, *feature.shape)}, got "
        f"{array.dtype} {array.shape}; make the reader yield what it describes"
    )
