"""The log density of what an agent chose, for logs that somebody estimates another policy from.

An agent draws from a Gaussian by its noise, and the noise is told of it. A choice that is what was drawn has the
density of that Gaussian. Any other one, such as a mean, or what logs or a person chose, has none that is known: NaN. Of
named choices the noise is told the logits.

Axes: r rows, N draws, O observation, Z latent, C choices.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .distribution import HearsGaussians, HearsLogits
from .networks import Array, Gaussian
from .runtime_agent import Noise, RandomNoise, SeenRows
from .spaces import RowSpace

ROUNDING = 1e-4
"""Difference of a choice and of a draw, in standard deviations, up to which they are the same."""


class DensityNoise(RandomNoise, HearsGaussians, HearsLogits):
    """Noise that remembers what it was last drawn for."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._heard: tuple[Gaussian, Array] | None = None
        self._logits: Array | None = None

    def hear(self, logits: Array) -> None:
        """See `HearsLogits.hear`."""
        self._logits = None if self.quiet else logits

    def hear_gaussian(self, gaussian: Gaussian, drawn: Array) -> None:
        """See `HearsGaussians.hear_gaussian`."""
        self._heard = None if self.quiet else (gaussian, drawn)

    def take(self) -> tuple[Gaussian, Array] | None:
        """The last Gaussian and what was drawn from it, each (..., Z); None where nothing was since the last call."""
        heard, self._heard = self._heard, None
        return heard

    def take_logits(self) -> Array | None:
        """The logits that were last decided between, (N, C); None where nothing was since the last call."""
        logits, self._logits = self._logits, None
        return None if logits is None else logits.reshape(-1, logits.shape[-1])


def read_log_prob(noise: Noise, space: RowSpace, latent: Array, seen: SeenRows) -> NDArray[np.float64]:
    """Log p(z | o) of what was just chosen, nats, shape (r,); NaN where nobody knows.

    A policy may draw z itself, or u of z = prior.loc + prior.scale u; then log p(z) = log p(u) - sum(log prior.scale).

    Args:
        noise: That the choice was drawn with.
        space: What is chosen.
        latent: Chosen, (r, Z).
        seen: In what it was chosen.
    """
    unknown = np.full(len(latent), math.nan)
    if not isinstance(noise, DensityNoise):
        return unknown
    if space.choices:
        logits = noise.take_logits()
        return unknown if logits is None else _find_log_odds(logits, latent, seen)
    heard, observation = noise.take(), seen.observation
    if heard is None:
        return unknown
    (loc, scale), drawn = heard
    loc, scale, drawn = (
        np.broadcast_to(part, drawn.shape).reshape(-1, drawn.shape[-1]) for part in (loc, scale, drawn)
    )
    direct = _find_density(latent, drawn, loc, scale)
    prior = space.prior_of(observation)
    by_prior = _find_density(space.to_choice(latent, observation), drawn, loc, scale)
    by_prior -= np.log(prior.scale.astype(np.float64)).sum(axis=1)
    return np.where(np.isnan(direct), by_prior, direct)


def _find_log_odds(logits: Array, choice: Array, seen: SeenRows) -> NDArray[np.float64]:
    """Log softmax of logits at choices (r, 1); those of rows that ended were drawn, too, as a rule."""
    rows = seen.rows if len(logits) > len(choice) else np.arange(len(choice))
    odds = logits[rows].astype(np.float64)
    odds = odds - odds.max(axis=1, keepdims=True)
    odds -= np.log(np.exp(odds).sum(axis=1, keepdims=True))
    found: NDArray[np.float64] = odds[np.arange(len(choice)), choice[:, 0].astype(np.int64)]
    return found


def _find_density(choice: Array, drawn: Array, loc: Array, scale: Array) -> NDArray[np.float64]:
    """Log density of choices (r, Z) among draws (N, Z) from Gaussians (N, Z); NaN of one that is none of them."""
    away = np.abs(choice[:, None].astype(np.float64) - drawn) / scale
    nearest = away.max(axis=2).argmin(axis=1)
    rows = np.arange(len(choice))
    noise = (drawn[nearest].astype(np.float64) - loc[nearest]) / scale[nearest]
    density = -0.5 * noise**2 - np.log(scale[nearest].astype(np.float64)) - 0.5 * math.log(2.0 * math.pi)
    found: NDArray[np.float64] = density.sum(axis=1)
    return np.where(away[rows, nearest].max(axis=1) <= ROUNDING, found, math.nan)
