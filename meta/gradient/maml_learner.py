"""The MAML learner: owns meta-parameters, the optimiser and every random generator; the losses stand in `maml`.

Axes: N tasks of a meta-update, E episodes of a task, R = N E rows, G goal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...robots.robot import RobotBatch
from ..cloning import start_from
from ..iterative import IterativeLearner
from ..policy import Params, for_tasks, make_policy
from ..space import ActionSpace
from ..state import copy_into, join_parts, named_part
from ..task_batch import TaskBatch, make_task_batch
from ..trpo import trpo_step
from .config import MamlConfig
from .inner import GradientDescent, UpdateRule, inner_step
from .maml import evaluate_curvature, evaluate_outer
from .maml_agent import MamlAgent


class MamlLearner(IterativeLearner[MamlConfig, list[TaskBatch]]):
    """Meta-trains the first parameters of a policy on the train tasks of one robot.

    `return_<k>` is the mean undiscounted return of the train tasks after k inner steps.
    """

    name = "MAML"
    remedy = "a smaller step_size or learning_rate"

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: MamlConfig,
        *,
        update: UpdateRule | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """See `IterativeLearner`; `update` is the inner update, None descends the gradient as `config` says."""
        self.update_rule = GradientDescent(config.step_size, config.step_sizes) if update is None else update
        super().__init__(space, robot, goals, config, seed=seed, device=device)

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.tasks * config.episodes, "tasks x episodes")
        self.policy = make_policy(self.space, self.robot.spec.observation.shape[0], config.hidden, config.activation)
        first = self.policy.init(source)
        meta = join_parts(policy=first, rule=self.update_rule.init(first, source))
        self.meta: Params = {name: value.to(self.device).requires_grad_() for name, value in meta.items()}
        if config.outer != "trpo":
            self.optimisers["meta"] = torch.optim.Adam(list(self.meta.values()), lr=config.learning_rate)

    def start_from(self, params: Params) -> None:
        """Takes first parameters of the policy, those of `cloning.clone` for instance, in place of the drawn ones.

        Raises:
            ConfigError: Meta-training has begun, or they belong to another policy.
        """
        start_from(self.meta, params, self.iteration)

    @torch.no_grad()
    def _collect(self) -> tuple[list[TaskBatch], dict[str, float]]:
        """Samples of tasks drawn anew, before each inner step and after the last."""
        config = self.config
        goals = np.repeat(self.goals[self.draw_tasks(config.tasks)], config.episodes, axis=0)
        rule = named_part(self.meta, "rule.")
        params = for_tasks(named_part(self.meta, "policy."), config.tasks)
        batches = [self._sample(params, goals)]
        for _ in range(config.inner_steps):
            params = inner_step(
                self.policy,
                self.update_rule,
                rule,
                params,
                batches[-1],
                correction=config.correction,
                first_order=True,
            )
            batches.append(self._sample(params, goals))
        return batches, {f"return_{step}": float(batch.returns().mean()) for step, batch in enumerate(batches)}

    def _sample(self, params: Params, goals: NDArray[np.float32]) -> TaskBatch:
        config = self.config
        return make_task_batch(
            [self.play_policy(self.policy, params, goals)],
            self.policy,
            params,
            self.space,
            discount=config.discount,
            trace=config.trace,
            normalise=config.normalise_advantage,
        )

    def _learn(self, batch: list[TaskBatch]) -> dict[str, float]:
        """One meta-update: a trust region step, or steps of Adam."""
        *supports, query = batch

        def evaluate(meta: Params) -> tuple[Tensor, Tensor]:
            return evaluate_outer(self.policy, self.update_rule, meta, supports, query, self.config)

        def curvature(meta: Params) -> Tensor:
            return evaluate_curvature(self.policy, self.update_rule, meta, supports, query, self.config)

        if self.config.outer == "trpo":
            whole = self.config.curvature == "full" and self.config.curvature_tasks == 0
            found, metrics = trpo_step(self.meta, evaluate, self.config.trust_region, None if whole else curvature)
            copy_into(self.meta, found)
            return metrics
        loss, kl = torch.zeros(()), torch.zeros(())
        for _ in range(self.config.outer_steps if self.config.outer == "ppo" else 1):
            loss, kl = evaluate(self.meta)
            leaves = list(self.meta.values())
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
                leaf.grad = gradient
            self.optimisers["meta"].step()
        return {"loss": float(loss.detach()), "kl": float(kl.detach())}

    def agent(self, *, rollouts: int = 1, greedy: bool = False, later_scale: float = 1.0, seed: int = 0) -> MamlAgent:
        """An agent with the present meta-parameters; see `MamlAgent`."""
        return MamlAgent(
            self.policy,
            self.update_rule,
            self.meta,
            self.space,
            self.config,
            rollouts=rollouts,
            greedy=greedy,
            later_scale=later_scale,
            seed=seed,
            device=self.device,
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return join_parts(meta=self.meta), {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        copy_into(self.meta, named_part(tensors, "meta."))
