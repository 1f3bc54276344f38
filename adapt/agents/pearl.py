"""PEARL in numpy: each transition is a Gaussian factor of the belief about the task; one z is drawn for each episode.

Source and names: Rakelly et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context
Variables", ICML 2019, as in `meta/inference/pearl.py` and `meta/inference/pearl_agent.py`. The belief is kept as sums
over the factors, so that a transition is read once.

Axes: R rows, r rows still running, K decisions, E embedding, O observation, A encoded action, Z latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Weights, compute_mlp, softplus
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..settings import read_settings
from ..spaces import RowSpace, mlp_shapes
from ..transitions import transitions_of, width_of

LEAST_VARIANCE = np.float32(1e-7)
"""Of a factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlSettings:
    """What is particular to PEARL in `bundle.json`.

    Raises:
        BundleError: A width is not positive.
    """

    embedding_dim: int
    """E."""
    encoder_hidden: tuple[int, ...]
    """Widths of the encoder."""
    policy_hidden: tuple[int, ...]
    """Widths of the policy."""
    next_observation: bool
    """The encoder also reads where a decision ended."""
    prior_episodes: int
    """z comes from N(0, I) in so many first episodes of a task."""
    greedy: bool
    """Choose by the mode of the policy; z is drawn all the same."""

    def __post_init__(self) -> None:
        if min(self.embedding_dim, *self.encoder_hidden, *self.policy_hidden) < 1 or self.prior_episodes < 0:
            raise BundleError("bundle.json learner: expected positive widths, got others; export the bundle again")


def read_pearl(contract: BundleContract) -> PearlSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of PEARL.
    """
    return read_settings(PearlSettings, contract.learner, "bundle.json learner")


def pearl_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts, observation, width = read_pearl(contract), contract.observation_dim, width_of(contract)
    features = observation * (2 if facts.next_observation else 1) + width + 1
    outputs = width if contract.space.name == "choice" else 2 * width
    return {
        **mlp_shapes("encoder", (features, *facts.encoder_hidden, 2 * facts.embedding_dim)),
        **mlp_shapes("policy", (observation + facts.embedding_dim, *facts.policy_hidden, outputs)),
    }


class PearlRowAgent:
    """Each row infers its own task."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._weights, self._noise = read_pearl(contract), weights, noise
        self._observation_dim = contract.observation_dim
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief N(0, I) in R rows."""
        self._precision: Array = np.zeros((rows, self._facts.embedding_dim), np.float32)
        self._weighted: Array = self._precision.copy()
        self._embedding: Array = self._precision.copy()
        self._episodes = 0

    def begin_episode(self, *, explore: bool = True) -> None:
        """Draws the z of the episode, from the belief or, in the first episodes, from N(0, I)."""
        noise = self._noise.normal(self._embedding.shape)
        if self._episodes < self._facts.prior_episodes:
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

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        value = np.concatenate([self.space.normalise(seen.observation), self._embedding[seen.rows]], axis=-1)
        output = compute_mlp(self._weights, "policy", value)
        return self.space.to_latent(draw(self.space, output, self._noise, greedy=self._facts.greedy), seen.observation)

    def observe(self, episodes: RowEpisodes) -> None:
        """Multiplies the belief of each row by the factors of the transitions that it just saw."""
        value, valid = transitions_of(self.space, episodes)
        read = value.shape[-1] - 1 - (0 if self._facts.next_observation else self._observation_dim)
        mean, raw = np.split(compute_mlp(self._weights, "encoder", value[..., :read]), 2, axis=-1)
        precision = valid[..., None] / np.maximum(softplus(raw), LEAST_VARIANCE)
        self._precision = self._precision + precision.sum(axis=1, dtype=np.float32)
        self._weighted = self._weighted + (mean * precision).sum(axis=1, dtype=np.float32)
        self._episodes += 1

    def adapt(self) -> None:
        """Nothing: it adapts while it observes."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Belief and z of each row, and the episodes of the task so far."""
        return {
            "precision": self._precision.copy(),
            "weighted": self._weighted.copy(),
            "embedding": self._embedding.copy(),
            "episodes": np.full(len(self._precision), self._episodes, np.int64),
        }

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        belief = (None, self._facts.embedding_dim)
        shapes: dict[str, tuple[int | None, ...]] = {
            "precision": belief,
            "weighted": belief,
            "embedding": belief,
            "episodes": (None,),
        }
        taken = take_state(arrays, shapes, "PEARL agent")
        self._precision, self._weighted, self._embedding = (
            taken[name] for name in ("precision", "weighted", "embedding")
        )
        self._episodes = int(taken["episodes"][0]) if len(taken["episodes"]) else 0


PEARL = Kind(
    summary="It infers a task from the episodes that it saw, and plays each as if one guess of the task were right.",
    weight_shapes=pearl_shapes,
    make_agent=PearlRowAgent,
)
