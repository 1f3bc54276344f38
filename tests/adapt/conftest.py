"""A small bundle and its parts, for all tests of `supple.adapt`."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from supple.adapt.bundle import MANIFEST, write_bundle
from supple.adapt.contract import BundleContract
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


def make_contract(action_space: str = "skill") -> BundleContract:
    """A contract with O = 4, A = 2, E = 5 and either Z = 3, H = 4 or raw actions."""
    skill = action_space == "skill"
    z = 3 if skill else 2
    networks = {"policy": (4 + 5, 16, 16, 2 * z), "critic": (4 + z + 5, 16, 1)}
    return BundleContract(
        robot=make_spec(),
        action_space=action_space,
        skill_horizon=4 if skill else 1,
        skill_dim=z,
        embedding_dim=5,
        networks=networks | {"prior": (4, 16, 6), "decoder": (7, 16, 16, 2)} if skill else networks,
        encoder={"encoder.rho.weight": (7, 3), "encoder.temperature": ()},
        prior_scale=None if skill else 0.5,
        adaptation={"episodes": 20, "target_kl": 1.0},
        provenance={"seed": 0, "inputs": ["abc"]},
    )


def make_weights(contract: BundleContract, seed: int = 0) -> Weights:
    """Random weights of about the size that training leaves."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in contract.weight_shapes().items():
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.3
        weights[name] = np.asarray(rng.standard_normal(shape) * scale, np.float32)
    weights["normaliser.std"] = np.abs(weights["normaliser.std"]) + np.float32(0.5)
    return weights


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
    write_bundle(tmp_path / "bundle", contract=skill_contract.to_json(), weights=weights)
    return tmp_path / "bundle"


@pytest.fixture
def rated_spec(spec: RobotSpec) -> RobotSpec:
    """The same robot, its first action axis limited to 5 N/s, which is 0.1 N per control period of 0.02 s."""
    first, second = spec.action.axes
    return replace(spec, action=ArraySpec("action", (replace(first, rate_limit=5.0), second)))
