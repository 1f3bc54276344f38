"""HDF5 files with one group per episode, as robomimic, Minari and SPiRL write them: their arrays, and rows of these.

Counts come from the arrays, never from attributes. A camera may have a PNG or JPEG in each row: bytes of any length,
text of one length, or bytes that are filled up to one. They are decoded where somebody names the camera.
Legend: E episodes, T steps of one episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from .episode import Array
from .hdf5 import is_written, open_hdf5, require_heaps, require_plain, walk
from .keyed import Column, KeyedSource
from .picture_files import ENCODED, STARTS, PictureFiles
from .source_files import count_bytes
from .videos import require_picture_budget

_T = TypeVar("_T")
_FILE_ROWS = 64
"""Of picture files that are read together."""


class Place(NamedTuple):
    """Where an episode lies."""

    file: Path
    group: str

    def __str__(self) -> str:
        return f"{self.file}: {self.group}"


@dataclass(frozen=True, slots=True)
class GroupSurvey:
    """The arrays that all episodes have, by their names within the group."""

    columns: Mapping[str, Column]
    """With the flaw where an episode lacks the array, or has it of another type or width."""
    rows: Mapping[str, npt.NDArray[np.int64]]
    """Rows in each episode, shape (E,); -1 where it is missing, 0 where it is a single value."""


def survey_groups(places: Sequence[Place], path: Path, explain: Callable[[str, h5py.Dataset], str]) -> GroupSurvey:
    """Compares the arrays of all episodes.

    Args:
        places: The episodes.
        path: The source, for messages.
        explain: Why an array cannot be carried over, by its name; "" where it can, as far as the format knows.

    Raises:
        SourceError: a file is damaged, or holds links, virtual or external data.
    """
    columns: dict[str, Column] = {}
    rows: dict[str, npt.NDArray[np.int64]] = {}
    whole: set[Path] = set()

    def look(number: int, group: h5py.Group) -> Iterator[tuple[int, str, Column, int]]:
        place = places[number]
        for name, data in walk(group, place.file).items():
            shape = data.shape
            if shape is None:
                flaw, shape = f"has an empty data space in {place.group}", ()
            else:
                require_plain(data, f"{place.group}/{name}", place.file)
                flaw = explain(name, data) or (
                    "" if is_written(data) else f"was created and never written in {place.group}"
                )
            if not flaw and not shape:
                flaw = "holds one value for an episode, not one for each step"
            column = Column(dtype=data.dtype, shape=tuple(int(size) for size in shape[1:]), flaw=flaw)
            if _may_be_files(data) and not flaw and shape[0]:
                if place.file not in whole:
                    require_heaps(place.file)
                    whole.add(place.file)
                column = _find_files(data, column)
            yield number, name, column, shape[0] if shape else 0

    for number, name, column, count in _visit(places, look):
        known, flaw = columns.setdefault(name, column), column.flaw
        dtype = _join_types(known.dtype, column.dtype)
        if dtype is None or known.shape != column.shape or known.encoded != column.encoded:
            kinds = (f"{one.dtype} {one.shape}{one.encoded and f', {one.encoded}'}" for one in (known, column))
            flaw = f"is {f' and, in {places[number].group}, '.join(kinds)}"
        if (flaw and not known.flaw) or dtype not in (None, known.dtype):
            columns[name] = replace(known, dtype=dtype or known.dtype, flaw=known.flaw or flaw)
        rows.setdefault(name, np.full(len(places), -1, np.int64))[number] = count
    for name, counts in rows.items():
        if (counts < 0).any() and not columns[name].flaw:
            missing = places[int(np.flatnonzero(counts < 0)[0])].group
            columns[name] = replace(columns[name], flaw=f"is missing in {missing}")
    return GroupSurvey(dict(sorted(columns.items())), rows)


def _join_types(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any] | None:
    """The type that holds the values of both exactly: of floats the wider one; None where there is none."""
    if first == second:
        return first
    wider = np.promote_types(first, second) if first.kind == second.kind and first.kind in "fiu" else None
    return wider if wider is not None and wider.kind == first.kind else None


def mark_rows(
    survey: GroupSurvey, expected: npt.NDArray[np.int64], places: Sequence[Place], like: str, spare: int = 0
) -> dict[str, Column]:
    """The columns, with the flaw where an episode has another number of rows than `like`, or than up to `spare` more.

    Such an array may be anything; what must have a row for each step is for `require_rows`.
    """
    marked = dict(survey.columns)
    for name, column in survey.columns.items():
        more = survey.rows[name] - expected
        wrong = np.flatnonzero((more < 0) | (more > spare))
        if len(wrong) and not column.flaw:
            number = int(wrong[0])
            flaw = f"has {survey.rows[name][number]} rows in {places[number].group}, and {like} {expected[number]}"
            marked[name] = replace(column, flaw=flaw)
    return marked


def load_groups(
    places: Sequence[Place], names: Sequence[tuple[str, int]], lengths: npt.NDArray[np.int64]
) -> list[Array]:
    """Arrays of these episodes, one behind the other.

    Args:
        places: The episodes.
        names: Of the arrays, each with the row at which it begins in every episode.
        lengths: Rows of each episode, shape (len(places),).

    Raises:
        SourceError: a file is damaged.
    """

    def take(number: int, group: h5py.Group) -> Iterator[Array]:
        for name, begin in names:
            yield group[name][begin : begin + int(lengths[number])]

    found = list(_visit(places, take))
    return [np.concatenate(found[at :: len(names)]) for at in range(len(names))]


class GroupedSource(KeyedSource):
    """A source whose episodes are groups.

    Args:
        path: The source.
        wanted: Names of cameras whose picture files are decoded. Names of other columns are none.
        shape: Height, width and channels to which these are scaled; None leaves them as they are.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = (), shape: tuple[int, int, int] | None = None) -> None:
        super().__init__(path)
        self._wanted, self._shape = wanted, shape
        self._places: list[Place] = []
        self._lengths = np.zeros(0, np.int64)
        """T of each episode, shape (E,)."""
        self._cameras: dict[str, PictureFiles] = {}

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        places, lengths = self._places[first:last], self._lengths[first:last]
        plain = [name for name in names if name not in self._cameras]
        arrays = load_groups(places, [self._find_rows(name) for name in plain], lengths) if plain else []
        found = dict(zip(plain, arrays, strict=True))
        for name in names:
            if name in self._cameras:
                with self._cameras[name].playing() as play:
                    found[name] = play(first, last)
        return found

    def _find_rows(self, name: str) -> tuple[str, int]:
        """The array of a column, and the row at which it begins in every episode."""
        return name, 0

    def _open_cameras(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """The columns with the shape of the pictures that are wanted; raises SourceError where these are none."""
        found = dict(columns)
        for name in self._wanted:
            if name in columns and columns[name].encoded and not columns[name].flaw:
                where = f"{self.path}: {name}"
                camera = PictureFiles(where, partial(self._load_files, name), self._lengths, self._shape)
                decoded = int(self._lengths.sum()) * math.prod(camera.shape)
                require_picture_budget(decoded, count_bytes(self.path), where)
                self._cameras[name] = camera
                found[name] = replace(columns[name], shape=camera.shape)
        return found

    def _describe_cameras(self, columns: Mapping[str, Column]) -> dict[str, str]:
        """What a person reads of the columns that are picture files."""
        return {
            name: self._cameras[name].describe() if name in self._cameras else "PNG or JPEG"
            for name, column in columns.items()
            if column.encoded
        }

    def _load_files(self, name: str, first: int, last: int) -> Iterator[bytes]:
        """The picture files of these episodes, one behind the other, of which a few are in memory at a time."""

        def take(number: int, group: h5py.Group) -> Iterator[bytes]:
            steps = int(self._lengths[first + number])
            for begin in range(0, steps, _FILE_ROWS):
                for row in group[name][begin : min(begin + _FILE_ROWS, steps)]:
                    yield _to_bytes(row)

        return _visit(self._places[first:last], take)


def _may_be_files(data: h5py.Dataset) -> bool:
    """Whether each row of an array is some bytes: of any number, or as a vector, that is filled up."""
    if data.dtype.kind == "O":
        inner = h5py.check_vlen_dtype(data.dtype)
        return isinstance(inner, np.dtype) and inner.kind in "iu" and inner.itemsize == 1 and data.ndim == 1
    return (data.dtype == np.uint8 and data.ndim == 2) or (data.dtype.kind in "SV" and data.ndim == 1)


def _find_files(data: h5py.Dataset, column: Column) -> Column:
    """The column of an array of bytes: of picture files, if the first row is one."""
    if _to_bytes(data[0]).startswith(STARTS):
        return Column(dtype=np.dtype(np.uint8), shape=(), encoded=ENCODED)
    if data.dtype.kind == "O":
        return replace(column, flaw="holds bytes that are neither PNG nor JPEG")
    return column


def _to_bytes(row: Any) -> bytes:
    return row if isinstance(row, bytes) else np.asarray(row).tobytes()


def require_rows(
    survey: GroupSurvey, name: str, expected: npt.NDArray[np.int64], places: Sequence[Place], like: str
) -> None:
    """Refuses an array that is missing in an episode, or has another number of rows than `like`.

    Raises:
        SourceError: names the episode.
    """
    rows = survey.rows.get(name)
    wrong = np.flatnonzero(rows != expected) if rows is not None else np.array([0])
    if len(wrong):
        number = int(wrong[0])
        got = "no such array" if rows is None or rows[number] < 0 else f"{rows[number]}"
        raise SourceError(
            f"{places[number]}/{name}: expected {expected[number]} rows as in {like}, got {got}; "
            "remove the episode or write it again"
        )


def require_steps(survey: GroupSurvey, name: str, places: Sequence[Place]) -> npt.NDArray[np.int64]:
    """Rows of the array that counts the steps of each episode, shape (E,), all above 0.

    Raises:
        SourceError: names the first episode that has none.
    """
    rows = survey.rows.get(name)
    if rows is None or (rows < 1).any():
        number = 0 if rows is None else int(np.flatnonzero(rows < 1)[0])
        got = "no such array" if rows is None or rows[number] < 0 else "0 rows"
        others = f" beside {', '.join(survey.columns)[:200]}" if rows is None and survey.columns else ""
        raise SourceError(
            f"{places[number]}/{name}: expected a row for each step, got {got}{others}; remove the episode, or write "
            "it again"
        )
    return rows


def _visit(places: Sequence[Place], visit: Callable[[int, h5py.Group], Iterable[_T]]) -> Iterator[_T]:
    """What `visit` makes of each episode's number and group; a file stays open while its episodes follow each other."""
    number = 0
    while number < len(places):
        path = places[number].file
        with open_hdf5(path) as file:
            while number < len(places) and places[number].file == path:
                entry = _find_group(file, places[number])
                if not isinstance(entry, h5py.Group):
                    raise SourceError(
                        f"{places[number]}: expected a group with an episode, got none; write the file again"
                    )
                yield from visit(number, entry)
                number += 1


def _find_group(file: h5py.File, place: Place) -> object:
    """What stands at a place; a link would give the data of another episode once more.

    Raises:
        SourceError: it is a link.
    """
    path = ""
    for part in place.group.split("/"):
        path = f"{path}/{part}"
        if isinstance(file.get(path, getlink=True), h5py.SoftLink):
            raise SourceError(f"{place}: expected data in this file, got a link; write the data into the file itself")
    return file.get(path)
