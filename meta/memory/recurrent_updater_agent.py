"""A policy whose parameters a recurrent network emits from the episodes that the policy before sampled.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Seen
from ..episode_agent import EpisodeAgent
from ..policy import MlpPolicy, Params, RowActor
from ..space import ActionSpace
from ..state import clone_like, join_parts, named_part
from .updater_network import Memory, RecurrentUpdater, make_support


class RecurrentUpdaterAgent(EpisodeAgent):
    """Acts in R rows; `adapt` reads the episodes since the last call and emits new parameters, forward only."""

    name = "recurrent updater agent"

    def __init__(
        self,
        policy: MlpPolicy,
        updater: RecurrentUpdater,
        first: Params,
        phi: Params,
        space: ActionSpace,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the parameters.

        Args:
            policy: What the emitted parameters belong to.
            updater: f.
            first: theta_0, without a task axis.
            phi: Of f.
            space: What the policy chooses.
            rollouts: Rows that share one task and its knowledge, task-major; 1 gives each row its own task.
            greedy: Act by the mode. What is read should be samples, so this is for the last episodes only.
            seed: Seed of the exploration.
            device: Where the parameters live.
        """
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=rollouts, greedy=greedy)
        self._policy, self._updater = policy, updater
        self._first = {name: value.detach().clone().to(self.device) for name, value in first.items()}
        self._phi = {name: value.detach().clone().to(self.device) for name, value in phi.items()}
        self._begin(0)

    @property
    def params(self) -> Params:
        """The policy of every task, (N, ...): all that acting needs."""
        return self._params

    def _begin(self, tasks: int) -> None:
        super()._begin(tasks)
        self._memory = self._updater.begin(self._phi, tasks)
        self._params = self._updater.emit(self._phi, self._first, self._memory)

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(self._policy, self._params, self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def _improve(self) -> None:
        """Reads every episode seen and emits theta."""
        support = make_support(self._seen, self._space, len(self._memory.hidden))
        self._memory = self._updater.read(self._phi, support, self._memory)
        self._params = self._updater.emit(self._phi, self._first, self._memory)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen, facts = super()._state()
        return seen | join_parts(first=self._first, phi=self._phi, memory=self._memory._asdict()), facts

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        first = clone_like(self._first, named_part(tensors, "first."))
        phi = clone_like(self._phi, named_part(tensors, "phi."))
        saved = named_part(tensors, "memory.")
        like = self._updater.begin(phi, len(saved["hidden"]))
        memory = Memory(**clone_like(like._asdict(), saved))
        super()._load(tensors, facts)
        self._first, self._phi, self._memory = first, phi, memory
        self._params = self._updater.emit(phi, first, memory)
