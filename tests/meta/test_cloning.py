"""Cloning a policy from play data: known optima, policies that read z, networks, and where MAML starts from."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, SpecError, TrainingFault
from supple.meta.cloning import _as_choices, clone, clone_loss, module_policy, play_latents
from supple.meta.config import CloneConfig
from supple.meta.distribution import Categorical
from supple.meta.gradient.config import MaesnConfig, MamlConfig
from supple.meta.gradient.maesn_learner import MaesnLearner
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.policy import MlpPolicy, Params, make_policy
from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.navigation import SEMICIRCLE, NavigationBatch
from supple.skills.config import SkillConfig
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel
from supple.skills.network import MLP

GOALS = np.array([[1.2, 0], [-1.2, 0]], np.float32)
SPEC = PointBatch(1).spec
FEW = CloneConfig(updates=250, batch=128, learning_rate=0.01, least_scale=0.05)


def make_skills() -> SkillSpace:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(policy: Any, params: Params, space: ActionSpace, observation: Tensor, latent: Tensor, **changes: Any) -> Params:
    settings = {name: getattr(FEW, name) for name in FEW.__dataclass_fields__}
    config = CloneConfig(**{**settings, **changes})
    *_, last = clone(policy, params, space, observation, latent, config, source())
    return last.params


def test_the_loss_is_the_negative_log_likelihood_with_a_least_scale() -> None:
    """At the mean of N(0, 1): log sqrt(2 pi) = .9189 nats per axis; two sigmas off 2 more; probability 1/4: log 4."""
    at_mean = Gaussian(torch.zeros(1, 2), torch.ones(1, 2))
    assert float(clone_loss(at_mean, torch.zeros(1, 2), 0.1)) == pytest.approx(2 * 0.918939, abs=1e-5)
    assert float(clone_loss(at_mean, torch.tensor([[2.0, 0.0]]), 0.1)) == pytest.approx(2 * 0.918939 + 2.0, abs=1e-5)
    narrow = Gaussian(torch.zeros(1, 1), torch.full((1, 1), 1e-4))
    assert float(clone_loss(narrow, torch.zeros(1, 1), 0.5)) == pytest.approx(0.918939 + math.log(0.5), abs=1e-5)
    four = Categorical(torch.zeros(3, 4))
    assert float(clone_loss(four, torch.zeros(3, 1), 0.1)) == pytest.approx(math.log(4.0))


@pytest.mark.parametrize("kind", ["raw", "unit"])
def test_it_finds_the_mean_and_the_spread_of_the_data(kind: str) -> None:
    """u ~ N(observation, 0.3^2): the mean has to be copied, and the learned standard deviation to become 0.3."""
    space: ActionSpace = UnitSpace(SPEC) if kind == "unit" else RawSpace(SPEC, torch.zeros(2), torch.ones(2))
    observation = torch.randn(2000, 2, generator=source(1))
    latent = observation + 0.3 * torch.randn(2000, 2, generator=source(2))
    policy = make_policy(space, 2, (16,), "tanh")
    first = policy.init(source())
    before = {name: value.clone() for name, value in first.items()}
    found = run(policy, first, space, observation, latent)
    assert all(torch.equal(first[name], value) for name, value in before.items())
    there = torch.tensor([[0.5, -0.5], [-0.8, 0.0]])
    after = policy(found, there)
    assert isinstance(after, Gaussian)
    torch.testing.assert_close(after.loc, there, atol=0.2, rtol=0.0)
    torch.testing.assert_close(after.scale, torch.full((2, 2), 0.3), atol=0.08, rtol=0.0)


def test_skills_are_cloned_in_units_of_their_prior() -> None:
    space, observation = make_skills(), torch.randn(6, 2, generator=source(1))
    with torch.no_grad():
        for parameter in space.model.prior.parameters():
            parameter.mul_(3.0)  # a prior that differs from place to place
    prior = space.prior_of(observation)
    assert float((prior.scale - 1.0).abs().min()) > 0.01
    inputs, choice = _as_choices(space, observation, prior.loc + 2.0 * prior.scale)
    assert torch.equal(inputs, space.normalise(observation))
    torch.testing.assert_close(choice, torch.full((6, 3), 2.0))


def test_exact_data_leave_a_policy_that_explores() -> None:
    space = UnitSpace(SPEC)
    policy = make_policy(space, 2, (8,), "tanh")
    observation = torch.randn(500, 2, generator=source(1))
    found = run(policy, policy.init(source()), space, observation, torch.zeros(500, 2), least_scale=0.4, updates=400)
    assert 0.2 < float(found["log_scale"].exp().min()) < 0.45


def test_choices_are_cloned_by_their_frequency() -> None:
    """Three in four take the second of two arms."""
    space = ChoiceSpace(BernoulliBanditBatch(1, arms=2, episode_steps=2).spec)
    policy = make_policy(space, 1, (4,), "tanh")
    latent = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    found = run(policy, policy.init(source()), space, torch.zeros(4, 1), latent)
    after = policy(found, torch.zeros(1, 1))
    assert isinstance(after, Categorical)
    torch.testing.assert_close(after.logits.softmax(-1), torch.tensor([[0.25, 0.75]]), atol=0.06, rtol=0.0)


def test_skills_are_cloned_in_units_of_the_prior_at_each_observation() -> None:
    space = make_skills()
    window, action = torch.randn(400, 5, 2, generator=source(1)), torch.randn(400, 5, 2, generator=source(2))
    observation, latent = play_latents(space, window, action)
    assert torch.equal(observation, window[:, 0])
    torch.testing.assert_close(latent, space.model.encode(window, action).loc)
    # the policy that always chooses the prior's mean has u = 0 everywhere
    prior = space.prior_of(observation)
    policy = make_policy(space, 2, (8,), "tanh")
    found = run(policy, policy.init(source()), space, observation, prior.loc)
    after = policy(found, space.normalise(observation))
    assert isinstance(after, Gaussian)
    assert float(after.loc.abs().mean()) < 0.05


def test_windows_of_play_become_the_decisions_of_each_space() -> None:
    """The point of the semicircle moves by 0.1 times an action in -1 .. 1, so unit latents are actions."""
    window, action = torch.randn(6, 1, 2, generator=source(1)), torch.rand(6, 1, 2, generator=source(2))
    space = UnitSpace(NavigationBatch(SEMICIRCLE, 1).spec)
    observation, latent = play_latents(space, window, action)
    torch.testing.assert_close(space.hold(latent)(observation), action[:, 0])
    raw = RawSpace(SPEC, torch.zeros(2), torch.ones(2))
    assert torch.equal(play_latents(raw, window, action)[1], action[:, 0])
    with pytest.raises(SpecError, match="windows of 5 steps, got 1 observations"):
        play_latents(make_skills(), window, action)


def test_limits_that_are_not_one_are_put_at_one() -> None:
    space = UnitSpace(SPEC)
    space._middle, space._half = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5])
    action = torch.tensor([[3.0, 0.25]])
    assert space.latent_of(action).tolist() == [[1.0, 0.5]]
    assert torch.equal(space.hold(space.latent_of(action))(action), action)


def test_a_policy_that_reads_z_is_cloned_for_every_z() -> None:
    """A network whose output is [mean, log scale], as SAC's policies: after cloning, z says nothing."""
    space = RawSpace(SPEC, torch.zeros(2), torch.ones(2))
    network = MLP((2 + 3, 16, 4), generator=source())

    def distribution(output: Tensor) -> Gaussian:
        loc, log_scale = output.chunk(2, dim=-1)
        return Gaussian(loc, log_scale.exp())

    policy = module_policy(network, distribution)
    params = dict(network.named_parameters())
    observation = torch.randn(1000, 2, generator=source(1))
    latent = 0.5 * observation + 0.2 * torch.randn(1000, 2, generator=source(2))
    there, z = torch.tensor([[0.6, -0.6]]).expand(50, -1), torch.randn(50, 3, generator=source(3))
    inputs = torch.cat((there, z), dim=-1)

    def spread() -> float:
        return float(policy(dict(network.named_parameters()), inputs)[0].detach().std(0).max())

    before = spread()
    found = run(policy, params, space, observation, latent, noise_dim=3, updates=800)
    assert spread() == before  # the network itself is as it was
    network.load_state_dict(found)
    assert spread() < 0.5 * before
    after = policy(found, inputs)
    assert isinstance(after, Gaussian)
    torch.testing.assert_close(after.loc.mean(0), torch.tensor([0.3, -0.3]), atol=0.1, rtol=0.0)


