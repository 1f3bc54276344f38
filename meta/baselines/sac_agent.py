"""An agent that learns each task from scratch by soft actor-critic: what meta-learning is compared with.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018. Episodes are stored as they are observed, and
`adapt` runs updates on all of them.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, RunError
from ..collect import Episodes, Seen
from ..space import ActionSpace
from ..state import named_part
from .config import TaskSacConfig
from .sac_networks import SacNetworks
from .sac_tasks import TaskSac


class SacAgent:
    """Acts in R rows; every task has networks of its own, drawn anew when it begins."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        config: TaskSacConfig,
        *,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Remembers the sizes.

        Args:
            space: What is chosen: skills, raw or unit actions, or choices.
            observation_dim: O.
            config: See `TaskSacConfig`.
            greedy: Act by the mode. Learning wants samples, so this is for the last episodes only.
            seed: Seed of first weights, exploration and batches.
            device: Where the networks live.
        """
        self.device = torch.device(device)
        self._space, self._observation_dim, self._config = space, observation_dim, config
        self._greedy, self._seed = greedy, seed
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._sac: TaskSac | None = None

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._config.rollouts

    def begin_task(self, rows: int) -> None:
        """Forgets everything: new tasks in R rows, with first weights that depend on the seed alone.

        Raises:
            ConfigError: R is not a multiple of the rollouts per task.
        """
        rollouts = self._config.rollouts
        if rows < 1 or rows % rollouts:
            raise ConfigError(f"SacAgent: expected a multiple of rollouts = {rollouts} rows, got {rows}; change either")
        self._sac = self._make(rows // rollouts)

    def _make(self, tasks: int) -> TaskSac:
        config, source = self._config, torch.Generator().manual_seed(self._seed)
        networks = SacNetworks(self._space, self._observation_dim, config.sac.hidden, source, tasks=tasks)
        return TaskSac(
            self._space,
            self._observation_dim,
            networks.to(self.device),
            config.sac,
            rollouts=config.rollouts,
            capacity=config.replay,
            generator=self._generator,
        )

    @property
    def _begun(self) -> TaskSac:
        assert self._sac is not None  # whoever runs an agent begins the task first
        return self._sac

    def begin_episode(self) -> None:
        """See `Actor`; nothing changes between episodes."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        return self._begun.act(seen, self._greedy)

    def observe(self, episodes: Episodes) -> None:
        """Stores the episodes."""
        self._begun.observe(episodes)

    def adapt(self) -> None:
        """Updates on all that was observed; none where nothing was."""
        if bool(self._begun.replay.count().any()):
            for _ in range(self._config.updates):
                self._begun.update()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Networks, optimisers and replay of every task, and the generator."""
        tensors: dict[str, Tensor] = {"generator": self._generator.get_state()}
        if self._sac is None:
            return tensors, {"tasks": 0}
        learned, facts = self._sac.state()
        tensors |= {f"sac.{name}": value for name, value in learned.items()}
        return tensors, {"tasks": self._sac.networks.tasks, "sac": facts}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            sac = self._make(int(facts["tasks"])) if facts["tasks"] else None
            if sac is not None:
                sac.load_state(named_part(tensors, "sac."), facts["sac"])
            self._generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"SAC agent: expected a whole state, got {error}; begin the task again") from error
        self._sac = sac
