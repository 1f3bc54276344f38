"""Pages of two runs: the tiny one in the maze, and one of a robot whose names are hostile."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from supple.adapt.agents.simpl import SimplRowAgent
from supple.adapt.bundle import load_bundle
from supple.adapt.runtime_agent import KEPT, PARAMS, RandomNoise
from supple.datasets import Episode, EpisodeStore, Feature, Schema, write_store
from supple.pipeline.cli import main
from supple.pipeline.folder import compute_outputs, write_record
from supple.pipeline.keys import compute_digest, compute_record_digest, load_record
from supple.pipeline.report.card import make_card
from supple.pipeline.report.page import make_report
from supple.pipeline.robots import find_robot, load_user_module
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.checkpoint import load_checkpoint, save_checkpoint

HOSTILE = Path(__file__).with_name("hostile_robots.py")


@pytest.fixture(scope="session")
def adapted_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, as if its first test task had been rewarded: that one has a policy of its own."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(tiny_run, folder)
    path = folder / "adapt" / "adapted.safetensors"
    tensors, facts = load_checkpoint(path)
    agent = load_bundle(folder / "export" / "bundle").make_agent(RandomNoise(np.random.default_rng(0)))
    agent.load_state({name: value.numpy() for name, value in tensors.items()})
    assert isinstance(agent, SimplRowAgent)
    own = {f"{KEPT}{PARAMS}{name}": torch.from_numpy(value.copy()) for name, value in agent.params.items()}
    first = torch.tensor([True, False])
    path.unlink()
    save_checkpoint(path, {**tensors, **own, "settled": first, f"{KEPT}tuned": first.clone()}, facts)
    seal(folder / "adapt")
    return folder


def seal(folder: Path) -> None:
    """Makes a stage folder that a test has changed one that was published so."""
    outputs = compute_outputs(folder)
    record = load_record(folder) | {"outputs": outputs, "output_digest": compute_digest(outputs)}
    write_record(folder / "stage.json", record | {"record_digest": compute_record_digest(record)})


@pytest.fixture(scope="session")
def page(adapted_run: Path) -> Path:
    return make_report(adapted_run)


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """The user's file of hostile names."""
    return load_user_module(str(HOSTILE))[0]


@pytest.fixture(scope="session")
def hostile_run(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory, tiny_options: tuple[str, ...]) -> Path:
    """A run of the whole chain in which the names of task, axis, unit, robot, preset and folder are hostile."""
    folder = tmp_path_factory.mktemp("report") / f"{hostile.IMAGE} $x$ \u202e"
    of_maze = [place for place, name in enumerate(tiny_options) if name.startswith("--robot.")]
    options = [name for place, name in enumerate(tiny_options) if place not in of_maze and place - 1 not in of_maze]
    assert main(["run", f"{HOSTILE}:{hostile.IMAGE}", "--out", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="session")
def hostile_page(hostile: ModuleType, hostile_run: Path) -> Path:
    return make_report(hostile_run, robot=find_robot(f"{HOSTILE}:{hostile.IMAGE}"))


@pytest.fixture(scope="session")
def card(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_card(tiny_run, tmp_path_factory.mktemp("card") / "card.html")


@pytest.fixture(scope="session")
def hostile_store(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """130 episodes of a robot whose names, topics and sources are hostile, as a bag would give them."""
    axes = tuple(Axis(name, unit, -1.0, 1.0) for name, unit in zip(hostile.AXES, hostile.UNITS, strict=True))
    more = tuple(Axis(name, "m", -np.inf, np.inf) for name in hostile.NAMES)
    robot = RobotSpec(
        name=hostile.SCRIPT,
        observation=ArraySpec("observation", (*axes, *more)),
        action=ArraySpec("action", axes),
        goal=ArraySpec("goal", axes),
        control_period=0.05,
        episode_steps=50,
    )
    rng, episodes, quality = np.random.default_rng(0), [], []
    for number in range(130):
        observation = rng.normal(0.0, 0.1, (12, len(axes) + len(more))).astype(np.float32).cumsum(0)
        observation[:, :3] = observation[:, :3].clip(-1.0, 1.0)
        observation[:, -1] = 12345.0
        action = rng.normal(0.0, 1.0, (12, 3)).astype(np.float32).clip(-1.0, 1.0)
        episodes.append(Episode({"observation": observation, "action": action}, number % 3 == 0, number % 3 > 0))
        record = {"rate": 100.0 + number, "jitter_p99": 0.001 * number, "dropped": 0.0, "longest_gap": 0.1}
        quality.append({"topics": {f"/{name}": record for name in hostile.NAMES}})
    features = tuple(
        Feature(
            name=name,
            shape=array.shape,
            units=tuple(axis.unit for axis in array.axes),
            role=name,
            axes=array.names,
        )
        for name, array in (("observation", robot.observation), ("action", robot.action))
    )
    source = {"format": hostile.IMAGE, "sha256": hostile.SCRIPT, "mapping": list(hostile.NAMES), "quality": quality}
    schema = Schema(features=features, control_period=0.05, robot=robot)
    return write_store(tmp_path_factory.mktemp("hostile") / "store", episodes, schema, source)


@pytest.fixture(scope="session")
def hostile_card(hostile_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_card(hostile_store.path, tmp_path_factory.mktemp("card") / "hostile.html")
