"""Several stores become one, episode behind episode; what comes out depends on nothing but their content and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from .compression import Compression
from .store import EpisodeStore
from .store_source import read_episodes
from .store_writer import writing_store

_LISTS = ("quality", "recovered")
"""In the provenance of bags: lists with an entry for each episode or loss."""
_OWN = frozenset({"bytes", "sha256"})
"""Of each source, however alike they are."""


def joining(out: Path, stores: Mapping[str, EpisodeStore], compression: Compression = "none") -> Iterator[int]:
    """Writes one store of several; yields the rows written so far. It is there when this is exhausted.

    Args:
        out: The store that shall appear.
        stores: By the name of their source, in order; all have the schema of the first.
        compression: Of the store's chunks.

    Raises:
        StoreError: a store is damaged or has another schema, or the new one cannot be written.
    """
    first = next(iter(stores.values()))
    episodes = chain.from_iterable(read_episodes(store) for store in stores.values())
    provenance = join_provenances({name: store.provenance for name, store in stores.items()})
    return (rows for rows, _ in writing_store(out, episodes, first.schema, provenance, compression=compression))


def join_provenances(provenances: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What all sources have in common, once; what a source has of its own, in `sources` with its name.

    The lists of bags become one list, each entry with the name of its bag.
    """
    first, *others = provenances.values()
    lists = {
        key: [entry | {"bag": name} for name, one in provenances.items() for entry in one.get(key, ())]
        for key in _LISTS
    }
    shared = {
        key: value
        for key, value in first.items()
        if key not in (*_LISTS, *_OWN) and all(key in other and other[key] == value for other in others)
    }
    own = [
        {"name": name} | {key: value for key, value in one.items() if key not in shared and key not in _LISTS}
        for name, one in provenances.items()
    ]
    return shared | {key: entries for key, entries in lists.items() if entries} | {"sources": own}
