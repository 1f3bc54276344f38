"""The verb `sweep`: `supple run` for each seed of each combination of presets, robots and learners, and one table."""

import re
import sys
from collections.abc import Sequence
from contextlib import chdir, closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from ...errors import ConfigError, RunError
from ..cli_common import FLAT, RUNS, Common, Options, Runner, parse_verb
from ..executors import ExecutorConfig, make_executor
from ..folder import lock_folder, refuse_place, write_record
from ..interrupt import catch_signals
from ..keys import load_record
from ..progress import PlainProgress
from .run import parse_run

SWEEP_NAME = "sweep.json"
PARTLY = 3
"""Exit code where some runs failed."""
MOST_RUNS = 10_000


class Group(NamedTuple):
    """Runs that differ in nothing but the seed."""

    preset: str
    robot: str | None
    learner: str | None

    @property
    def name(self) -> str:
        """In the names of their folders."""
        parts = [part.rpartition(":")[2] or part for part in self if part is not None]
        return "-".join(re.sub(r"[^A-Za-z0-9_.-]", "-", Path(part).stem if "/" in part else part) for part in parts)

    @property
    def facts(self) -> dict[str, str]:
        """What a record says of it."""
        return {key: value for key, value in self._asdict().items() if value is not None}

    @property
    def arguments(self) -> list[str]:
        """Of `supple run`."""
        robot = [] if self.robot is None else ["--robot", self.robot]
        return [self.preset, *robot, *([] if self.learner is None else ["--learner", self.learner])]


