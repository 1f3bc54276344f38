"""HDF5 files with one group per episode, as robomimic, Minari and SPiRL write them: their arrays, and rows of these.

Counts come from the arrays, never from attributes. Legend: E episodes, T steps of one episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from .episode import Array
from .hdf5 import is_written, open_hdf5, require_plain, walk
from .keyed import Column


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

    def compare(number: int, group: h5py.Group) -> None:
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
            known = columns.setdefault(name, column)
            dtype = _join_types(known.dtype, column.dtype)
            if dtype is None or known.shape != column.shape:
                flaw = f"is {known.dtype} {known.shape} and, in {place.group}, {column.dtype} {column.shape}"
            if (flaw and not known.flaw) or dtype not in (None, known.dtype):
                columns[name] = Column(dtype=dtype or known.dtype, shape=known.shape, flaw=known.flaw or flaw)
            rows.setdefault(name, np.full(len(places), -1, np.int64))[number] = shape[0] if shape else 0

    _visit(places, compare)
    for name, counts in rows.items():
        if (counts < 0).any() and not columns[name].flaw:
            missing = places[int(np.flatnonzero(counts < 0)[0])].group
            columns[name] = Column(
                dtype=columns[name].dtype, shape=columns[name].shape, flaw=f"is missing in {missing}"
            )
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
    found: list[list[Array]] = [[] for _ in names]

    def take(number: int, group: h5py.Group) -> None:
        for (name, begin), pieces in zip(names, found, strict=True):
            pieces.append(group[name][begin : begin + int(lengths[number])])

    _visit(places, take)
    return [np.concatenate(pieces) for pieces in found]


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


def _visit(places: Sequence[Place], visit: Callable[[int, h5py.Group], None]) -> None:
    """Calls `visit` with each episode's number and group; a file stays open while its episodes follow each other."""
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
                visit(number, entry)
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
