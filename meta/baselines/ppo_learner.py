"""The plain learner: PPO trains one policy on all train tasks, and its agents fine-tune it in each test task.

A meta-learner has to beat it. Without an iteration it learns each test task from scratch.

Axes: R rows (tasks x episodes), G goal.
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
from ..collect import collect
from ..policy import Params, RowActor, for_tasks, make_policy
from ..space import ActionSpace
from ..task_batch import TaskBatch, make_task_batch
from .config import PpoConfig
from .ppo import Moments, improve
from .ppo_agent import PpoAgent


class PpoLearner:
    """Trains one policy on the train tasks of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: PpoConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `tasks` x `episodes` rows.
            goals: Train goals, shape (N_train, G).
            config: See `PpoConfig`.
            seed: Seed of weights, exploration, tasks, minibatches and resets.
            device: Where the policy lives.

        Raises:
            ConfigError: The robot has too few rows.
        """
        rows = config.tasks * config.episodes
        if robot.rows < rows:
            raise ConfigError(
                f"PPO: expected {rows} robot rows for tasks x episodes, got {robot.rows}; raise the rows or lower "
                "either"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        self.policy = make_policy(space, robot.spec.observation.shape[0], config.hidden, config.activation)
        # first weights are drawn on the CPU, so that a seed means the same policy on every device
        first = self.policy.init(torch.Generator().manual_seed(seed))
        self.params: Params = {name: value.to(self.device) for name, value in for_tasks(first, 1).items()}
        """One policy for all tasks: the task axis has length 1."""
        self.moments = Moments.zeros(self.params)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.environment_steps = 0

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of each; resumes exactly at a yield.

        `return` is the mean undiscounted return on the train tasks, before the update.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        config = self.config
        while self.iteration < config.iterations:
            begin = time.perf_counter()
            batch = self.sample()
            middle = time.perf_counter()
            share = 1.0 - self.iteration / config.iterations
            self.params, self.moments, metrics = improve(
                self.policy, self.params, self.moments, batch, config.training, self.generator, share=share
            )
            metrics["return"] = float(batch.returns().mean())
            require_finite(metrics, f"PPO iteration {self.iteration}", "a smaller learning_rate")
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    def sample(self) -> TaskBatch:
        """Draws tasks and runs the policy in them; the samples of all tasks are those of one."""
        config = self.config
        # without replacement where there are enough tasks
        chosen = self.rng.choice(len(self.goals), config.tasks, replace=config.tasks > len(self.goals))
        goals = np.repeat(self.goals[chosen], config.episodes, axis=0)
        actor = RowActor(self.policy, self.params, self.space, len(goals), self.generator)
        episodes = collect(self.robot, self.space, actor, goals, self.rng, device=self.device)
        self.environment_steps += int(episodes.steps.sum())
        steps = config.training
        return make_task_batch(
            [episodes],
            self.policy,
            self.params,
            self.space,
            discount=steps.discount,
            trace=steps.trace,
            normalise=True,
        )

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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {f"params.{name}": value.contiguous() for name, value in self.params.items()}
        tensors |= self.moments.tensors()
        tensors["generator"] = self.generator.get_state()
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "updates": self.moments.steps,
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
            params = {name: tensors[f"params.{name}"].clone().view_as(value) for name, value in self.params.items()}
            self.params, self.moments = params, Moments.load(tensors, params, int(facts["updates"]))
            self.generator.set_state(tensors["generator"].cpu())
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"PPO checkpoint: expected a whole state, got {error}; start again") from error
