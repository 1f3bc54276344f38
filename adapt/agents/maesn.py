"""MAESN in numpy: one z for each episode, and a task is learned by moving the distribution of z, in closed form.

Source and names: Gupta et al., "Meta-Reinforcement Learning of Structured Exploration Strategies", NeurIPS 2018, as in
`meta/gradient/maesn.py`. A step moves (mu, log sigma) by learned step sizes along the score of the z that were played,
weighted by one advantage for each episode: a few numbers, and no autograd.

Axes: R rows, r rows still running, E episodes, T decisions, L axes of z, O observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bounds import Width
from ..advantage import compute_advantage, standardise
from ..contract import BundleContract, Kind
from ..networks import Array, Gaussian, Shapes, Weights
from ..policies import choose_rows, policy_shapes, spread_rows
from ..policy_settings import ActingSettings
from ..runtime_agent import (
    KEPT,
    Arrays,
    Noise,
    RowEpisodes,
    SeenRows,
    TellsBelief,
    load_episodes,
    save_episodes,
    take_state,
)
from ..spaces import split_prefix
from .row_agent import RowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class MaesnSettings(ActingSettings):
    """What is particular to MAESN in `bundle.json`; the fields are those of `meta/gradient/maesn.py`.

    The policy reads [observation, z].
    """

    latent_dim: Width
    """L."""
    discount: float
    trace: float
    later_scale: float
    """The step sizes are multiplied by this after every step but the first."""
    natural: bool
    """Steps go along the natural gradient."""


def weight_shapes(contract: BundleContract, settings: MaesnSettings) -> Shapes:
    """See `Kind.shapes`."""
    steps = {f"rule.log_step.{name}": (settings.latent_dim,) for name in ("mean", "log_scale")}
    return {**policy_shapes(contract, settings.policy, contract.observation_dim + settings.latent_dim), **steps}


class MaesnRowAgent(RowAgent[MaesnSettings], TellsBelief):
    """Every row has a distribution of z of its own, N(0, I) at first."""

    STATE = ("_mean", "_log_scale", "_z", "_output", "_steps")

    def __init__(self, contract: BundleContract, settings: MaesnSettings, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self._theta: dict[str, Array] = split_prefix(weights, "policy.")
        self._step_size = {name: np.exp(weights[f"rule.log_step.{name}"]) for name in ("mean", "log_scale")}
        super().__init__(contract, settings, weights, noise)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: z ~ N(0, I) in R rows."""
        super().begin_task(rows)
        self._params = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in self._theta.items()}
        self._mean: Array = np.zeros((rows, self._settings.latent_dim), np.float32)
        self._log_scale: Array = self._mean.copy()
        self._z: Array = self._mean.copy()
        self._seen: list[RowEpisodes] = []
        self._seen_z: list[Array] = []
        self._steps = 0
        bias = self._theta[f"layers.{len(self._settings.hidden)}.bias"]
        self._output = np.zeros((rows, len(bias)), np.float32)

    def begin_episode(self, *, explore: bool = True) -> None:
        """Draws the z of each row's next episode."""
        noise = self._noise.normal((len(self._mean), 1, self._settings.latent_dim))[:, 0]
        scale: Array = np.exp(self._log_scale)
        self._z = self._mean + scale * noise

    def read_belief(self) -> Gaussian:
        """See `TellsBelief.read_belief`: the distribution of z."""
        scale: Array = np.exp(self._log_scale)
        return Gaussian(self._mean, scale)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        inputs = np.concatenate([spread_rows(self.space, seen, len(self._z)), self._z], axis=-1)
        self._output, latent = choose_rows(self.space, self._settings.policy, self._params, inputs, seen, self._noise)
        return latent

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps the episodes and their z for the next `adapt`."""
        self._seen.append(episodes)
        self._seen_z.append(self._z)

    def adapt(self) -> None:
        """One latent step in each row from what was observed since the last; none where nothing was.

        With e = (z - mu) / sigma, mu moves by alpha mean(A e / sigma) and log sigma by alpha mean(A (e^2 - 1)); along
        the natural gradient by sigma^2 and by 1 / 2 of that.
        """
        if not self._seen:
            return
        observation, reward, length = (
            np.stack([getattr(episodes, name) for episodes in self._seen], axis=1)
            for name in ("observation", "reward", "length")
        )
        scaled = self.space.normalise(observation[..., :-1, :])
        advantage, _ = compute_advantage(scaled, reward, length, self._settings.discount, self._settings.trace)
        first = advantage[..., 0]
        weight = standardise(first, np.ones(first.shape, np.bool_))[..., None]
        scale = np.exp(self._log_scale)[:, None]
        distance = (np.stack(self._seen_z, axis=1) - self._mean[:, None]) / scale
        later = np.float32(self._settings.later_scale ** max(self._steps - 1, 0))
        towards = (weight * distance / scale).mean(axis=1)
        spread = (weight * (np.square(distance) - np.float32(1.0))).mean(axis=1)
        if self._settings.natural:
            towards, spread = np.exp(np.float32(2.0) * self._log_scale) * towards, np.float32(0.5) * spread
        self._mean = self._mean + later * self._step_size["mean"] * towards
        self._log_scale = self._log_scale + later * self._step_size["log_scale"] * spread
        self._seen, self._seen_z, self._steps = [], [], self._steps + 1

    def state(self) -> dict[str, NDArray[Any]]:
        """Distributions of z, the present z, the steps taken, and the episodes not yet learned from."""
        kept = {f"{KEPT}{index}.z": z.copy() for index, z in enumerate(self._seen_z)}
        return super().state() | save_episodes(self._seen) | kept

    def _load(self, arrays: Arrays) -> None:
        super()._load(arrays)
        count = len({name.split(".")[1] for name in arrays if name.startswith(KEPT)})
        self._seen = load_episodes(arrays, count, self._rows, self._where)
        shapes = {f"{KEPT}{index}.z": self._z.shape for index in range(count)}
        self._seen_z = list(take_state(arrays, shapes, self._where).values())


MAESN = Kind(
    summary="It explores by one z for each episode, and learns a task by moving the distribution of z, in closed form.",
    settings=MaesnSettings,
    shapes=weight_shapes,
    agent=MaesnRowAgent,
)
