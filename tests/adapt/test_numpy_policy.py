"""One robot, one observation in, one action out: the same as the bundle's agent in rows, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.contract import BundleContract
from supple.adapt.networks import inv_softplus, softplus
from supple.adapt.numpy_policy import Context, NumpyPolicy
from supple.adapt.runtime_agent import RecordedNoise, SeenRows
from supple.errors import BundleError, RobotFault, SpecError

Weights = dict[str, NDArray[np.float32]]
Write = Callable[[Path, BundleContract, Weights], Bundle]
DATA = Path(__file__).parent / "data"
CASES = [
    ("skill", "residual", "relu"),
    ("raw", "residual", "relu"),
    ("unit", "residual", "relu"),
    ("skill", "output", "relu"),
    ("raw", "output", "relu"),
    ("skill", "parameter", "tanh"),
    ("unit", "parameter", "tanh"),
]


@pytest.fixture(params=CASES, ids="-".join)
def bundle(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    contract_of: Callable[..., BundleContract],
    weights_of: Callable[..., Weights],
    written: Write,
) -> Bundle:
    """A plain policy of each kind."""
    contract = contract_of(*request.param)
    return written(tmp_path / "bundle", contract, weights_of(contract))


def test_an_episode_is_that_of_the_bundles_agent(bundle: Bundle) -> None:
    """A new latent at every H-th call from noise drawn for it, decoded on each call."""
    policy, observation = NumpyPolicy(bundle), np.random.default_rng(6).standard_normal((21, 4)).astype(np.float32)
    horizon, latent_dim = bundle.contract.space.horizon, bundle.contract.space.latent_dim
    rng = np.random.default_rng(5)
    scale = bundle.contract.learner["scale"]
    shape = (1, latent_dim) if scale == "residual" else (1, 1, latent_dim)
    draws = [("normal", rng.standard_normal(latent_dim, np.float32).reshape(shape)) for _ in range(-(-21 // horizon))]
    agent = bundle.make_agent(RecordedNoise(draws, "test"))
    agent.begin_task(1)
    agent.begin_episode()
    policy.begin_episode(np.random.default_rng(5))
    actions = []
    for step, row in enumerate(observation):
        if step % horizon == 0:
            latent = agent.act(SeenRows(row[None], np.zeros(1, np.int64), np.zeros(1, np.float32)))
            control = agent.space.hold(latent)
        actions.append(policy.act(row))
        np.testing.assert_allclose(policy.skill, latent[0], rtol=4e-6, atol=4e-6)
        np.testing.assert_allclose(actions[-1], control(row[None])[0], rtol=8e-6, atol=8e-6)
    assert len(np.unique(np.array(actions), axis=0)) > 10  # earlier results were not overwritten by later calls


def test_greedy_takes_the_mean(bundle: Bundle) -> None:
    policy, observation = NumpyPolicy(bundle), np.full(4, 0.3, np.float32)
    latents = []
    for seed in (0, 1):
        policy.begin_episode(np.random.default_rng(seed), greedy=True)
        policy.act(observation)
        latents.append(policy.skill)
    np.testing.assert_array_equal(*latents)


@pytest.mark.parametrize("name", ["version_1_skill", "version_1_raw"])
def test_a_bundle_of_simpl_acts_at_an_embedding_and_infers_one(name: str) -> None:
    bundle = load_bundle(DATA / name)
    policy, observation = NumpyPolicy(bundle), np.full(2, 0.3, np.float32)
    with pytest.raises(RobotFault, match="begin_episode"):
        policy.act(observation)
    policy.begin_episode(np.random.default_rng(0), greedy=True)
    with pytest.raises(RobotFault, match="set_embedding"):
        policy.act(observation)
    skills = []
    for embedding in (np.zeros(2), np.ones(2), np.zeros(2)):
        policy.set_embedding(embedding)
        policy.begin_episode(np.random.default_rng(0), greedy=True)
        policy.act(observation)
        skills.append(policy.skill)
    np.testing.assert_array_equal(skills[0], skills[2])
    assert np.abs(skills[0] - skills[1]).max() > 0.01
    for wrong in (np.zeros(4), np.zeros((1, 2)), np.full(2, np.nan)):
        with pytest.raises(SpecError, match="2 finite numbers"):
            policy.set_embedding(wrong)
    rng, latent = np.random.default_rng(1), bundle.contract.space.latent_dim
    context = Context(
        *(rng.standard_normal((5, width)).astype(np.float32) for width in (2, latent)),
        *(rng.random(5).astype(np.float32) for _ in range(2)),
        rng.standard_normal((5, 2)).astype(np.float32),
    )
    found = policy.infer(context)
    assert found.loc.shape == found.scale.shape == (2,)
    order = rng.permutation(5)  # a context is a set
    np.testing.assert_allclose(policy.infer(Context(*(part[order] for part in context))).loc, found.loc, atol=5e-6)
    with pytest.raises(SpecError, match=rf"'skill' finite and of shape \(5, {latent}\), got \(4, {latent}\)"):
        policy.infer(context._replace(skill=context.skill[:4]))
    with pytest.raises(SpecError, match="at least one transition"):
        policy.infer(Context(*(part[:0] for part in context)))


def test_a_plain_policy_has_no_embedding_and_other_kinds_are_refused(bundle: Bundle) -> None:
    policy = NumpyPolicy(bundle)
    with pytest.raises(SpecError, match="expected 0 finite numbers"):
        policy.set_embedding(np.zeros(3))
    with pytest.raises(BundleError, match="infer: expected a bundle of SiMPL, got a plain policy"):
        policy.infer(Context(*(np.zeros(0, np.float32),) * 5))


def test_a_runtime_that_computes_otherwise_refuses_to_start(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyPolicy, "_decode", lambda policy: policy._action + np.float32(0.01))
    with pytest.raises(BundleError, match="numpy runtime: expected the action of the bundle's agent, got a difference"):
        NumpyPolicy(bundle)


@given(st.floats(2.0**-13, 100.0, width=32))
def test_inv_softplus_inverts_softplus(value: float) -> None:
    x = np.array([value], np.float32)
    np.testing.assert_allclose(softplus(inv_softplus(x)), x, rtol=1e-5)


def test_inv_softplus_of_large_and_small_numbers() -> None:
    x = np.array([1e-6, 1.0, 1000.0], np.float32)
    # log(expm1(x)): log(1e-6) to first order; log(e - 1); 1000
    np.testing.assert_allclose(inv_softplus(x), [np.log(1e-6), 0.5413249, 1000.0], rtol=1e-6)
    assert np.isfinite(softplus(np.array([-1e4, 1e4], np.float32))).all()


def test_same_generator_same_episode(bundle: Bundle) -> None:
    observation = np.random.default_rng(0).standard_normal((30, 4))
    runs = []
    for seed in (1, 1, 2):
        policy = NumpyPolicy(bundle)
        policy.begin_episode(np.random.default_rng(seed))
        runs.append(np.array([policy.act(row) for row in observation]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_observation_that_is_not_finite_is_a_fault(bundle: Bundle, value: float, dtype: type) -> None:
    policy = NumpyPolicy(bundle)
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
    policy.begin_episode(np.random.default_rng(0))
    with pytest.raises(RobotFault, match=r"shape \(4,\), got"):
        policy.act(np.zeros(shape, np.float32))


def test_actions_stay_within_the_limits(bundle: Bundle) -> None:
    policy = NumpyPolicy(bundle)
    rng = np.random.default_rng(8)
    low, high = bundle.contract.robot.action.low, bundle.contract.robot.action.high
    touched = 0
    for scale in (1.0, 1e2, 1e6):
        policy.begin_episode(rng)
        for row in rng.standard_normal((200, 4)) * scale:
            action = policy.act(row)
            assert (action >= low).all()
            assert (action <= high).all()
            touched += int((action == low).any() or (action == high).any())
    assert touched > 0


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from supple.adapt.bundle import load_bundle
from supple.adapt.numpy_policy import NumpyPolicy
from supple.adapt.safety import SafetyLimits
bundle = load_bundle(sys.argv[1])
policy = NumpyPolicy(bundle)
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
        policy.begin_episode(np.random.default_rng(1))
        runs.append([policy.act(row) for row in observation])
    np.testing.assert_array_equal(*runs)
