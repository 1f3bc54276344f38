"""Reads an episode store as a source: into a store of the present version, with a robot, or with fewer arrays.

Axes: E episodes, T steps of one episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError, SpecError, StoreError
from ..robots.spec import RobotSpec
from .disk_arrays import blocks_of, make_array, release
from .episode import Episode, Reader, ReadOptions, SourceSpec
from .layout import CHUNK_ROWS
from .manifest import MANIFEST_NAME
from .parts import list_parts, write_parts
from .schema import SCHEMA_VERSION, Schema
from .store import EpisodeStore, open_store

_MAIN = ("observation", "action")
_IMAGE_BYTES = 2**26
"""Of pictures that are read together."""


def probe(path: Path) -> bool:
    """Whether it is an episode store."""
    return (path / MANIFEST_NAME).is_file()


def read(path: Path, options: ReadOptions, robot: RobotSpec | None = None) -> Reader:
    """A reader of the store."""
    return StoreReader(path, options, robot)


class StoreReader:
    """An episode store as a source of episodes.

    Args:
        path: The store.
        options: Which arrays beside observation and action are carried over.
        robot: That the data are from, where the store does not say; else the store's must be like it.
    """

    def __init__(self, path: Path, options: ReadOptions, robot: RobotSpec | None = None) -> None:
        self._path, self._options, self._spec = path, options, robot

    @property
    def robot(self) -> RobotSpec | None:
        """See `Reader.robot`."""
        return self._schema.robot

    @cached_property
    def _store(self) -> EpisodeStore:
        try:
            return open_store(self._path)
        except StoreError as error:
            raise SourceError(str(error)) from error

    @cached_property
    def _schema(self) -> Schema:
        schema, options = self._store.schema, self._options
        others = [one for one in schema.names if one not in _MAIN]
        for asked in (*(options.only or ()), *options.skip):
            if asked not in others:
                raise SourceError(
                    f"{self._path}: expected --only and --skip of {', '.join(others) or '(none)'}, got {asked!r}; "
                    "choose among these"
                )
        kept = [
            feature
            for feature in schema.features
            if feature.name in _MAIN
            or ((options.only is None or feature.name in options.only) and feature.name not in options.skip)
        ]
        robot, name = self._spec or schema.robot, self._store.robot_name
        if robot is not None and schema.robot is not None:
            robot.require_source(schema.robot, str(self._path))
        elif robot is not None and name not in (None, robot.name):
            raise SpecError(
                f"{self._path}: expected data of robot '{robot.name}', got data of robot '{name}'; "
                "choose the robot of the data"
            )
        period = schema.control_period
        if robot is not None and period is None:
            period = robot.control_period
        return replace(schema, features=tuple(kept), robot=robot, control_period=period)

    def describe(self) -> SourceSpec:
        """See `Reader.describe`.

        Raises:
            SourceError: the store is damaged, or an array that is named is not in it.
            SpecError: the robot has other axes, units, limits or another period.
        """
        schema, store = self._schema, self._store
        left = [name for name in store.schema.names if name not in schema.names]
        return SourceSpec(
            schema=schema,
            episodes=len(store.episodes.start),
            rows=store.rows,
            provenance=write_parts(list_parts(store)),
            contents={
                feature.name: f"{feature.dtype} {(store.rows, *feature.shape)}" for feature in store.schema.features
            },
            ignored=dict.fromkeys(left, "left out by --only or --skip"),
            notes=self._describe_version(),
        )

    def _describe_version(self) -> tuple[str, ...]:
        version = self._store.schema_version
        if version >= SCHEMA_VERSION:
            return ()
        robot = f", where the robot is the name '{self._store.robot_name}' alone" if self._store.robot_name else ""
        said = f"the store is of schema version {version}{robot}; it is written in version {SCHEMA_VERSION}"
        return (said,)

    def episodes(self) -> Iterator[Episode]:
        """See `Reader.episodes`; raises as `describe`."""
        try:
            yield from read_episodes(self._store, self._schema.names)
        except StoreError as error:
            raise SourceError(str(error)) from error


def read_episodes(
    store: EpisodeStore, names: Sequence[str] | None = None, numbers: Sequence[int] | None = None
) -> Iterator[Episode]:
    """Episodes of a store in memory that does not grow with it: neighbours are read together.

    Args:
        store: Where they are.
        names: Features; None for all.
        numbers: Of the episodes, in the order in which they are wanted; None for all.

    Raises:
        StoreError: a chunk is missing or damaged.
    """
    index, names = store.episodes, store.schema.names if names is None else names
    wanted = np.arange(len(index.start)) if numbers is None else np.asarray(numbers, np.int64)
    row_bytes = sum(
        math.prod(feature.shape)
        for feature in store.schema.features
        if feature.role == "image" and feature.name in names
    )
    for run in _group(wanted, index.length, min(CHUNK_ROWS, _IMAGE_BYTES // max(1, row_bytes))):
        first, last = int(run[0]), int(run[-1])
        begin, end = int(index.start[first]), int(index.start[last] + index.length[last])
        arrays = {name: _read_rows(store, name, begin, end) for name in names}
        for number in run:
            low = int(index.start[number]) - begin
            part = slice(low, low + int(index.length[number]))
            ends = bool(index.terminated[number]), bool(index.truncated[number])
            yield Episode({name: array[part] for name, array in arrays.items()}, *ends)


def _group(numbers: npt.NDArray[np.int64], length: npt.NDArray[np.int64], most: int) -> Iterator[list[int]]:
    """Neighbouring episodes of about `most` rows."""
    run: list[int] = []
    rows = 0
    for number in numbers.tolist():
        if run and (number != run[-1] + 1 or rows >= most):
            yield run
            run, rows = [], 0
        run.append(number)
        rows += int(length[number])
    if run:
        yield run


def _read_rows(store: EpisodeStore, name: str, begin: int, end: int) -> npt.NDArray[Any]:
    """Rows of one feature; those of a long episode lie on the disk."""
    feature = store.schema.feature(name)
    found = make_array((end - begin, *feature.shape), feature.dtype)
    for chunk in blocks_of(end, CHUNK_ROWS):
        if chunk.stop > begin:
            low = max(begin, chunk.start)
            found[low - begin : chunk.stop - begin] = store.read_rows(name, low, chunk.stop)
            release(found)
    return found
