"""How the skills of a bundle fit a log: reconstruction, likelihood under the prior and the policy, and what they say.

Each episode is cut into windows of H steps, and each window has a skill z:

- of the encoder q(z | window), where the skill model that the bundle was made with is there (`--skills`, or the stage
  `extract` beside the bundle). It is checked that its decoder is the bundle's.
- else the nearest one: that whose commands come closest to the window's, found by search (`adapt.takeover.find_latent`)
  in some windows of each episode.

Axes: W windows, H steps of a window, O observation, A action, Z skill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle import Bundle
from ...adapt.spaces import RowSpace
from ...adapt.takeover import find_latent
from ...datasets.episode import Episode
from ...errors import ConfigError
from ...robots.robot import Float
from ..settings.replay import OpenLoopConfig
from .open_loop import force_episode, gaussian_nll
from .section import Replay

if TYPE_CHECKING:
    from ...skills.model import SkillModel

PART = "skills"
SALT = 2
SAME = 1e-5
"""Largest difference of a decoder's weights from the bundle's."""
Record = Mapping[str, Any]


def load_encoder(bundle: Bundle, folder: Path) -> SkillModel:
    """The skill model of a folder of `extract`, if it is the one that the bundle was made with.

    Raises:
        ConfigError: It is another one.
        RunError: It is damaged, or none.
    """
    from ...skills.checkpoint import load_skill_model

    model = load_skill_model(folder)
    weights, contract = bundle.weights, bundle.contract
    sizes = (model.observation_dim, model.action_dim, model.config.skill_horizon)
    same = sizes == (contract.observation_dim, contract.action_dim, contract.space.horizon)
    for index, layer in enumerate(model.make_robot_decoder().layers if same else ()):
        for part in ("weight", "bias"):
            mine, theirs = weights.get(f"space.decoder.layers.{index}.{part}"), getattr(layer, part, None)
            if mine is None or theirs is None or mine.shape != tuple(theirs.shape):
                same = False
            else:
                same = same and float(np.abs(mine - theirs.detach().numpy()).max()) <= SAME
    if not same:
        raise ConfigError(
            f"--skills {folder}: expected the skills of the bundle, got others; name the folder of extract that the "
            "bundle was made with, or leave it out"
        )
    return model


def measure_skills(replay: Replay, config: OpenLoopConfig, encoder: SkillModel | None) -> list[dict[str, Any]]:
    """The record of every episode; one that is shorter than a skill, or whose skills overflow, has no windows."""
    compute: Callable[[int, Episode], dict[str, Any]]
    if encoder is None:

        def compute(number: int, episode: Episode) -> dict[str, Any]:
            return search_episode(replay, config, number, episode)
    else:

        def compute(number: int, episode: Episode) -> dict[str, Any]:
            return encode_episode(replay, encoder, number, episode)

    def compute_finite(number: int, episode: Episode) -> dict[str, Any]:
        record = compute(number, episode)
        numbers = [one for value in record.values() for one in (value if isinstance(value, list) else [value])]
        if all(one is None or math.isfinite(one) for one in numbers):
            return record
        return {"windows": 0, "overflowing": record["windows"]}

    return replay.map_episodes(PART, compute_finite)


def cut(replay: Replay, number: int, episode: Episode) -> tuple[Float, Float, NDArray[np.int64]]:
    """Windows of a skill with valid steps alone: observations (W, H, O), actions (W, H, A), and their numbers, (W,)."""
    observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
    horizon = replay.bundle.contract.space.horizon
    count = len(action) // horizon
    valid = replay.store.load_valid(number)[: count * horizon].reshape(count, horizon).all(axis=1)
    seen, told = (array[: count * horizon].reshape(count, horizon, array.shape[1]) for array in (observation, action))
    return seen[valid], told[valid], np.flatnonzero(valid)


def encode_episode(replay: Replay, model: SkillModel, number: int, episode: Episode) -> dict[str, Any]:
    """The metrics of `skills.evaluate` on the windows of an episode, and the policy's surprise at their skills."""
    import torch

    from ...skills.evaluate import evaluate_windows

    observation, action, places = cut(replay, number, episode)
    if not len(action):
        return {"windows": 0}
    names = replay.spec.action.names
    generator = torch.Generator().manual_seed(int(replay.make_rng(SALT, number).integers(2**31)))
    with torch.no_grad():
        windows = torch.from_numpy(observation.copy()), torch.from_numpy(action.copy())
        metrics = evaluate_windows(model, *windows, generator, names)
        posterior, prior = model.encode(*windows), model.prior_of(windows[0][:, 0])
    loc, scale = (part.numpy().astype(np.float64) for part in posterior)
    policy = find_policy(replay, number, episode, places)
    return {
        "windows": len(action),
        "reconstruction": [metrics[f"reconstruction_rmse/{name}"] ** 2 for name in names],
        "open_reconstruction": [metrics[f"open_reconstruction_rmse/{name}"] ** 2 for name in names],
        "kl_to_prior": metrics["kl_to_prior"],
        "prior_nll": cross_entropy(loc, scale, prior.loc.numpy(), prior.scale.numpy()),
        "policy_nll": None if policy is None else cross_entropy(loc, scale, *policy),
        "sum": loc.sum(axis=0).tolist(),
        "sum_of_squares": np.square(loc).sum(axis=0).tolist(),
    }


