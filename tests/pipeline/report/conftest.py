"""Pages of two runs: the tiny one in the maze, and one of a robot whose names are hostile."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

from supple.adapt.bundle import load_bundle
from supple.adapt.policy import make_agent
from supple.meta.simpl.config import FinetuneConfig
from supple.meta.simpl.finetune import Finetuner
from supple.pipeline.cli import main
from supple.pipeline.folder import compute_outputs, write_record
from supple.pipeline.keys import compute_digest, load_record
from supple.pipeline.report.page import make_report
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.robots import find_robot, load_user_module
from supple.skills.checkpoint import save_checkpoint

HOSTILE = Path(__file__).with_name("hostile_robots.py")


@pytest.fixture(scope="session")
def adapted_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, as if its first test task had been rewarded: that one has a policy of its own."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(tiny_run, folder)
    agent = make_agent(load_bundle(folder / "export" / "bundle"), torch.device("cpu"))
    hidden = tuple(int(bias.shape[-1]) for bias in list(agent.critic.biases)[:-1])
    embedding = torch.linspace(-1, 1, agent.embedding_dim)
    tuner = Finetuner(agent.space, 4, 6, embedding, hidden, FinetuneConfig(pool_episodes=1), 0)
    tuner.start_from(agent.policy, agent.critic, 0.01)
    tensors = {f"0.{name}": value.detach() for name, value in tuner.state_dict().items()}
    tasks = load_run(folder).stages["adapt"].config["tasks"]
    (folder / "adapt" / "adapted.safetensors").unlink()
    save_checkpoint(folder / "adapt" / "adapted.safetensors", tensors, {"tasks": tasks})
    seal(folder / "adapt")
    return folder


def seal(folder: Path) -> None:
    """Makes a stage folder that a test has changed one that was published so."""
    record, outputs = load_record(folder), compute_outputs(folder)
    write_record(folder / "stage.json", record | {"outputs": outputs, "output_digest": compute_digest(outputs)})


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
