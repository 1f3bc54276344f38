"""Stage `ingest`: a source of any format that can be read becomes an episode store, `store/`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...datasets.checks import SourceChecks
from ...datasets.formats import find_format, open_source
from ...datasets.limits import LimitCheck
from ...datasets.store_writer import writing_store
from ...errors import ConfigError
from ...robots.spec import RobotSpec
from ..run_files import STORE_NAME
from ..settings.ingest import IngestConfig
from ..stage import Stage, Work
from .generate import NAME as PLAY_NAME


def find_source(path: Path) -> Path:
    """The path itself, or the play data in a `generate` folder."""
    return path / PLAY_NAME if (path / PLAY_NAME).is_file() else path


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
    path = find_source(work.inputs["source"])
    reader = open_source(path, config, spec)
    source, robot = reader.describe(), reader.robot
    for question in source.questions:
        raise ConfigError(f"{path}: {question}")
    limits = None
    if robot is not None:
        limits = LimitCheck(
            robot, str(path), clip_actions=config.clip_actions, clip_share=config.clip_share, rows=source.rows
        )
    elif config.clip_actions:
        raise ConfigError(f"--clip-actions: expected a robot whose limits are known, got none for {path}; name --robot")
    checks = SourceChecks(source)

    def copy() -> Iterator[dict[str, float]]:
        blocks = writing_store(
            work.folder / STORE_NAME,
            checks.passing(reader.episodes() if limits is None else limits.checking(reader.episodes())),
            source.schema,
            source.provenance,
            rows=source.rows,
            compression=config.compression,
        )
        for rows, _ in blocks:
            yield {"step": rows}

    work.consume(copy(), total=source.rows, unit="row")
    for name, reason in source.ignored.items():
        work.view.note(f"ingest: {name} is not carried over: {reason}")
    for note in (*source.losses, *source.notes, *checks.findings()):
        work.view.note(f"ingest: {note}")
    if limits is None:
        work.view.note(
            "ingest: nobody says which robot this is from: names and units are those of the source, limits are "
            "unknown; skills of it are for no robot until it is ingested with --robot"
        )
    elif limits.clipped:
        work.view.note(f"ingest: clipped the actions of {limits.clipped} of {source.rows} steps to the robot's limits")
