"""An agent of the trainer whose steps of adaptation can be taken again elsewhere: on a host that never acted.

An agent draws minibatches from the generator that it also acts by. A host does not act, so that it, and the trainer's
agent in a golden trial, draw for each step from its number instead. Nothing else of the agent is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import RunError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen

First = Callable[[int], Mapping[str, Tensor]]
"""Of R rows: tensors of the agent's state, by its names."""


class StepSeeded:
    """Adapts as `agent` does right after its generator was seeded with the number of the step."""

    def __init__(self, agent: AdaptiveAgent, first: First | None = None) -> None:
        """Wraps the agent.

        Args:
            agent: Of the trainer.
            first: What every task begins with, where the trainer draws it anew for each.
        """
        self.agent = agent
        self._first, self._granted = first, 0

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self.agent.rollouts

    def begin_task(self, rows: int) -> None:
        """See `Actor.begin_task`."""
        self.agent.begin_task(rows)
        if self._first is not None:
            self._overwrite(self._first(rows))
        self._granted = 0

    def begin_episode(self) -> None:
        """See `Actor.begin_episode`."""
        self.agent.begin_episode()

    def act(self, seen: Seen) -> Tensor:
        """See `Actor.act`."""
        return self.agent.act(seen)

    def observe(self, episodes: Episodes) -> None:
        """See `Actor.observe`."""
        self.agent.observe(episodes)

    def adapt(self) -> None:
        """One step, which draws from its number."""
        self._overwrite({"generator": torch.Generator().manual_seed(self._granted).get_state()})
        self.agent.adapt()
        self._granted += 1

    def _overwrite(self, part: Mapping[str, Tensor]) -> None:
        tensors, facts = self.agent.state()
        self.agent.load_state({**tensors, **part}, facts)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `AdaptiveAgent.state`."""
        tensors, facts = self.agent.state()
        return tensors, {**facts, "granted": self._granted}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `AdaptiveAgent.load_state`.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        self.agent.load_state(tensors, facts)
        try:
            self._granted = int(facts["granted"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"agent on a host: expected a whole state, got {error}; begin the task again") from error
