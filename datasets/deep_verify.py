"""Reads a whole store as a sceptic would: bytes, chunks, values, limits, boundaries, clock and sources.

A contradiction between the data and what the store says of them is an error. What only looks wrong, such as a jump in
the middle of an episode, is a doubt: a person has to look.
Legend: E episodes, T steps of one episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, SourceError, StoreError
from .bags.finding import digest_bags, find_bags
from .checks import SourceChecks
from .episode import Episode, SourceSpec
from .formats import list_sources
from .keyed import NEXT
from .limits import LimitCheck
from .parts import Part, list_parts
from .source_files import describe_files
from .store import EpisodeStore, open_store
from .store_source import read_episodes
from .verify import StoreReport, verify_store

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepReport:
    """What was checked; there is a report only where nothing contradicts the store."""

    store: StoreReport
    parts: int
    """Number of origins that the provenance names."""
    sources: tuple[str, ...]
    """Sources that are still there, with the digest that the store has of them."""
    doubts: tuple[str, ...]
    """What looks wrong, one line each."""
    notes: tuple[str, ...]
    """What else a person should know."""


def verify_deeply(path: Path, sources: Sequence[Path] = ()) -> DeepReport:
    """Reads every byte and every step of a store.

    Args:
        path: The store.
        sources: Files and folders that it may have been made of; those that are not there are passed over.

    Raises:
        StoreError: a changed byte, a damaged chunk, a value that is not finite or beyond the robot's limits, an episode
            without an end, a clock that runs back, parts that do not make up the store, or a source that is no part.
    """
    report = verify_store(path)
    store = open_store(path)
    parts = list_parts(store)
    checks = SourceChecks(
        SourceSpec(schema=store.schema, episodes=report.episodes, rows=report.rows, provenance=store.provenance)
    )
    clock = _Clock(store)
    try:
        for episode in checks.passing(_check_episodes(store)):
            clock.check(episode)
    except SourceError as error:
        raise StoreError(str(error)) from error
    origins = _Sources(store, parts)
    unchanged = tuple(origins.match(sources))
    findings = checks.findings()
    doubts = tuple(note for note in findings if note.startswith(("the observation jumps", NEXT)))
    return DeepReport(
        store=report,
        parts=len(parts),
        sources=unchanged,
        doubts=(*doubts, *clock.doubts(), *origins.doubts()),
        notes=tuple(note for note in findings if note not in doubts),
    )


def _check_episodes(store: EpisodeStore) -> Iterator[Episode]:
    """Every episode, within the limits of the robot where the store knows it, and with an end of its own."""
    robot = store.schema.robot
    limits = None if robot is None else LimitCheck(robot, str(store.path))
    for number, episode in enumerate(read_episodes(store)):
        if not (episode.terminated or episode.truncated):
            raise StoreError(
                f"{store.path}: expected every episode terminated or truncated, got neither in episode {number}; "
                "ingest the source again"
            )
        yield episode if limits is None else limits.check(episode)


class _Clock:
    """The times of the steps, in a store that has them: one step each control period.

    Args:
        store: Whose feature `time`, in ns, is checked.
    """

    def __init__(self, store: EpisodeStore) -> None:
        names, period = store.schema.names, store.schema.control_period
        feature = store.schema.feature("time") if "time" in names else None
        self._there = feature is not None and (feature.dtype, feature.units) == ("int64", ("ns",))
        self._step = None if period is None else round(period * _NS)
        self._path = store.path
        self._number = 0
        self._uneven: list[int] = []

    def check(self, episode: Episode) -> None:
        """Takes the next episode.

        Raises:
            StoreError: its time does not go on.
        """
        if self._there:
            steps = np.diff(episode.arrays["time"].reshape(-1))
            if (steps <= 0).any():
                row = int(np.flatnonzero(steps <= 0)[0]) + 1
                raise StoreError(
                    f"{self._path}: expected time to go on within an episode, got a step of {steps[row - 1]} ns before "
                    f"step {row} of episode {self._number}; ingest the source again"
                )
            if self._step is not None and (steps != self._step).any():
                self._uneven.append(self._number)
        self._number += 1

    def doubts(self) -> list[str]:
        """Episodes whose steps are not a control period apart."""
        if not self._uneven:
            return []
        shown = ", ".join(map(str, self._uneven[:5])) + ", ..." * (len(self._uneven) > 5)
        return [f"steps are not {self._step} ns apart in {len(self._uneven)} episodes: {shown}"]


class _Sources:
    """The recordings that a store was made of, compared with what lies at some paths.

    Args:
        store: The store.
        parts: Its parts.
    """

    def __init__(self, store: EpisodeStore, parts: Sequence[Part]) -> None:
        self._path = store.path
        self._stores = {part.store for part in parts if part.store is not None}
        self._names: dict[str, str] = {}
        for part in parts:
            for number, one in enumerate(part.source.get("sources", (part.source,))):
                self._names.setdefault(str(one.get("sha256")), str(one.get("name", f"recording {number}")))
        self._known = self._stores | set(self._names)
        self._found: set[str] = set()

    def match(self, paths: Iterable[Path]) -> Iterator[str]:
        """The paths at which all content is that of a recording; those that are not there are passed over.

        Raises:
            StoreError: what is there has another content.
        """
        for path in paths:
            if not path.exists():
                continue
            digests = digest_source(path)
            if not digests & self._known:
                digests = self._match_each(path)
            if not digests:
                raise StoreError(
                    f"{self._path}: expected {path} as it was when it was read, got another content; ingest it again, "
                    "or look who changed it"
                )
            self._found |= digests
            yield str(path)

    def _match_each(self, path: Path) -> set[str]:
        """Digests of the sources in a folder, which were read one at a time; empty where one of them is not known."""
        try:
            found = [digest_source(one) for one in list_sources(path)]
        except SourceError:  # one can no longer be read
            return set()
        return set().union(*found) if all(one & self._known for one in found) else set()

    def doubts(self) -> list[str]:
        """Recordings that lie at none of the paths, where others do."""
        lost = [name for digest, name in self._names.items() if digest not in self._found]
        if not self._found or self._found & self._stores or not lost:
            return []
        shown = ", ".join(lost[:5]) + ", ..." * (len(lost) > 5)
        return [f"{len(lost)} of {len(self._names)} recordings are no longer where the others are: {shown}"]


def digest_source(path: Path) -> set[str]:
    """The digests that a store may know a file or folder by: as files, as bags, or as a store.

    Raises:
        SourceError: it cannot be read.
    """
    if (path / "MANIFEST.json").is_file():
        store = open_store(path)
        return {store.digest, *(str(part.source.get("sha256")) for part in list_parts(store))}
    found = {str(describe_files(path)["sha256"])}
    try:
        return found | {digest_bags(path, find_bags(path))[0]}
    except FormatError:
        return found
