"""The verbs that train: `extract` (skills), `meta-train`, and `export`, which makes the bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...bounds import Seed
from ...errors import RunError
from ..cli_common import AboutRobot, Common, Options, Runner
from ..robots import find_tasks
from ..run_files import find_stage
from ..settings.export import ExportConfig
from ..settings.extract import ExtractConfig
from ..settings.meta_train import MetaTrainConfig


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
class MetaTrain(AboutRobot):
    """Arguments of `supple meta-train`."""

    usual_robot = "maze"

    skills: tyro.conf.Positional[Path]
    """A folder of `extract`."""
    out: Path | None = None
    """Folder to make; without it, runs/meta-train-<key>."""
    seed: Seed = 0
    """Seed of weights, exploration, sampling and resets."""
    tasks: Path | None = None
    """CSV file of train goals, a column for each goal axis and perhaps name; without it, the robot's own."""
    test_tasks: Path | None = None
    """CSV file of test goals, which the bundle then names; without it, the robot's own."""
    meta_train: Annotated[MetaTrainConfig, tyro.conf.arg(name="")] = field(default_factory=MetaTrainConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the agent."""
        from ..stages.meta_train import make_meta_train

        robot = self.require_choice()
        tasks = find_tasks(robot, self.tasks, self.test_tasks)
        skills = find_stage(self.skills, "extract")
        runner.run(make_meta_train(skills, self.meta_train, robot, tasks, self.seed), self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Arguments of `supple export`."""

    meta: tyro.conf.Positional[Path]
    """A folder of `meta-train`, or the folder of a seed of `bench-meta`."""
    out: Path | None = None
    """Folder to make; without it, runs/export-<key>."""
    export: Annotated[ExportConfig, tyro.conf.arg(name="")] = field(default_factory=ExportConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the bundle.

        Raises:
            RunError: there is no trained agent of any kind.
        """
        from ..stages.export import make_export
        from ..stages.export_learner import find_seed_folder, make_export_learner
        from ..stages.meta_train import FACTS_NAME

        meta = find_stage(self.meta, "meta-train")
        folder = find_seed_folder(meta)
        if folder is None and not (meta / FACTS_NAME).is_file():
            raise RunError(
                f"{self.meta}: expected a folder of meta-train, or of a finished seed of bench-meta such as "
                f"CELL/seed0, got {'neither' if self.meta.exists() else 'nothing there'}; check the path"
            )
        stage = make_export(meta, self.export) if folder is None else make_export_learner(folder, self.export)
        runner.run(stage, self.out, uses_torch=False)
