"""Bundles of version 1, which the code of that time made: they load, act, adapt, and convert."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.simpl import export_again, make_simpl_networks
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.version_1 import DEPLOYMENT
from supple.errors import BundleError
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.testing import PointBatch
from supple.robots.task import Task

DATA = Path(__file__).parent / "data"
NAMES = ("version_1_skill", "version_1_raw")
TASKS = (Task("near", (1.5, 1.0)), Task("never", (500.0, 0.0)))


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(DATA / request.param, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_usual_settings_of_that_time_are_those_of_today() -> None:
    assert asdict(DeploymentConfig()) == DEPLOYMENT


def test_it_adapts(folder: Path) -> None:
    bundle = load_bundle(folder)
    bundle = bundle.with_settings({"exploration_episodes": 2, "context": 8, "keep_searching": False})
    rng = np.random.default_rng(0)
    agent = make_hosted(bundle, RandomNoise(rng))
    robot = PointBatch(2)
    adapter = Adapter(agent, robot, TASKS, Budget(episodes=5), 5, rng, make_fork=bundle.make_agent)
    assert len(list(adapter.run())) == 5
    assert agent.state()["settled"].all()


def test_it_is_written_anew_as_the_same_learner(folder: Path, tmp_path: Path) -> None:
    old = load_bundle(folder)
    budget = old.contract.budget
    new = write_exported(tmp_path / "new", export_again(old), old.contract.robot, budget, simulator=None, provenance={})
    assert new.contract.learner == old.contract.learner
    assert new.golden
    assert new.weights.keys() == old.weights.keys()
    for name, value in new.weights.items():
        np.testing.assert_array_equal(value, old.weights[name], err_msg=name)
    with pytest.raises(BundleError, match="expected a bundle of version 1, got one of today"):
        new.require_version_1("new")
    networks = make_simpl_networks(new)
    assert not any(parameter.requires_grad for parameter in networks.parameters())


def test_any_changed_weight_is_found(folder: Path, sealed: Callable[..., None]) -> None:
    from safetensors.numpy import load_file

    weights = load_file(folder / "weights.safetensors")
    for name, value in weights.items():
        if name.startswith("encoder.reward") or name.endswith(".key.layers.0.bias"):
            continue  # version 1 recorded no answers of the reward head; a softmax does not feel the bias of its keys
        sealed(folder, weights={**weights, name: value * np.float32(1.5) + np.float32(0.3)})
        with pytest.raises(BundleError, match="expected golden 'out"):
            load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "expected the fields of version 1, got a difference in .*extra"),
        ({"min_scale": 0.1}, "min_scale, prior_scale: expected 0.001 and 1.0, got 0.1"),
        ({"embedding_dim": 3}, r"of shape"),
        ({"embedding_dim": "2"}, r"embedding_dim: expected an integer, got '2'"),
        ({"networks": {}}, "expected a bundle of version 1"),
        ({"adaptation": {}}, "expected a bundle of version 1, got KeyError"),
        ({"robot": {"name": "grid"}}, "robot"),
        ({"action_space": "torque"}, "space|KeyError"),
    ],
)
def test_a_wrong_contract_is_refused(
    folder: Path, sealed: Callable[..., None], change: dict[str, Any], message: str
) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(data | change))
    sealed(folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)
