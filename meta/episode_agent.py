"""The frame of agents that learn a task in steps, each from all episodes since the last."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from .collect import Episodes
from .row_agent import RowAgent
from .state import episodes_tensors, join_parts, load_episodes, named_part


class EpisodeAgent(RowAgent):
    """Keeps what it observes until `adapt`; a subclass extends `_begin`, `_state` and `_load` by its own."""

    _seen: list[Episodes]
    """Rounds of episodes not yet learned from."""

    def _begin(self, tasks: int) -> None:
        self._seen = []

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes for the next `adapt`."""
        self._seen.append(episodes)

    @torch.no_grad()
    def adapt(self) -> None:
        """One step in each task from the episodes since the last step; none without episodes."""
        if self._seen:
            self._improve()
            self._seen = []

    @abstractmethod
    def _improve(self) -> None:
        """Learns from the episodes seen."""

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return join_parts(seen=episodes_tensors(self._seen)), {"seen": len(self._seen)}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self._seen = load_episodes(named_part(tensors, "seen."), int(facts["seen"]))
