"""The plain learner: PPO trains one policy on all train tasks, and its agents fine-tune it in each test task.

A meta-learner has to beat it. Without an iteration it learns each test task from scratch.

Axes: R rows (tasks x episodes), G goal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..iterative import IterativeLearner
from ..policy import Params, for_tasks, make_policy
from ..state import clone_like, join_parts, named_part
from ..task_batch import TaskBatch, make_task_batch
from .config import PpoConfig
from .ppo import Moments, improve
from .ppo_agent import PpoAgent


class PpoLearner(IterativeLearner[PpoConfig, TaskBatch]):
    """Trains one policy on the train tasks of one robot."""

    name = "PPO"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.tasks * config.episodes, "tasks x episodes")
        self.policy = make_policy(self.space, self.robot.spec.observation.shape[0], config.hidden, config.activation)
        first = {name: value.to(self.device) for name, value in self.policy.init(source).items()}
        self.params: Params = for_tasks(first, 1)
        """One policy for all tasks: the task axis has length 1."""
        self.moments = Moments.zeros(self.params)

    def _collect(self) -> tuple[TaskBatch, dict[str, float]]:
        """Samples of the policy in tasks drawn anew; those of all tasks are those of one."""
        config, steps = self.config, self.config.training
        goals = np.repeat(self.goals[self.draw_tasks(config.tasks)], config.episodes, axis=0)
        batch = make_task_batch(
            [self.play_policy(self.policy, self.params, goals)],
            self.policy,
            self.params,
            self.space,
            discount=steps.discount,
            trace=steps.trace,
            normalise=True,
        )
        return batch, {"return": float(batch.returns().mean())}

    def _learn(self, batch: TaskBatch) -> dict[str, float]:
        self.params, self.moments, metrics = improve(
            self.policy, self.params, self.moments, batch, self.config.training, self.generator, share=self.left
        )
        return metrics

    def agent(self, *, rollouts: int = 1, greedy: bool = False, seed: int = 0) -> PpoAgent:
        """An agent that begins every task with the present policy; see `PpoAgent`."""
        return PpoAgent(
            self.policy,
            {name: value[0] for name, value in self.params.items()},
            self.space,
            self.config.adaptation,
            rollouts=rollouts,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return join_parts(params=self.params) | self.moments.tensors(), {"updates": self.moments.steps}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        params = clone_like(self.params, named_part(tensors, "params."))
        self.params, self.moments = params, Moments.load(tensors, params, int(facts["updates"]))
