"""The MAML learner: owns meta-parameters, the optimiser and every random generator; the losses stand in `maml`.

Axes: N tasks of a meta-update, E episodes of a task, R = N E rows, G goal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..adaptive import require_finite
from ..cloning import start_from
from ..collect import collect
from ..policy import Params, RowActor, for_tasks, make_policy
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from ..task_batch import TaskBatch, make_task_batch
from ..trpo import trpo_step
from .config import MamlConfig
from .inner import GradientDescent, UpdateRule, inner_step
from .maml import evaluate_curvature, evaluate_outer
from .maml_agent import MamlAgent


class MamlLearner:
    """Meta-trains the first parameters of a policy on the train tasks of one robot; see `train`."""

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
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `tasks` x `episodes` rows.
            goals: Train goals, shape (N_train, G).
            config: See `MamlConfig`.
            update: The inner update; None descends the gradient with the step sizes of `config`.
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
        self.policy = make_policy(space, robot.spec.observation.shape[0], config.hidden, config.activation)
        self.update_rule = GradientDescent(config.step_size, config.step_sizes) if update is None else update
        # first weights are drawn on the CPU, so that a seed means the same policy on every device
        source = torch.Generator().manual_seed(seed)
        first = self.policy.init(source)
        meta = {f"policy.{name}": value for name, value in first.items()}
        meta |= {f"rule.{name}": value for name, value in self.update_rule.init(first, source).items()}
        self.meta: Params = {name: value.to(self.device).requires_grad_() for name, value in meta.items()}
        self.optimisers = {}
        if config.outer != "trpo":
            self.optimisers["meta"] = torch.optim.Adam(list(self.meta.values()), lr=config.learning_rate)
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
            supports, query = self.sample()
            middle = time.perf_counter()
            metrics = self.update(supports, query)
            for index, batch in enumerate((*supports, query)):
                metrics[f"return_{index}"] = float(batch.returns().mean())
            require_finite(metrics, f"meta-training iteration {self.iteration}", "a smaller step_size or learning_rate")
            self.iteration += 1
            metrics |= {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }
            yield metrics

    def sample(self) -> tuple[list[TaskBatch], TaskBatch]:
        """Draws tasks; returns the samples before each inner step, and those after the last."""
        config = self.config
        # without replacement where there are enough tasks
        chosen = self.rng.choice(len(self.goals), config.tasks, replace=config.tasks > len(self.goals))
        goals = np.repeat(self.goals[chosen], config.episodes, axis=0)
        rule = named_part(self.meta, "rule.")
        params = for_tasks(named_part(self.meta, "policy."), config.tasks)
        batches = []
        with torch.no_grad():
            for step in range(config.inner_steps + 1):
                batches.append(self._collect(params, goals))
                if step < config.inner_steps:
                    params = inner_step(
                        self.policy,
                        self.update_rule,
                        rule,
                        params,
                        batches[-1],
                        correction=config.correction,
                        first_order=True,
                    )
        return batches[:-1], batches[-1]

    def _collect(self, params: Params, goals: NDArray[np.float32]) -> TaskBatch:
        config = self.config
        actor = RowActor(self.policy, params, self.space, config.episodes, self.generator)
        episodes = collect(self.robot, self.space, actor, goals, self.rng, device=self.device)
        self.environment_steps += int(episodes.steps.sum())
        return make_task_batch(
            [episodes],
            self.policy,
            params,
            self.space,
            discount=config.discount,
            trace=config.trace,
            normalise=config.normalise_advantage,
        )

    def update(self, supports: list[TaskBatch], query: TaskBatch) -> dict[str, float]:
        """One meta-update: a trust region step, or steps of Adam."""

        def evaluate(meta: Params) -> tuple[Tensor, Tensor]:
            return evaluate_outer(self.policy, self.update_rule, meta, supports, query, self.config)

        def curvature(meta: Params) -> Tensor:
            return evaluate_curvature(self.policy, self.update_rule, meta, supports, query, self.config)

        if self.config.outer == "trpo":
            whole = self.config.curvature == "full" and self.config.curvature_tasks == 0
            found, metrics = trpo_step(self.meta, evaluate, self.config.trust_region, None if whole else curvature)
            with torch.no_grad():
                for name, value in found.items():
                    self.meta[name].copy_(value)
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next meta-update depends on: tensors by name, and JSON facts."""
        tensors = {f"meta.{name}": value for name, value in self.meta.items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= optimiser_tensors(self.optimisers)
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return {name: value.detach() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            with torch.no_grad():
                for name, value in self.meta.items():
                    value.copy_(tensors[f"meta.{name}"])
            self.generator.set_state(tensors["generator"].cpu())
            load_optimisers(self.optimisers, tensors)
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"meta-training checkpoint: expected a whole state, got {error}; start again") from error
