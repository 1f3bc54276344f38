"""The numpy runtime acts as torch does, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from supple.adapt.bundle import Bundle, load_bundle, write_bundle
from supple.adapt.contract import BundleContract
from supple.adapt.golden import require_golden
from supple.adapt.networks import (
    compute_action,
    compute_policy,
    compute_prior,
    compute_value,
    inv_softplus,
    softplus,
)
from supple.adapt.numpy_policy import NumpyPolicy
from supple.errors import BundleError, RobotFault, SpecError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

Weights = dict[str, NDArray[np.float32]]


@pytest.fixture
def bundle(tmp_path: Path, contract: BundleContract, weights_of: Callable[..., Weights]) -> Bundle:
    """A bundle of either action space."""
    return write_bundle(tmp_path / "bundle", contract=contract.to_json(), weights=weights_of(contract))


class TorchPolicy:
    """The same formulas in torch, written from the docstring of `contract.py`."""

    def __init__(self, bundle: Bundle) -> None:
        self.contract = bundle.contract
        self.weights = {name: torch.tensor(array) for name, array in bundle.weights.items()}

    def mlp(self, name: str, inputs: Tensor) -> Tensor:
        layers = len(self.contract.networks[name]) - 1
        for index in range(layers):
            weight = self.weights[f"{name}.layers.{index}.weight"]
            bias = self.weights[f"{name}.layers.{index}.bias"]
            inputs = torch.einsum("...oi,...bi->...bo", weight, inputs) + bias.unsqueeze(-2)
            inputs = torch.relu(inputs) if index < layers - 1 else inputs
        return inputs

    def normalised(self, observation: Tensor) -> Tensor:
        return (observation - self.weights["normaliser.mean"]) / self.weights["normaliser.std"]

    def prior(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        if self.contract.action_space == "raw":
            assert self.contract.prior_scale is not None
            zeros = torch.zeros(len(observation), self.contract.skill_dim)
            return zeros, zeros + self.contract.prior_scale
        loc, log_scale = self.mlp("prior", self.normalised(observation)).chunk(2, dim=-1)
        return loc, log_scale.clamp(-3.0, 2.0).exp()

    def policy(self, observation: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        loc, scale = self.prior(observation)
        inputs = torch.cat([self.normalised(observation), embedding], dim=-1)
        delta_loc, delta_scale = self.mlp("policy", inputs).chunk(2, dim=-1)
        unconstrained = torch.log(torch.expm1(scale.double())).float() + delta_scale
        return loc + delta_loc, self.contract.min_scale + torch.nn.functional.softplus(unconstrained)

    def action(self, observation: Tensor, skill: Tensor) -> Tensor:
        if self.contract.action_space == "skill":
            skill = self.mlp("decoder", torch.cat([self.normalised(observation), skill], dim=-1))
        low, high = (torch.tensor(x) for x in (self.contract.robot.action.low, self.contract.robot.action.high))
        return torch.minimum(torch.maximum(skill, low), high)

    def value(self, observation: Tensor, skill: Tensor, embedding: Tensor) -> Tensor:
        inputs = torch.cat([self.normalised(observation), skill, embedding], dim=-1)
        return self.mlp("critic", inputs.expand(2, *inputs.shape))[..., 0]


def test_rows_equal_torch(bundle: Bundle) -> None:
    contract, weights, peer = bundle.contract, bundle.weights, TorchPolicy(bundle)
    rng = np.random.default_rng(3)
    observation = rng.standard_normal((500, 4), np.float32) * 2
    embedding = rng.standard_normal((500, 5), np.float32)
    skill = rng.standard_normal((500, contract.skill_dim), np.float32)
    s, e, z = (torch.from_numpy(x) for x in (observation, embedding, skill))
    pairs = [
        *zip(compute_prior(contract, weights, observation), peer.prior(s), strict=True),
        *zip(compute_policy(contract, weights, observation, embedding), peer.policy(s, e), strict=True),
        (compute_action(contract, weights, observation, skill), peer.action(s, z)),
        (compute_value(weights, observation, skill, embedding), peer.value(s, z, e)),
    ]
    for ours, theirs in pairs:
        assert ours.shape == tuple(theirs.shape)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("greedy", [True, False])
def test_an_episode_equals_torch(bundle: Bundle, greedy: bool) -> None:
    """act picks z = loc + scale * noise from the observation of every H-th call and decodes on each call."""
    contract, peer = bundle.contract, TorchPolicy(bundle)
    policy = NumpyPolicy(bundle)
    embedding = np.random.default_rng(4).standard_normal(5).astype(np.float32)
    policy.set_embedding(embedding)
    policy.begin_episode(np.random.default_rng(5), greedy=greedy)
    noise = np.random.default_rng(5)
    observation = np.random.default_rng(6).standard_normal((21, 4)).astype(np.float32)
    skill = torch.zeros(1, contract.skill_dim)
    actions = []
    for step, row in enumerate(observation):
        rows = torch.from_numpy(row)[None]
        if step % contract.skill_horizon == 0:
            loc, scale = peer.policy(rows, torch.from_numpy(embedding)[None])
            drawn = np.zeros(contract.skill_dim, np.float32)
            if not greedy:
                noise.standard_normal(dtype=np.float32, out=drawn)
            skill = loc + scale * torch.from_numpy(drawn)
        actions.append(policy.act(row))
        np.testing.assert_allclose(policy.skill, skill[0].numpy(), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(actions[-1], peer.action(rows, skill)[0].numpy(), rtol=4e-6, atol=4e-6)
    assert len(np.unique(np.array(actions), axis=0)) > 10  # earlier results were not overwritten by later calls


def test_a_hand_worked_action(tmp_path: Path) -> None:
    """One layer each: s_n = (5-1)/2 = 2; prior loc 2, scale 1; loc = 2 + .5*2 + 3*1 = 6; a = .25*2 + .5*6 - 1 = 2.5."""
    one = (Axis("q", "rad", -10.0, 10.0),)
    robot = RobotSpec("hand", *(ArraySpec(name, one) for name in ("observation", "action", "goal")), 0.1, 10)
    networks = {"prior": (1, 2), "decoder": (2, 1), "policy": (2, 2), "critic": (3, 1)}
    contract = BundleContract(
        robot=robot, action_space="skill", skill_horizon=2, skill_dim=1, embedding_dim=1, networks=networks
    )
    lists = {
        "normaliser.mean": [1.0],
        "normaliser.std": [2.0],
        "prior.layers.0.weight": [[1.0], [0.0]],
        "prior.layers.0.bias": [0.0, 0.0],
        "decoder.layers.0.weight": [[0.25, 0.5]],
        "decoder.layers.0.bias": [-1.0],
        "policy.layers.0.weight": [[0.5, 3.0], [0.0, 1.0]],
        "policy.layers.0.bias": [0.0, 0.0],
        "critic.layers.0.weight": [[[1.0, 10.0, 100.0]], [[0.0, 0.0, -1.0]]],
        "critic.layers.0.bias": [[0.5], [0.0]],
    }
    weights = {name: np.array(value, np.float32) for name, value in lists.items()}
    bundle = write_bundle(tmp_path / "bundle", contract=contract.to_json(), weights=weights)
    policy = NumpyPolicy(bundle)
    policy.set_embedding([1.0])
    policy.begin_episode(np.random.default_rng(0), greedy=True)
    assert policy.act(np.array([5.0], np.float32)) == pytest.approx([2.5])
    # the second call keeps z = 6: s_n = -2, a = -.5 + 3 - 1
    assert policy.act(np.array([-3.0], np.float32)) == pytest.approx([1.5])
    # the third picks z anew: s_n = 40, loc = 40 + 20 + 3 = 63, a = 10 + 31.5 - 1 -> limit 10
    assert policy.act(np.array([81.0], np.float32)) == pytest.approx([10.0])
    assert policy.skill == pytest.approx([63.0])
    rows = [np.array([[value]], np.float32) for value in (5.0, 6.0, 1.0)]
    assert compute_value(weights, *rows)[:, 0] == pytest.approx([162.5, -1.0])  # 2 + 60 + 100 + .5; -e
    scale = compute_policy(contract, weights, rows[0], rows[2]).scale
    # .001 + softplus(log(e - 1) + 1) = .001 + log(1 + e (e - 1)) = .001 + log(5.6707742...)
    assert scale[0, 0] == pytest.approx(0.001 + np.log(1 + np.e * (np.e - 1)), rel=1e-6)


@given(st.floats(2.0**-13, 100.0, width=32))
def test_inv_softplus_inverts_softplus(value: float) -> None:
    x = np.array([value], np.float32)
    np.testing.assert_allclose(softplus(inv_softplus(x)), x, rtol=1e-5)


def test_inv_softplus_of_large_and_small_numbers() -> None:
    x = np.array([1e-6, 1.0, 1000.0], np.float32)
    # log(expm1(x)): log(1e-6) to first order; log(e - 1); 1000
    np.testing.assert_allclose(inv_softplus(x), [np.log(1e-6), 0.5413249, 1000.0], rtol=1e-6)
    assert np.isfinite(softplus(np.array([-1e4, 1e4], np.float32))).all()


def test_the_embedding_changes_the_next_skill(bundle: Bundle) -> None:
    policy = NumpyPolicy(bundle)
    observation = np.full(4, 0.3, np.float32)
    skills = []
    for embedding in (np.zeros(5), np.ones(5), np.zeros(5)):
        policy.set_embedding(embedding)
        policy.begin_episode(np.random.default_rng(0), greedy=True)
        policy.act(observation)
        skills.append(policy.skill)
    np.testing.assert_array_equal(skills[0], skills[2])
    assert np.abs(skills[0] - skills[1]).max() > 0.01


def test_same_generator_same_episode(bundle: Bundle) -> None:
    observation = np.random.default_rng(0).standard_normal((30, 4))
    runs = []
    for seed in (1, 1, 2):
        policy = NumpyPolicy(bundle)
        policy.set_embedding(np.ones(5))
        policy.begin_episode(np.random.default_rng(seed))
        runs.append(np.array([policy.act(row) for row in observation]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_observation_that_is_not_finite_is_a_fault(bundle: Bundle, value: float, dtype: type) -> None:
    policy = NumpyPolicy(bundle)
    policy.set_embedding(np.zeros(5))
    policy.begin_episode(np.random.default_rng(0))
    observation = np.zeros(4, np.float64)
    observation[1] = value
    with np.errstate(over="ignore"):
        cast = observation.astype(dtype)
    with pytest.raises(RobotFault, match=r"finite observation.*in axis 'y'"):
        policy.act(cast)
    assert np.isfinite(policy.act(np.zeros(4, np.float32))).all()


def test_a_finite_observation_that_overflows_is_a_fault_or_within_limits(folder: Path) -> None:
    policy = NumpyPolicy(load_bundle(folder))
    policy.set_embedding(np.zeros(5))
    faults = 0
    for exponent in range(39):
        policy.begin_episode(np.random.default_rng(0))
        try:
            action = policy.act(np.array([1.0, -3.0, 2.0, 1.0], np.float32) * np.float32(10.0**exponent))
        except RobotFault:
            faults += 1
        else:
            assert np.isfinite(action).all()
    assert faults > 0


@pytest.mark.parametrize("shape", [(), (3,), (5,), (1, 4)])
def test_an_observation_of_another_shape_is_a_fault(bundle: Bundle, shape: tuple[int, ...]) -> None:
    policy = NumpyPolicy(bundle)
    policy.set_embedding(np.zeros(5))
    policy.begin_episode(np.random.default_rng(0))
    with pytest.raises(RobotFault, match=r"shape \(4,\), got"):
        policy.act(np.zeros(shape, np.float32))


def test_acting_needs_an_embedding_and_an_episode(bundle: Bundle) -> None:
    policy = NumpyPolicy(bundle)
    with pytest.raises(RobotFault, match="begin_episode"):
        policy.act(np.zeros(4, np.float32))
    policy.begin_episode(np.random.default_rng(0))
    with pytest.raises(RobotFault, match="set_embedding"):
        policy.act(np.zeros(4, np.float32))
    for wrong in (np.zeros(4), np.zeros((1, 5)), np.full(5, np.nan)):
        with pytest.raises(SpecError, match="5 finite numbers"):
            policy.set_embedding(wrong)


def test_actions_stay_within_the_limits(bundle: Bundle) -> None:
    policy = NumpyPolicy(bundle)
    rng = np.random.default_rng(8)
    low, high = bundle.contract.robot.action.low, bundle.contract.robot.action.high
    touched = 0
    for scale in (1.0, 1e2, 1e6):
        policy.set_embedding(rng.standard_normal(5))
        policy.begin_episode(rng)
        for row in rng.standard_normal((200, 4)) * scale:
            action = policy.act(row)
            assert (action >= low).all()
            assert (action <= high).all()
            touched += int((action == low).any() or (action == high).any())
    assert touched > 0


def test_a_runtime_that_computes_otherwise_refuses_to_start(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supple.adapt.runtime.residual_scale", lambda prior, delta, floor: prior * np.exp(delta))
    with pytest.raises(BundleError, match=r"numpy runtime: expected golden 'out\.policy_scale'"):
        NumpyPolicy(bundle)


def test_require_golden_refuses_nan(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="difference of nan"):
        require_golden(bundle.golden, {"out.action": bundle.golden["out.action"] * np.nan}, "here")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from supple.adapt.bundle import load_bundle, require_robot
from supple.adapt.numpy_policy import NumpyPolicy
from supple.adapt.safety import SafetyLimits
bundle = load_bundle(sys.argv[1])
policy = NumpyPolicy(bundle)
policy.set_embedding(np.zeros(5))
policy.begin_episode(np.random.default_rng(0))
assert policy.act(np.zeros(4, np.float32)).shape == (2,)
heavy = {"torch", "mujoco", "h5py", "zarr", "scipy"} & {name.split(".")[0] for name, m in sys.modules.items() if m}
assert not heavy, heavy
"""


def test_a_robot_acts_without_torch(folder: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder)], check=False, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr


def test_loading_again_gives_the_same_policy(folder: Path) -> None:
    observation = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    runs = []
    for _ in range(2):
        policy = NumpyPolicy(load_bundle(folder))
        policy.set_embedding(np.full(5, 0.5))
        policy.begin_episode(np.random.default_rng(1))
        runs.append([policy.act(row) for row in observation])
    np.testing.assert_array_equal(*runs)
