"""The verbs of a training: `extract` learns skills, `map-logs` encodes logs as skills, `export` makes the bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...adapt.bundle_folder import CONTRACT
from ...bounds import Seed
from ..cli_common import AboutRobot, Common, Options, Runner
from ..robots import find_tasks
from ..run_files import find_stage
from ..settings.export import ExportConfig
from ..settings.extract import ExtractConfig
from ..settings.map_logs import MapConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract(AboutRobot):
    """Arguments of `supple extract`."""

    store: tyro.conf.Positional[Path]
    """An episode store, or a folder of `ingest`."""
    out: Path | None = None
    """Folder to make; without it, runs/extract-<key>."""
    seed: Seed = 0
    """Seed of weights, windows and the split; it takes the place of --skill.seed."""
    extract: Annotated[ExtractConfig, tyro.conf.arg(name="")] = field(default_factory=ExtractConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the skill model."""
        from ..stages.extract import make_extract

        runner.run(make_extract(find_stage(self.store, "ingest"), self.extract, self.choice, self.seed), self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapAlone(MapConfig):
    """Of a stage that is asked for by its name, so that nothing switches it on."""

    enabled: tyro.conf.Suppress[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLogs(AboutRobot):
    """Arguments of `supple map-logs`."""

    usual_robot = "maze"

    store: tyro.conf.Positional[Path]
    """An episode store, or a folder of `ingest`."""
    skills: tyro.conf.Positional[Path]
    """A folder of `extract`."""
    out: Path | None = None
    """Folder to make; without it, runs/map-logs-<key>."""
    seed: Seed = 0
    """Seed of the episodes and states that are drawn."""
    tasks: Path | None = None
    """CSV file of train goals, a column for each goal axis and perhaps name; without it, the robot's own."""
    map: Annotated[MapAlone, tyro.conf.arg(name="")] = field(default_factory=MapAlone)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the logs as a bundle takes them along."""
        from ..stages.map_logs import make_map_logs

        robot = self.require_choice()
        store, skills = find_stage(self.store, "ingest"), find_stage(self.skills, "extract")
        tasks = find_tasks(robot, self.tasks, None)
        runner.run(make_map_logs(store, skills, self.map, robot, tasks, self.seed), self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Arguments of `supple export`."""

    meta: tyro.conf.Positional[Path]
    """A folder of `meta-train`, of a run, or of a seed of a benchmark; or a bundle of version 1, to write it anew."""
    out: Path | None = None
    """Folder to make; without it, runs/export-<key>."""
    learner: str | None = None
    """A learner of your own, as meta-train was given it: FILE.py:ROW or PACKAGE.MODULE:ROW."""
    logs: Path | None = None
    """A folder of `map-logs`: the logs come along in the bundle, and its agent finds its way by them."""
    nominal: Path | None = None
    """A store of nominal episodes of the robot, or a folder of `ingest` with one: a model of its motion, with the
    threshold of its alarm, comes along in the bundle."""
    export: Annotated[ExportConfig, tyro.conf.arg(name="")] = field(default_factory=ExportConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the bundle."""
        from ..learners import find_learner
        from ..stages.export import make_conversion, make_export

        if (self.meta / CONTRACT).is_file():
            stage = make_conversion(self.meta, self.export)
        else:
            learner = None if self.learner is None else find_learner(self.learner)
            stage = make_export(self.meta, self.export, learner, logs=self.logs, nominal=self.nominal)
        runner.run(stage, self.out, uses_torch=False)
