"""Episodes, the protocol of the readers that yield them, and the options that a reader is given.

Legend: E episodes, T steps of one episode, N steps of all episodes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..bounds import Bounded, Count, Range
from ..robots.spec import RobotSpec
from .disk_arrays import blocks_of, release
from .schema import Schema

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One uninterrupted stretch of motion.

    Args:
        arrays: `{feature name: (T,) or (T, dim)}`, all of the same T > 0. Long ones may lie on the disk: see `blocks`.
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

    def blocks(self, rows: int) -> Iterator[Mapping[str, Array]]:
        """All arrays in stretches of at most so many steps; behind each, arrays on the disk leave the memory again."""
        for block in blocks_of(self.length, rows):
            yield {name: array[block] for name, array in self.arrays.items()}
            release(*self.arrays.values())


class EpisodeIndex(NamedTuple):
    """Where each episode lies in the concatenated arrays, and how it ended; every field has shape (E,)."""

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]


_Side = Annotated[int, Range(8, 4096)]
"""Of a picture, pixels, as `ImageSpec` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions(Bounded):
    """How a source is read. A format takes some of these, see `formats.FORMATS`; an option of others is refused."""

    format: str | None = None
    """Name of the format; None recognises it."""
    episode_steps: Count | None = None
    """Time limit, steps, for files whose `timeouts` are not there or never set; None: only `terminals` end an episode
    there."""
    only: tuple[str, ...] | None = None
    """Side arrays (`infos/<name>`) to carry over; None carries all that can be."""
    skip: tuple[str, ...] = ()
    """Side arrays to leave out."""
    observation_keys: tuple[str, ...] | None = None
    """Arrays that make up the observation, in this order; None takes all that hold one vector per step, by name.
    `NAME[FIRST:LAST]` takes a part of an array, LAST not included."""
    action_keys: tuple[str, ...] | None = None
    """Arrays that make up the action, in this order; None takes the format's own."""
    observation_units: tuple[str, ...] | None = None
    """Unit of each axis of the observation, or one for all, where the source names none; `unknown` where nobody knows.
    """
    action_units: tuple[str, ...] | None = None
    """The same for the action."""
    filter: str | None = None
    """Name of the list of episodes in the source that is read; None reads all."""
    picture_size: tuple[_Side, _Side] | None = None
    """Height and width, pixels, to which the videos and pictures of LeRobot that `only` names are scaled down; None
    takes those of the robot's camera, or leaves them as they are."""
    mapping: Path | None = None
    """File that says how the topics of a bag become steps; None drafts it from the bag, where nothing is ambiguous."""


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
    contents: Mapping[str, str] = field(default_factory=dict)
    """Entries of the source under their own names, each with its type and shape, or its rate, as a person reads it."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Entries of the source that are not carried over, and why."""
    notes: tuple[str, ...] = ()
    """What else a person should know of how the source is read."""
    questions: tuple[str, ...] = ()
    """What the source does not say and nobody may guess, each `expected ..., got ...; <option>`: with one of these open
    a source is inspected, and not ingested."""
    losses: tuple[str, ...] = ()
    """What of a damaged source could not be read; the rest was, and is known to be whole as far as it has checksums."""


class Reader(Protocol):
    """A source of episodes; `datasets.testing.ReaderContract` says in tests what every reader must do.

    Construction reads nothing. A source of another kind raises FormatError, a damaged one SourceError.
    """

    @property
    def robot(self) -> RobotSpec | None:
        """The robot that the source was recorded on, as the caller or the source says; None where neither does.

        Raises:
            SourceError: the source cannot be read.
            SpecError: the source names another robot than the caller.
        """

    def describe(self) -> SourceSpec:
        """The schema, the counts and the provenance of the source; raises as `robot`."""

    def episodes(self) -> Iterator[Episode]:
        """Every episode in the order of the source, each matching `describe().schema`; raises as `robot`."""
