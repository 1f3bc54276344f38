"""The verb `replay`: what logs alone say about a policy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, get_args

import tyro

from ...adapt.bundle import Bundle, load_bundle
from ...adapt.bundle_folder import find_bundle
from ...bounds import Seed
from ...datasets.manifest import MANIFEST_NAME
from ...datasets.store import EpisodeStore, find_store
from ...errors import BundleError, ConfigError
from ...robots.task import Task
from ...skills.config import CONFIG_NAME
from ..cli_common import FLAT, RUNS, AboutRobot, Common, Options, Runner
from ..folder import compute_path_digest
from ..keys import compute_digest
from ..robots import RobotChoice, load_tasks
from ..run_files import RUN_NAME
from ..settings.ingest import IngestConfig
from ..settings.off_policy import OffPolicyConfig
from ..settings.replay import OpenLoopConfig, PartName, RehearsalConfig, SimulatorConfig
from .data import RECOVERED


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(AboutRobot):
    """Arguments of `supple replay`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, or a folder of `export` or `run` that holds one; a policy of `adapt` (policies/0) is one too."""
    logs: tyro.conf.Positional[tuple[Path, ...]]
    """Bags, or files of any format that `ingest` reads, or an episode store, or a folder of `ingest` or `run`."""
    also: tuple[Path, ...] = ()
    """Further bundles of the same robot, to be compared on the same logs."""
    tasks: Path | None = None
    """CSV file with the task of the logs: one row for all episodes, or one for each."""
    training: Path | None = None
    """Episode store that the policy learned from; without it, that of the run folder around the bundle."""
    skills: Path | None = None
    """Folder of `extract` with the bundle's skills; without it, that of the run folder around the bundle."""
    records: Path | None = None
    """Folder of `adapt`, or its records.jsonl, of adaptations of the bundle to other tasks; without it, those of the
    run folder around the bundle."""
    limits: Path | None = None
    """TOML file of further limits, as of `supple adapt`."""
    mapping: Path | None = None
    """File that says how topics of a bag become steps, as of `supple ingest`."""
    out: Path | None = None
    """Folder to make; without it, runs/replay-<key>."""
    seed: Seed = 0
    """Seed of samples and estimators."""
    accept_robot_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the robot that --robot names although its code or settings are not those that the bundle was made for."""
    parts: tuple[PartName, ...] = get_args(PartName)
    """Which parts are done; known states and skills belong to the open loop."""
    open_loop: Annotated[OpenLoopConfig, FLAT] = field(default_factory=OpenLoopConfig)
    off_policy: OffPolicyConfig = field(default_factory=OffPolicyConfig)
    simulator: SimulatorConfig = field(default_factory=SimulatorConfig)
    rehearsal: RehearsalConfig = field(default_factory=RehearsalConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes report.html and report.json, and prints the verdict; the exit code is 3 where logs were damaged."""
        from ..replay.driver import Question, check_question, label_bundles, make_replay
        from ..replay.logs import read_logs
        from ..replay.page import load_view, write_report
        from ..replay.rehearsal import find_records

        paths = [find_bundle(path) for path in (self.bundle, *self.also)]
        bundles = [load_bundle(path) for path in paths]
        labels, spec = label_bundles(paths, bundles), bundles[0].contract.own_robot
        for path, bundle in zip(paths[1:], bundles[1:], strict=True):
            spec.require_match(bundle.contract.own_robot, f"--also {path}")
        robots = [self.find_robot(bundle) for bundle in bundles]
        out = self.out or RUNS / f"replay-{self.compute_key(paths)}"
        questions = [
            Question(
                label=label,
                bundle=path,
                robot=robot,
                training=self.training or find_beside(path, "ingest"),
                skills=self.skills or find_beside(path, "extract"),
                records=name_records(self.records) or find_records(path),
                named_records=self.records is not None,
                limits=self.limits,
                parts=self.parts,
                open_loop=self.open_loop,
                off_policy=self.off_policy,
                simulator=self.simulator,
                rehearsal=self.rehearsal,
                seed=self.seed,
            )
            for label, path, robot in zip(labels, paths, robots, strict=True)
        ]
        for question, bundle in zip(questions, bundles, strict=True):
            check_question(question, bundle)
        store = read_logs(self.logs, spec, IngestConfig(mapping=self.mapping), out, runner)
        if store.provenance.get("recovered"):
            runner.exit_code = RECOVERED
        tasks = self.load_tasks(robots[0], store)
        views = []
        for question, bundle in zip(questions, bundles, strict=True):
            made = runner.run(make_replay(question, store.path, tasks), out / question.label)
            views.append(load_view(question.label, bundle, made.folder))
        page, record = write_report(out, views, store)
        for view in views:
            grounds = [ground._asdict() for ground in view.verdict.grounds]
            facts = {"bundle": view.label, "verdict": view.verdict.level, "grounds": grounds}
            lines = [f"  {ground.level}: {ground.sentence}" for ground in view.verdict.grounds]
            runner.view.record("verdict", facts, "\n".join([f"{view.label}: {view.verdict.level}", *lines]))
        runner.view.record("report", {"page": str(page), "json": str(record)}, f"{page}: the report; {record}: as JSON")

    def find_robot(self, bundle: Bundle) -> RobotChoice | None:
        """The robot's family; None where it is a user's own and nobody named it: some parts are then left out.

        Raises:
            BundleError: The one that --robot names is not the bundle's.
        """
        from ..stages.adapt import find_robot_of

        try:
            return find_robot_of(bundle, self.choice, accept_change=self.accept_robot_change)
        except BundleError:
            if self.choice is not None:
                raise
            return None

    def load_tasks(self, robot: RobotChoice | None, store: EpisodeStore) -> tuple[Task, ...]:
        """The tasks of the episodes.

        Raises:
            ConfigError: Nobody named the robot, or there is another number of tasks.
        """
        if self.tasks is None:
            return ()
        if robot is None:
            raise ConfigError("--tasks: expected --robot with it for a robot of your own, got none; name the robot")
        tasks, episodes = load_tasks(robot, self.tasks), len(store.episodes.length)
        if len(tasks) not in (1, episodes):
            raise ConfigError(
                f"--tasks {self.tasks}: expected 1 task, or {episodes}, one for each episode, got {len(tasks)}; "
                "correct the file"
            )
        return tasks

    def compute_key(self, bundles: list[Path]) -> str:
        """Names the folder of these bundles on these logs with these options; the same for the same."""
        named = (self.tasks, self.training, self.skills, self.records, self.limits, self.mapping)
        paths = [*bundles, *self.logs, *(path for path in named if path is not None)]
        found = [compute_path_digest(path) for path in paths if path.exists()]
        settings = [self.parts, self.open_loop, self.off_policy, self.simulator, self.rehearsal]
        return compute_digest([*found, repr(settings), self.seed])[:12]


def name_records(path: Path | None) -> Path | None:
    """The file of records at a path that somebody named."""
    from ..stages.adapt import RECORDS_NAME

    return path / RECORDS_NAME if path is not None and path.is_dir() else path


def find_beside(bundle: Path, stage: str) -> Path | None:
    """What a stage of the run around a bundle made: the store of `ingest`, the skills of `extract`; None without."""
    run = next((folder for folder in bundle.resolve().parents[:4] if (folder / RUN_NAME).is_file()), None)
    if run is None:
        return None
    path, name = (find_store(run / stage), MANIFEST_NAME) if stage == "ingest" else (run / stage, CONFIG_NAME)
    return path if (path / name).is_file() else None
