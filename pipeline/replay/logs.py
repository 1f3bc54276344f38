"""Logs become one verified episode store of the bundle's robot.

A store, or a folder of `ingest` or `run` that holds one, is taken as it is. All else goes through the stage `ingest`:
bags and every other format that it reads, streamed, checked against the limits of the robot, and with the same errors
and the same differences between names and units.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...adapt.bundle import Bundle
from ...adapt.eye import compute_log_features
from ...datasets.episode import Episode
from ...datasets.limits import LimitCheck
from ...datasets.manifest import MANIFEST_NAME
from ...datasets.schema import IMAGE, Feature
from ...datasets.store import EpisodeStore, find_store, open_store
from ...datasets.store_writer import write_store
from ...datasets.verify import verify_store
from ...errors import ConfigError, SourceError
from ...robots.spec import RobotSpec
from ..cli_common import Runner
from ..executors import ExecutorConfig, make_executor
from ..folder import lock_folder
from ..settings.ingest import IngestConfig
from ..stages.ingest import Parts, find_sources, make_ingest

INGEST = "ingest"
"""Folder beside the report, where logs are no store yet."""


def is_store(path: Path) -> bool:
    """Whether a path is an episode store, or an `ingest` or run folder with one."""
    return (find_store(path) / MANIFEST_NAME).is_file()


def read_logs(paths: Sequence[Path], spec: RobotSpec, config: IngestConfig, out: Path, runner: Runner) -> EpisodeStore:
    """The store of these logs, every byte verified.

    Args:
        paths: Bags, files, folders; or one store.
        spec: Of the bundle's robot, without features of pictures.
        config: How logs are read that are no store.
        out: Folder of the replay; `ingest` in it is made where the logs are no store.
        runner: Runs the stage, under its progress.

    Raises:
        ConfigError: There are no logs, or a mapping is given for a store.
        SourceError: A log is missing, damaged, or not of the robot; or a store has numbers beyond its limits.
        SpecError: A store is of another robot.
        StoreError: A store is damaged.
    """
    if not paths:
        raise ConfigError("replay: expected logs after the bundle, got none; name bags, files or a store")
    for path in paths:
        if not path.exists():
            raise SourceError(f"{path}: expected a log, got nothing there; check the path")
    if given := len(paths) == 1 and is_store(paths[0]):
        if config != IngestConfig():
            raise ConfigError(
                f"replay {paths[0]}: expected no options of ingest for an episode store, got some; leave them out"
            )
        store = open_store(paths[0])
    else:
        store = open_store(ingest(paths, spec, config, out / INGEST, runner))
    spec.require_source(store.schema.robot, str(store.path))
    verify_store(store.path)
    if given:  # what is ingested was checked
        check = LimitCheck(spec, str(store.path))
        for number in range(len(store.episodes.length)):
            check.check(store.episode(number))
    return store


def see_store(store: EpisodeStore, bundle: Bundle, folder: Path) -> EpisodeStore:
    """The log as a policy sees it: where it has an eye, with features of the pictures in their place.

    Args:
        store: Of the robot's own observations and pictures.
        bundle: Of the policy.
        folder: Gets another store, or has it from before.

    Raises:
        StoreError: A chunk is damaged, or the disk is full.
    """
    eye = bundle.eye
    if eye is None:
        return store
    path = folder / f"seen-{store.digest[:16]}"
    if path.exists():
        return open_store(path)
    robot = replace(bundle.contract.robot, image=None)
    axes = robot.observation.axes

    def widen(feature: Feature) -> Feature:
        if feature.name != "observation":
            return feature
        return replace(
            feature,
            shape=robot.observation.shape,
            axes=tuple(axis.name for axis in axes),
            units=tuple(axis.unit for axis in axes),
        )

    def see(episode: Episode) -> Episode:
        measured, pictures = episode.arrays["observation"], np.asarray(episode.arrays[IMAGE])
        seen = np.concatenate([measured, compute_log_features(eye, pictures)], axis=-1)
        others = {name: array for name, array in episode.arrays.items() if name != IMAGE}
        return replace(episode, arrays=others | {"observation": seen})

    features = tuple(widen(feature) for feature in store.schema.features if feature.name != IMAGE)
    schema = replace(store.schema, features=features, robot=robot)
    episodes = (see(store.episode(number)) for number in range(len(store.episodes.length)))
    return write_store(path, episodes, schema, {"seen": store.digest, "bundle": bundle.digest})


def ingest(paths: Sequence[Path], spec: RobotSpec, config: IngestConfig, folder: Path, runner: Runner) -> Path:
    """Runs the stage `ingest` into a folder, which is returned; see `read_logs` for errors."""
    if len(find_sources(paths, config)) == 1:
        return runner.run(make_ingest(paths, config, spec), folder, uses_torch=False).folder
    parts = folder.with_name(f"{folder.name}.parts")
    with (
        lock_folder(parts, runner.view.note, runner.stop),
        closing(make_executor(ExecutorConfig(), runner.stop)) as executor,
    ):
        made = runner.run(make_ingest(paths, config, spec, Parts(parts, executor)), folder, uses_torch=False)
        shutil.rmtree(parts, ignore_errors=True)
    return made.folder
