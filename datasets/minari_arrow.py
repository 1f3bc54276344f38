"""Reads Minari's Arrow and Parquet layout: a folder `<episode>/` with one table each, filled up by one row.

Actions, rewards and flags have as many rows as observations, of which the last is padding. Whether it is there is told
by the flags, which end an episode, and only where there are none by the number of steps in the episode's own metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import SourceError
from ..plain_files import sort_naturally
from ..strict_json import load_json
from .arrow_columns import read_columns, read_table, take_column
from .episode import Array
from .keyed import Column, KeyedSource, Survey
from .minari import METADATA, find_pictures, finish_survey, load_metadata

_INDEX = "_index_"
_NEXT = "next "


class MinariArrow(KeyedSource):
    """The episodes of such a folder."""

    def __init__(self, path: Path, root: Path) -> None:
        super().__init__(path)
        self._root = root
        self._files: list[Path] = []
        self._columns: dict[str, Column] = {}
        self._lengths = np.zeros(0, np.int64)

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        metadata = load_metadata(self._root)
        folders = sort_naturally(entry.name for entry in self._root.iterdir() if entry.is_dir())
        self._files = [self._find_table(self._root / name) for name in folders]
        pictures = find_pictures(metadata)
        flags: list[list[Array]] = [[], []]
        lengths, short = [], []
        for file in self._files:
            columns, rows = read_columns(file, _INDEX)
            columns = {
                name: _shape_pictures(column, pictures[name]) if name in pictures else column
                for name, column in columns.items()
            }
            if not self._columns:
                self._columns = columns
            if columns != self._columns:
                wrong = next(
                    name for name in (*self._columns, *columns) if columns.get(name) != self._columns.get(name)
                )
                raise SourceError(
                    f"{file}: {wrong}: expected it as in {self._files[0]}, got another type or none; remove the episode"
                )
            for name in ("observations", "actions", "rewards", "terminations", "truncations"):
                if not any(column.split("/")[0] == name for column in columns):
                    raise SourceError(
                        f"{file}: expected the column {name}, got {', '.join(columns)[:200]}; write the data set again"
                    )
            table = read_table(file, ("terminations", "truncations"))
            found = [take_column(table, name, columns[name], file) for name in ("terminations", "truncations")]
            steps = self._count_steps(file, found[0].astype(bool) | found[1].astype(bool), rows)
            lengths.append(steps)
            if steps == rows:
                short.append(file.parent.name)
            for kept, flag in zip(flags, found, strict=True):
                kept.append(flag[:steps])
        self._lengths = np.array(lengths, np.int64)
        notes = []
        if short:
            notes.append(
                f"{len(short)} of {len(lengths)} episodes, the first {short[0]}, lack the observation behind their "
                f"last "
                "action; the next observations are left out"
            )
        joined = [np.concatenate(flag) if flag else np.zeros(0, bool) for flag in flags]
        columns = {name: column for name, column in sorted(self._columns.items()) if name != "episode_id"}
        return finish_survey(columns, self._lengths, not short, joined, metadata, notes)

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        pieces: dict[str, list[Array]] = {name: [] for name in names}
        tops = tuple(dict.fromkeys(name.removeprefix(_NEXT).split("/")[0] for name in names))
        for file, steps in zip(self._files[first:last], self._lengths[first:last], strict=True):
            table = read_table(file, tops)
            for name in names:
                begin, plain = int(name.startswith(_NEXT)), name.removeprefix(_NEXT)
                values = take_column(table, plain, self._columns[plain], file, _INDEX)
                pieces[name].append(values[begin : begin + int(steps)])
        return {name: np.concatenate(found) for name, found in pieces.items()}

    def _find_table(self, folder: Path) -> Path:
        found = sorted(file for file in folder.iterdir() if file.suffix in (".arrow", ".parquet"))
        if len(found) != 1:
            raise SourceError(
                f"{folder}: expected one Arrow or Parquet file, got {len(found)}; write the data set again"
            )
        return found[0]

    def _count_steps(self, file: Path, ends: Array, rows: int) -> int:
        """T of an episode: the row of the last flag tells padding from data."""
        if len(ends) != rows or rows < 1:
            raise SourceError(f"{file}: expected at least one row, got {rows}; remove the episode")
        last = np.flatnonzero(ends)
        if len(last) and last[-1] >= rows - 2:
            return int(last[-1]) + 1
        stated = file.parent / METADATA
        steps = (
            load_json(stated, dict, SourceError, "remove the episode").get("total_steps") if stated.exists() else None
        )
        if steps not in (rows, rows - 1):
            raise SourceError(
                f"{file}: expected an end of the episode in the last two of {rows} rows, or total_steps of "
                f"{rows - 1} or "
                f"{rows} in {METADATA}, got neither ({steps!r:.40}); remove the episode"
            )
        return int(steps)


def _shape_pictures(column: Column, shape: tuple[int, ...]) -> Column:
    """The column of pictures, each of which lies in the file as one list."""
    if column.width != math.prod(shape):
        return replace(
            column, flaw=f"holds {column.width} numbers per step, where the metadata say pictures of {shape}"
        )
    return replace(column, shape=shape)
