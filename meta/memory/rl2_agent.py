"""An RL2 agent: its knowledge of a task is the hidden state of its GRU, and the content of its slots.

Axes: R rows, r rows still running, Z latent, A encoded action.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..distribution import mode, sample
from ..recurrent import RecurrentActorCritic, compose_input
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part

MEMORY = ("hidden", "action", "reward", "first")


class Rl2Agent(RowAgent):
    """Acts in R rows; every row has a memory that lasts from `begin_task` to the next, across episodes."""

    name = "RL2 agent"

    def __init__(
        self,
        network: RecurrentActorCritic,
        space: ActionSpace,
        generator: torch.Generator,
        *,
        greedy: bool = False,
    ) -> None:
        """Acts with `network` as it is at each call, on its device.

        Args:
            network: Of the same space.
            space: What is chosen.
            generator: Source of the samples, on the network's device.
            greedy: Act by the mode; nothing is drawn then.
        """
        super().__init__(space, generator, greedy=greedy)
        self._network, self._code = network, network.code
        self._begin(0)

    def _begin(self, tasks: int) -> None:
        like = next(self._network.parameters())
        self._hidden = like.new_zeros(tasks, self._network.memory_size)
        self._action = like.new_zeros(tasks, self._code.width)
        self._reward = like.new_zeros(tasks)
        self._first = torch.ones(tasks, dtype=torch.bool, device=like.device)

    def begin_episode(self) -> None:
        """The next input of each row says so; the memory stays."""
        self._first.fill_(True)

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        everywhere = len(seen.rows) == len(self._hidden)
        rows: Any = slice(None) if everywhere else torch.from_numpy(seen.rows).to(self._hidden.device)
        first = self._first[rows]
        reward = torch.where(first, self._reward[rows], seen.reward)
        value = compose_input(self._space.normalise(seen.observation), self._action[rows], reward, first)
        distribution, self._hidden[rows] = self._network.step(value, self._hidden[rows])
        choice = mode(distribution) if self._greedy else sample(distribution, self.generator)
        self._action[rows] = self._code.encode(choice)
        self._first[rows] = False
        return self._code.to_latent(choice, seen.prior)

    def observe(self, episodes: Episodes) -> None:
        """Keeps each row's last reward, which the first input of the next episode shows."""
        last = (episodes.length - 1).clamp(min=0)[:, None]
        self._reward = episodes.reward.gather(1, last).squeeze(1)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        known = {"hidden": self._hidden, "action": self._action, "reward": self._reward, "first": self._first}
        return join_parts(network=self._network.state_dict()) | known, {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        rows = len(tensors["hidden"])
        shapes = {"hidden": (rows, self._network.memory_size), "action": (rows, self._code.width)}
        memory = [tensors[name].reshape(shapes.get(name, (rows,))).clone() for name in MEMORY]
        self._network.load_state_dict(named_part(tensors, "network."))
        self._hidden, self._action, self._reward, self._first = (part.to(self._hidden.device) for part in memory)
