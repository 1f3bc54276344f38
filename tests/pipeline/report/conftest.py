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
from supple.pipeline.cli import main
from supple.pipeline.folder import compute_outputs, write_record
from supple.pipeline.keys import compute_digest, compute_record_digest, load_record
from supple.pipeline.report.page import make_report
from supple.pipeline.robots import find_robot, load_user_module
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
