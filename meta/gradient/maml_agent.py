"""A meta-trained policy that adapts by inner steps from the episodes it saw.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Seen
from ..episode_agent import EpisodeAgent
from ..policy import MlpPolicy, Params, RowActor, for_tasks
from ..space import ActionSpace
from ..state import clone_like, join_parts, named_part
from ..task_batch import make_task_batch
from .config import MamlConfig
from .inner import UpdateRule, inner_step


class MamlAgent(EpisodeAgent):
    """Acts in R rows; `adapt` takes one inner step in each task from all episodes since the last."""

    name = "MAML agent"

    def __init__(
        self,
        policy: MlpPolicy,
        update: UpdateRule,
        meta: Params,
        space: ActionSpace,
        config: MamlConfig,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        later_scale: float = 1.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the meta-parameters.

        Args:
            policy: What the parameters belong to.
            update: The rule of the inner step.
            meta: `policy.*` and `rule.*`.
            space: What the policy chooses.
            config: Of the learner.
            rollouts: Rows that share one task and its knowledge, task-major; 1 gives each row its own task.
            greedy: Act by the mode. Adaptation wants samples, so this is for the last episodes only.
            later_scale: Length of a step over that of the step before it (Finn et al., 2D
                navigation: half as long after the first, then alike).
            seed: Seed of the exploration.
            device: Where the parameters live.
        """
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=rollouts, greedy=greedy)
        self._policy, self._update, self._config, self._later_scale = policy, update, config, later_scale
        self._meta = {name: value.detach().clone().to(self.device) for name, value in meta.items()}
        self._begin(0)

    @property
    def params(self) -> Params:
        """The parameters of every task, (N, ...)."""
        return self._params

    def _begin(self, tasks: int) -> None:
        super()._begin(tasks)
        self._params = for_tasks(named_part(self._meta, "policy."), tasks)
        self._steps = 0

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(self._policy, self._params, self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def _improve(self) -> None:
        """One inner step in each task."""
        config = self._config
        batch = make_task_batch(
            self._seen,
            self._policy,
            self._params,
            self._space,
            discount=config.discount,
            trace=config.trace,
            normalise=config.normalise_advantage,
        )
        self._params = inner_step(
            self._policy,
            self._update,
            named_part(self._meta, "rule."),
            self._params,
            batch,
            correction=config.correction,
            first_order=True,
            scale=self._later_scale**self._steps,
        )
        self._steps += 1

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen, facts = super()._state()
        return seen | join_parts(meta=self._meta, params=self._params), facts | {"steps": self._steps}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        meta = clone_like(self._meta, named_part(tensors, "meta."))
        first = named_part(meta, "policy.")
        params = {name: tensors[f"params.{name}"].clone().view(-1, *value.shape) for name, value in first.items()}
        steps = int(facts["steps"])
        super()._load(tensors, facts)
        self._meta, self._params, self._steps = meta, params, steps
