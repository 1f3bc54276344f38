"""A recorded log as a robot family: `supple adapt BUNDLE --robot FILE.py:NAME` runs the same loop on it.

    REPLAY = LogFamily(robot=ARM, log=Path("log.mcap"), mapping=Path("mapping.toml"))

Contract, goals and rewards are those of another family, and the observations are those of the log. `LogRobot` says what
that shows, and what it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bounds import Count, require_bounds
from ..errors import ConfigError, SourceError
from ..robots.family import BuiltFrom, OneRow, RobotFamily
from ..robots.log_robot import LogRobot, Recorded
from ..robots.robot import RobotRow
from ..robots.spec import RobotSpec
from ..robots.task import TaskSet
from .episode import ReadOptions
from .formats import open_source
from .schema import IMAGE


@dataclass(frozen=True, kw_only=True)
class LogFamily(OneRow, BuiltFrom):
    """A log of a robot. It is played once at a time.

    Raises:
        ConfigError: A number is out of range.
    """

    robot: RobotFamily
    """The robot that was recorded; its reward has to follow from the observation, or from the path of the episode."""
    log: Path
    """Of any format that `supple ingest` reads, or a store."""
    mapping: Path | None = None
    """How topics become axes, for bags; see `supple inspect --write-mapping`."""
    most_episodes: Count = 100
    """Recorded episodes that are played, from the first one on; they are kept in memory."""

    def __post_init__(self) -> None:
        require_bounds(self)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"log-{self.robot.name}"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`: that of the robot."""
        return self.robot.spec()

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: those of the robot."""
        return self.robot.tasks()

    def files(self) -> tuple[Path, ...]:
        """See `BuiltFrom.files`."""
        found = (self.log, *([] if self.mapping is None else [self.mapping]))
        return tuple(path for path in found if path.is_file())

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`: none that the key of the robot lacks."""
        return ()

    def make(self, rows: int, threads: int = 1) -> RobotRow:
        """See `RobotFamily.make`.

        Raises:
            ConfigError: More or less than one row is asked for.
            SourceError: The log cannot be read, or holds no such axes.
            SpecError: An episode is too short, or has numbers that are not finite.
        """
        if rows != 1:
            raise ConfigError(
                f"{self.name} rows: expected 1, got {rows}; a log is played once at a time: pass --num-tasks 1 "
                "--evaluations 0"
            )
        return RobotRow(self.replay())

    def replay(self) -> LogRobot:
        """The log as one robot; see `make` for errors."""
        spec = self.spec()
        reader = open_source(self.log, ReadOptions(mapping=self.mapping), spec)
        features = {feature.name: feature for feature in reader.describe().schema.features}
        for wanted in (spec.observation, spec.action):
            feature = features.get(wanted.name)
            if feature is None or (feature.axes and tuple(feature.axes) != wanted.names):
                got = "none" if feature is None else ", ".join(feature.axes)
                raise SourceError(
                    f"{self.log}: expected {wanted.name} with the axes {', '.join(wanted.names)}, got {got}; correct "
                    "the mapping"
                )
        episodes = list[Recorded]()
        for episode in reader.episodes():
            if len(episodes) == self.most_episodes:
                break
            if episode.length > 1:
                observation, action = (
                    np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action")
                )
                picture = None if spec.image is None else np.asarray(episode.arrays[IMAGE])
                episodes.append(Recorded(observation, action, picture))
        return LogRobot(spec, episodes, self.robot.make(1))
