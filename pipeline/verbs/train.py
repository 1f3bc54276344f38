"""The verbs that train: `extract` (skills), `meta-train`, and `export`, which makes the bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...adapt.bundle_folder import CONTRACT
from ...bounds import Seed
from ..cli_common import AboutRobot, Common, Options, Runner
from ..learner_option import AboutLearner
from ..learners import find_learner
from ..robots import find_tasks
from ..run_files import find_stage
from ..settings.export import ExportConfig
from ..settings.extract import ExtractConfig
from ..stages.meta_train import MetaTrainConfig, make_meta_train


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
class MetaTrain(AboutLearner):
    """Arguments of `supple meta-train`."""

    usual_robot = "maze"

    skills: tyro.conf.Positional[Path | None] = None
    """A folder of `extract`; --action-space unit and choice need none."""
    play: Path | None = None
    """A folder of `ingest` or a store, for learners that start from play data."""
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
        """Writes the learner."""
        robot = self.require_choice()
        tasks = find_tasks(robot, self.tasks, self.test_tasks)
        learner = self.require_learner()
        skills = None if self.skills is None else find_stage(self.skills, "extract")
        stage = make_meta_train(skills, self.meta_train, learner, robot, tasks, self.seed, play=self.play)
        runner.run(stage, self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Arguments of `supple export`."""

    meta: tyro.conf.Positional[Path]
    """A folder of `meta-train`, of a run, or of a seed of a benchmark; or a bundle of version 1, to write it anew."""
    out: Path | None = None
    """Folder to make; without it, runs/export-<key>."""
    learner: str | None = None
    """A learner of your own, as meta-train was given it: FILE.py:ROW or PACKAGE.MODULE:ROW."""
    export: Annotated[ExportConfig, tyro.conf.arg(name="")] = field(default_factory=ExportConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the bundle."""
        from ..stages.export import make_conversion, make_export

        if (self.meta / CONTRACT).is_file():
            stage = make_conversion(self.meta, self.export)
        else:
            stage = make_export(self.meta, self.export, None if self.learner is None else find_learner(self.learner))
        runner.run(stage, self.out, uses_torch=False)
