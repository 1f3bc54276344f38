"""Episodes, and the protocol of the readers that yield them.

Legend: E episodes, T steps of one episode, N steps of all episodes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .schema import Schema

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One uninterrupted stretch of motion.

    Args:
        arrays: `{feature name: (T,) or (T, dim)}`, all of the same T > 0.
        terminated: the task's own end was reached; nothing follows the last step.
        truncated: the recording stops here although the motion could have gone on.
    """

    arrays: Mapping[str, Array]
    terminated: bool
    truncated: bool

    @property
    def length(self) -> int:
        """T, in steps."""
        return next((len(array) for array in self.arrays.values()), 0)


class EpisodeIndex(NamedTuple):
    """Where each episode lies in the concatenated arrays, and how it ended; every field has shape (E,)."""

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a source holds, known before its arrays are read."""

    schema: Schema
    """Features that the episodes will carry."""
    episodes: int
    """E, > 0."""
    rows: int
    """N, > 0: the sum of the episode lengths."""
    provenance: Mapping[str, Any]
    """JSON values that say where the data came from, and nothing that changes between two runs on the same file."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Entries of the source that are not carried over, and why."""
    notes: tuple[str, ...] = ()
    """What else a person should know of how the source is read."""


class Reader(Protocol):
    """A source of episodes; `datasets.testing.ReaderContract` says in tests what every reader must do."""

    def describe(self) -> SourceSpec:
        """The schema, the counts and the provenance of the source; raises SourceError."""

    def episodes(self) -> Iterator[Episode]:
        """Every episode in the order of the source, each matching `describe().schema`; raises SourceError."""
