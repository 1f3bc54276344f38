"""Stage `ingest`: a D4RL HDF5 file becomes an episode store, `store/`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...datasets.d4rl import D4RLReader
from ...datasets.limits import LimitCheck
from ...datasets.store_writer import writing_store
from ...errors import ConfigError, SourceError
from ...robots.spec import RobotSpec
from ..run_files import STORE_NAME
from ..settings.ingest import IngestConfig
from ..stage import Stage, Work
from .generate import NAME as PLAY_NAME


def find_source(path: Path) -> Path:
    """The file itself, or the play data in a `generate` folder.

    Raises:
        SourceError: neither is there.
    """
    if path.is_dir() and (path / PLAY_NAME).is_file():
        return path / PLAY_NAME
    if not path.is_file():
        raise SourceError(
            f"{path}: expected a D4RL HDF5 file, got {'a folder' if path.is_dir() else 'nothing there'}; check the path"
        )
    return path


def make_ingest(source: Path, config: IngestConfig, spec: RobotSpec | None) -> Stage:
    """The stage; it draws nothing at random.

    Args:
        source: A D4RL HDF5 file, or a folder of `generate`.
        config: How it is read.
        spec: Of the robot that it was recorded on: gives names, units, limits and the control period, and is checked
            against the file. None takes what the file says.

    Raises:
        SourceError: there is no source.
    """
    find_source(source)
    return Stage(
        name="ingest",
        config={"ingest": config, "robot": None if spec is None else spec.to_json()},
        inputs={"source": source},
        seed=0,
        module="pipeline/stages/ingest.py",
        libraries=("numpy", "h5py", "zarr", "numcodecs"),
        body=partial(ingest, config, spec),
    )


def ingest(config: IngestConfig, spec: RobotSpec | None, work: Work) -> None:
    """Reads every episode, checks it against the robot's limits and writes the store.

    Raises:
        ConfigError: actions shall be clipped, and nobody says to which limits.
    """
    work.start_afresh()
    path = find_source(work.inputs["source"])
    reader = D4RLReader(path, spec, config.episode_steps, only=config.only, skip=config.skip)
    source, robot = reader.describe(), reader.robot
    check = None if robot is None else LimitCheck(robot, str(path), clip_actions=config.clip_actions)
    if check is None and config.clip_actions:
        raise ConfigError(f"--clip-actions: expected a robot whose limits are known, got none for {path}; name --robot")

    def copy() -> Iterator[dict[str, float]]:
        blocks = writing_store(
            work.folder / STORE_NAME,
            reader.episodes() if check is None else map(check.check, reader.episodes()),
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
    for note in source.notes:
        work.view.note(f"ingest: {note}")
    if check is None:
        work.view.note(
            "ingest: nobody says which robot this is from: axes have numbers for names, units and limits are unknown; "
            "skills of it are for no robot until it is ingested with --robot"
        )
    elif check.clipped:
        work.view.note(f"ingest: clipped the actions of {check.clipped} of {source.rows} steps to the robot's limits")
