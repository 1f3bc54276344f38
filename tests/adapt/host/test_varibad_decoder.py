"""The decoder of variBAD in a bundle: numpy tells as torch does whether a state is rewarded, and only where it can."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.agents.varibad import DRAWS
from supple.adapt.bundle import load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.varibad import export_varibad
from supple.adapt.runtime_agent import PredictsReward, RandomNoise, TellsBelief
from supple.meta.inference.varibad_learner import VaribadLearner
from supple.meta.inference.varibad_networks import Transitions
from supple.meta.testing import PointBatch
from supple.robots.gridnavi import GridNaviBatch
from tests.meta.inference.test_varibad_learner import make_grid, make_points


def load(learner: VaribadLearner, robot: Any, path: Path) -> Any:
    """The numpy agent of the learner's bundle, which believes something of two tasks."""
    exported = export_varibad(learner, greedy=False)
    write_exported(path, exported, robot.spec, Budget(episodes=2), simulator=None, provenance={})
    agent = load_bundle(path).make_agent(RandomNoise(np.random.default_rng(0)))
    agent.begin_task(2)
    state = agent.state()
    rng = np.random.default_rng(1)
    state["mean"] = rng.standard_normal(state["mean"].shape).astype(np.float32)
    state["log_variance"] = rng.uniform(-3.0, 0.0, state["log_variance"].shape).astype(np.float32)
    agent.load_state(state)
    return agent


def decode(learner: VaribadLearner, agent: Any, observation: np.ndarray) -> np.ndarray:
    """The same by torch, (R, V)."""
    assert isinstance(agent, TellsBelief)
    drawn = np.random.default_rng(0).standard_normal((DRAWS, learner.config.vae.latent), np.float32)
    seen = torch.from_numpy(observation)[None]
    found = []
    for loc, scale in zip(*agent.read_belief(), strict=True):
        latent = torch.from_numpy(loc + scale * drawn)[None]
        blank = torch.zeros(1, len(observation))
        parts = {name: blank for name in Transitions._fields} | {"observation": seen, "next_observation": seen}
        with torch.no_grad():
            logits = learner.decoder.predict_reward(latent, Transitions(**parts))[0]  # (S, V)
        found.append(logits.sigmoid().mean(0).numpy())
    return np.stack(found)


@pytest.mark.parametrize("kind", ["cells", "state"])
def test_numpy_decodes_as_torch_does(tmp_path: Path, kind: str) -> None:
    if kind == "cells":
        learner, robot = make_grid(), GridNaviBatch(2, episode_steps=6)
        observation = np.array([[0, 0], [4, 1], [2, 3], [4, 4]], np.float32)
    else:
        learner, robot = make_points(vae={"reward_model": "bernoulli"}), PointBatch(2, episode_steps=5)
        observation = np.random.default_rng(2).normal(0.0, 2.0, (4, 2)).astype(np.float32)
    agent = load(learner, robot, tmp_path / "bundle")
    assert isinstance(agent, PredictsReward)
    chance = agent.predict_rewarded(observation)
    np.testing.assert_allclose(chance, decode(learner, agent, observation), rtol=1e-4)
    assert np.ptp(chance) > 1e-3  # states and tasks differ


@pytest.mark.parametrize("vae", [{}, {"reward_model": "bernoulli", "reward_of": "transition"}])
def test_a_decoder_of_something_else_stays_behind(tmp_path: Path, vae: dict[str, Any]) -> None:
    agent = load(make_points(vae=vae), PointBatch(2, episode_steps=5), tmp_path / "bundle")
    assert not isinstance(agent, PredictsReward)
