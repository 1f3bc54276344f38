"""Which episodes of a store came from where, as its provenance says: one part after the other.

A store that was ingested is one part. A store that was made of others keeps the parts of all of them, each with the
digest of the store that it was taken from and what that store said of its source, so that nothing is lost on the way.
Legend: E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..errors import StoreError
from .store import EpisodeStore

KEY = "parts"
"""Of the provenance."""
_REMEDY = "ingest the source again"

Range = tuple[int, int]
"""First episode, and the one behind the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Neighbouring episodes of one origin."""

    taken: tuple[Range, ...]
    """Episodes of the origin, in the order in which they stand here."""
    store: str | None
    """Digest of the store that they were taken from; None for a recording that was read directly."""
    source: Mapping[str, Any]
    """What that store's provenance, or the reader of the recording, says of the source."""

    @property
    def count(self) -> int:
        """Number of its episodes."""
        return sum(stop - first for first, stop in self.taken)

    @property
    def episodes(self) -> list[int]:
        """Their numbers in the origin."""
        return [number for first, stop in self.taken for number in range(first, stop)]


def list_parts(store: EpisodeStore) -> list[Part]:
    """The parts of a store, in the order of its episodes.

    Raises:
        StoreError: what it says of its parts does not fit its episodes.
    """
    provenance, count = store.provenance, len(store.episodes.start)
    if KEY not in provenance:
        return [Part(taken=((0, count),), store=store.digest, source=provenance)]
    parts, first = [], 0
    try:
        for entry in provenance[KEY]:
            taken = tuple((int(begin), int(end)) for begin, end in entry["taken"])
            part = Part(taken=taken, store=entry["store"], source=dict(entry["source"]))
            whole = part.count > 0 and all(0 <= begin < end for begin, end in taken)
            if not whole or entry["episodes"] != [first, first + part.count]:
                raise ValueError
            parts.append(part)
            first += part.count
        if first != count:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{store.path}: provenance: expected parts that make up all {count} episodes, got others; {_REMEDY}"
        ) from error
    return parts


def count_repeats(parts: Iterable[Part]) -> int:
    """Episodes that are there before, as far as the origins say: of the same recording, with the same number in it."""
    seen: set[tuple[object, int]] = set()
    total = 0
    for part in parts:
        origin = part.source.get("sha256") or part.store
        if origin is not None:
            seen |= {(origin, number) for number in part.episodes}
            total += part.count
    return total - len(seen)


def describe_repeats(parts: Sequence[Part]) -> str:
    """A note on episodes that are there more than once; empty where there are none."""
    repeats = count_repeats(parts)
    if not repeats:
        return ""
    return (
        f"{repeats} of {sum(part.count for part in parts)} episodes stand there more than once, by the recordings that "
        "they are from; they count more, and a split puts them on both sides"
    )


def select_parts(parts: Sequence[Part], numbers: Iterable[int]) -> list[Part]:
    """The parts of some episodes of a store, given by their numbers there, in this order."""
    origins = [(place, number) for place, part in enumerate(parts) for number in part.episodes]
    chosen = [origins[number] for number in numbers]
    found = []
    for place, group in groupby(chosen, lambda origin: origin[0]):
        taken = tuple(_join([number for _, number in group]))
        found.append(Part(taken=taken, store=parts[place].store, source=parts[place].source))
    return found


def write_parts(parts: Iterable[Part]) -> dict[str, Any]:
    """The provenance of a store that consists of these parts."""
    entries, first = [], 0
    for part in parts:
        entries.append(
            {
                "episodes": [first, first + part.count],
                "taken": [list(one) for one in part.taken],
                "store": part.store,
                "source": dict(part.source),
            }
        )
        first += part.count
    return {"format": "parts of episode stores", KEY: entries}


def _join(numbers: Sequence[int]) -> Iterable[Range]:
    """Runs of numbers that follow each other."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1] + 1
