"""An agent that learns each task from scratch by soft actor-critic: what meta-learning is compared with.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018. Episodes are stored as they are observed, and
`adapt` runs updates on all of them.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part
from .config import TaskSacConfig
from .sac_networks import SacNetworks
from .sac_tasks import TaskSac


class SacAgent(RowAgent):
    """Acts in R rows; every task has networks of its own, drawn anew when it begins."""

    name = "SAC agent"

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
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=config.rollouts, greedy=greedy)
        self._observation_dim, self._config, self._seed = observation_dim, config, seed
        self._sac: TaskSac | None = None

    def _begin(self, tasks: int) -> None:
        """First weights depend on the seed alone."""
        self._sac = self._make(tasks)

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
            generator=self.generator,
        )

    @property
    def _begun(self) -> TaskSac:
        assert self._sac is not None  # whoever runs an agent begins the task first
        return self._sac

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

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self._sac is None:
            return {}, {"tasks": 0}
        learned, facts = self._sac.state()
        return join_parts(sac=learned), {"tasks": self._sac.networks.tasks, "sac": facts}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        sac = self._make(int(facts["tasks"])) if facts["tasks"] else None
        if sac is not None:
            sac.load_state(named_part(tensors, "sac."), facts["sac"])
        self._sac = sac
