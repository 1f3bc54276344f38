"""The MAESN learner: owns weights, table, step sizes and every random generator; the losses stand in `maesn`.

Axes: M train tasks, N tasks of a meta-update, E episodes of a task, R = N E rows, L axes of z, G goal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..adaptive import require_finite
from ..cloning import start_from
from ..collect import collect
from ..policy import ConditionedPolicy, Params, RowActor, for_tasks, make_policy
from ..space import ActionSpace
from ..state import named_part
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


class MaesnLearner:
    """Meta-trains a policy, and a distribution of its z for each train task of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: MaesnConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights and the table; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `tasks` x `episodes` rows. Published: its reward is dense, and only the tests' is sparse.
            goals: Train goals, shape (M, G); each has a row of the table.
            config: See `MaesnConfig`.
            seed: Seed of weights, exploration, tasks and resets.
            device: Where the policy lives.

        Raises:
            ConfigError: The robot has too few rows.
        """
        if robot.rows < config.tasks * config.episodes:
            raise ConfigError(
                f"meta-training: expected {config.tasks * config.episodes} robot rows for tasks x episodes, got "
                f"{robot.rows}; raise the rows or lower either"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        inputs = robot.spec.observation.shape[0] + config.latent_dim
        self.policy = make_policy(space, inputs, config.hidden, config.activation)
        # first weights are drawn on the CPU, so that a seed means the same policy on every device
        source = torch.Generator().manual_seed(seed)
        meta = {f"policy.{name}": value for name, value in self.policy.init(source).items()}
        meta |= init_table(len(goals), config.latent_dim, config.table_scale, source) | init_rule(
            config.step_size, config.latent_dim
        )
        self.meta: Params = {name: value.to(self.device).requires_grad_() for name, value in meta.items()}
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.environment_steps = 0

    def start_from(self, params: Params) -> None:
        """Takes first parameters of the policy, those of `cloning.clone` for instance, in place of the drawn ones.

        Raises:
            ConfigError: Meta-training has begun, or they belong to another policy.
        """
        start_from(self.meta, params, self.iteration)

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of every meta-update; resumes exactly at a yield.

        `return_<k>` is the mean undiscounted return of the train tasks after k inner steps, before the meta-update.

        Raises:
            TrainingFault: A loss became non-finite.
        """
        while self.iteration < self.config.iterations:
            begin = time.perf_counter()
            collected = self.sample()
            middle = time.perf_counter()
            metrics = self.update(collected)
            for index, batch in enumerate((*collected.supports, collected.query)):
                metrics[f"return_{index}"] = float(batch.samples.returns().mean())
            require_finite(metrics, f"meta-training iteration {self.iteration}", "a smaller step_size")
            self.iteration += 1
            metrics |= {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }
            yield metrics

    def sample(self) -> Collected:
        """Draws tasks; returns their episodes before each inner step, and after the last."""
        config = self.config
        # without replacement where there are enough tasks
        drawn = self.rng.choice(len(self.goals), config.tasks, replace=config.tasks > len(self.goals))
        goals, chosen = np.repeat(self.goals[drawn], config.episodes, axis=0), torch.from_numpy(drawn).to(self.device)
        rule, batches = named_part(self.meta, "rule."), []
        with torch.no_grad():
            latent = gather(self.meta, chosen)
            for step in range(config.inner_steps + 1):
                batches.append(self._collect(latent, goals))
                if step < config.inner_steps:
                    advantage = episode_advantage(batches[-1].samples)
                    latent = latent_step(latent, rule, batches[-1].z, advantage, natural=config.natural)
        return Collected(chosen, batches[:-1], batches[-1])

    def _collect(self, latent: TaskLatent, goals: NDArray[np.float32]) -> LatentBatch:
        config = self.config
        shape = (config.tasks, config.episodes, config.latent_dim)
        noise = torch.randn(shape, generator=self.generator, device=self.device)
        z = latent.draw(noise)
        policy, params = ConditionedPolicy(self.policy, z), for_tasks(named_part(self.meta, "policy."), config.tasks)
        actor = RowActor(policy, params, self.space, config.episodes, self.generator)
        episodes = collect(self.robot, self.space, actor, goals, self.rng, device=self.device)
        self.environment_steps += int(episodes.steps.sum())
        samples = make_task_batch(
            [episodes], policy, params, self.space, discount=config.discount, trace=config.trace, normalise=True
        )
        return LatentBatch(samples, noise, z)

    def update(self, collected: Collected) -> dict[str, float]:
        """One meta-update: a trust region step in weights, sampled rows of the table, and step sizes."""
        config = self.config
        chosen, supports, query = collected

        def evaluate(meta: Params) -> tuple[Tensor, Tensor]:
            return evaluate_outer(self.policy, meta, chosen, supports, query, config)

        def curvature(meta: Params) -> Tensor:
            some = first_episodes(query, config.curvature_episodes)
            return evaluate_outer(self.policy, meta, chosen, supports, some, config)[1]

        found, metrics = trpo_step(
            self.meta, evaluate, config.trust_region, curvature if config.curvature_episodes else None
        )
        with torch.no_grad():
            for name, value in found.items():
                self.meta[name].copy_(value)
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next meta-update depends on: tensors by name, and JSON facts."""
        tensors = {f"meta.{name}": value.detach() for name, value in self.meta.items()}
        tensors["generator"] = self.generator.get_state()
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            with torch.no_grad():
                for name, value in self.meta.items():
                    value.copy_(tensors[f"meta.{name}"].view_as(value))
            self.generator.set_state(tensors["generator"].cpu())
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"meta-training checkpoint: expected a whole state, got {error}; start again") from error
