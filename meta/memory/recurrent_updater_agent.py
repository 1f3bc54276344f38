"""A policy whose parameters a recurrent network emits from the episodes that the policy before sampled.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, RunError
from ..collect import Episodes, Seen
from ..policy import MlpPolicy, Params, RowActor
from ..space import ActionSpace
from ..state import named_part
from .updater_network import Memory, RecurrentUpdater, Support, make_support


class RecurrentUpdaterAgent:
    """Acts in R rows; `adapt` reads the episodes since the last call and emits new parameters, forward only."""

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
        self.device = torch.device(device)
        self._policy, self._updater, self._space = policy, updater, space
        self._first = {name: value.detach().clone().to(self.device) for name, value in first.items()}
        self._phi = {name: value.detach().clone().to(self.device) for name, value in phi.items()}
        self._rollouts, self._greedy = rollouts, greedy
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._memory = updater.begin(self._phi, 0)
        self._params = updater.emit(self._phi, self._first, self._memory)
        self._unread: Support | None = None

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._rollouts

    @property
    def params(self) -> Params:
        """The policy of every task, (N, ...): all that acting needs."""
        return self._params

    def begin_task(self, rows: int) -> None:
        """Forgets everything: new tasks in R rows.

        Raises:
            ConfigError: R is not a multiple of the rollouts per task.
        """
        if rows < 1 or rows % self._rollouts:
            raise ConfigError(
                f"RecurrentUpdaterAgent: expected a multiple of rollouts = {self._rollouts} rows, got {rows}; change "
                "either"
            )
        self._memory = self._updater.begin(self._phi, rows // self._rollouts)
        self._params = self._updater.emit(self._phi, self._first, self._memory)
        self._unread = None

    def begin_episode(self) -> None:
        """See `Actor`; nothing changes between episodes."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(self._policy, self._params, self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes for the next `adapt`."""
        found = make_support([episodes], self._space, len(self._memory.hidden))
        if self._unread is not None:
            found = Support(*(torch.cat(pair, dim=1) for pair in zip(self._unread, found, strict=True)))
        self._unread = found

    def adapt(self) -> None:
        """Reads every episode observed since the last time and emits theta; nothing where there is none."""
        if self._unread is None:
            return
        self._memory = self._updater.read(self._phi, self._unread, self._memory)
        self._params = self._updater.emit(self._phi, self._first, self._memory)
        self._unread = None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Parameters, what is known of each task, the episodes that were not read yet, and the random generator."""
        tensors = {f"first.{name}": value for name, value in self._first.items()}
        tensors |= {f"phi.{name}": value for name, value in self._phi.items()}
        tensors |= {f"memory.{name}": value for name, value in self._memory._asdict().items()}
        tensors["generator"] = self.generator.get_state()
        if self._unread is not None:
            tensors |= {f"unread.{name}": value for name, value in self._unread._asdict().items()}
        return tensors, {"unread": self._unread is not None}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            first = {name: tensors[f"first.{name}"].clone().view_as(value) for name, value in self._first.items()}
            phi = {name: tensors[f"phi.{name}"].clone().view_as(value) for name, value in self._phi.items()}
            saved = named_part(tensors, "memory.")
            like = self._updater.begin(phi, len(saved["hidden"]))
            memory = Memory(*(saved[name].clone().view_as(value) for name, value in like._asdict().items()))
            kept = named_part(tensors, "unread.")
            unread = Support(kept["transition"].clone(), kept["valid"].clone()) if facts["unread"] else None
            self.generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"recurrent updater agent: expected a whole state, got {error}; adapt again") from error
        self._first, self._phi, self._memory, self._unread = first, phi, memory, unread
        self._params = self._updater.emit(phi, first, memory)
