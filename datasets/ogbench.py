"""Reads OGBench's .npz files: flat arrays, compressed or not, cut by `terminals`.

S. Park, K. Frans, B. Eysenbach, S. Levine, "OGBench: Benchmarking Offline Goal-Conditioned RL", ICLR 2025.
`terminals` ends a recording, never a task: every episode is truncated. Its last row has an observation and no
successor, so that its action means nothing; as in OGBench's own `load_dataset`, an episode has one step fewer than
rows. Arrays are read block by block out of the archive, whose members are streams: nothing is unpacked as a whole.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import SourceError, SuppleError, describe_error
from ..robots.spec import RobotSpec
from .episode import Array, Reader, ReadOptions
from .keyed import Column, KeyedReader, KeyedSource, Load, Survey
from .source_files import require_budget, require_directory

_MAIN = ("observations", "actions", "terminals")
_NEXT = "next observations"
_STATES = ("qpos", "qvel", "button_states")
_DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    SyntaxError,
    zlib.error,
    struct.error,
)
"""What zipfile, zlib and numpy raise on damaged files; caught only around calls into them."""


def probe(path: Path) -> bool:
    """Whether an .npz has OGBench's arrays."""
    with _open(path) as archive:
        names = set(archive.namelist())
    return {f"{name}.npy" for name in _MAIN} <= names and "rewards.npy" not in names


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    return KeyedReader("ogbench-npz", OgbenchArchive(path), options, robot)


class OgbenchArchive(KeyedSource):
    """The arrays of one file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._starts = self._lengths = np.zeros(0, np.int64)

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        path = self.path
        columns: dict[str, Column] = {}
        counts: dict[str, int] = {}
        with _open(path) as archive:
            require_directory(archive, path)
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    shape, fortran, dtype = _read_header(stream)
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                require_budget(size, path.stat().st_size, f"{path}: {name}")
                flaw = "" if shape else "holds a single value"
                if fortran and len(shape) > 1:
                    flaw = "is stored by columns (save numpy.ascontiguousarray of it)"
                if dtype.hasobject:
                    flaw = "holds objects of Python, which can run any program when they are loaded"
                columns[name] = Column(
                    dtype=dtype, shape=shape[1:], flaw=flaw, role="state" if name in _STATES else "other"
                )
                counts[name] = shape[0] if shape else 0
        for name in _MAIN:
            if name not in columns:
                raise SourceError(
                    f"{path}: expected the array {name}, got {', '.join(columns)[:200]}; give another file"
                )
        rows = counts["observations"]
        for name in columns:
            if counts[name] != rows and name in _MAIN:
                raise SourceError(
                    f"{path}: {name}: expected {rows} rows as in observations, got {counts[name]}; copy the file again"
                )
            if counts[name] != rows and not columns[name].flaw:
                columns[name] = Column(
                    dtype=columns[name].dtype, shape=columns[name].shape, flaw=f"has {counts[name]} rows, not {rows}"
                )
        ends = np.flatnonzero(self._read_whole("terminals", columns["terminals"], rows))
        if not len(ends) or ends[-1] != rows - 1:
            raise SourceError(
                f"{path}: terminals: expected an end in the last of {rows} rows, got "
                f"{'none at all' if not len(ends) else f'the last one in row {ends[-1]}'}; copy the file again"
            )
        self._starts = np.concatenate(([0], ends[:-1] + 1))
        self._lengths = ends - self._starts
        if (self._lengths < 1).any():
            row = int(self._starts[np.flatnonzero(self._lengths < 1)[0]])
            raise SourceError(
                f"{path}: terminals: expected at least two rows in an episode, as the last one has no successor, got "
                f"an "
                f"episode of one, row {row}; remove it"
            )
        columns[_NEXT] = columns["observations"]
        everywhere = np.ones(len(ends), np.bool_)
        return Survey(
            columns=columns,
            lengths=self._lengths,
            terminated=~everywhere,
            truncated=everywhere,
            observation=["observations"],
            action=["actions"],
            following={"observations": _NEXT},
            hidden={"terminals": "the store keeps the ends of episodes itself"},
            notes=[
                "the last row of each episode is only the observation behind its last action; its own action has no "
                "effect"
            ],
        )

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        with self.reading() as load:
            return load(names, first, last)

    @contextmanager
    def reading(self) -> Iterator[Load]:
        """Keeps the members of the archive open, as each is a stream that only goes forward."""
        with _open(self.path) as archive, ExitStack() as stack:
            streams: dict[str, _Rows] = {}

            def take(name: str, begin: int, end: int) -> Array:
                if name not in streams or streams[name].row > begin:
                    streams[name] = _Rows(archive, name)
                    stack.callback(streams[name].stream.close)
                return streams[name].take(begin, end)

            def load(names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
                begin, end = int(self._starts[first]), int(self._starts[last - 1] + self._lengths[last - 1] + 1)
                plain = {name: "observations" if name == _NEXT else name for name in names}
                with _typed(self.path):
                    blocks = {name: take(name, begin, end) for name in dict.fromkeys(plain.values())}
                # the rows of these episodes but the last of each, and for the next observation but the first of each
                within, later = np.ones(end - begin, np.bool_), np.ones(end - begin, np.bool_)
                within[self._starts[first:last] + self._lengths[first:last] - begin] = False
                later[self._starts[first:last] - begin] = False
                return {name: blocks[source][later if name == _NEXT else within] for name, source in plain.items()}

            yield load

    def _read_whole(self, name: str, column: Column, rows: int) -> Array:
        if column.problem or column.width != 1:
            raise SourceError(
                f"{self.path}: {name}: expected one flag per row, got {column.shape}; copy the file again"
            )
        with _open(self.path) as archive:
            values = _Rows(archive, name).take(0, rows).reshape(rows)
        if not np.isin(values, (0, 1)).all():
            row = int(np.flatnonzero(~np.isin(values, (0, 1)))[0])
            raise SourceError(f"{self.path}: {name}: expected 0 or 1, got {values[row]} in row {row}; copy it again")
        return values.astype(np.bool_)


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except SuppleError:
        raise
    except _DAMAGE as error:
        raise SourceError(
            f"{path}: expected a whole .npz archive, got one that cannot be read ({describe_error(error)}); "
            "copy or download it again"
        ) from error


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    with _typed(path), zipfile.ZipFile(path) as archive:
        yield archive


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and type of an array, from the first bytes of its member."""
    version = npy.read_magic(stream)
    shape, fortran, dtype = (
        npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
    )
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of {dtype} with shape {shape}")
    return shape, fortran, dtype


class _Rows:
    """An array in an archive, read from its first row on."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.stream = archive.open(f"{name}.npy")
        shape, _, self._dtype = _read_header(self.stream)
        self._rows, self._shape = shape[0], shape[1:]
        self._row_bytes = int(np.prod(self._shape, dtype=object)) * self._dtype.itemsize
        self.row = 0
        """The next one."""

    def take(self, begin: int, end: int) -> Array:
        """Rows [begin, end); those before are passed over."""
        self.stream.seek((begin - self.row) * self._row_bytes, 1)
        self.row = end
        wanted = (end - begin) * self._row_bytes
        data = self.stream.read(wanted)
        if end == self._rows:
            self.stream.read(1)  # the checksum of the member is compared at its end
        if len(data) != wanted:
            raise ValueError(f"{len(data)} of {wanted} bytes of rows {begin} to {end}")
        return np.frombuffer(data, self._dtype).reshape(end - begin, *self._shape)
