"""SAC as a learner: there is nothing to meta-train, so training is a rehearsal on train tasks.

Axes: N train tasks, V rehearsed tasks, R = V x rollouts rows, G goal.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError
from ...robots.robot import RobotBatch
from ..rehearsal import Rehearsal
from ..space import ActionSpace
from .config import TaskSacConfig
from .sac_agent import SacAgent


class SacLearner(Rehearsal):
    """Learns the first train tasks from scratch, side by side."""

    name = "SAC"
    config: TaskSacConfig

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
        """See `IterativeLearner`.

        Args:
            space: See there.
            robot: At least V x rollouts rows.
            goals: See there.
            config: Of the agent.
            tasks: V, at most N.
            iterations: Episodes of each row, with a step of adaptation after each.
            seed: See there.
            device: See there.

        Raises:
            ConfigError: There are too few goals or robot rows, or no iterations.
        """
        rows = tasks * config.rollouts
        if not 1 <= tasks <= len(goals) or robot.rows < rows or iterations < 1:
            raise ConfigError(
                f"SAC: expected at least 1 iteration on 1 to {len(goals)} tasks with {rows} robot rows, got "
                f"{iterations} iterations on {tasks} tasks with {robot.rows} rows; set --learner.tasks or "
                "--learner.iterations"
            )
        self.tasks, self._iterations = tasks, iterations
        super().__init__(space, robot, goals, config, seed=seed, device=device)

    @property
    def iterations(self) -> int:
        """Episodes of each row."""
        return self._iterations

    def _rehearsed(self) -> tuple[SacAgent, NDArray[np.float32]]:
        return self.agent(seed=self.seed), np.repeat(self.goals[: self.tasks], self.config.rollouts, axis=0)

    def agent(self, *, greedy: bool = False, seed: int = 0) -> SacAgent:
        """An agent that learns from scratch; see `SacAgent`."""
        dim = self.robot.spec.observation.shape[0]
        return SacAgent(self.space, dim, self.config, greedy=greedy, seed=seed, device=self.device)
