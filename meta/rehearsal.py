"""The training of learners that have nothing to meta-train: they learn some train tasks from scratch, to be seen.

Axes: R rows, G goal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, RunError
from ..robots.robot import RobotBatch
from .adaptive import AdaptiveAgent
from .space import ActionSpace
from .state import named_part
from .trial import run_episodes


class Rehearsal:
    """An agent learns R tasks side by side, one episode of each and a step of adaptation at a time."""

    def __init__(
        self,
        name: str,
        agent: AdaptiveAgent,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        iterations: int,
        seed: int,
        *,
        device: torch.device | None = None,
    ) -> None:
        """Begins the tasks.

        Args:
            name: Of the learner, for errors.
            agent: Learns from scratch.
            space: What it chooses.
            robot: At least R rows.
            goals: One for each row, shape (R, G).
            iterations: Episodes of each row.
            seed: Seed of what is random in the robot.
            device: Where the agent lives; None is the CPU.

        Raises:
            ConfigError: There are too few rows.
        """
        if robot.rows < len(goals):
            raise ConfigError(
                f"{name}: expected at least {len(goals)} robot rows, got {robot.rows}; rehearse fewer tasks"
            )
        self._name, self._agent, self._space, self._robot = name, agent, space, robot
        self._goals, self._iterations, self._device = goals, iterations, device or torch.device("cpu")
        self._agent.begin_task(len(goals))
        self._rng = np.random.default_rng(seed)
        self.iteration = 0
        """Iterations that are done."""
        self.environment_steps = 0
        """Low-level steps of the robot so far."""

    def train(self) -> Iterator[dict[str, float]]:
        """One dict of metrics per iteration, to the last; resumes exactly at a yield."""
        while self.iteration < self._iterations:
            begin = time.perf_counter()
            (episodes,) = run_episodes(
                self._robot, self._space, self._agent, self._goals, 1, self._rng, device=self._device
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors, facts = self._agent.state()
        return {f"agent.{name}": value for name, value in tensors.items()}, {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self._rng.bit_generator.state,
            "agent": facts,
        }

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            self._agent.load_state(named_part(tensors, "agent."), facts["agent"])
            self._rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self._name} checkpoint: expected a whole state, got {error}; start again") from error
