"""Writes an episode store from a stream of episodes, in bounded memory, whole or not at all.

Everything is written into `<name>.partial-<id>` beside the target, hashed and synced, and renamed at the end. A writer
that dies leaves only such a folder; the next writer of the same name removes those whose owner is gone.
Legend: N steps of all episodes, E episodes, T steps of one episode, dim number of axes.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from ..errors import StoreError
from .episode import Episode
from .layout import CHUNK_KEYS, CHUNK_ROWS, INDEX_DTYPES, Compression, find_missing, make_codecs, missing_value
from .manifest import MANIFEST_NAME, Sealer
from .publish import publish, refuse_existing, sync_file
from .schema import Feature, Schema
from .store import EpisodeStore, open_store

Array = npt.NDArray[Any]
_BLOCK_BYTES = 2**25
"""What is written at a time, 32 MiB: enough to hide the 2 ms that a call into zarr costs."""


def write_store(
    path: str | Path,
    episodes: Iterable[Episode],
    schema: Schema,
    provenance: Mapping[str, Any],
    *,
    rows: int | None = None,
    compression: Compression = "none",
) -> EpisodeStore:
    """Writes a store and opens it; see `writing_store` for arguments and errors."""
    for _ in writing_store(path, episodes, schema, provenance, rows=rows, compression=compression):
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
) -> Iterator[tuple[int, int | None]]:
    """Writes a store, yields (rows written, rows in all) after every chunk; the store exists when this is exhausted.

    A generator that is closed or fails on the way removes what it wrote. The store's digest depends on data, schema and
    provenance, so the provenance must not hold times, host names or paths that change between runs.

    Args:
        path: Folder that shall appear; nothing may be there yet.
        episodes: As yielded by a reader; consumed once.
        schema: Of every episode.
        provenance: JSON values, stored in the root attributes.
        rows: N, if known: yielded again, and spares growing the arrays; a wrong number does no harm.
        compression: Of the chunks.

    Raises:
        StoreError: something is at `path` already; no episode; an episode is empty or does not match the schema; a
            value is not finite, or is the integer that stands for missing data; the disk is full.
    """
    path = Path(path)
    refuse_existing(path, StoreError)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    partial = path.with_name(f"{path.name}.partial-{uuid4().hex}")
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    sealer = Sealer(partial)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = zarr.create_group(
            LocalStore(partial),
            zarr_format=3,
            attributes={"schema": schema.to_json(), "provenance": dict(provenance)},
        )
        columns = [_Column(root, feature, rows, compression, path) for feature in schema.features]
        lengths, flags = yield from _write_steps(path, episodes, schema, columns, sealer, rows)
        _write_index(root, lengths, flags)
        chunks = {column.name: column.array.nchunks for column in columns}
        chunks |= {f"episodes/{name}": 1 for name in INDEX_DTYPES}
        (partial / MANIFEST_NAME).write_bytes(sealer.finish(chunks).to_bytes())
        sync_file(partial / MANIFEST_NAME)
        for folder, _, _ in os.walk(partial, topdown=False):
            sync_file(Path(folder))
        publish(partial, path, StoreError)
    except OSError as error:
        raise StoreError(
            f"{path}: expected a folder that can be written, got {error.strerror or error}; "
            "free some space or choose another place"
        ) from error
    finally:
        sealer.close()
        os.close(lock)
        shutil.rmtree(partial, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Removes the partial folders of `path` whose writer no longer lives: its lock ended with it."""
    for partial in path.parent.glob(f"{path.name}.partial-*"):
        try:
            lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def _write_steps(
    path: Path,
    episodes: Iterable[Episode],
    schema: Schema,
    columns: Sequence[_Column],
    sealer: Sealer,
    rows: int | None,
) -> Generator[tuple[int, int | None], None, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    """Writes `steps/`, yields as `writing_store`, and returns lengths (E,) and flags (E, 2)."""
    block_rows = CHUNK_ROWS * max(1, _BLOCK_BYTES // (CHUNK_ROWS * sum(column.row_bytes for column in columns)))
    lengths: list[int] = []
    flags: list[tuple[bool, bool]] = []
    written = pending = 0
    for number, episode in enumerate(episodes):
        length = _check_episode(episode, schema, f"{path}: episode {number}")
        for column in columns:
            column.append(episode.arrays[column.feature.name])
        lengths.append(length)
        flags.append((episode.terminated, episode.truncated))
        pending += length
        if pending >= block_rows:
            whole = pending - pending % CHUNK_ROWS
            for column in columns:
                sealer.seal(column.flush(whole))
            written, pending = written + whole, pending - whole
            yield written, rows
    if not lengths:
        raise StoreError(f"{path}: expected at least one episode, got 0; check the source")
    for column in columns:
        sealer.seal(column.finish(pending))
    yield written + pending, rows
    return np.array(lengths, np.int64), np.array(flags, np.uint8)


class _Column:
    """One array of `steps/`, written in whole chunks."""

    def __init__(
        self, root: zarr.Group, feature: Feature, rows: int | None, compression: Compression, path: Path
    ) -> None:
        self.feature = feature
        self.name = f"steps/{feature.name}"
        self.row_bytes = math.prod(feature.shape) * np.dtype(feature.dtype).itemsize
        self.array = _create(root, self.name, feature.dtype, (rows or 0, *feature.shape), CHUNK_ROWS, compression)
        self._path = path
        self._pending: list[Array] = []
        self._written = 0

    def append(self, values: Array) -> None:
        """Keeps a reference until the values are written."""
        self._pending.append(values)

    def flush(self, rows: int) -> list[str]:
        """Writes the first `rows` of what is pending, and returns the files of these chunks."""
        if not rows:
            return []
        values = np.concatenate(self._pending)
        block, rest = values[:rows], values[rows:]
        self._pending = [rest] if len(rest) else []
        start, end = self._written, self._written + rows
        bad = find_missing(block)
        if bad is not None:
            raise StoreError(
                f"{self._path}: {self.name}: expected finite values other than {missing_value(self.feature.dtype)}, "
                f"got {block[bad]} in row {start + bad}; repair the source"
            )
        self._resize(max(end, self.array.shape[0]))
        self.array[start:end] = block
        self._written = end
        first, last = start // CHUNK_ROWS, -(-end // CHUNK_ROWS)
        return [f"{self.name}/c.{chunk}{'.0' * len(self.feature.shape)}" for chunk in range(first, last)]

    def finish(self, rows: int) -> list[str]:
        """Writes the last `rows`, and gives the array the length of what was written."""
        names = self.flush(rows)
        self._resize(self._written)
        return names

    def _resize(self, rows: int) -> None:
        if rows != self.array.shape[0]:
            self.array.resize((rows, *self.feature.shape))


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


def _write_index(root: zarr.Group, lengths: npt.NDArray[np.int64], flags: npt.NDArray[np.uint8]) -> None:
    columns: tuple[Array, ...] = (np.cumsum(lengths) - lengths, lengths, flags[:, 0], flags[:, 1])
    for (name, dtype), values in zip(INDEX_DTYPES.items(), columns, strict=True):
        _create(root, f"episodes/{name}", dtype, (len(lengths),), len(lengths), "none")[:] = values


def _check_episode(episode: Episode, schema: Schema, where: str) -> int:
    if set(episode.arrays) != set(schema.names):
        raise StoreError(
            f"{where}: expected the features {', '.join(schema.names)}, got {', '.join(episode.arrays)}; "
            "make the reader yield what it describes"
        )
    length = episode.length
    if not length:
        raise StoreError(f"{where}: expected at least one step, got 0 steps; drop the episode")
    for feature in schema.features:
        array = episode.arrays[feature.name]
        if array.shape != (length, *feature.shape) or array.dtype != np.dtype(feature.dtype):
            raise StoreError(
                f"{where}: {feature.name}: expected {feature.dtype} of shape {(length, *feature.shape)}, got "
                f"{array.dtype} {array.shape}; make the reader yield what it describes"
            )
    return length
