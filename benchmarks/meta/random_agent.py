"""An agent that never learns: every choice is drawn anew, whatever was seen. What all learners have to beat.

Axes: R rows, r rows still running, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from supple.meta.collect import Episodes, Seen
from supple.meta.row_agent import RowAgent
from supple.meta.space import ActionSpace, ChoiceSpace


class RandomAgent(RowAgent):
    """Chooses uniformly among named choices, and from the prior of any other space."""

    name = "random agent"

    def __init__(
        self,
        space: ActionSpace,
        *,
        rollouts: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Sets up the source of its draws.

        Args:
            space: What is chosen.
            rollouts: Rows that share one task, for the evaluation of others; nothing is learned in them.
            seed: Of the draws.
            device: Where observations come from.
        """
        super().__init__(space, torch.Generator(device).manual_seed(seed), rollouts=rollouts)

    def _begin(self, tasks: int) -> None:
        """Nothing to forget."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        if isinstance(self._space, ChoiceSpace):
            shape, device = (len(seen.observation), 1), seen.observation.device
            return torch.randint(self._space.count, shape, generator=self.generator, device=device).float()
        noise = torch.empty_like(seen.prior.loc).normal_(generator=self.generator)
        return seen.prior.loc + seen.prior.scale * noise

    def observe(self, episodes: Episodes) -> None:
        """Nothing is learned."""

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """All of its state is the generator."""
