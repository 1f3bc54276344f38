"""A ring of whole trials, from which a model of tasks is trained.

Axes: N trials that are kept at most, R new trials, B drawn trials, T decisions of the longest trial, O observation,
Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .varibad_networks import Transitions


class TrialBuffer:
    """The last N trials, padded to one length."""

    def __init__(
        self, trials: int, decisions: int, observation_dim: int, latent_dim: int, device: torch.device
    ) -> None:
        """Allocates N trials of T decisions."""
        shape = (trials, decisions)
        self._table = Transitions(
            torch.zeros(*shape, observation_dim, device=device),
            torch.zeros(*shape, latent_dim, device=device),
            torch.zeros(shape, device=device),
            torch.zeros(*shape, observation_dim, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
        )
        self._size = self._next = 0

    def __len__(self) -> int:
        return self._size

    def add(self, new: Transitions) -> None:
        """Takes R trials in, over the oldest; of more than N only the last N."""
        trials, decisions = self._table.valid.shape
        count = min(len(new.valid), trials)
        place = (self._next + torch.arange(count, device=new.valid.device)) % trials
        for table, value in zip(self._table, new, strict=True):
            padding = (0, 0) * (value.dim() - 2) + (0, decisions - value.shape[1])
            table[place] = functional.pad(value[len(value) - count :], padding)
        self._next = (self._next + count) % trials
        self._size = min(self._size + count, trials)

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """B trials, with replacement."""
        index = torch.randint(self._size, (count,), generator=generator, device=self._table.valid.device)
        return Transitions(*(table[index] for table in self._table))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trials that are kept, and where the next one goes."""
        tensors = {name: table[: self._size] for name, table in self._table._asdict().items()}
        return tensors, {"next": self._next}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken; raises KeyError, RuntimeError or TypeError where it is not whole."""
        size, following = len(tensors["valid"]), int(facts["next"])
        for name, table in self._table._asdict().items():
            table[:size] = tensors[name].reshape(size, *table.shape[1:])
        self._size, self._next = size, following