class RunJob(NamedTuple):
    """One run."""

    arguments: list[str]
    """Of `supple run`."""
    folder: Path
    """Where the command is, so that paths among the arguments hold."""
    log: Path
    """What the run says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Arguments of `supple sweep`. Options behind `--` go to each run, as those of `supple run`."""

    presets: tyro.conf.Positional[tuple[str, ...]]
    """Presets of `supple run`."""
    seeds: tuple[str, ...] = ("0:3",)
    """Seeds: numbers, and ranges such as 0:8, which ends with 7."""
    robot: tuple[str, ...] = ()
    """Robots, as of `supple run`; without them, that of each preset."""
    learner: tuple[str, ...] = ()
    """Learners, as of `supple run`; without them, that of each preset."""
    out: Path | None = None
    """Folder of all run folders and of sweep.json; without it, runs/sweep-<presets>."""
    where: Annotated[ExecutorConfig, FLAT] = field(default_factory=ExecutorConfig)
    options: Common = field(default_factory=Options)
    rest: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Options of each run."""

    @property
    def folder(self) -> Path:
        """Where the runs go."""
        return self.out or RUNS / f"sweep-{'-'.join(Group(preset, None, None).name for preset in self.presets)}"

    def groups(self) -> list[Group]:
        """All combinations.

        Raises:
            ConfigError: there is none, or two have one name.
        """
        if not self.presets:
            raise ConfigError("sweep: expected a preset, got none; see supple sweep --help")
        groups = [Group(*one) for one in product(self.presets, self.robot or (None,), self.learner or (None,))]
        names = [group.name for group in groups]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"sweep: expected combinations with names of their own, got {name} twice; rename one")
        return groups

    def numbers(self) -> list[int]:
        """The seeds.

        Raises:
            ConfigError: one is no number and no range, or stands twice.
        """
        found: list[int] = []
        for text in self.seeds:
            match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
            if match is None:
                raise ConfigError(f"sweep: --seeds: expected numbers, or ranges such as 0:8, got {text!r}; correct it")
            first = int(match[1])
            some = range(first, int(match[2]) if match[2] else first + 1)
            if len(found) + len(some) > MOST_RUNS:  # before there is a list of them
                raise ConfigError(f"sweep: --seeds: expected at most {MOST_RUNS} seeds, got {text!r}; shorten it")
            found += some
        if not found or len(set(found)) < len(found):
            raise ConfigError(f"sweep: --seeds: expected each seed once, got {' '.join(self.seeds)}; correct it")
        return found

    def job(self, group: Group, seed: int) -> RunJob:
        """The run of one seed."""
        options = self.options
        folder = self.folder / f"{group.name}-seed{seed}"
        arguments = [*group.arguments, "--seed", str(seed), "--out", str(folder), "--device", options.device]
        arguments += ["--threads", str(options.threads), "--checkpoint-period", str(options.checkpoint_period)]
        arguments += ["--accept-code-change"] if options.accept_code_change else []
        return RunJob([*arguments, *self.rest], Path.cwd(), folder.with_suffix(folder.suffix + ".log"))

    def execute(self, runner: Runner) -> None:
        """Runs what is not there yet, and writes the table; the exit code is 3 where a run failed.

        Raises:
            ConfigError: a combination cannot be run at all.
            RunError: all runs failed.
        """
        groups, seeds = self.groups(), self.numbers()
        for group in groups:
            parse_run(self.job(group, seeds[0]).arguments, "")
        refuse_place(self.folder)
        with (
            catch_signals(runner.stop),
            lock_folder(self.folder, runner.view.note, runner.stop),
        ):
            self.folder.mkdir(parents=True, exist_ok=True)
            failures = self.run_all(runner, groups, seeds)
            self.conclude(runner, groups, seeds, failures)

    def run_all(self, runner: Runner, groups: Sequence[Group], seeds: Sequence[int]) -> dict[tuple[Group, int], str]:
        """Runs all; returns why some failed."""
        runs = list(product(groups, seeds))
        failures: dict[tuple[Group, int], str] = {}
        runner.view.start("sweep", len(runs), 0, "run")
        with closing(make_executor(self.where, runner.stop)) as executor:
            outcomes = executor.run(run_one, [self.job(group, seed) for group, seed in runs])
            for ended, outcome in enumerate(outcomes, 1):
                group, seed = runs[outcome.number]
                if outcome.failure:
                    failures[group, seed] = outcome.failure
                    runner.view.note(f"sweep: {group.name}-seed{seed} failed: {outcome.failure}{outcome.trace}")
                runner.view.update(ended, {})
        return failures

    def conclude(
        self, runner: Runner, groups: Sequence[Group], seeds: Sequence[int], failures: dict[tuple[Group, int], str]
    ) -> None:
        """Writes sweep.json, prints the table, and names the runs that failed."""
        from ..sweep_table import load_scores, make_records, make_table

        runs: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        for group in groups:
            scores = {}
            for seed in seeds:
                name = f"{group.name}-seed{seed}"
                fact = {"run": name, **group.facts, "seed": seed}
                if (group, seed) in failures:
                    runs.append(fact | {"failure": failures[group, seed]})
                    continue
                adapted = self.folder / name / "adapt"
                if not adapted.is_dir():
                    raise ConfigError(
                        f"sweep: expected runs of the whole chain, got one without {adapted}; drop --until"
                    )
                runs.append(fact | {"result": load_record(adapted)["output_digest"]})
                scores[seed] = load_scores(adapted)
            if scores:
                records += make_records(scores, {"benchmark": group.name, **group.facts})
        path = self.folder / SWEEP_NAME
        write_record(path, {"runs": runs, "records": records})
        if not records:
            first = next(iter(failures.values()))
            raise RunError(f"sweep: expected runs that end, got {len(failures)} that failed; the first: {first}")
        table = (
            f"{make_table(records)}\nmean [95 % interval over seeds and tasks]; {path}: the same, and more, as records"
        )
        runner.view.record("sweep", {"folder": str(self.folder), "runs": runs, "records": records}, table)
        if failures:
            names = ", ".join(f"{group.name}-seed{seed}" for group, seed in failures)
            runner.view.note(f"sweep: {len(failures)} of {len(runs)} runs failed and are not in the table: {names}")
            runner.exit_code = PARTLY


def run_one(job: RunJob) -> None:
    """Does `supple run` in this process; what it says goes into its log.

    Raises:
        SuppleError: the run failed.
        Interrupted: a signal asked to stop.
    """
    before = sys.argv
    with chdir(job.folder), job.log.open("a", encoding="utf-8") as log:
        sys.argv = ["supple", "run", *job.arguments]  # what a stage records as the command that resumes it
        try:
            run = parse_run(job.arguments, "")
            runner = Runner(run.options)
            runner.view = PlainProgress(log, log)
            run.execute(runner)
        finally:
            sys.argv = before


def parse_sweep(arguments: Sequence[str], description: str) -> Sweep:
    """The arguments of `sweep`; those behind `--` are for each run.

    Raises:
        ConfigError: an unknown option, or one that all runs have already.
    """
    given = list(arguments)
    at = given.index("--") if "--" in given else len(given)
    rest = tuple(given[at + 1 :])
    for option in rest:
        if option.partition("=")[0] in ("--seed", "--out", "--robot", "--learner", "--json", "--until"):
            raise ConfigError(
                f"sweep: expected options of each run behind --, got {option}, which sweep decides; drop it"
            )
    parsed = parse_verb(Sweep, "sweep", description, given[:at], None)
    return Sweep(**{name: getattr(parsed, name) for name in Sweep.__slots__ if name != "rest"}, rest=rest)
