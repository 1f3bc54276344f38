"""RL2 and E-RL2 in numpy: a recurrent policy that learns a task by its forward pass alone.

See `meta/memory/rl2_agent.py`, whose sources hold here: x_t = [o_t, a_(t-1), r_(t-1), d_(t-1)] goes through a GRU, and
the policy head reads the state after it, and what is found in the slots where there are some.

Axes: R rows, r rows still running, H hidden, K slots, V content, A encoded action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...bounds import CountFromZero, Width
from ..contract import BundleContract, Kind
from ..distribution import draw
from ..networks import Array, Shapes, compute_linear, compute_mlp, linear_shapes, mlp_shapes
from ..recurrent_cells import gru_shapes, slot_shapes, step_gru, step_slots
from ..runtime_agent import RowEpisodes, SeenRows
from .row_agent import RowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Settings:
    """What is particular to RL2 in `bundle.json`."""

    hidden: Width
    """Width of the GRU, H."""
    greedy: bool
    """Act by the mode."""
    slots: CountFromZero
    """Slots beside the GRU, K; 0: none."""
    slot_content: Width
    """Numbers in a slot, V."""

    @property
    def memory(self) -> int:
        """Numbers that a row remembers."""
        return self.hidden + self.slots * (1 + self.slot_content)


def weight_shapes(contract: BundleContract, settings: Rl2Settings) -> Shapes:
    """See `Kind.shapes`."""
    hidden, inputs, outputs = (
        settings.hidden,
        contract.observation_dim + contract.choice_width + 2,
        contract.policy_width,
    )
    shapes = gru_shapes("gru", inputs, hidden)
    if not settings.slots:
        return shapes | linear_shapes("policy_head", hidden, outputs)
    shapes |= slot_shapes("slots", inputs, hidden, settings.slots, settings.slot_content)
    return shapes | mlp_shapes("policy_head", (hidden + settings.slot_content, hidden, outputs))


class Rl2RowAgent(RowAgent[Rl2Settings]):
    """Every row has a memory that lasts from `begin_task` to the next, across episodes."""

    STATE = ("_hidden", "_action", "_reward", "_first", "_output")

    def begin_task(self, rows: int) -> None:
        """Forgets everything: a memory of zeros in R rows."""
        super().begin_task(rows)
        self._hidden = np.zeros((rows, self._settings.memory), np.float32)
        self._action = np.zeros((rows, self.space.width), np.float32)
        self._reward = np.zeros(rows, np.float32)
        self._first = np.ones(rows, np.float32)
        self._output = np.zeros((rows, self.space.width * (1 if self.space.choices else 2)), np.float32)

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
        choice = draw(self.space, output, self._noise, greedy=self._settings.greedy)
        self._action[rows] = self.space.encode(choice)
        self._first[rows] = 0.0
        return self.space.to_latent(choice, seen.observation)

    def _advance(self, value: Array, memory: Array) -> tuple[Array, Array]:
        """The memory after x_t, (r, memory), and what the policy head says of it."""
        weights, width = self._weights, self._settings.hidden
        hidden = step_gru(weights, "gru", value, memory[:, :width])
        if not self._settings.slots:
            return hidden, compute_linear(weights, "policy_head", hidden)
        read, slots = step_slots(weights, "slots", value, hidden, memory[:, width:])
        output = compute_mlp(weights, "policy_head", np.concatenate([hidden, read], axis=-1))
        return np.concatenate([hidden, slots], axis=-1), output

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps each row's last reward, which the first input of the next episode shows."""
        last = np.maximum(episodes.length - 1, 0)
        self._reward = episodes.reward[np.arange(len(last)), last]


RL2 = Kind(
    summary="It learns a task while it acts: the memory of its recurrent policy is all that it knows.",
    settings=Rl2Settings,
    shapes=weight_shapes,
    agent=Rl2RowAgent,
    older={"slots": 0, "slot_content": 1},
)
