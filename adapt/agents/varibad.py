"""variBAD in numpy: a recurrent encoder moves a belief about the task, and a policy without memory reads it.

Source and names: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR
2020, as in `meta/inference/varibad_agent.py` and `meta/inference/varibad_networks.py`.

Axes: R rows, r rows still running, H hidden, M latent of a task, O observation, Z latent of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bounds import Layers, Width
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Gaussian, Shapes, compute_linear, compute_mlp, linear_shapes, mlp_shapes
from ..recurrent_cells import gru_shapes, step_gru
from ..runtime_agent import RowEpisodes, SeenRows, TellsBelief
from .row_agent import RowAgent

LARGEST_INPUT, LEAST_VARIANCE = np.float32(10.0), np.float32(1e-6)
"""Scaled inputs of the policy are clamped to the first; the scale's variance is at least the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadSettings:
    """What is particular to variBAD in `bundle.json`."""

    hidden: Width
    """Width of the encoder's GRU, H."""
    latent: Width
    """M."""
    embedding: Width
    """Width of each embedding of action, reward and observation."""
    policy_hidden: Layers
    """Widths of the policy."""
    boundaries: bool
    """The policy is told where an episode begins."""
    greedy: bool
    """Act by the mode."""


def weight_shapes(contract: BundleContract, settings: VaribadSettings) -> Shapes:
    """See `Kind.shapes`."""
    observation, embedding = contract.observation_dim, settings.embedding
    read = observation + 2 * settings.latent
    return {
        **linear_shapes("encoder.embed_action", contract.choice_width, embedding),
        **linear_shapes("encoder.embed_reward", 1, embedding),
        **linear_shapes("encoder.embed_observation", observation, embedding),
        **gru_shapes("encoder.gru", 3 * embedding, settings.hidden),
        **linear_shapes("encoder.head", settings.hidden, 2 * settings.latent),
        "input_scale.mean": (read,),
        "input_scale.variance": (read,),
        **mlp_shapes("policy", (read + settings.boundaries, *settings.policy_hidden, contract.policy_width)),
    }


class VaribadRowAgent(RowAgent[VaribadSettings], TellsBelief):
    """Every row has a belief that lasts from `begin_task` to the next, across episodes."""

    STATE = ("_hidden", "_mean", "_log_variance", "_choice", "_first")

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief before anything was seen, in R rows."""
        super().begin_task(rows)
        self._hidden = np.zeros((rows, self._settings.hidden), np.float32)
        self._mean, self._log_variance = self._belief_of(self._hidden)
        self._choice = np.zeros((rows, self.space.latent_dim), np.float32)
        self._first = np.ones(rows, np.float32)

    def begin_episode(self, *, explore: bool = True) -> None:
        """The next decision of each row is the first of an episode; the belief stays."""
        self._first[:] = 1.0

    def read_belief(self) -> Gaussian:
        """See `TellsBelief.read_belief`."""
        scale: Array = np.exp(np.float32(0.5) * self._log_variance)
        return Gaussian(self._mean, scale)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        rows = seen.rows
        if not self._first[rows].any():
            self._consume(rows, seen.reward, seen.observation)
        parts = (self.space.normalise(seen.observation), self._mean[rows], self._log_variance[rows])
        value = np.concatenate(parts, axis=-1) - self._weights["input_scale.mean"]
        spread = np.sqrt(np.maximum(self._weights["input_scale.variance"], LEAST_VARIANCE))
        value = np.clip(value / spread, -LARGEST_INPUT, LARGEST_INPUT)
        if self._settings.boundaries:
            value = np.concatenate([value, self._first[rows][:, None]], axis=-1)
        output = compute_mlp(self._weights, "policy", value, "tanh")
        choice = draw(self.space, output, self._noise, greedy=self._settings.greedy)
        self._choice[rows] = choice
        self._first[rows] = 0.0
        return self.space.to_latent(choice, seen.observation)

    def observe(self, episodes: RowEpisodes) -> None:
        """Takes in each row's last transition, with the state in which its episode ended."""
        rows = np.arange(len(episodes.length))
        reward = episodes.reward[rows, np.maximum(episodes.length - 1, 0)]
        self._consume(rows, reward, episodes.observation[rows, episodes.length])

    def _consume(self, rows: NDArray[np.int64], reward: Array, next_observation: Array) -> None:
        """q_(t+1) of q_t and the transition of the last choice."""
        parts = (
            self._embed("action", self.space.encode(self._choice[rows])),
            self._embed("reward", reward[:, None]),
            self._embed("observation", self.space.normalise(next_observation)),
        )
        value = np.maximum(np.concatenate(parts, axis=-1), np.float32(0.0))
        hidden = step_gru(self._weights, "encoder.gru", value, self._hidden[rows])
        self._hidden[rows] = hidden
        self._mean[rows], self._log_variance[rows] = self._belief_of(hidden)

    def _embed(self, name: str, value: Array) -> Array:
        return compute_linear(self._weights, f"encoder.embed_{name}", value)

    def _belief_of(self, hidden: Array) -> tuple[Array, Array]:
        mean, log_variance = np.split(compute_linear(self._weights, "encoder.head", hidden), 2, axis=-1)
        return mean.copy(), log_variance.copy()


VARIBAD = Kind(
    summary="It learns a task while it acts: an encoder moves a belief about the task, which its policy reads.",
    settings=VaribadSettings,
    shapes=weight_shapes,
    agent=VaribadRowAgent,
)
