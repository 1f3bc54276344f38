"""An agent that never learns: every choice is drawn anew, whatever was seen. What all learners have to beat.

Axes: R rows, r rows still running, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import RunError
from .collect import Episodes, Seen
from .space import ActionSpace, ChoiceSpace


class RandomAgent:
    """Chooses uniformly among named choices, and from the prior of any other space."""

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
        self._space, self._rollouts = space, rollouts
        self._generator = torch.Generator(device).manual_seed(seed)

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._rollouts

    def begin_task(self, rows: int) -> None:
        """Nothing to forget."""

    def begin_episode(self) -> None:
        """Nothing changes."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        if isinstance(self._space, ChoiceSpace):
            shape, device = (len(seen.observation), 1), seen.observation.device
            return torch.randint(self._space.count, shape, generator=self._generator, device=device).float()
        noise = torch.empty_like(seen.prior.loc).normal_(generator=self._generator)
        return seen.prior.loc + seen.prior.scale * noise

    def observe(self, episodes: Episodes) -> None:
        """Nothing is learned."""

    def adapt(self) -> None:
        """Nothing is learned."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The random generator."""
        return {"generator": self._generator.get_state()}, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises:
            RunError: The state lacks the generator.
        """
        if "generator" not in tensors:
            raise RunError(f"random agent: expected the tensor generator, got {sorted(tensors)}; begin the task again")
        self._generator.set_state(tensors["generator"].cpu())
