"""RL2 and E-RL2 in numpy: a recurrent policy that learns a task by its forward pass alone.

See `meta/memory/rl2_agent.py`, whose sources hold here: x_t = [o_t, a_(t-1), r_(t-1), d_(t-1)] goes through a GRU, and
the policy head reads the state after it, and what is found in the slots where there are some.

Axes: R rows, r rows still running, H hidden, K slots, V content, A encoded action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Weights, compute_mlp
from ..recurrent_cells import gru_shapes, slot_shapes, step_gru, step_slots
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..settings import read_settings
from ..spaces import RowSpace, mlp_shapes
from ..transitions import width_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Settings:
    """What is particular to RL2 in `bundle.json`.

    Raises:
        BundleError: A width is not positive.
    """

    hidden: int
    """Width of the GRU, H."""
    greedy: bool
    """Act by the mode."""
    slots: int
    """Slots beside the GRU, K; 0: none."""
    slot_content: int
    """Numbers in a slot, V."""

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("slots", 0), ("slot_content", 1)):
            if getattr(self, name) < least:
                expected, got = "a positive number" if least else "0 or more", getattr(self, name)
                raise BundleError(
                    f"bundle.json learner.{name}: expected {expected}, got {got}; export the bundle again"
                )

    @property
    def memory(self) -> int:
        """Numbers that a row remembers."""
        return self.hidden + self.slots * (1 + self.slot_content)


BEFORE_SLOTS = {"slots": 0, "slot_content": 1}
"""What bundles that do not name these fields have."""


def read_rl2(contract: BundleContract) -> Rl2Settings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of RL2.
    """
    return read_settings(Rl2Settings, {**BEFORE_SLOTS, **contract.learner}, "bundle.json learner")


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts, width = read_rl2(contract), width_of(contract)
    hidden, inputs = facts.hidden, contract.observation_dim + width + 2
    outputs = width if contract.space.name == "choice" else 2 * width
    shapes = gru_shapes("gru", inputs, hidden)
    if not facts.slots:
        return shapes | {"policy_head.weight": (outputs, hidden), "policy_head.bias": (outputs,)}
    shapes |= slot_shapes("slots", inputs, hidden, facts.slots, facts.slot_content)
    return shapes | mlp_shapes("policy_head", (hidden + facts.slot_content, hidden, outputs))


class Rl2RowAgent:
    """Every row has a memory that lasts from `begin_task` to the next, across episodes."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._weights, self._noise = read_rl2(contract), weights, noise
        self._outputs = self.space.width * (1 if contract.space.name == "choice" else 2)
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: a memory of zeros in R rows."""
        self._hidden = np.zeros((rows, self._facts.memory), np.float32)
        self._action = np.zeros((rows, self.space.width), np.float32)
        self._reward = np.zeros(rows, np.float32)
        self._first = np.ones(rows, np.float32)
        self._output = np.zeros((rows, self._outputs), np.float32)

    def begin_episode(self, *, explore: bool = True) -> None:
        """The next input of each row says so; the memory stays."""
        self._first[:] = 1.0

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        rows = seen.rows
        first = self._first[rows]
        reward = np.where(first > 0.0, self._reward[rows], seen.reward)
        observation = self.space.normalise(seen.observation)
        value = np.concatenate([observation, self._action[rows], reward[:, None], first[:, None]], axis=-1)
        self._hidden[rows], output = self._advance(value, self._hidden[rows])
        self._output[rows] = output
        choice = draw(self.space, output, self._noise, greedy=self._facts.greedy)
        self._action[rows] = self.space.encode(choice)
        self._first[rows] = 0.0
        return self.space.to_latent(choice, seen.observation)

    def _advance(self, value: Array, memory: Array) -> tuple[Array, Array]:
        """The memory after x_t, (r, memory), and what the policy head says of it."""
        weights, width = self._weights, self._facts.hidden
        hidden = step_gru(weights, "gru", value, memory[:, :width])
        if not self._facts.slots:
            return hidden, hidden @ weights["policy_head.weight"].T + weights["policy_head.bias"]
        read, slots = step_slots(weights, "slots", value, hidden, memory[:, width:])
        output = compute_mlp(weights, "policy_head", np.concatenate([hidden, read], axis=-1))
        return np.concatenate([hidden, slots], axis=-1), output

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps each row's last reward, which the first input of the next episode shows."""
        last = np.maximum(episodes.length - 1, 0)
        self._reward = episodes.reward[np.arange(len(last)), last]

    def adapt(self) -> None:
        """Nothing: it adapts while it acts."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Memories, what the next input shows, and the last output of the head."""
        names = ("hidden", "action", "reward", "first", "output")
        return {name: getattr(self, f"_{name}").copy() for name in names}

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        shapes: dict[str, tuple[int | None, ...]] = {
            "hidden": (None, self._facts.memory),
            "action": (None, self.space.width),
            "reward": (None,),
            "first": (None,),
            "output": (None, self._outputs),
        }
        for name, value in take_state(arrays, shapes, "RL2 agent").items():
            setattr(self, f"_{name}", value)


RL2 = Kind(
    summary="It learns a task while it acts: the memory of its recurrent policy is all that it knows.",
    weight_shapes=weight_shapes,
    make_agent=Rl2RowAgent,
)
