"""Reads the replay buffers of diffusion_policy and UMI: zarr v2 groups `data` with `meta/episode_ends`, also zipped.

C. Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", RSS 2023; C. Chi et al., "Universal
Manipulation Interface", RSS 2024. `episode_ends` holds the row behind each episode, rising, the last one being N.
Nothing says how an episode ended: all are truncated. UMI's recordings have no commands: choose them with `action_keys`.
"""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError
from zarr.storage import LocalStore, ZipStore

from ..errors import SourceError, SuppleError, describe_error
from ..robots.spec import RobotSpec
from .episode import Array, Reader, ReadOptions
from .keyed import Column, KeyedReader, KeyedSource, Load, Survey
from .source_files import FREE_BYTES, count_bytes, require_budget, require_directory
from .zarr_chunks import CheckedStore

_DATA, _ENDS = "data", "meta/episode_ends"
_MOST_NDIM = 8
_DAMAGE = (
    BaseZarrError,
    zipfile.BadZipFile,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    AttributeError,
    ArithmeticError,
    ImportError,
    zlib.error,
    struct.error,
    SystemError,  # numcodecs, on a size below 0
)
"""What zarr, numcodecs and zipfile raise on damaged files; caught only around calls into them."""


def probe(path: Path) -> bool:
    """Whether a zarr v2 group has the ends of episodes."""
    if path.is_dir():
        return (path / _ENDS / ".zarray").is_file()
    with _typed(path), zipfile.ZipFile(path) as archive:
        return any(name.endswith(f"{_ENDS}/.zarray") for name in archive.namelist())


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    return KeyedReader("zarr-replay", ZarrReplay(path), options, robot)


