"""The Distral learner: owns task policies, centroid and every random generator; its agents fine-tune the centroid.

Axes: N tasks, E episodes of a task, R = N E rows, G goal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..collect import Episodes
from ..iterative import IterativeLearner
from ..policy import Params, for_tasks, make_policy
from ..state import clone_like, join_parts, named_part
from ..task_batch import TaskBatch, make_task_batch
from .config import DistralConfig
from .distral import distil, regularise
from .ppo import Moments, improve
from .ppo_agent import PpoAgent


class DistralLearner(IterativeLearner[DistralConfig, TaskBatch]):
    """Trains one policy for each of the first train tasks, and their centroid.

    `return` is that of the task policies in their tasks, `return_regularised` includes what regularises them.
    """

    name = "Distral"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.tasks * config.episodes, "tasks x episodes")
        if len(self.goals) < config.tasks:
            raise ConfigError(
                f"Distral: expected at least {config.tasks} train goals, one for each policy, got {len(self.goals)}; "
                "lower DistralConfig.tasks"
            )
        self.policy = make_policy(self.space, self.robot.spec.observation.shape[0], config.hidden, config.activation)
        first = {name: value.to(self.device) for name, value in self.policy.init(source).items()}
        self.params: Params = for_tasks(first, config.tasks)
        """pi_i, (N, ...); at first the same for all tasks."""
        self.centroid: Params = for_tasks(first, 1)
        """pi_0, (1, ...)."""
        self.moments = {"params": Moments.zeros(self.params), "centroid": Moments.zeros(self.centroid)}

    def _collect(self) -> tuple[TaskBatch, dict[str, float]]:
        plain, regularised = self.sample()
        return regularised, {
            "return": float(plain.returns().mean()),
            "return_regularised": float(regularised.returns().mean()),
        }

    def sample(self) -> tuple[TaskBatch, TaskBatch]:
        """Runs every policy in its task; returns the samples with the plain and with the regularised reward."""
        config = self.config
        goals = np.repeat(self.goals[: config.tasks], config.episodes, axis=0)
        episodes = self.play_policy(self.policy, self.params, goals)
        plain = self._as_samples(episodes)
        return plain, self._as_samples(regularise(episodes, plain, self.policy, self.centroid, config))

    def _as_samples(self, episodes: Episodes) -> TaskBatch:
        steps = self.config.training
        return make_task_batch(
            [episodes],
            self.policy,
            self.params,
            self.space,
            discount=steps.discount,
            trace=steps.trace,
            normalise=True,
        )

    def _learn(self, batch: TaskBatch) -> dict[str, float]:
        """Improves every task policy with its own samples, and distils all samples into the centroid."""
        config = self.config
        self.params, self.moments["params"], metrics = improve(
            self.policy, self.params, self.moments["params"], batch, config.training, self.generator, share=self.left
        )
        self.centroid, self.moments["centroid"], metrics["distillation_loss"] = distil(
            self.policy, self.centroid, self.moments["centroid"], batch, config, self.left
        )
        return metrics

    def agent(self, *, rollouts: int = 1, greedy: bool = False, seed: int = 0) -> PpoAgent:
        """An agent that begins every task with the present centroid; see `PpoAgent`."""
        return PpoAgent(
            self.policy,
            {name: value[0] for name, value in self.centroid.items()},
            self.space,
            self.config.adaptation,
            rollouts=rollouts,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        owned = {"params": self.params, "centroid": self.centroid}
        kept = {owner: params | self.moments[owner].tensors() for owner, params in owned.items()}
        return join_parts(**kept), {"updates": {owner: moments.steps for owner, moments in self.moments.items()}}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        found, moments = {}, {}
        for owner, like in (("params", self.params), ("centroid", self.centroid)):
            saved = named_part(tensors, f"{owner}.")
            found[owner] = clone_like(like, saved)
            moments[owner] = Moments.load(saved, like, int(facts["updates"][owner]))
        self.params, self.centroid, self.moments = found["params"], found["centroid"], moments
