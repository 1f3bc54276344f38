"""The frame of agents that adapt to the task of each row: how a task begins, and how an agent is saved and loaded.

Axes: R rows (tasks x rollouts), Z latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from .collect import Episodes, Seen
from .space import ActionSpace
from .state import refuse_parts


class RowAgent(ABC):
    """An `AdaptiveAgent`; see its abstract methods."""

    name: ClassVar[str]
    """What errors call it."""

    def __init__(
        self, space: ActionSpace, generator: torch.Generator, *, rollouts: int = 1, greedy: bool = False
    ) -> None:
        """Before the first task.

        Args:
            space: What is chosen.
            generator: Source of what it draws, where its tensors live.
            rollouts: Rows that share one task and its knowledge, task-major; 1 gives each row its own task.
            greedy: Act by the mode. Adaptation by gradients wants samples, so this is for the last episodes only.
        """
        self.generator, self.device = generator, generator.device
        self._space, self._rollouts, self._greedy = space, rollouts, greedy

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._rollouts

    def begin_task(self, rows: int) -> None:
        """Forgets everything: new tasks in R rows.

        Raises:
            ConfigError: R is not a multiple of the rollouts per task.
        """
        if rows < 1 or rows % self._rollouts:
            raise ConfigError(
                f"{self.name}: expected a multiple of rollouts = {self._rollouts} rows, got {rows}; change either"
            )
        self._begin(rows // self._rollouts)

    @abstractmethod
    def _begin(self, tasks: int) -> None:
        """Forgets everything: this many new tasks."""

    def begin_episode(self) -> None:  # noqa: B027 (most agents have nothing to do)
        """See `Actor`; nothing changes between episodes unless an agent says so."""

    @abstractmethod
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""

    @abstractmethod
    def observe(self, episodes: Episodes) -> None:
        """See `Actor`."""

    def adapt(self) -> None:  # noqa: B027 (memory and inference have nothing to do)
        """See `AdaptiveAgent`; nothing for an agent that adapts while it acts or observes."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and what is known of the tasks, all but the generator; JSON facts beside."""

    @abstractmethod
    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes what `_state` gave; a missing part raises KeyError, another size RuntimeError or ValueError."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `AdaptiveAgent.state`; nothing of it changes when the agent goes on."""
        tensors, facts = self._state()
        kept = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        return kept | {"generator": self.generator.get_state()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `AdaptiveAgent.load_state`.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        with refuse_parts(self.name, "begin the task again"):
            source = tensors["generator"].cpu()
            self._load(tensors, facts)
            self.generator.set_state(source)