class ZarrReplay(KeyedSource):
    """The arrays of one replay buffer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int64)

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        path = self.path
        if path.is_file():
            _require_members(path)
        with self._open_root() as root:
            ends = self._read_ends(root)
            groups = self._list_groups(root)
            found: dict[str, Column] = {}
            notes: list[str] = []
            for name, array in self._list_arrays(root):
                rows = array.shape[0] if array.shape else 0
                flaw = "" if rows == ends[-1] else f"has {rows} rows, not {ends[-1]}"
                column = Column(dtype=np.dtype(array.dtype), shape=tuple(array.shape[1:]), flaw=flaw)
                absent = 0 if column.problem else array.nchunks - array.nchunks_initialized
                if absent:
                    notes.append(
                        f"{name}: {absent} of {array.nchunks} chunks are not there and read as {array.fill_value}: "
                        f"they were "
                        "empty when they were written, or are lost"
                    )
                found[name] = column
        if not found:
            raise SourceError(f"{path}: expected arrays under data, got none; give another store")
        short = [name for name, column in found.items() if column.flaw]
        if len(short) == len(found):
            raise SourceError(
                f"{path}: meta/episode_ends: expected the last end to be the number of rows, got {ends[-1]} where "
                f"{short[0]} {found[short[0]].flaw}; finish the recording, or copy it again"
            )
        self._lengths = np.diff(np.concatenate(([0], ends)))
        self._starts = ends - self._lengths
        everywhere = np.ones(len(ends), np.bool_)
        usable = [name for name, column in found.items() if not column.problem]
        action = [name for name in usable if name == "action"]
        named = [name for name in usable if name in ("obs", "state", "observation")]
        return Survey(
            columns=found,
            lengths=self._lengths,
            terminated=~everywhere,
            truncated=everywhere,
            observation=named[:1] or [name for name in usable if found[name].dtype.kind == "f" and name not in action],
            action=action,
            reward="reward" if "reward" in usable else None,
            contents={_ENDS: f"{len(ends)} episodes"},
            ignored={name: "is a group; only arrays that lie in data itself are read" for name in groups},
            notes=notes,
        )

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        with self.reading() as load:
            return load(names, first, last)

    @contextmanager
    def reading(self) -> Iterator[Load]:
        """Keeps the store open."""
        with self._open_root() as root:

            def load(names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
                begin, end = int(self._starts[first]), int(self._starts[last - 1] + self._lengths[last - 1])
                arrays = {name: self._open(root, f"{_DATA}/{name}") for name in names}
                with _typed(self.path):
                    return {name: np.asarray(array[begin:end]) for name, array in arrays.items()}

            yield load

    @contextmanager
    def _open_root(self) -> Iterator[zarr.Group]:
        with _typed(self.path):
            if self.path.is_file():
                _require_archive(self.path)
            inner = ZipStore(self.path, mode="r") if self.path.is_file() else LocalStore(self.path, read_only=True)
            try:
                yield zarr.open_group(CheckedStore(inner), mode="r", zarr_format=2, use_consolidated=False)
            finally:
                inner.close()

    def _read_ends(self, root: zarr.Group) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        array = self._open(root, _ENDS)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise SourceError(
                f"{self.path}: {_ENDS}: expected a list of integers, got {array.dtype} {array.shape}; copy it again"
            )
        with _typed(self.path):
            values = np.asarray(array[:])
        ends = values.astype(np.int64)
        wrong = np.flatnonzero(np.diff(np.concatenate(([0], ends))) <= 0)
        if not len(ends) or len(wrong):
            where = f"{ends[wrong[0]]} in entry {wrong[0]}" if len(wrong) else "no entry"
            raise SourceError(
                f"{self.path}: {_ENDS}: expected rising rows above 0, got {where}; finish the recording, or copy it "
                f"again"
            )
        return ends

    def _list_arrays(self, root: zarr.Group) -> Iterator[tuple[str, zarr.Array[Any]]]:
        with _typed(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no arrays
            data = root[_DATA]
            names = sorted(data.array_keys()) if isinstance(data, zarr.Group) else []
        for name in names:
            yield name, self._open(root, f"{_DATA}/{name}")

    def _list_groups(self, root: zarr.Group) -> list[str]:
        """Groups within `data`, which no replay buffer has."""
        with _typed(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no arrays
            data = root[_DATA]
            return sorted(data.group_keys()) if isinstance(data, zarr.Group) else []

    def _open(self, root: zarr.Group, name: str) -> zarr.Array[Any]:
        """An array of the store whose metadata are plausible."""
        with _typed(self.path):
            array = root[name]
            if not isinstance(array, zarr.Array):
                raise SourceError(f"{self.path}: {name}: expected an array, got a group; give another store")
            shape, chunks = array.shape, array.chunks
            size = int(np.prod(shape, dtype=object)) * array.dtype.itemsize
            chunk = int(np.prod(chunks, dtype=object)) * array.dtype.itemsize
        where = f"{self.path}: {name}"
        if array.dtype.kind not in "fiubUS" or len(shape) > _MOST_NDIM or any(step < 1 for step in chunks):
            raise SourceError(f"{where}: expected an array of numbers, got {array.dtype} {shape}; write it again")
        require_budget(size, self._on_disk, where)
        if chunk > max(size, FREE_BYTES):
            raise SourceError(
                f"{where}: expected chunks of at most {max(size, FREE_BYTES)} bytes, got {chunk}; write it again"
            )
        if isinstance(root.store, CheckedStore) and array.compressors:
            (codec,) = (getattr(one, "codec_id", "") for one in array.compressors)
            # a filter may have made each number into one of another type
            root.store.expect(name, codec, max(1, chunk) * (16 if array.filters else 1))
        return array

    @cached_property
    def _on_disk(self) -> int:
        return count_bytes(self.path)


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except SuppleError:
        raise
    except _DAMAGE as error:
        raise SourceError(
            f"{path}: expected a whole zarr v2 store, got one that cannot be read ({describe_error(error)}); "
            "copy it again, or install the codec that it names"
        ) from error


def _require_archive(path: Path) -> None:
    """Refuses a zip file that unpacks to far more than it is."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    require_budget(size, path.stat().st_size, path)


def _require_members(path: Path) -> None:
    """Reads every member of a zip file: compares its checksum, and its name with the one in the directory at the end.

    A chunk that is missing in the directory would read as if it had never been written.
    """
    with _typed(path), zipfile.ZipFile(path) as archive:
        _require_archive(path)
        require_directory(archive, path)
        ends = next((name for name in archive.namelist() if name.endswith(f"{_ENDS}/.zarray")), "")
        folder = ends.removesuffix(f"{_ENDS}/.zarray")
        if folder:
            raise SourceError(
                f"{path}: expected the group at the top of the archive, got it in {folder}; zip what is in that "
                "folder, or unpack it and give the folder"
            )
        bad = archive.testzip()
    if bad is not None:
        raise SourceError(f"{path}: {bad}: expected the checksum of the member to fit, got another; copy it again")
