"""An RL2 agent: its knowledge of a task is the hidden state of its GRU, and the content of its slots.

Axes: R rows, r rows still running, Z latent, A encoded action.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import RunError
from ..collect import Episodes, Seen
from ..distribution import mode, sample
from ..recurrent import RecurrentActorCritic, compose_input
from ..space import ActionSpace
from ..state import named_part

MEMORY = ("hidden", "action", "reward", "first")


class Rl2Agent:
    """Acts in R rows; every row has a memory that lasts from `begin_task` to the next, across episodes."""

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
        self._network, self._space, self._greedy = network, space, greedy
        self._code = network.code
        self._generator = generator
        self.begin_task(0)

    @property
    def rollouts(self) -> int:
        """One: each row learns for itself."""
        return 1

    def begin_task(self, rows: int) -> None:
        """Forgets everything: a memory of zeros in R rows."""
        like = next(self._network.parameters())
        self._hidden = like.new_zeros(rows, self._network.memory_size)
        self._action = like.new_zeros(rows, self._code.width)
        self._reward = like.new_zeros(rows)
        self._first = torch.ones(rows, dtype=torch.bool, device=like.device)

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
        choice = mode(distribution) if self._greedy else sample(distribution, self._generator)
        self._action[rows] = self._code.encode(choice)
        self._first[rows] = False
        return self._code.to_latent(choice, seen.prior)

    def observe(self, episodes: Episodes) -> None:
        """Keeps each row's last reward, which the first input of the next episode shows."""
        last = (episodes.length - 1).clamp(min=0)[:, None]
        self._reward = episodes.reward.gather(1, last).squeeze(1)

    def adapt(self) -> None:
        """Nothing: it adapts while it acts."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights, memories and what the next input shows, and the generator; no facts."""
        tensors = {f"network.{name}": value.detach().clone() for name, value in self._network.state_dict().items()}
        tensors |= {name: getattr(self, f"_{name}").clone() for name in MEMORY}
        tensors["generator"] = self._generator.get_state()
        return tensors, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to another network.
        """
        try:
            rows = len(tensors["hidden"])
            shapes = {"hidden": (rows, self._network.memory_size), "action": (rows, self._code.width)}
            memory = {name: tensors[name].reshape(shapes.get(name, (rows,))).clone() for name in MEMORY}
            self._network.load_state_dict(named_part(tensors, "network."))
            self._generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"RL2 agent: expected a whole state, got {error}; begin the task again") from error
        device = self._hidden.device
        self._hidden, self._action, self._reward, self._first = (memory[name].to(device) for name in MEMORY)
