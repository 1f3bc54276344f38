"""The protocols of meta-learners and of the agents that they train, whatever their family.

Evaluation, export and a robot see the agent; a training stage sees the learner.

A gradient learner changes its parameters in `adapt`, a memory learner its hidden state in `act`, an inference learner
its belief in `observe`; who runs an agent calls all of them and need not know which it is. What the agent was
meta-trained to (weights) is fixed after its construction; its knowledge of a task changes.

Axes: R rows, r rows still running, Z latent, N train tasks, G goal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import TrainingFault
from ..robots.robot import RobotBatch
from .space import ActionSpace
from .trial import Actor


class AdaptiveAgent(Actor, Protocol):
    """Acts in R rows side by side and adapts to the task of each.

    The calls of one task are: `begin_task` once; then for each episode `begin_episode`, `act` once per decision with
    the rows that still run, `observe` with the finished episodes; and `adapt` whenever the caller grants a step of
    adaptation. An agent that does not use a call ignores it.
    """

    @property
    def rollouts(self) -> int:
        """Number of consecutive rows that have one task and adapt together; 1 where each row learns for itself."""
        ...

    def adapt(self) -> None:
        """One step of adaptation to the episodes since the last one (an inner gradient step, for instance)."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights, what it knows of the rows' tasks, and its random generator (tensor `generator`); JSON facts beside.

        `act` goes on from it exactly.
        """
        ...

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        ...


class MetaLearner(Protocol):
    """Meta-trains on the train tasks of a robot and gives agents away.

    Made as `Learner(space, robot, goals, config, *, seed, device)`; goals are the train goals, shape (N, G).
    """

    @property
    def space(self) -> ActionSpace:
        """What its agents choose."""
        ...

    @property
    def robot(self) -> RobotBatch:
        """Where it collects; any batch of the same spec will do."""
        ...

    @property
    def goals(self) -> NDArray[np.float32]:
        """Train goals, shape (N, G)."""
        ...

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to the end of the configured training, one dict of metrics per iteration.

        `step` counts iterations, `environment_steps` low-level steps of the robot since the first; what episodes
        returned stands under names that begin with `return`, clocks under names that begin with `wall_`. A state taken
        at a yield resumes exactly.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        ...

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        ...

    def agent(self) -> AdaptiveAgent:
        """An agent as meta-trained so far; it stays as it is when training goes on."""
        ...


def require_finite(metrics: Mapping[str, float], where: str, smaller: str) -> None:
    """What every learner checks after an iteration, before it counts.

    Args:
        metrics: Of the iteration.
        where: Learner and iteration.
        smaller: What to resume with.

    Raises:
        TrainingFault: A metric is not finite.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingFault(
                f"{where}: expected a finite {name}, got {value}; resume from the last checkpoint with {smaller}"
            )