def search_episode(replay: Replay, config: OpenLoopConfig, number: int, episode: Episode) -> dict[str, Any]:
    """Reconstruction and likelihood of the nearest skill of some windows of an episode, evenly spread."""
    contract = replay.bundle.contract
    observation, action, places = cut(replay, number, episode)
    count = min(len(action), config.searched)
    if not count:
        return {"windows": 0}
    space = RowSpace(contract.space, replay.spec, replay.bundle.weights)
    chosen = np.unique(np.linspace(0, len(action) - 1, count).round().astype(np.int64))
    skills = np.stack([find_latent(space, observation[index], action[index]) for index in chosen])
    decoded = np.stack(
        [
            space.hold(np.repeat(skill[None], len(seen), axis=0))(seen)
            for skill, seen in zip(skills, observation[chosen], strict=True)
        ]
    )
    prior = space.prior_of(observation[chosen, 0])
    policy = find_policy(replay, number, episode, places[chosen])
    return {
        "windows": len(chosen),
        "reconstruction": np.square(decoded.astype(np.float64) - action[chosen]).mean(axis=(0, 1)).tolist(),
        "prior_nll": cross_entropy(skills, np.zeros(1), prior.loc, prior.scale),
        "policy_nll": None if policy is None else cross_entropy(skills, np.zeros(1), *policy),
    }


def find_policy(
    replay: Replay, number: int, episode: Episode, windows: NDArray[np.int64]
) -> tuple[Float, Float] | None:
    """Mean and standard deviation of the policy at the begin of windows, (W, Z); None where it draws nothing."""
    forced = force_episode(replay, 0, number, episode)
    loc, scale = forced.loc[windows], forced.scale[windows]
    return (loc, scale) if (scale > 0.0).all() and np.isfinite(loc).all() else None


def cross_entropy(
    loc: NDArray[np.floating], scale: NDArray[np.floating], other_loc: Float, other_scale: Float
) -> float:
    """Mean over windows of E_q[-log p(z)], nats: -log p(loc) + sum of scale^2 / (2 other_scale^2).

    Args:
        loc: Mean of q, (W, Z).
        scale: Its standard deviation, (W, Z); 0 where z is known.
        other_loc: Mean of p, (W, Z).
        other_scale: Its standard deviation, (W, Z).
    """
    known = gaussian_nll(loc, other_loc, other_scale)
    return float((known + 0.5 * np.square(scale / other_scale.astype(np.float64)).sum(axis=-1)).mean())
