"""Stores out of other stores: appended to, merged and split. The provenance keeps what each part is from.

Nothing is changed in place. A new store is written beside the old one, whole, and takes its place in one step: a reader
at any moment, also after a kill, finds the old store or the new one. Rows that were there keep their numbers.
Legend: E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..errors import SpecError, StoreError
from .compression import Compression
from .episode import Episode, SourceSpec
from .parts import KEY, Part, list_parts, select_parts, write_parts
from .publish import holding_folder, making_folder
from .schema import SCHEMA_VERSION, Feature, Schema
from .store import EpisodeStore, find_store, open_store
from .store_source import read_episodes
from .store_writer import writing_store


class Addition(NamedTuple):
    """Episodes that are added to a store."""

    where: str
    """For messages."""
    source: SourceSpec
    episodes: Iterable[Episode]


def appending(
    path: Path, additions: Sequence[Addition], *, out: Path | None = None, compression: Compression | None = None
) -> Iterator[tuple[int, int | None]]:
    """Adds episodes behind those of a store; yields as `writing_store`.

    Args:
        path: The store, or an `ingest` folder of it.
        additions: What is added, in this order; each with the features, and of the robot, of the store.
        out: Folder to make; None replaces the store. Two processes that do so take turns.
        compression: Of the chunks; None keeps that of the store.

    Raises:
        StoreError: the store is damaged, or what is added is; the store is as it was.
        SpecError: the data are of another robot, or have other features, axes, units, limits or rates.
    """
    path = find_store(path)
    if out is not None:
        yield from _append(open_current(path), additions, out, compression)
        return
    try:
        with holding_folder(path):
            yield from _append(open_current(path), additions, None, compression)
    except OSError as error:
        raise StoreError(f"{path}: expected an episode store, got '{error.strerror}'; check the path") from error


def _append(
    store: EpisodeStore, additions: Sequence[Addition], out: Path | None, compression: Compression | None
) -> Iterator[tuple[int, int | None]]:
    parts = list_parts(store)
    for addition in additions:
        require_same(store.schema, addition.source.schema, addition.where)
        parts += _parts_of(addition.source, addition.where)
    yield from writing_store(
        store.path if out is None else out,
        chain(read_episodes(store), *(addition.episodes for addition in additions)),
        store.schema,
        write_parts(parts),
        rows=store.rows + sum(addition.source.rows for addition in additions),
        compression=store.compression if compression is None else compression,
        replace=out is None,
    )


def _parts_of(source: SourceSpec, where: str) -> list[Part]:
    """The parts of what is added: those of a store, or the recording as a whole."""
    given = source.provenance.get(KEY)
    if given is None:
        return [Part(taken=((0, source.episodes),), store=None, source=source.provenance)]
    try:
        return [
            Part(taken=tuple((int(a), int(b)) for a, b in one["taken"]), store=one["store"], source=one["source"])
            for one in given
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{where}: provenance: expected parts, got others; ingest the source again") from error


def merging(
    paths: Sequence[Path], out: Path, compression: Compression | None = None
) -> Iterator[tuple[int, int | None]]:
    """Writes one store of several, in this order; yields as `writing_store`. Arguments and errors as `appending`."""
    stores = [open_current(path) for path in paths]
    for store in stores[1:]:
        require_same(stores[0].schema, store.schema, str(store.path))
    yield from writing_store(
        out,
        chain.from_iterable(read_episodes(store) for store in stores),
        stores[0].schema,
        write_parts([part for store in stores for part in list_parts(store)]),
        rows=sum(store.rows for store in stores),
        compression=stores[0].compression if compression is None else compression,
    )


def splitting(
    path: Path, out: Path, chosen: Mapping[str, Sequence[int]], compression: Compression | None = None
) -> Iterator[tuple[int, int | None]]:
    """Writes some episodes of a store into each store of a new folder; yields as `writing_store`, for all together.

    Args:
        path: The store, or an `ingest` folder of it.
        out: Folder to make; it appears whole or not at all.
        chosen: Numbers of the episodes, by the name of the store below `out`.
        compression: Of the chunks; None keeps that of the store.

    Raises:
        StoreError: the store is damaged, or something is at `out`.
        SpecError: there is no such episode.
    """
    store = open_current(path)
    count = len(store.episodes.start)
    parts, length = list_parts(store), store.episodes.length
    for name, numbers in chosen.items():
        wrong = [number for number in numbers if not 0 <= number < count]
        if wrong or not len(numbers):
            raise SpecError(
                f"{store.path}: expected episodes from 0 to {count - 1} for {name}, got "
                f"{wrong[0] if wrong else 'none'}; choose among these"
            )
    total = sum(int(length[list(numbers)].sum()) for numbers in chosen.values())
    done = 0
    with making_folder(out, StoreError) as folder:
        for name, numbers in chosen.items():
            rows = 0
            for rows, _ in writing_store(
                folder / name,
                read_episodes(store, numbers=numbers),
                store.schema,
                write_parts(select_parts(parts, numbers)),
                compression=store.compression if compression is None else compression,
            ):
                yield done + rows, total
            done += rows


def open_current(path: Path) -> EpisodeStore:
    """Opens a store whose schema is of the present version: an older one says less, and is brought up to it first.

    Raises:
        StoreError: the store is damaged, or of an older version.
    """
    store = open_store(path)
    if store.schema_version < SCHEMA_VERSION:
        raise StoreError(
            f"{store.path}: expected a store of schema version {SCHEMA_VERSION}, got version {store.schema_version}; "
            f"write it anew with: supple ingest {store.path} --robot {store.robot_name or 'NAME'} --out FOLDER"
        )
    return store


def require_same(mine: Schema, theirs: Schema, where: str) -> None:
    """Checks that two stores can be one.

    Args:
        mine: The schema that the new store has.
        theirs: Of what is added.
        where: What is added, for messages.

    Raises:
        SpecError: naming the first that differs: the robot with its axes, units, limits and rates; the features; then
            of a feature its axes, units, type and role; the control period.
    """
    if mine.robot is not None:
        mine.robot.require_source(theirs.robot, where)
    elif theirs.robot is not None:
        raise SpecError(
            f"{where}: expected data of a robot that nobody named, got data of robot '{theirs.robot.name}'; ingest the "
            "store again with --robot"
        )
    if set(mine.names) != set(theirs.names):
        raise SpecError(
            f"{where}: expected the features {', '.join(mine.names)}, got {', '.join(theirs.names)}; ingest both with "
            "the same --only or --skip"
        )
    for feature in mine.features:
        _require_feature(feature, theirs.feature(feature.name), where)
    if mine.control_period != theirs.control_period:
        raise SpecError(
            f"{where}: expected a step each {mine.control_period} s, got one each {theirs.control_period} s; ingest it "
            "at that rate"
        )


def _require_feature(mine: Feature, theirs: Feature, where: str) -> None:
    if mine.axes != theirs.axes:
        raise SpecError(
            f"{where}: expected {mine.name} axes {list(mine.axes)}, got {list(theirs.axes)}; ingest it with these axes"
        )
    for axis, unit, other in zip(mine.axes, mine.units, theirs.units, strict=True):
        if unit != other:
            raise SpecError(
                f"{where}: expected {mine.name} axis '{axis}' in {unit!r}, got {other!r}; ingest it in that unit"
            )
    for name in ("dtype", "shape", "role"):
        wanted, got = getattr(mine, name), getattr(theirs, name)
        if wanted != got:
            raise SpecError(f"{where}: expected {mine.name} with {name} {wanted}, got {got}; ingest it like the store")
