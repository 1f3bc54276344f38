"""SAC as a learner: there is nothing to meta-train, so training is a rehearsal on train tasks.

Agents begin each task from scratch, whatever the rehearsal was. It shows how far settings come on tasks that may be
looked at, so that they are not chosen on test tasks.

Axes: N train tasks, V rehearsed tasks, R = V x rollouts rows, G goal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..space import ActionSpace
from ..state import named_part
from ..trial import run_episodes
from .sac_agent import SacAgent, TaskSacConfig


class SacLearner:
    """Learns the first train tasks from scratch, side by side; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: TaskSacConfig,
        *,
        tasks: int = 16,
        iterations: int = 20,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Begins the rehearsed tasks.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least V x rollouts rows.
            goals: Train goals, shape (N, G).
            config: See `TaskSacConfig`.
            tasks: V, at most N.
            iterations: Episodes of each row, with a step of adaptation after each.
            seed: Seed of weights, exploration, batches and resets.
            device: Where the networks live.

        Raises:
            ConfigError: There are too few goals or robot rows, or no iterations.
        """
        rows = tasks * config.rollouts
        if not 1 <= tasks <= len(goals) or robot.rows < rows or iterations < 1:
            raise ConfigError(
                f"SAC: expected at least 1 iteration on 1 to {len(goals)} tasks with {rows} robot rows, got "
                f"{iterations} iterations on {tasks} tasks with {robot.rows} rows; change them"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device, self.iterations = torch.device(device), iterations
        self._rehearsed = np.repeat(goals[:tasks], config.rollouts, axis=0)
        self._agent = self.agent(seed=seed)
        self._agent.begin_task(rows)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.environment_steps = 0

    def train(self) -> Iterator[dict[str, float]]:
        """One episode of each row, then one step of adaptation, to the last iteration; resumes exactly at a yield."""
        while self.iteration < self.iterations:
            begin = time.perf_counter()
            (episodes,) = run_episodes(
                self.robot, self.space, self._agent, self._rehearsed, 1, self.rng, device=self.device
            )
            middle = time.perf_counter()
            self._agent.adapt()
            self.iteration += 1
            self.environment_steps += int(episodes.steps.sum())
            yield {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "return": float(episodes.reward.sum(1).mean()),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    def agent(self, *, greedy: bool = False, seed: int = 0) -> SacAgent:
        """An agent that learns from scratch; see `SacAgent`."""
        dim = self.robot.spec.observation.shape[0]
        return SacAgent(self.space, dim, self.config, greedy=greedy, seed=seed, device=self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors, facts = self._agent.state()
        tensors = {f"agent.{name}": value for name, value in tensors.items()}
        return tensors, {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self.rng.bit_generator.state,
            "agent": facts,
        }

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            self._agent.load_state(named_part(tensors, "agent."), facts["agent"])
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"SAC checkpoint: expected a whole state, got {error}; start again") from error
