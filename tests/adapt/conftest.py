"""A small bundle and its parts, for all tests of `supple.adapt`."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle, write_bundle
from supple.adapt.bundle_folder import MANIFEST
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.golden_trial import make_trial_inputs, play_trial
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.spaces import SpaceSettings
from supple.robots.spec import ArraySpec, Axis, RobotSpec

OBSERVATION = ("x", "y", "vx", "vy")
Weights = dict[str, NDArray[np.float32]]


def make_spec() -> RobotSpec:
    """A point on a plane with one rate-limited action axis."""
    return RobotSpec(
        name="point",
        observation=ArraySpec("observation", tuple(Axis(name, "m", -np.inf, np.inf) for name in OBSERVATION)),
        action=ArraySpec("action", (Axis("fx", "N", -1.0, 1.0), Axis("fy", "N", -0.5, 2.0))),
        goal=ArraySpec("goal", (Axis("x", "m", 0.0, 20.0), Axis("y", "m", 0.0, 20.0))),
        control_period=0.02,
        episode_steps=50,
    )


def make_contract(action_space: str = "skill", scale: str = "residual", activation: str = "relu") -> BundleContract:
    """A plain policy with O = 4, A = 2, and either Z = 3, H = 4 or raw or unit actions."""
    space = SpaceSettings(name=action_space, latent_dim=2)
    if action_space == "skill":
        space = SpaceSettings(name="skill", horizon=4, latent_dim=3, prior=(4, 16, 6), decoder=(7, 16, 16, 2))
    return BundleContract(
        kind="policy",
        robot=make_spec(),
        space=space,
        learner={"hidden": [16, 16], "activation": activation, "greedy": False, "scale": scale},
        budget=Budget(episodes=1),
        provenance={"seed": 0, "inputs": ["abc"]},
    )


def make_weights(contract: BundleContract, seed: int = 0) -> Weights:
    """Random weights of about the size that training leaves."""
    rng = np.random.default_rng(seed)
    weights = {}
    shapes = KINDS[contract.kind].weight_shapes(contract) | contract.space.weight_shapes(contract.observation_dim)
    for name, shape in shapes.items():
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.3
        weights[name] = np.asarray(rng.standard_normal(shape) * scale, np.float32)
    if "space.std" in weights:
        weights["space.std"] = np.abs(weights["space.std"]) + np.float32(0.5)
    return weights


class NotedNoise(RandomNoise):
    """Noise that is written down as it is drawn."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(1))
        self.draws: dict[str, NDArray[np.float32]] = {}

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.draws.setdefault(f"in.noise.{len(self.draws):04d}.normal", super().normal(shape))

    def uniform(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.draws.setdefault(f"in.noise.{len(self.draws):04d}.uniform", super().uniform(shape))


def make_golden(contract: BundleContract, weights: Weights) -> Weights:
    """A golden trial that the numpy agent played itself."""
    noise, inputs = NotedNoise(), make_trial_inputs(contract, weights, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        outputs = play_trial(KINDS[contract.kind].make_agent(contract, weights, noise), inputs)
    return {**inputs, **noise.draws, **outputs}


def write(path: Path, contract: BundleContract, weights: Weights) -> Bundle:
    """A bundle with such a trial."""
    return write_bundle(path, contract=contract, weights=weights, golden=make_golden(contract, weights))


def reseal(folder: Path, **tensors: Weights) -> None:
    """Rewrites some safetensors files and the manifest, as somebody would who tampers with care."""
    for name, arrays in tensors.items():
        save_file(arrays, folder / f"{name}.safetensors")
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / MANIFEST).write_text("".join(lines))


@pytest.fixture
def spec() -> RobotSpec:
    return make_spec()


@pytest.fixture(params=["skill", "raw"])
def contract(request: pytest.FixtureRequest) -> BundleContract:
    return make_contract(request.param)


@pytest.fixture
def skill_contract() -> BundleContract:
    return make_contract("skill")


@pytest.fixture
def weights(skill_contract: BundleContract) -> Weights:
    return make_weights(skill_contract)


@pytest.fixture
def weights_of() -> Callable[[BundleContract], Weights]:
    return make_weights


@pytest.fixture
def sealed() -> Callable[..., None]:
    return reseal


@pytest.fixture
def folder(tmp_path: Path, skill_contract: BundleContract, weights: Weights) -> Path:
    """A valid bundle with skills."""
    write(tmp_path / "bundle", skill_contract, weights)
    return tmp_path / "bundle"


@pytest.fixture
def written() -> Callable[[Path, BundleContract, Weights], Bundle]:
    return write


@pytest.fixture
def contract_of() -> Callable[..., BundleContract]:
    return make_contract


@pytest.fixture
def golden_of() -> Callable[[BundleContract, Weights], Weights]:
    return make_golden


@pytest.fixture
def rated_spec(spec: RobotSpec) -> RobotSpec:
    """The same robot, its first action axis limited to 5 N/s, which is 0.1 N per control period of 0.02 s."""
    first, second = spec.action.axes
    return replace(spec, action=ArraySpec("action", (replace(first, rate_limit=5.0), second)))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch, as in the child that learns: sums keep their order."""
    import torch  # most tests of `adapt` need none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
