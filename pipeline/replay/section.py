"""What each part of a replay is given, and what it returns for the page and the JSON.

A part is one function `(Replay, settings of its own) -> Section`. It reads the log episode by episode and keeps what it
found of each, so that its memory does not grow with the log and a kill costs one episode.

Legend: T steps of an episode, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...adapt.bundle import Bundle
from ...adapt.runtime_agent import RandomNoise, RuntimeAgent
from ...datasets.episode import Episode
from ...datasets.store import EpisodeStore
from ...robots.family import RobotFamily
from ...robots.spec import RobotSpec
from ...robots.task import Task
from ..interrupt import Interrupted, StopRequest
from ..progress import ProgressView
from ..report.curves import Plot
from ..report.tables import Table
from .kept import Kept

Level = Literal["trust", "caution", "do not use"]
"""Of a verdict, from good to bad."""
Compute = Callable[[int, Episode], Mapping[str, Any]]
"""Number of an episode, and the episode -> what is kept of it."""


class Ground(NamedTuple):
    """One reason for the verdict about the policy; the verdict is the worst level of all grounds."""

    level: Level
    sentence: str
    """With the number that decided, its unit and the threshold."""


class TitledTable(NamedTuple):
    """A table of the page and the heading above it."""

    title: str
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The outcome of one part: what the page shows and what the JSON holds."""

    name: str
    """Of a-z and `_`: key in the JSON and id in the page, `open_loop` for instance."""
    title: str
    """Heading."""
    findings: Sequence[str]
    """Full sentences for a person, the most important first."""
    tables: Sequence[TitledTable] = ()
    figures: Sequence[Plot] = ()
    """Drawn with `report.style`; the names of their ids begin with the section's."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The same numbers for a machine: JSON values, all finite."""
    grounds: Sequence[Ground] = ()
    """For the verdict about the policy. A part that could say nothing of the policy gives `caution` at most."""
    warnings: Sequence[str] = ()
    """What a person must know before they trust the numbers."""
    skipped: str = ""
    """Why the part could not be done, a sentence; empty where it was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What every part is given: one bundle, and the log as a verified store that fits the bundle's robot."""

    label: str
    """Name of the bundle on the page; of a-z, 0-9, `_` and `-`."""
    bundle: Bundle
    """Verified."""
    store: EpisodeStore
    """Of the log. Features `observation` (T, O) float32 and `action` (T, A) float32 are those of `spec`; `reward` (T,)
    and others are there where the log has them: `store.schema`. Row t: the observation, the action that was commanded
    there, and the reward of that step."""
    spec: RobotSpec
    """The bundle's robot."""
    family: RobotFamily | None = None
    """Of the robot, for simulation and for rewards; None where it is a user's own and nobody named it."""
    tasks: tuple[Task, ...] = ()
    """Of the episodes where somebody said: one for all, or one for each."""
    folder: Path
    """For intermediate results of this bundle; it is there, survives a kill and is removed in the end."""
    view: ProgressView
    stop: StopRequest = field(default_factory=StopRequest)
    seed: int = 0
    """Of all that is random; a part draws from `make_rng`."""
    threads: int = 1

    @property
    def episodes(self) -> int:
        """E, > 0."""
        return len(self.store.episodes.length)

    def has(self, feature: str) -> bool:
        """Whether the log has a feature, `reward` for instance."""
        return feature in self.store.schema.names

    def read_episodes(self) -> Iterator[tuple[int, Episode]]:
        """Every episode with its number, one at a time in memory.

        Raises:
            StoreError: A chunk is damaged.
        """
        for number in range(self.episodes):
            yield number, self.store.episode(number)

    def find_task(self, number: int) -> Task | None:
        """The task of an episode; None where nobody said."""
        if not self.tasks:
            return None
        return self.tasks[0] if len(self.tasks) == 1 else self.tasks[number]

    def make_rng(self, *salt: int) -> np.random.Generator:
        """A generator of its own for each salt, the number of the part and of the episode for instance."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *salt]))

    def make_agent(self, rng: np.random.Generator, *, quiet: bool = False) -> RuntimeAgent:
        """The bundle's agent on numpy; quiet: greedy, it takes the middle of each distribution.

        It acts. An agent of a hosted kind does not adapt, see `adapt.host.hosts.make_hosted` for that.
        """
        noise = RandomNoise(rng)
        noise.quiet = quiet
        return self.bundle.make_agent(noise)

    def map_episodes(self, part: str, compute: Compute, *, only: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """`compute(number, episode)` of every episode, in order; results that were kept are not computed again.

        Args:
            part: Name of the file of results and of the progress line.
            compute: JSON values, all finite; a few numbers, not whole arrays of steps. It must depend on the episode
                alone: draw from `make_rng(..., number)`, not from a generator that runs on.
            only: Numbers of episodes; None takes all.

        Raises:
            Interrupted: Somebody asked to stop; what was done is kept.
            StoreError: A chunk is damaged.
        """
        numbers = range(self.episodes) if only is None else only
        kept, results = Kept(self.folder / f"{part}.jsonl"), []
        name = f"replay {part.replace('_', ' ')}"
        try:
            done = sum(str(number) in kept for number in numbers)
            self.view.start(name, len(numbers), done, "episode")
            for place, number in enumerate(numbers):
                results.append(kept.read_or_make(str(number), partial(self._compute, compute, number)))
                if place >= done:
                    self.view.update(place + 1, {})
                self.require_going_on(name, place + 1)
        finally:
            kept.close()
        return results

    def _compute(self, compute: Compute, number: int) -> Mapping[str, Any]:
        return compute(number, self.store.episode(number))

    def keep(self, part: str, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """One result that is not of an episode: as it was kept, or made and kept now; JSON values, all finite."""
        kept = Kept(self.folder / f"{part}.jsonl")
        try:
            return kept.read_or_make(name, make)
        finally:
            kept.close()

    def require_going_on(self, part: str, step: float) -> None:
        """Call between two pieces of work.

        Raises:
            Interrupted: Somebody asked to stop.
        """
        if self.stop:
            raise Interrupted(part, step, self.stop.signal or 2)
