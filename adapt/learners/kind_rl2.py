"""RL2 and E-RL2 in numpy: a recurrent policy that learns a task by its forward pass alone.

See `meta/memory/rl2_agent.py`, whose sources hold here: x_t = [o_t, a_(t-1), r_(t-1), d_(t-1)] goes through a GRU, and
the policy head reads the state after it.

Axes: R rows, r rows still running, H hidden, A encoded action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..agent_runtime import Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..contract import Weights
from ..facts import read_facts
from ..learner_contract import Kind, LearnerContract
from ..networks import Array
from ..rows.distribution import draw
from ..rows.recurrent_cells import gru_shapes, step_gru
from ..rows.space import RowSpace
from ..rows.transitions import width_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Facts:
    """What is particular to RL2 in `bundle.json`.

    Raises:
        BundleError: The width is not positive.
    """

    hidden: int
    """Width of the GRU, H."""
    greedy: bool
    """Act by the mode."""

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise BundleError(
                f"bundle.json learner.hidden: expected a positive number, got {self.hidden}; export the bundle again"
            )


def read_rl2(contract: LearnerContract) -> Rl2Facts:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of RL2.
    """
    return read_facts(Rl2Facts, contract.learner, "bundle.json learner")


def weight_shapes(contract: LearnerContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    hidden, width = read_rl2(contract).hidden, width_of(contract)
    outputs = width if contract.space.name == "choice" else 2 * width
    return {
        **gru_shapes("gru", contract.observation_dim + width + 2, hidden),
        "policy_head.weight": (outputs, hidden),
        "policy_head.bias": (outputs,),
    }


class Rl2RowAgent:
    """Every row has a hidden state that lasts from `begin_task` to the next, across episodes."""

    def __init__(self, contract: LearnerContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._weights, self._noise = read_rl2(contract), weights, noise
        self._outputs = len(weights["policy_head.bias"])
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: h_0 = 0 in R rows."""
        self._hidden = np.zeros((rows, self._facts.hidden), np.float32)
        self._action = np.zeros((rows, self.space.width), np.float32)
        self._reward = np.zeros(rows, np.float32)
        self._first = np.ones(rows, np.float32)
        self._output = np.zeros((rows, self._outputs), np.float32)

    def begin_episode(self) -> None:
        """The next input of each row says so; the hidden state stays."""
        self._first[:] = 1.0

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        rows = seen.rows
        first = self._first[rows]
        reward = np.where(first > 0.0, self._reward[rows], seen.reward)
        observation = self.space.normalise(seen.observation)
        value = np.concatenate([observation, self._action[rows], reward[:, None], first[:, None]], axis=-1)
        self._hidden[rows] = step_gru(self._weights, "gru", value, self._hidden[rows])
        output = self._hidden[rows] @ self._weights["policy_head.weight"].T + self._weights["policy_head.bias"]
        self._output[rows] = output
        choice = draw(self.space, output, self._noise, greedy=self._facts.greedy)
        self._action[rows] = self.space.encode(choice)
        self._first[rows] = 0.0
        return self.space.to_latent(choice, seen.observation)

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps each row's last reward, which the first input of the next episode shows."""
        last = np.maximum(episodes.length - 1, 0)
        self._reward = episodes.reward[np.arange(len(last)), last]

    def adapt(self) -> None:
        """Nothing: it adapts while it acts."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Hidden states, what the next input shows, and the last output of the head."""
        names = ("hidden", "action", "reward", "first", "output")
        return {name: getattr(self, f"_{name}").copy() for name in names}

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        shapes: dict[str, tuple[int | None, ...]] = {
            "hidden": (None, self._facts.hidden),
            "action": (None, self.space.width),
            "reward": (None,),
            "first": (None,),
            "output": (None, self._outputs),
        }
        for name, value in take_state(arrays, shapes, "RL2 agent").items():
            setattr(self, f"_{name}", value)


RL2 = Kind(
    summary="It learns a task while it acts: the hidden state of its recurrent policy is all that it knows.",
    weight_shapes=weight_shapes,
    make_agent=Rl2RowAgent,
)