def test_progress_is_reported_and_the_same_seed_gives_the_same_parameters() -> None:
    space = UnitSpace(SPEC)
    policy = make_policy(space, 2, (4,), "tanh")
    observation, config = torch.randn(50, 2, generator=source(1)), CloneConfig(updates=25, batch=8, period=10)
    one, two = (
        list(clone(policy, policy.init(source()), space, observation, observation, config, source())) for _ in range(2)
    )
    assert [cloned.metrics["step"] for cloned in one] == [10.0, 20.0, 25.0]
    assert [cloned.metrics for cloned in one] == [cloned.metrics for cloned in two]
    assert all(torch.equal(value, two[-1].params[name]) for name, value in one[-1].params.items())
    assert not torch.equal(one[0].params["layers.0.weight"], one[-1].params["layers.0.weight"])
    assert not any(value.requires_grad for value in one[-1].params.values())


def make_learner(kind: str, hidden: tuple[int, ...] = (8,)) -> MamlLearner | MaesnLearner:
    robot = PointBatch(8, episode_steps=4)
    if kind == "maml":
        settings = MamlConfig(hidden=hidden, tasks=2, episodes=4, iterations=1)
        return MamlLearner(UnitSpace(robot.spec), robot, GOALS, settings)
    config = MaesnConfig(hidden=hidden, tasks=2, episodes=4, iterations=1)
    return MaesnLearner(UnitSpace(robot.spec), robot, GOALS, config)


