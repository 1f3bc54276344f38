"""variBAD in numpy: a recurrent encoder moves a belief about the task, and a policy without memory reads it.

Source and names: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR
2020, as in `meta/inference/varibad_agent.py` and `meta/inference/varibad_networks.py`.

A bundle may hold the decoder of variBAD that tells whether a state is rewarded. Nothing acts by it: it shows what the
belief is about, see `PredictsReward`.

Axes: R rows, r rows still running, H hidden, M latent of a task, S draws of it, V states, O observation, Z latent of an
action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...bounds import Layers, Width
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Gaussian, Shapes, Weights, compute_linear, compute_mlp, linear_shapes, mlp_shapes, sigmoid
from ..recurrent_cells import gru_shapes, step_gru
from ..runtime_agent import Noise, PredictsReward, RowEpisodes, SeenRows, TellsBelief
from .row_agent import RowAgent

LARGEST_INPUT, LEAST_VARIANCE = np.float32(10.0), np.float32(1e-6)
"""Scaled inputs of the policy are clamped to the first; the scale's variance is at least the second."""
DRAWS = 64
"""S: draws of the belief over which a predicted reward is averaged; they are always the same."""


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
    decoder: Literal["none", "state", "cells"]
    """What tells whether a state is rewarded: nothing, a network that reads the state, or an output for each cell of an
    observation that takes few whole values."""
    decoder_hidden: Layers
    """Widths of the decoder; none without one."""


def count_cells(contract: BundleContract) -> list[int]:
    """Values that each axis of an observation of whole numbers takes."""
    return [int(axis.high - axis.low) + 1 for axis in contract.robot.observation.axes]


def decoder_shapes(contract: BundleContract, settings: VaribadSettings) -> Shapes:
    """Shape of every weight of the decoder by name."""
    widths = settings.decoder_hidden
    if settings.decoder == "none" or not widths:
        return {}
    if settings.decoder == "cells":
        return mlp_shapes("decoder", (settings.latent, *widths, math.prod(count_cells(contract))))
    return {
        **linear_shapes("decoder.embed", contract.observation_dim, settings.embedding),
        **linear_shapes("decoder.from_transition", settings.embedding, widths[0]),
        **linear_shapes("decoder.from_latent", settings.latent, widths[0]),
        **mlp_shapes("decoder.rest", (*widths, 1)),
    }


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
        **decoder_shapes(contract, settings),
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


class DecodingVaribadRowAgent(VaribadRowAgent, PredictsReward):
    """One whose bundle holds the decoder of rewards."""

    def __init__(self, contract: BundleContract, settings: VaribadSettings, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        super().__init__(contract, settings, weights, noise)
        self._cells = count_cells(contract) if settings.decoder == "cells" else []
        self._low: Array = contract.robot.observation.low

    def predict_rewarded(self, observation: Array) -> Array:
        """See `PredictsReward.predict_rewarded`: the mean of sigmoid(decoder) over draws of the belief."""
        belief = self.read_belief()
        drawn = np.random.default_rng(0).standard_normal((DRAWS, self._settings.latent), np.float32)
        rows = [self._decode(loc + scale * drawn, observation) for loc, scale in zip(*belief, strict=True)]
        return np.stack([sigmoid(logits).mean(axis=0) for logits in rows]).astype(np.float32)

    def _decode(self, latent: Array, observation: Array) -> Array:
        """Logits that states (V, O) are rewarded in tasks (S, M), shape (S, V)."""
        if self._cells:
            whole = np.rint(observation - self._low).astype(np.int64).T
            cell = np.ravel_multi_index(tuple(whole), self._cells, mode="clip")
            table: Array = compute_mlp(self._weights, "decoder", latent)
            return table[:, cell]
        seen = np.maximum(compute_linear(self._weights, "decoder.embed", self.space.normalise(observation)), 0.0)
        first = compute_linear(self._weights, "decoder.from_transition", seen)[None]
        first = first + compute_linear(self._weights, "decoder.from_latent", latent)[:, None]
        flat = np.maximum(first, np.float32(0.0)).reshape(-1, first.shape[-1])
        logits: Array = compute_mlp(self._weights, "decoder.rest", flat).reshape(first.shape[:2])
        return logits


def make_agent(contract: BundleContract, settings: VaribadSettings, weights: Weights, noise: Noise) -> VaribadRowAgent:
    """See `Kind.agent`."""
    kind = DecodingVaribadRowAgent if decoder_shapes(contract, settings) else VaribadRowAgent
    return kind(contract, settings, weights, noise)


VARIBAD = Kind(
    summary="It learns a task while it acts: an encoder moves a belief about the task, which its policy reads.",
    settings=VaribadSettings,
    shapes=weight_shapes,
    agent=make_agent,
    older={"decoder": "none", "decoder_hidden": []},
)
