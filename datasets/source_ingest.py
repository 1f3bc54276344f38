"""One source becomes one store: read, checked against the limits of its robot, written.

Nothing here knows where it runs, and sources are independent of each other, so that many can be read at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from ..robots.spec import RobotSpec
from .checks import SourceChecks
from .compression import Compression
from .episode import Episode, ReadOptions
from .formats import open_source
from .limits import LimitCheck
from .store_writer import writing_store


class SourceIngest:
    """A source on its way into a store.

    Args:
        path: The source.
        options: How it is read.
        robot: That it was recorded on; None takes what the source says.
        clip_actions: See `LimitCheck`.
        clip_share: See `LimitCheck`.
        like: The model of another source, see `Format.find_model`.

    Raises:
        SourceError: the source is damaged.
        ConfigError: actions shall be clipped, and nobody says to which limits; or nobody says what the source leaves
            open.
    """

    def __init__(
        self,
        path: Path,
        options: ReadOptions,
        robot: RobotSpec | None,
        *,
        clip_actions: bool = False,
        clip_share: float = 0.0,
        like: object = None,
    ) -> None:
        self._reader = open_source(path, options, robot, like)
        self.source = self._reader.describe()
        """What is in it."""
        for question in self.source.questions:
            raise ConfigError(f"{path}: {question}")
        self._limits: LimitCheck | None = None
        if self._reader.robot is not None:
            self._limits = LimitCheck(
                self._reader.robot, str(path), clip_actions=clip_actions, clip_share=clip_share, rows=self.source.rows
            )
        elif clip_actions:
            raise ConfigError(
                f"--clip-actions: expected a robot whose limits are known, got none for {path}; name --robot"
            )
        self._checks = SourceChecks(self.source)

    def episodes(self) -> Iterator[Episode]:
        """Every episode, checked while it passes.

        Raises:
            SourceError: the source is damaged, or its actions are beyond the robot's limits.
        """
        episodes = self._reader.episodes()
        if self._limits is not None:
            episodes = self._limits.checking(episodes)
        return self._checks.passing(episodes)

    def writing(self, out: Path, compression: Compression = "none") -> Iterator[int]:
        """Writes the store; yields the rows written so far. It is there when this is exhausted.

        Raises:
            SourceError: the source is damaged, or its actions are beyond the robot's limits.
            StoreError: the store cannot be written.
        """
        source = self.source
        written = writing_store(
            out, self.episodes(), source.schema, source.provenance, rows=source.rows, compression=compression
        )
        return (rows for rows, _ in written)

    def notes(self) -> list[str]:
        """What a person should know, once all is written."""
        notes = [f"{name} is not carried over: {reason}" for name, reason in self.source.ignored.items()]
        notes += [*self.source.losses, *self.source.notes, *self._checks.findings()]
        if self._limits is None:
            notes.append(
                "nobody says which robot this is from: names and units are those of the source, limits are unknown; "
                "skills of it are for no robot until it is ingested with --robot"
            )
        elif self._limits.clipped:
            steps = f"{self._limits.clipped} of {self.source.rows} steps"
            notes.append(f"clipped the actions of {steps} to the robot's limits")
        return notes
