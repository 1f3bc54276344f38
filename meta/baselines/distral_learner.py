"""The Distral learner: owns task policies, centroid and every random generator; its agents fine-tune the centroid.

Axes: N tasks, E episodes of a task, R = N E rows, G goal.
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
from ..collect import Episodes, collect
from ..policy import Params, RowActor, for_tasks, make_policy
from ..space import ActionSpace
from ..state import named_part
from ..task_batch import TaskBatch, make_task_batch
from .config import DistralConfig
from .distral import distil, regularise
from .ppo import Moments, improve
from .ppo_agent import PpoAgent


class DistralLearner:
    """Trains one policy per train task and their centroid; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: DistralConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights, the same for all policies; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `tasks` x `episodes` rows.
            goals: Train goals, shape (N_train, G), at least `tasks`.
            config: See `DistralConfig`.
            seed: Seed of weights, exploration, minibatches and resets.
            device: Where the policies live.

        Raises:
            ConfigError: The robot has too few rows, or there are too few goals.
        """
        if robot.rows < config.tasks * config.episodes:
            raise ConfigError(
                f"Distral: expected {config.tasks * config.episodes} robot rows for tasks x episodes, got "
                f"{robot.rows}; raise the rows or lower either"
            )
        if len(goals) < config.tasks:
            raise ConfigError(
                f"Distral: expected at least {config.tasks} train goals, one for each policy, got {len(goals)}; lower "
                "DistralConfig.tasks"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        self.policy = make_policy(space, robot.spec.observation.shape[0], config.hidden, config.activation)
        # first weights are drawn on the CPU, so that a seed means the same policies on every device
        first = {n: v.to(self.device) for n, v in self.policy.init(torch.Generator().manual_seed(seed)).items()}
        self.params: Params = for_tasks(first, config.tasks)
        """pi_i, (N, ...)."""
        self.centroid: Params = for_tasks(first, 1)
        """pi_0, (1, ...)."""
        self.moments = {"params": Moments.zeros(self.params), "centroid": Moments.zeros(self.centroid)}
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.environment_steps = 0

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of each; resumes exactly at a yield.

        `return` is the mean undiscounted return of the task policies in their tasks, before the update.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        config = self.config
        while self.iteration < config.iterations:
            begin = time.perf_counter()
            plain, regularised = self.sample()
            middle = time.perf_counter()
            metrics = self.update(regularised)
            metrics["return"] = float(plain.returns().mean())
            metrics["return_regularised"] = float(regularised.returns().mean())
            require_finite(metrics, f"Distral iteration {self.iteration}", "a smaller learning_rate")
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    def sample(self) -> tuple[TaskBatch, TaskBatch]:
        """Runs every policy in its task; returns the samples with the plain and with the regularised reward."""
        config = self.config
        goals = np.repeat(self.goals[: config.tasks], config.episodes, axis=0)
        actor = RowActor(self.policy, self.params, self.space, config.episodes, self.generator)
        episodes = collect(self.robot, self.space, actor, goals, self.rng, device=self.device)
        self.environment_steps += int(episodes.steps.sum())
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

    def update(self, batch: TaskBatch) -> dict[str, float]:
        """Improves every task policy with its own samples, and distils all samples into the centroid."""
        config = self.config
        share = 1.0 - self.iteration / config.iterations
        self.params, self.moments["params"], metrics = improve(
            self.policy, self.params, self.moments["params"], batch, config.training, self.generator, share=share
        )
        self.centroid, self.moments["centroid"], metrics["distillation_loss"] = distil(
            self.policy, self.centroid, self.moments["centroid"], batch, config, share
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {f"params.{name}": value.contiguous() for name, value in self.params.items()}
        tensors |= {f"centroid.{name}": value.contiguous() for name, value in self.centroid.items()}
        for owner, moments in self.moments.items():
            tensors |= {f"{owner}.{name}": value for name, value in moments.tensors().items()}
        tensors["generator"] = self.generator.get_state()
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "updates": {owner: moments.steps for owner, moments in self.moments.items()},
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
            found, moments = {}, {}
            for owner, like in (("params", self.params), ("centroid", self.centroid)):
                saved = named_part(tensors, f"{owner}.")
                found[owner] = {name: saved[name].clone().view_as(value) for name, value in like.items()}
                moments[owner] = Moments.load(saved, like, int(facts["updates"][owner]))
            self.generator.set_state(tensors["generator"].cpu())
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"Distral checkpoint: expected a whole state, got {error}; start again") from error
        self.params, self.centroid, self.moments = found["params"], found["centroid"], moments
