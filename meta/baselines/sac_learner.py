"""SAC as a learner: there is nothing to meta-train, so training is a rehearsal on train tasks.

Agents begin each task from scratch, whatever the rehearsal was. It shows how far settings come on tasks that may be
looked at, so that they are not chosen on test tasks.

Axes: N train tasks, V rehearsed tasks, R = V x rollouts rows, G goal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError
from ...robots.robot import RobotBatch
from ..rehearsal import Rehearsal
from ..space import ActionSpace
from .config import TaskSacConfig
from .sac_agent import SacAgent


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
        self.config, self.space, self.robot, self.goals, self.seed = config, space, robot, goals, seed
        self.device = torch.device(device)
        rehearsed, agent = np.repeat(goals[:tasks], config.rollouts, axis=0), self.agent(seed=seed)
        self._rehearsal = Rehearsal("SAC", agent, space, robot, rehearsed, iterations, seed, device=self.device)

    def train(self) -> Iterator[dict[str, float]]:
        """One episode of each row, then one step of adaptation, to the last iteration; resumes exactly at a yield."""
        return self._rehearsal.train()

    def agent(self, *, greedy: bool = False, seed: int = 0) -> SacAgent:
        """An agent that learns from scratch; see `SacAgent`."""
        dim = self.robot.spec.observation.shape[0]
        return SacAgent(self.space, dim, self.config, greedy=greedy, seed=seed, device=self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        return self._rehearsal.state()

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        self._rehearsal.load_state(tensors, facts)
