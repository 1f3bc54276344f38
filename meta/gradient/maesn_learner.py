"""The MAESN learner: owns weights, table, step sizes and every random generator; the losses stand in `maesn`.

Axes: M train tasks, N tasks of a meta-update, E episodes of a task, R = N E rows, L axes of z, G goal.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cloning import start_from
from ..iterative import IterativeLearner
from ..policy import ConditionedPolicy, Params, for_tasks, make_policy
from ..state import copy_into, join_parts, named_part
from ..task_batch import make_task_batch
from ..trpo import trpo_step
from .config import MaesnConfig
from .maesn import (
    LatentBatch,
    TaskLatent,
    episode_advantage,
    evaluate_outer,
    first_episodes,
    gather,
    init_rule,
    init_table,
    latent_kl,
    latent_step,
)
from .maesn_agent import MaesnAgent


class Collected(NamedTuple):
    """What one meta-update learns from."""

    chosen: Tensor
    """Which train tasks, shape (N,)."""
    supports: list[LatentBatch]
    """Episodes before each inner step."""
    query: LatentBatch
    """Episodes after the last."""


class MaesnLearner(IterativeLearner[MaesnConfig, Collected]):
    """Meta-trains a policy, and a distribution of its z for each train task of one robot.

    Published: the robot's reward is dense in training, and only the tests' is sparse. `return_<k>` is the mean
    undiscounted return of the train tasks after k inner steps.
    """

    name = "MAESN"
    remedy = "a smaller step_size"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.tasks * config.episodes, "tasks x episodes")
        inputs = self.robot.spec.observation.shape[0] + config.latent_dim
        self.policy = make_policy(self.space, inputs, config.hidden, config.activation)
        meta = join_parts(policy=self.policy.init(source))
        meta |= init_table(len(self.goals), config.latent_dim, config.table_scale, source)
        meta |= init_rule(config.step_size, config.latent_dim)
        self.meta: Params = {name: value.to(self.device).requires_grad_() for name, value in meta.items()}

    def start_from(self, params: Params) -> None:
        """Takes first parameters of the policy, those of `cloning.clone` for instance, in place of the drawn ones.

        Raises:
            ConfigError: Meta-training has begun, or they belong to another policy.
        """
        start_from(self.meta, params, self.iteration)

    @torch.no_grad()
    def _collect(self) -> tuple[Collected, dict[str, float]]:
        """Episodes of tasks drawn anew, before each inner step and after the last."""
        config = self.config
        drawn = self.draw_tasks(config.tasks)
        goals, chosen = np.repeat(self.goals[drawn], config.episodes, axis=0), torch.from_numpy(drawn).to(self.device)
        rule, latent = named_part(self.meta, "rule."), gather(self.meta, chosen)
        batches = [self._sample(latent, goals)]
        for _ in range(config.inner_steps):
            advantage = episode_advantage(batches[-1].samples)
            latent = latent_step(latent, rule, batches[-1].z, advantage, natural=config.natural)
            batches.append(self._sample(latent, goals))
        returns = {f"return_{step}": float(batch.samples.returns().mean()) for step, batch in enumerate(batches)}
        return Collected(chosen, batches[:-1], batches[-1]), returns

    def _sample(self, latent: TaskLatent, goals: NDArray[np.float32]) -> LatentBatch:
        config = self.config
        shape = (config.tasks, config.episodes, config.latent_dim)
        noise = torch.randn(shape, generator=self.generator, device=self.device)
        z = latent.draw(noise)
        policy, params = ConditionedPolicy(self.policy, z), for_tasks(named_part(self.meta, "policy."), config.tasks)
        samples = make_task_batch(
            [self.play_policy(policy, params, goals)],
            policy,
            params,
            self.space,
            discount=config.discount,
            trace=config.trace,
            normalise=True,
        )
        return LatentBatch(samples, noise, z)

    def _learn(self, batch: Collected) -> dict[str, float]:
        """One meta-update: a trust region step in weights, sampled rows of the table, and step sizes."""
        config = self.config
        chosen, supports, query = batch

        def evaluate(meta: Params) -> tuple[Tensor, Tensor]:
            return evaluate_outer(self.policy, meta, chosen, supports, query, config)

        def curvature(meta: Params) -> Tensor:
            some = first_episodes(query, config.curvature_episodes)
            return evaluate_outer(self.policy, meta, chosen, supports, some, config)[1]

        found, metrics = trpo_step(
            self.meta, evaluate, config.trust_region, curvature if config.curvature_episodes else None
        )
        copy_into(self.meta, found)
        with torch.no_grad():
            if config.largest_step is not None:
                for name in ("mean", "log_scale"):
                    self.meta[f"rule.log_step.{name}"].clamp_(max=math.log(config.largest_step))
            metrics["latent_kl"] = float(latent_kl(gather(self.meta, chosen)).mean())
            for name in ("mean", "log_scale"):
                metrics[f"step_{name}"] = float(self.meta[f"rule.log_step.{name}"].exp().mean())
        return metrics

    def agent(self, *, rollouts: int = 1, greedy: bool = False, later_scale: float = 0.5, seed: int = 0) -> MaesnAgent:
        """An agent with the present weights and step sizes; see `MaesnAgent`."""
        return MaesnAgent(
            self.policy,
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
