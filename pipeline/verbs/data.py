"""The verbs that make data: `generate`, `explore` and `ingest`."""

import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...bounds import CountFromZero, Range, Seed
from ...errors import ConfigError, SpecError
from ..cli_common import FLAT, RUNS, AboutRobot, Common, Options, Runner
from ..executors import ExecutorConfig, make_executor
from ..folder import lock_folder, refuse_place
from ..interrupt import Interrupted, catch_signals
from ..keys import compute_digest
from ..robots import find_tasks
from ..run_files import find_stage
from ..settings.explore import ExploreConfig
from ..settings.generate import GenerateConfig
from ..settings.ingest import IngestConfig

MOST_BYTES = 2**36
"""Largest file that is downloaded unless somebody says otherwise, as in `datasets.downloads`."""
RECOVERED = 3
"""Exit code where a damaged source was read as far as it goes, as of `mcap recover`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(AboutRobot):
    """Arguments of `supple generate`."""

    usual_robot = "maze"

    out: Path | None = None
    """Folder to make; without it, runs/generate-<key>."""
    seed: Seed = 0
    """Seed of starts, goals, jitter and noise."""
    generate: Annotated[GenerateConfig, tyro.conf.arg(name="")] = field(default_factory=GenerateConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes play.hdf5."""
        from ..stages.generate import make_generate

        runner.run(make_generate(self.require_choice(), self.generate, self.seed), self.out, uses_torch=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreAlone(ExploreConfig):
    """Of a stage that is asked for by its name, so that nothing switches it on."""

    enabled: tyro.conf.Suppress[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Explore(AboutRobot):
    """Arguments of `supple explore`."""

    usual_robot = "maze"

    skills: tyro.conf.Positional[Path]
    """A folder of `extract`."""
    out: Path | None = None
    """Folder to make; without it, runs/explore-<key>."""
    seed: Seed = 0
    """Seed of starts, places and skills."""
    tasks: Path | None = None
    """CSV file of train goals, which robots are reset with; without it, the robot's own."""
    explore: Annotated[ExploreAlone, tyro.conf.arg(name="")] = field(default_factory=ExploreAlone)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes play.hdf5."""
        from ..stages.explore import make_explore

        robot, skills = self.require_choice(), find_stage(self.skills, "extract")
        stage = make_explore(skills, self.explore, robot, find_tasks(robot, self.tasks, None), self.seed)
        runner.run(stage, self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest(AboutRobot):
    """Arguments of `supple ingest`."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Files or folders of a known format, folders of such files, a folder of `generate`, or d4rl:<name> or an address
    to download. Several become one store, in this order."""
    out: Path | None = None
    """Folder to make; without it, runs/ingest-<key>."""
    cache: Path = Path("runs") / "downloads"
    """Where downloads are kept."""
    sha256: str | None = None
    """Of the file that is downloaded, hexadecimal; another file is refused."""
    max_bytes: Annotated[int, Range(1, 2**62)] = MOST_BYTES
    """Largest file that is downloaded; the default is 64 GiB."""
    ingest: Annotated[IngestConfig, tyro.conf.arg(name="")] = field(default_factory=IngestConfig)
    where: Annotated[ExecutorConfig, FLAT] = field(default_factory=ExecutorConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes store/; the exit code is 3 where a source is damaged and the store holds what could be recovered."""
        from ..stages.ingest import Parts, find_sources, make_ingest

        if not self.sources:
            raise ConfigError("ingest: expected a source, got none; see supple ingest --help")
        spec = None if self.choice is None else self.choice.spec
        paths = [
            find_stage(fetch(source, self.cache, runner, self.sha256, self.max_bytes), "generate")
            for source in self.sources
        ]
        if len(find_sources(paths, self.ingest)) == 1:
            made = runner.run(make_ingest(paths, self.ingest, spec), self.out, uses_torch=False)
        else:
            place = self.name_parts(paths)
            with (
                lock_folder(place, runner.view.note, runner.stop),
                closing(make_executor(self.where, runner.stop)) as executor,
            ):
                stage = make_ingest(paths, self.ingest, spec, Parts(place, executor))
                made = runner.run(stage, self.out, uses_torch=False)
                shutil.rmtree(place, ignore_errors=True)
        tell_recovered(made.folder, runner)

    def name_parts(self, paths: Sequence[Path]) -> Path:
        """Where stores of single sources are kept until they are joined; the same place when a source has changed."""
        if self.out is not None:
            return self.out.with_name(f"{self.out.name}.parts")
        return RUNS / f"ingest-{compute_digest([str(path.absolute()) for path in paths])[:12]}.parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportBag:
    """Arguments of `supple export-bag`."""

    store: tyro.conf.Positional[Path]
    """An episode store, a folder of `ingest` or a run folder."""
    out: Path
    """Folder to make, with one MCAP file per episode."""
    episodes: tuple[CountFromZero, ...] = ()
    """Numbers of the episodes; without them, all."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the bags, all of them or none."""
        from ...datasets.bags.writer import write_bags
        from ...datasets.store import open_store

        store = open_store(self.store)
        if store.schema.control_period is None:
            raise SpecError(
                f"{store.path}: expected a store whose control period is known, got none; ingest the recording with "
                "--robot"
            )
        numbers = self.episodes or range(len(store.episodes.start))
        count = write_bags(self.out, ((number, store.episode(number)) for number in numbers), store.schema)
        facts = {"path": str(self.out), "episodes": count, "store": store.digest}
        runner.view.record("exported", facts, f"{self.out}: {count} episodes as MCAP files with ROS 2 messages")


def tell_recovered(folder: Path, runner: Runner) -> None:
    """Sets the exit code where the store of an `ingest` folder holds what could be recovered of a damaged source."""
    from ...datasets.store import open_store

    if open_store(folder).provenance.get("recovered"):
        runner.exit_code = RECOVERED


def fetch(source: str, cache: Path, runner: Runner, sha256: str | None = None, max_bytes: int = MOST_BYTES) -> Path:
    """The source as a local path; d4rl:<name> and http addresses are downloaded first, or taken from the cache.

    Args:
        source: as on the command line.
        cache: where downloads are kept.
        runner: is told, and asked whether to stop.
        sha256: of a file that is downloaded; None where nobody knows it.
        max_bytes: largest file that is downloaded.

    Raises:
        ConfigError: the digest is none, or there is nothing to download.
        SourceError: the name is unknown, or the file cannot be had, is too large or has another digest.
        Interrupted: a signal asked to stop; the next call goes on from there.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"--sha256: expected 64 hexadecimal digits, got {sha256!r:.80}; copy it again")
    if not source.startswith(("d4rl:", "http://", "https://")):
        if sha256 is not None:
            raise ConfigError(f"--sha256: expected an address to download, got {source}; leave --sha256 out")
        return Path(source)
    from ...datasets.downloads import downloading

    refuse_place(cache)

    steps = downloading(source, cache, most_bytes=max_bytes, sha256=sha256)
    with catch_signals(runner.stop):
        started = False
        while True:
            try:
                done, total = next(steps)
            except StopIteration as stop:
                return Path(stop.value)
            if not started:
                runner.view.start("download", total, done, "byte")
                started = True
            runner.view.update(done, {})
            if runner.stop:
                raise Interrupted("download", done, runner.stop.signal or 2)
