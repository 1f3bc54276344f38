"""The training of learners that have nothing to meta-train: they learn some train tasks from scratch, to be seen.

Axes: R rows, G goal.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .adaptive import AdaptiveAgent
from .iterative import IterativeLearner
from .state import join_parts, named_part


class Rehearsal(IterativeLearner[Any, None]):
    """An agent learns R tasks side by side, one episode of each and a step of adaptation at a time.

    Agents begin each task from scratch, whatever the rehearsal was: it shows how far settings come on tasks that may be
    looked at.
    """

    @abstractmethod
    def _rehearsed(self) -> tuple[AdaptiveAgent, NDArray[np.float32]]:
        """Who learns, and the goal of each row, shape (R, G)."""

    def _build(self, source: torch.Generator) -> None:
        self.rehearsing, self.rehearsed = self._rehearsed()
        self.require_rows(len(self.rehearsed), "rehearsed tasks")
        self.rehearsing.begin_task(len(self.rehearsed))

    def _collect(self) -> tuple[None, dict[str, float]]:
        self.rehearsing.begin_episode()
        episodes = self.play(self.rehearsing.act, self.rehearsed)
        self.rehearsing.observe(episodes)
        return None, {"return": float(episodes.reward.sum(1).mean())}

    def _learn(self, batch: None) -> dict[str, float]:
        self.rehearsing.adapt()
        return {}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = self.rehearsing.state()
        return join_parts(agent=tensors), {"agent": facts}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.rehearsing.load_state(named_part(tensors, "agent."), facts["agent"])
