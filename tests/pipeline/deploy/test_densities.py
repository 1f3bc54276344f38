"""The log density of a choice is that of the distribution that it was drawn from, for every kind of learner."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle
from supple.adapt.densities import DensityNoise, read_log_prob
from supple.adapt.distribution import draw_choice, draw_gaussian
from supple.adapt.networks import Gaussian
from supple.adapt.runtime_agent import RandomNoise, SeenRows, TellsDensity, WrappedAgent
from supple.adapt.spaces import RowSpace, SpaceSettings
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

Make = Callable[..., Bundle]


class FixedNoise(DensityNoise):
    """Mean, or one standard deviation above it; choices as the other agent's."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.default_rng(4))
        self.value = value

    def normal(self, shape: tuple[int, ...]) -> Any:
        super().normal(shape)
        return np.full(shape, self.value, np.float32)


def see(rows: int = 3) -> SeenRows:
    rng = np.random.default_rng(1)
    return SeenRows(rng.uniform(-0.9, 0.9, (rows, 4)).astype(np.float32), np.arange(rows), np.zeros(rows, np.float32))


def begin(bundle: Bundle, noise: Any) -> Any:
    agent = bundle.make_agent(noise)
    agent.begin_task(3)
    agent.begin_episode(explore=False)
    return agent


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"mlsh"}))
def test_a_density_is_that_of_the_policy(tmp_path: Path, bundle_of: Make, kind: str) -> None:
    """Mean and scale are found by acting without noise and with noise 1: an independent way to the same number."""
    bundle = bundle_of(tmp_path / "bundle", kind, "skill")
    seen = see()
    noises = [FixedNoise(0.3) for _ in range(3)]
    agent, mean, above = (begin(bundle, noise) for noise in noises)  # what an episode explores by is drawn, too
    for noise, value in zip(noises, (-0.7, 0.0, 1.0), strict=True):
        noise.value = value
    latent, loc, top = (one.act(seen) for one in (agent, mean, above))
    assert isinstance(agent, TellsDensity)
    found = agent.read_log_prob(seen, latent)
    scale = (top - loc).astype(np.float64)
    wanted = (-0.5 * 0.7**2 - np.log(scale) - 0.5 * math.log(2 * math.pi)).sum(axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert np.isnan(agent.read_log_prob(seen, latent)).all()  # it is known once


def test_sub_policies_have_densities_and_what_nobody_drew_has_none(tmp_path: Path, bundle_of: Make) -> None:
    seen = see()
    agent = begin(bundle_of(tmp_path / "mlsh", "mlsh", "skill"), DensityNoise(np.random.default_rng(0)))
    latent = agent.act(seen)
    changed = latent.copy()
    changed[1] += 0.01  # by logs, or by a person
    found = WrappedAgent(agent).read_log_prob(seen, changed)
    assert np.isfinite(found[[0, 2]]).all()
    assert np.isnan(found[1])


def test_means_and_noise_that_forgets_have_no_density(tmp_path: Path, bundle_of: Make) -> None:
    bundle, seen = bundle_of(tmp_path / "bundle", "varibad", "skill"), see()
    quiet = DensityNoise(np.random.default_rng(0))
    quiet.quiet = True
    for noise in (quiet, RandomNoise(np.random.default_rng(0))):
        agent = begin(bundle, noise)
        assert np.isnan(agent.read_log_prob(seen, agent.act(seen))).all()


def test_a_hand_worked_density(tmp_path: Path, bundle_of: Make) -> None:
    """N(1, 2^2) at 3: -1/2 - ln 2 - ln(2 pi) / 2 = -2.1120857."""
    space = bundle_of(tmp_path / "bundle", "spirl", "skill").make_agent(DensityNoise(np.random.default_rng(0))).space
    noise, wide = FixedNoise(1.0), np.ones((1, space.latent_dim), np.float32)
    drawn = draw_gaussian(Gaussian(wide, 2.0 * wide), noise, greedy=False)
    found = read_log_prob(noise, space, drawn, see(1))
    assert found[0] == pytest.approx(-2.1120857 * space.latent_dim, abs=1e-5)


PLANE = ArraySpec("observation", (Axis("x", "m", -1.0, 1.0),))
NAMED = RobotSpec(
    name="named",
    observation=PLANE,
    action=make_choice_spec(("left", "stay", "right")),
    goal=ArraySpec("goal", (Axis("x", "m", -1.0, 1.0),)),
    control_period=0.1,
    episode_steps=5,
    choices=("left", "stay", "right"),
)


def test_a_named_choice_has_the_probability_of_its_logit() -> None:
    """Logits ln 1, ln 2, ln 5 have probabilities 1/8, 2/8, 5/8; the row that ended was drawn for, too."""
    space = RowSpace(SpaceSettings(name="choice"), NAMED, {})
    noise = DensityNoise(np.random.default_rng(0))
    logits = np.log(np.array([[1.0, 2.0, 5.0], [9.0, 9.0, 9.0], [5.0, 2.0, 1.0]], np.float32))
    choice = draw_choice(logits[:, None], noise, greedy=False)[[0, 2], 0]
    seen = SeenRows(np.zeros((2, 1), np.float32), np.array([0, 2]), np.zeros(2, np.float32))
    found = read_log_prob(noise, space, choice, seen)
    odds = np.array([[1.0, 2.0, 5.0], [5.0, 2.0, 1.0]]) / 8.0
    assert found == pytest.approx(np.log(odds[[0, 1], choice[:, 0].astype(int)]), abs=1e-6)
    assert np.isnan(read_log_prob(noise, space, choice, seen)).all()
    draw_choice(logits[:, None], noise, greedy=True)
    assert np.isnan(read_log_prob(noise, space, choice, seen)).all()
