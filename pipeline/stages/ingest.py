"""Stage `ingest`: a source of any format that can be read becomes an episode store, `store/`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...datasets.checks import SourceChecks
from ...datasets.episode import Episode, SourceSpec
from ...datasets.formats import find_format, open_source
from ...datasets.limits import LimitCheck
from ...datasets.store import find_store
from ...datasets.store_writer import writing_store
from ...errors import ConfigError
from ...robots.spec import RobotSpec
from ..progress import ProgressView
from ..run_files import STORE_NAME
from ..settings.ingest import IngestConfig
from ..stage import Stage, Work
from .generate import NAME as PLAY_NAME


def find_source(path: Path) -> Path:
    """The path itself, or the play data in a `generate` folder, or the store in an `ingest` folder."""
    return path / PLAY_NAME if (path / PLAY_NAME).is_file() else find_store(path)


def make_ingest(source: Path, config: IngestConfig, spec: RobotSpec | None) -> Stage:
    """The stage; it draws nothing at random.

    Args:
        source: A file or folder of a format in `datasets.formats.FORMATS`, or a folder of `generate`.
        config: How it is read.
        spec: Of the robot that it was recorded on: gives names, units, limits and the control period, and is checked
            against the file. None takes what the file says.

    Raises:
        SourceError: there is no source, or none of a format that can be read.
        ConfigError: an option that the format does not take.
    """
    path = find_source(source)
    form = find_format(path, config.format)
    form.read(path, config, spec)
    return Stage(
        name="ingest",
        config={"ingest": config, "robot": None if spec is None else spec.to_json()},
        inputs={"source": source} | ({} if config.mapping is None else {"mapping": config.mapping}),
        seed=0,
        module=("pipeline/stages/ingest.py", form.file),
        libraries=("numpy", "zarr", "numcodecs", *form.libraries),
        body=partial(ingest, config, spec),
    )


def ingest(config: IngestConfig, spec: RobotSpec | None, work: Work) -> None:
    """Reads every episode, checks it against the robot's limits and writes the store.

    Raises:
        ConfigError: actions shall be clipped, and nobody says to which limits; or nobody says what the source leaves
            open.
    """
    work.start_afresh()
    checked = check_source(find_source(work.inputs["source"]), config, spec)

    def copy() -> Iterator[dict[str, float]]:
        blocks = writing_store(
            work.folder / STORE_NAME,
            checked.episodes,
            checked.source.schema,
            checked.source.provenance,
            rows=checked.source.rows,
            compression=config.compression,
        )
        for rows, _ in blocks:
            yield {"step": rows}

    work.consume(copy(), total=checked.source.rows, unit="row")
    checked.tell("ingest", work.view)
    if checked.limits is None:
        work.view.note(
            "ingest: nobody says which robot this is from: names and units are those of the source, limits are "
            "unknown; skills of it are for no robot until it is ingested with --robot"
        )


class CheckedSource(NamedTuple):
    """A source whose episodes are checked while they pass."""

    source: SourceSpec
    episodes: Iterator[Episode]
    """To be read once."""
    checks: SourceChecks
    limits: LimitCheck | None
    """None where nobody knows the robot."""

    def tell(self, verb: str, view: ProgressView) -> None:
        """Says what a person should know, once all episodes have passed."""
        for name, reason in self.source.ignored.items():
            view.note(f"{verb}: {name} is not carried over: {reason}")
        for note in (*self.source.losses, *self.source.notes, *self.checks.findings()):
            view.note(f"{verb}: {note}")
        if self.limits is not None and self.limits.clipped:
            rows = f"{self.limits.clipped} of {self.source.rows} steps"
            view.note(f"{verb}: clipped the actions of {rows} to the robot's limits")


def check_source(path: Path, config: IngestConfig, spec: RobotSpec | None) -> CheckedSource:
    """Opens a source; see `ingest` for errors."""
    reader = open_source(path, config, spec)
    source, robot = reader.describe(), reader.robot
    for question in source.questions:
        raise ConfigError(f"{path}: {question}")
    if robot is None and config.clip_actions:
        raise ConfigError(f"--clip-actions: expected a robot whose limits are known, got none for {path}; name --robot")
    checks, episodes, limits = SourceChecks(source), reader.episodes(), None
    if robot is not None:
        limits = LimitCheck(
            robot, str(path), clip_actions=config.clip_actions, clip_share=config.clip_share, rows=source.rows
        )
        episodes = limits.checking(episodes)
    return CheckedSource(source, checks.passing(episodes), checks, limits)
