"""Checks every byte of an episode store: hashes, checksums, chunk grid, index, finiteness.

Opening a store already compares file names, sizes and metadata with the manifest. This reads the rest, so its cost is
that of reading the store twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError
from .manifest import hash_file
from .store import EpisodeStore, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What was checked; there is a report only when all of it was good."""

    digest: str
    """SHA-256 of the content."""
    files: int
    """Number of files."""
    bytes: int
    """Their size."""
    episodes: int
    """Number of episodes."""
    rows: int
    """Steps of all episodes."""
    deep: bool
    """Whether contents were read, not only names, sizes and metadata."""


def verify_store(path: str | Path, deep: bool = True) -> StoreReport:
    """Checks a store against its manifest and its schema.

    Args:
        path: The store.
        deep: False checks only what opening it checks.

    Raises:
        StoreError: the first thing that is wrong, by file, and how many other files changed.
    """
    store = open_store(path)
    files = store.manifest.files
    if deep:
        _check_hashes(store)
        for name in store.schema.names:
            for _ in store.blocks(name):
                pass
    return StoreReport(
        digest=store.digest,
        files=len(files),
        bytes=sum(entry.bytes for entry in files.values()),
        episodes=len(store.episodes.start),
        rows=store.rows,
        deep=deep,
    )


def _check_hashes(store: EpisodeStore) -> None:
    changed = [name for name, entry in store.manifest.files.items() if hash_file(store.path / name) != entry.sha256]
    if changed:
        raise StoreError(
            f"{store.path / changed[0]}: expected unchanged bytes, got other bytes (and {len(changed) - 1} other files "
            "changed); ingest the source again"
        )
