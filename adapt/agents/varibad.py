"""variBAD in numpy: a recurrent encoder moves a belief about the task, and a policy without memory reads it.

Source and names: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR
2020, as in `meta/inference/varibad_agent.py` and `meta/inference/varibad_networks.py`.

Axes: R rows, r rows still running, H hidden, M latent of a task, O observation, Z latent of an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Weights
from ..policies import run_mlp
from ..recurrent_cells import gru_shapes, step_gru
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..settings import read_settings
from ..spaces import RowSpace, mlp_shapes
from ..transitions import width_of

LARGEST_INPUT, LEAST_VARIANCE = np.float32(10.0), np.float32(1e-6)
"""Scaled inputs of the policy are clamped to the first; the scale's variance is at least the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadSettings:
    """What is particular to variBAD in `bundle.json`.

    Raises:
        BundleError: A width is not positive.
    """

    hidden: int
    """Width of the encoder's GRU, H."""
    latent: int
    """M."""
    embedding: int
    """Width of each embedding of action, reward and observation."""
    policy_hidden: tuple[int, ...]
    """Widths of the policy."""
    boundaries: bool
    """The policy is told where an episode begins."""
    greedy: bool
    """Act by the mode."""

    def __post_init__(self) -> None:
        if min(self.hidden, self.latent, self.embedding, *self.policy_hidden) < 1:
            raise BundleError("bundle.json learner: expected positive widths, got others; export the bundle again")


def read_varibad(contract: BundleContract) -> VaribadSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of variBAD.
    """
    return read_settings(VaribadSettings, contract.learner, "bundle.json learner")


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts, observation, width = read_varibad(contract), contract.observation_dim, width_of(contract)
    read = observation + 2 * facts.latent
    outputs = width if contract.space.name == "choice" else 2 * width
    shapes: dict[str, tuple[int, ...]] = {
        **gru_shapes("encoder.gru", 3 * facts.embedding, facts.hidden),
        "encoder.head.weight": (2 * facts.latent, facts.hidden),
        "encoder.head.bias": (2 * facts.latent,),
        "input_scale.mean": (read,),
        "input_scale.variance": (read,),
    }
    for name, inputs in (("action", width), ("reward", 1), ("observation", observation)):
        shapes |= {
            f"encoder.embed_{name}.weight": (facts.embedding, inputs),
            f"encoder.embed_{name}.bias": (facts.embedding,),
        }
    return shapes | mlp_shapes("policy", (read + facts.boundaries, *facts.policy_hidden, outputs))


class VaribadRowAgent:
    """Every row has a belief that lasts from `begin_task` to the next, across episodes."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._weights, self._noise = read_varibad(contract), weights, noise
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief before anything was seen, in R rows."""
        self._hidden = np.zeros((rows, self._facts.hidden), np.float32)
        self._mean, self._log_variance = self._belief_of(self._hidden)
        self._choice = np.zeros((rows, self.space.latent_dim), np.float32)
        self._first = np.ones(rows, np.float32)

    def begin_episode(self, *, explore: bool = True) -> None:
        """The next decision of each row is the first of an episode; the belief stays."""
        self._first[:] = 1.0

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        rows = seen.rows
        if not self._first[rows].any():
            self._consume(rows, seen.reward, seen.observation)
        parts = (self.space.normalise(seen.observation), self._mean[rows], self._log_variance[rows])
        value = np.concatenate(parts, axis=-1) - self._weights["input_scale.mean"]
        spread = np.sqrt(np.maximum(self._weights["input_scale.variance"], LEAST_VARIANCE))
        value = np.clip(value / spread, -LARGEST_INPUT, LARGEST_INPUT)
        if self._facts.boundaries:
            value = np.concatenate([value, self._first[rows][:, None]], axis=-1)
        output = run_mlp(self._weights, "policy", value, "tanh")
        choice = draw(self.space, output, self._noise, greedy=self._facts.greedy)
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
        weight, bias = (self._weights[f"encoder.embed_{name}.{part}"] for part in ("weight", "bias"))
        embedded: Array = value @ weight.T + bias
        return embedded

    def _belief_of(self, hidden: Array) -> tuple[Array, Array]:
        output = hidden @ self._weights["encoder.head.weight"].T + self._weights["encoder.head.bias"]
        mean, log_variance = np.split(output, 2, axis=-1)
        return mean.copy(), log_variance.copy()

    def adapt(self) -> None:
        """Nothing: it adapts while it acts."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Hidden states, beliefs, the last choices, and where an episode begins."""
        names = ("hidden", "mean", "log_variance", "choice", "first")
        return {name: getattr(self, f"_{name}").copy() for name in names}

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        shapes: dict[str, tuple[int | None, ...]] = {
            "hidden": (None, self._facts.hidden),
            "mean": (None, self._facts.latent),
            "log_variance": (None, self._facts.latent),
            "choice": (None, self.space.latent_dim),
            "first": (None,),
        }
        for name, value in take_state(arrays, shapes, "variBAD agent").items():
            setattr(self, f"_{name}", value)


VARIBAD = Kind(
    summary="It learns a task while it acts: an encoder moves a belief about the task, which its policy reads.",
    weight_shapes=weight_shapes,
    make_agent=VaribadRowAgent,
)
