"""PEARL in numpy: each transition is a Gaussian factor of the belief about the task; one z is drawn for each episode.

Source and names: Rakelly et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context
Variables", ICML 2019, as in `meta/inference/pearl.py` and `meta/inference/pearl_agent.py`. The belief is kept as sums
over the factors, so that a transition is read once.

Axes: R rows, r rows still running, K decisions, E embedding, O observation, A encoded action, Z latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...bounds import CountFromZero, Layers, Width
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Gaussian, Shapes, compute_mlp, mlp_shapes, softplus
from ..runtime_agent import RowEpisodes, SeenRows, TellsBelief
from ..transitions import transitions_of
from .row_agent import RowAgent

LEAST_VARIANCE = np.float32(1e-7)
"""Of a factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlSettings:
    """What is particular to PEARL in `bundle.json`."""

    embedding_dim: Width
    """E."""
    encoder_hidden: Layers
    """Widths of the encoder."""
    policy_hidden: Layers
    """Widths of the policy."""
    next_observation: bool
    """The encoder also reads where a decision ended."""
    prior_episodes: CountFromZero
    """z comes from N(0, I) in so many first episodes of a task."""
    greedy: bool
    """Choose by the mode of the policy; z is drawn all the same."""


def pearl_shapes(contract: BundleContract, settings: PearlSettings) -> Shapes:
    """See `Kind.shapes`."""
    observation = contract.observation_dim
    features = observation * (2 if settings.next_observation else 1) + contract.choice_width + 1
    inputs = observation + settings.embedding_dim
    return {
        **mlp_shapes("encoder", (features, *settings.encoder_hidden, 2 * settings.embedding_dim)),
        **mlp_shapes("policy", (inputs, *settings.policy_hidden, contract.policy_width)),
    }


class PearlRowAgent(RowAgent[PearlSettings], TellsBelief):
    """Each row infers its own task."""

    STATE = ("_precision", "_weighted", "_embedding", "_episodes")

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief N(0, I) in R rows."""
        super().begin_task(rows)
        self._precision: Array = np.zeros((rows, self._settings.embedding_dim), np.float32)
        self._weighted: Array = self._precision.copy()
        self._embedding: Array = self._precision.copy()
        self._episodes = 0

    def begin_episode(self, *, explore: bool = True) -> None:
        """Draws the z of the episode, from the belief or, in the first episodes, from N(0, I)."""
        noise = self._noise.normal(self._embedding.shape)
        if self._episodes < self._settings.prior_episodes:
            self._embedding = noise
            return
        scale: Array = np.sqrt(self._known_precision)
        self._embedding = self.mean + noise / scale

    @property
    def _known_precision(self) -> Array:
        precision: Array = np.where(self._precision > 0.0, self._precision, np.float32(1.0))
        return precision

    @property
    def mean(self) -> Array:
        """Of the belief of each row, (R, E); 0 where nothing was seen."""
        mean: Array = self._weighted / self._known_precision
        return mean

    def read_belief(self) -> Gaussian:
        """See `TellsBelief.read_belief`."""
        return Gaussian(self.mean, (1.0 / np.sqrt(self._known_precision)).astype(np.float32))

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        value = np.concatenate([self.space.normalise(seen.observation), self._embedding[seen.rows]], axis=-1)
        output = compute_mlp(self._weights, "policy", value)
        return self.space.to_latent(
            draw(self.space, output, self._noise, greedy=self._settings.greedy), seen.observation
        )

    def observe(self, episodes: RowEpisodes) -> None:
        """Multiplies the belief of each row by the factors of the transitions that it just saw."""
        value, valid = transitions_of(self.space, episodes)
        read = value.shape[-1] - 1 - (0 if self._settings.next_observation else self._observation_dim)
        mean, raw = np.split(compute_mlp(self._weights, "encoder", value[..., :read]), 2, axis=-1)
        precision = valid[..., None] / np.maximum(softplus(raw), LEAST_VARIANCE)
        self._precision = self._precision + precision.sum(axis=1, dtype=np.float32)
        self._weighted = self._weighted + (mean * precision).sum(axis=1, dtype=np.float32)
        self._episodes += 1


PEARL = Kind(
    summary="It infers a task from the episodes that it saw, and plays each as if one guess of the task were right.",
    settings=PearlSettings,
    shapes=pearl_shapes,
    agent=PearlRowAgent,
)
