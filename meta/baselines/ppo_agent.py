"""A policy that goes on learning by PPO in each task: fine-tuning, or learning from scratch where the policy is a draw.

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
from .config import PpoSteps
from .ppo import Moments, improve


class PpoAgent(EpisodeAgent):
    """Acts in R rows; `adapt` improves the policy of each task with all episodes since the last."""

    name = "PPO agent"

    def __init__(
        self,
        policy: MlpPolicy,
        first: Params,
        space: ActionSpace,
        steps: PpoSteps,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the parameters.

        Args:
            policy: What the parameters belong to.
            first: Of every new task, without a task axis.
            space: What the policy chooses.
            steps: How each `adapt` improves it.
            rollouts: Rows that share one task and its policy, task-major; 1 gives each row its own task.
            greedy: Act by the mode. Learning wants samples, so this is for the last episodes only.
            seed: Seed of the exploration and the minibatches.
            device: Where the parameters live.
        """
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=rollouts, greedy=greedy)
        self._policy, self._steps = policy, steps
        self._first = {name: value.detach().clone().to(self.device) for name, value in first.items()}
        self._begin(0)

    @property
    def params(self) -> Params:
        """The parameters of every task, (N, ...)."""
        return self._params

    def _begin(self, tasks: int) -> None:
        super()._begin(tasks)
        self._params = for_tasks(self._first, tasks)
        self._moments = Moments.zeros(self._params)

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(self._policy, self._params, self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def _improve(self) -> None:
        """One iteration of PPO in each task."""
        steps = self._steps
        batch = make_task_batch(
            self._seen,
            self._policy,
            self._params,
            self._space,
            discount=steps.discount,
            trace=steps.trace,
            normalise=True,
        )
        self._params, self._moments, _ = improve(
            self._policy, self._params, self._moments, batch, steps, self.generator
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen, facts = super()._state()
        known = join_parts(first=self._first, params=self._params) | self._moments.tensors()
        return seen | known, facts | {"steps": self._moments.steps}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        first = clone_like(self._first, named_part(tensors, "first."))
        params = {name: tensors[f"params.{name}"].clone().view(-1, *value.shape) for name, value in first.items()}
        moments = Moments.load(tensors, params, int(facts["steps"]))
        super()._load(tensors, facts)
        self._first, self._params, self._moments = first, params, moments