@pytest.mark.parametrize(("kind", "noise_dim"), [("maml", 0), ("maesn", 2)])
def test_meta_training_starts_from_a_cloned_policy(kind: str, noise_dim: int) -> None:
    learner = make_learner(kind)
    observation = torch.randn(100, 2, generator=source(1))
    found = run(
        learner.policy,
        learner.policy.init(source()),
        learner.space,
        observation,
        -observation,
        noise_dim=noise_dim,
        updates=20,
    )
    learner.start_from(found)
    assert all(torch.equal(learner.meta[f"policy.{name}"], value) for name, value in found.items())
    assert all(value.requires_grad for value in learner.meta.values())
    next(learner.train())
    assert not torch.equal(learner.meta["policy.layers.0.weight"], found["layers.0.weight"])
    with pytest.raises(ConfigError, match="before its first iteration, got one after 1"):
        learner.start_from(found)
    with pytest.raises(ConfigError, match=r"start_from.*layers\.0\.weight.*same sizes"):
        make_learner(kind, (7,)).start_from(found)


def test_data_and_settings_that_cannot_be_cloned_are_refused() -> None:
    space, policy = UnitSpace(SPEC), MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,))
    nothing = torch.zeros(0, 2)
    with pytest.raises(SpecError, match="at least one, got 0 and 0"):
        run(policy, policy.init(source()), space, nothing, nothing)
    with pytest.raises(SpecError, match="got 3 and 4"):
        run(policy, policy.init(source()), space, torch.zeros(4, 2), torch.zeros(3, 2))
    with pytest.raises(TrainingFault, match="step 1: expected a finite loss, got nan"):
        run(policy, policy.init(source()), space, torch.zeros(4, 2), torch.full((4, 2), torch.nan), period=1)
    with pytest.raises(ConfigError, match=r"least_scale: expected a number above 0 to .*, got 0\.0"):
        CloneConfig(least_scale=0.0)
    with pytest.raises(ConfigError, match=r"noise_dim: expected a whole number from 0 to .*, got -1"):
        CloneConfig(noise_dim=-1)
