"""Opens an episode store and brings its arrays into memory, or into a memory map for data larger than that.

Opening checks the manifest, the presence and size of every file, and metadata and index byte for byte; reading an array
checks the crc32c of each chunk. `verify_store` checks all bytes. Single windows are never read from zarr: a slice costs
about 250 us there, a window from memory less than 1 us.
Legend: N steps of all episodes, E episodes, dim number of axes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from ..errors import SpecError, StoreError, describe_error
from ..plain_files import sync
from .compression import Compression
from .episode import Episode, EpisodeIndex
from .layout import CHUNK_ROWS, INDEX_DTYPES, count_image_rows, find_missing
from .manifest import MANIFEST_NAME, Manifest, hash_file, list_files, load_manifest, measure_file
from .schema import VALID, Feature, Schema
from .store_metadata import check_arrays, load_attributes

_BLOCK_ROWS = 4 * CHUNK_ROWS
_IMAGE_CHUNKS = 16
"""Chunks of pictures that are read at a time."""
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OverflowError)
"""What zarr raises on damaged files; caught only around calls into zarr."""


class EpisodeStore:
    """A published store; made by `open_store` or `write_store`. Nothing in it ever changes."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        root: zarr.Group,
        schema: Schema,
        provenance: Mapping[str, Any],
        *,
        schema_version: int,
        robot_name: str | None,
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._root = root
        self._schema = schema
        self._provenance = provenance
        self._schema_version = schema_version
        self._robot_name = robot_name
        self._episodes = self._load_index()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """Every file with its hash."""
        return self._manifest

    @property
    def schema(self) -> Schema:
        """What the arrays mean."""
        return self._schema

    @property
    def schema_version(self) -> int:
        """Of the schema as it lies on the disk."""
        return self._schema_version

    @property
    def robot_name(self) -> str | None:
        """Of the robot that the data are from; in schema version 1 it was all that a store said of it."""
        return self._robot_name

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the data came from, as the writer was told."""
        return self._provenance

    @property
    def episodes(self) -> EpisodeIndex:
        """Start, length, terminated and truncated of every episode, each of shape (E,)."""
        return self._episodes

    def load_valid(self, number: int | None = None) -> npt.NDArray[np.bool_]:
        """Which steps are to be learned from, (N,): all but those that a log keeps with 0 in its array `valid`.

        Args:
            number: Of an episode, whose T steps alone are wanted; None for all.

        Raises:
            StoreError: a chunk is missing or damaged.
        """
        index = self._episodes
        first, count = (0, self.rows) if number is None else (int(index.start[number]), int(index.length[number]))
        if not self._marks_steps:
            return np.ones(count, np.bool_)
        valid: npt.NDArray[np.bool_] = self.read_rows(VALID, first, first + count) != 0
        return valid

    @cached_property
    def _marks_steps(self) -> bool:
        """Whether the feature `valid` is the store's own mark.

        In older stores it may be an array that its source called so: a file of D4RL, or one whose columns are named.
        """
        parts = self._provenance.get("parts")
        sources = [part["source"] for part in parts] if isinstance(parts, list) else [self._provenance]
        if any(one.get("format") == "d4rl-hdf5" or VALID in one.get("columns", ()) for one in sources):
            return False
        return any(
            (one.name, one.dtype, one.shape, one.role) == (VALID, "uint8", (), "other") for one in self._schema.features
        )

    def find_stretches(self) -> EpisodeIndex:
        """The episodes, cut at steps that are not to be learned from; see `load_valid`.

        Raises:
            StoreError: a chunk is missing or damaged, or there is no other step.
        """
        index, valid = self._episodes, self.load_valid()
        if valid.all():
            return index
        if not valid.any():
            raise StoreError(f"{self._path}: expected valid steps, got 0 in {VALID} in all; ingest another recording")
        first = np.zeros(len(valid) + 1, np.bool_)
        first[index.start] = first[-1] = True
        starts = np.flatnonzero(valid & (first[:-1] | ~np.concatenate(([False], valid[:-1]))))
        ends = np.flatnonzero(valid & (first[1:] | ~np.concatenate((valid[1:], [False])))) + 1
        episode = np.searchsorted(index.start, starts, "right") - 1
        whole = ends == (index.start + index.length)[episode]
        return EpisodeIndex(starts, ends - starts, index.terminated[episode] & whole, index.truncated[episode] | ~whole)

    @property
    def rows(self) -> int:
        """N, steps of all episodes."""
        return int(self._episodes.length.sum())

    @property
    def compression(self) -> Compression:
        """Of the chunks."""
        codecs = self.array(f"steps/{self._schema.names[0]}").compressors
        return "zstd" if any(isinstance(codec, ZstdCodec) for codec in codecs) else "none"

    @property
    def digest(self) -> str:
        """SHA-256 that names the content: the same data, schema and provenance give the same digest."""
        return self._manifest.digest

    def load(self, key: str) -> npt.NDArray[Any]:
        """The whole array of one feature in memory, shape (N,) or (N, dim).

        Raises:
            SpecError: no such feature.
            StoreError: a chunk is missing or damaged.
        """
        return self._read_step(key, slice(None))

    def episode(self, number: int) -> Episode:
        """All features of one episode.

        Raises:
            SpecError: there is no episode of that number.
            StoreError: a chunk is missing or damaged.
        """
        index = self._episodes
        if not 0 <= number < len(index.start):
            raise SpecError(
                f"{self._path}: expected an episode from 0 to {len(index.start) - 1}, got {number}; choose one of these"
            )
        part = slice(int(index.start[number]), int(index.start[number] + index.length[number]))
        arrays = {name: self._read_step(name, part) for name in self._schema.names}
        return Episode(arrays, bool(index.terminated[number]), bool(index.truncated[number]))

    def read_rows(self, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows `start` to `stop` of one feature, (stop - start,) or (stop - start, dim); raises as `load`."""
        return self._read_step(key, slice(start, stop))

    def blocks(self, key: str) -> Iterator[npt.NDArray[Any]]:
        """The same array in consecutive pieces of at most 256 Ki rows, for data beyond memory; raises as `load`.

        Pieces of pictures have about 64 MiB.
        """
        feature = self._schema.feature(key)
        rows = _BLOCK_ROWS if feature.role != "image" else _IMAGE_CHUNKS * count_image_rows(feature.shape)
        for start in range(0, self.rows, rows):
            yield self._read_step(key, slice(start, min(start + rows, self.rows)))

    def memmap(self, key: str, cache_dir: str | Path, *, check: bool = True) -> npt.NDArray[Any]:
        """The same array as a read-only memory map of a cache file, which is written on first use.

        The file's name is a hash of the store's digest and the feature, so another content is another file.

        Args:
            key: Feature name.
            cache_dir: Folder of cache files; may be shared between stores and processes.
            check: Whether to hash an existing cache file before use (about 1 GB/s).

        Raises:
            SpecError: no such feature.
            StoreError: a chunk is missing or damaged, or the cache file is not what was written.
        """
        name = hashlib.sha256(f"{self.digest}/steps/{key}".encode()).hexdigest()
        path = Path(cache_dir) / f"{name}.npy"
        seal = path.with_suffix(".sha256")
        if not (path.exists() and seal.exists()):
            self._write_cache(key, path, seal)
        if check and hash_file(path) != seal.read_text():
            raise StoreError(f"{path}: expected the cached {key}, got changed bytes; remove the file and open again")
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array

    def _write_cache(self, key: str, path: Path, seal: Path) -> None:
        feature = self._schema.feature(key)
        header = {"descr": np.dtype(feature.dtype).str, "fortran_order": False, "shape": (self.rows, *feature.shape)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".partial-{uuid4().hex}")
        try:
            with partial.open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for block in self.blocks(key):
                    stream.write(block.data)
            digest = hash_file(partial)
            sync(partial)
            os.replace(partial, path)
            partial.write_text(digest)
            sync(partial)
            os.replace(partial, seal)
            sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)

    def _load_index(self) -> EpisodeIndex:
        entry = self.array("episodes/start")
        shape = tuple(entry.shape)
        start, length, terminated, truncated = (
            self._read(f"episodes/{name}", dtype, shape, slice(None)) for name, dtype in INDEX_DTYPES.items()
        )
        rows = self._count_rows()
        good = len(start) and np.all((length > 0) & (length <= rows)) and start[0] == 0 and length.sum() == rows
        if not good or np.any(start[1:] != np.cumsum(length)[:-1]) or np.any((terminated > 1) | (truncated > 1)):
            raise StoreError(
                f"{self._path}: episodes: expected an index without gaps and flags of 0 or 1, got another; "
                "ingest the source again"
            )
        return EpisodeIndex(start, length, terminated.astype(np.bool_), truncated.astype(np.bool_))

    def _count_rows(self) -> int:
        """N, as the arrays of the steps have it."""
        return int(self.array(f"steps/{self._schema.names[0]}").shape[0])

    def _read_step(self, key: str, part: slice) -> npt.NDArray[Any]:
        feature, name = self._schema.feature(key), f"steps/{key}"
        if feature.role == "image":
            self._require_chunks(feature, name, part)
        values = self._read(name, feature.dtype, (self.rows, *feature.shape), part)
        bad = find_missing(values)
        if bad is not None:
            row = (part.start or 0) + bad
            raise StoreError(
                f"{self._path}: {name}: expected data in every chunk, got the missing value in row {row} (chunk "
                f"{row // CHUNK_ROWS}); ingest the source again"
            )
        return values

    def _require_chunks(self, feature: Feature, name: str, part: slice) -> None:
        """Looks for the chunks of some rows of pictures: a missing one would read as white ones."""
        rows = count_image_rows(feature.shape)
        start, stop, _ = part.indices(self.rows)
        for number in range(start // rows, -(-stop // rows)):
            file = self._path / name / f"c.{number}{'.0' * len(feature.shape)}"
            if not file.is_file():
                raise StoreError(f"{file}: expected a chunk of pictures, got no file; ingest the source again")

    def _read(self, name: str, dtype: str, shape: tuple[int, ...], part: slice) -> npt.NDArray[Any]:
        array = self.array(name)
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise StoreError(
                f"{self._path}: {name}: expected {dtype} of shape {shape}, got {array.dtype} {array.shape}; "
                "open the store again, or ingest the source again"
            )
        try:
            return np.asarray(array[part])
        except _DAMAGE as error:
            raise StoreError(
                f"{self._path}: {name}: expected whole chunks, got a damaged one ({describe_error(error)}); "
                "ingest the source again"
            ) from error

    def array(self, name: str) -> zarr.Array[Any]:
        """The zarr array behind `steps/<feature>` or `episodes/<field>`; raises StoreError when there is none."""
        try:
            array = self._root[name]
        except _DAMAGE as error:
            raise StoreError(f"{self._path}: {name}: expected an array, got none; ingest the source again") from error
        if not isinstance(array, zarr.Array):
            raise StoreError(f"{self._path}: {name}: expected an array, got a group; ingest the source again")
        return array


def find_store(path: Path) -> Path:
    """The store itself, or the one in an `ingest` folder or run folder."""
    for candidate in (path / "store", path / "ingest" / "store"):
        if candidate.is_dir() and not (path / MANIFEST_NAME).exists():
            return candidate
    return path


def open_store(path: str | Path) -> EpisodeStore:
    """Opens a store after the cheap checks: manifest, schema version, all files present with their sizes, none extra.

    Args:
        path: The store, or a folder of `supple ingest` or `supple run` that holds it.

    Raises:
        StoreError: names the file and the remedy.
    """
    path = find_store(Path(path))
    if not path.is_dir():
        raise StoreError(f"{path}: expected an episode store, got no folder there; check the path or ingest a source")
    if ".partial-" in path.name:
        raise StoreError(f"{path}: expected a finished store, got an unfinished write; ingest the source again")
    manifest = load_manifest(path)
    check_files(path, manifest)
    for name in manifest.files:
        small = name.endswith("zarr.json") or name.startswith("episodes/")
        if small and hash_file(path / name) != manifest.files[name].sha256:
            raise StoreError(f"{path / name}: expected unchanged bytes, got other bytes; ingest the source again")
    attributes = load_attributes(path)
    try:
        schema = Schema.from_json(attributes.get("schema"), f"{path}: schema")
    except SpecError as error:
        where = "" if str(error).startswith(f"{path}: ") else f"{path}: "
        raise StoreError(f"{where}{error}") from error
    check_arrays(path, manifest, schema)
    try:
        root = zarr.open_group(LocalStore(path, read_only=True), mode="r", zarr_format=3)
    except _DAMAGE as error:
        raise StoreError(f"{path}: expected a zarr v3 group, got {error}; ingest the source again") from error
    provenance = attributes.get("provenance")
    if not isinstance(provenance, dict):
        raise StoreError(f"{path}: provenance: expected a mapping, got {provenance!r}; ingest the source again")
    stored = attributes["schema"]
    robot = stored["robot"]
    return EpisodeStore(
        path,
        manifest,
        root,
        schema,
        provenance,
        schema_version=stored["schema_version"],
        robot_name=robot if isinstance(robot, str) else None if schema.robot is None else schema.robot.name,
    )


def check_files(path: Path, manifest: Manifest) -> None:
    """Compares the files that are there with the manifest, by name, size and last bytes.

    A chunk ends with its checksum, so that one in the place of another shows, whose size is the same.

    Raises:
        StoreError: a missing or extra file, or one of another size.
    """
    found = set(list_files(path))
    for name in sorted(found ^ set(manifest.files)):
        if name in found:
            raise StoreError(f"{path / name}: expected no such file in the store, got one; remove it")
        raise StoreError(f"{path / name}: expected a file of the store, got none; ingest the source again")
    for name, entry in manifest.files.items():
        size, tail = measure_file(path / name)
        if size != entry.bytes:
            raise StoreError(f"{path / name}: expected {entry.bytes} bytes, got {size} bytes; ingest the source again")
        if tail != entry.tail is not None:
            raise StoreError(
                f"{path / name}: expected a file that ends with {entry.tail}, got {tail}, another file or a changed "
                f"one; "
                "ingest the source again"
            )
