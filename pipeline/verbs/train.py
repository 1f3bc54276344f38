"""The verbs that train: `extract` (skills), `meta-train`, and `export`, which makes the bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...errors import RunError
from ..cli_common import Common, Options, Runner
from ..robot_choice import MazeConfig, TaskConfig
from ..stages.export import ExportConfig, make_export
from ..stages.export_learner import find_seed_folder, make_export_learner
from ..stages.extract import ExtractConfig, make_extract
from ..stages.meta_train import FACTS_NAME, MetaTrainConfig, make_meta_train


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """Arguments of `supple extract`."""

    store: tyro.conf.Positional[Path]
    """An episode store, or a folder of `ingest`."""
    out: Path | None = None
    """Folder to make; without it, runs/extract-<key>."""
    seed: int = 0
    """Seed of weights, windows and the split; it takes the place of --skill.seed."""
    maze: Annotated[MazeConfig, tyro.conf.arg(name="")] = field(default_factory=MazeConfig)
    extract: Annotated[ExtractConfig, tyro.conf.arg(name="")] = field(default_factory=ExtractConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the skill model."""
        runner.run(make_extract(self.store, self.extract, self.maze, self.seed), self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrain:
    """Arguments of `supple meta-train`."""

    skills: tyro.conf.Positional[Path]
    """A folder of `extract`."""
    out: Path | None = None
    """Folder to make; without it, runs/meta-train-<key>."""
    seed: int = 0
    """Seed of weights, exploration, sampling and resets."""
    maze: Annotated[MazeConfig, tyro.conf.arg(name="")] = field(default_factory=MazeConfig)
    tasks: Annotated[TaskConfig, tyro.conf.arg(name="")] = field(default_factory=TaskConfig)
    meta_train: Annotated[MetaTrainConfig, tyro.conf.arg(name="")] = field(default_factory=MetaTrainConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the agent."""
        runner.run(make_meta_train(self.skills, self.meta_train, self.maze, self.tasks, self.seed), self.out)


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
        folder = find_seed_folder(self.meta)
        if folder is None and not (self.meta / FACTS_NAME).is_file():
            raise RunError(
                f"{self.meta}: expected a folder of meta-train, or of a finished seed of bench-meta such as "
                f"CELL/seed0, got {'neither' if self.meta.exists() else 'nothing there'}; check the path"
            )
        stage = make_export(self.meta, self.export) if folder is None else make_export_learner(folder, self.export)
        runner.run(stage, self.out, uses_torch=False)
