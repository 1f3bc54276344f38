"""The frame of learners that train in iterations, each of which collects and then learns from what it collected.

A learner says what it trains, what it collects, how it learns and which tensors are its state. Loop, clocks, random
generators and checkpoints of all of them stand here.

Axes: R rows, N train tasks, G goal.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import Field, asdict
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..robots.robot import RobotBatch
from .adaptive import AdaptiveAgent, require_finite
from .collect import Choose, Episodes, collect
from .config import Trial
from .policy import Params, Policy, RowActor
from .space import ActionSpace
from .state import load_optimisers, optimiser_tensors, refuse_parts
from .trial import Actor, run_trial


class TrainingConfig(Protocol):
    """A dataclass of settings that says how long the training is."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def iterations(self) -> int:
        """Iterations of the training."""
        ...


Config = TypeVar("Config", bound=TrainingConfig)
Batch = TypeVar("Batch")


class IterativeLearner(ABC, Generic[Config, Batch]):
    """A `MetaLearner` of a config and of what one iteration collects; see its abstract methods."""

    name: ClassVar[str]
    """What errors call it."""
    remedy: ClassVar[str] = "a smaller learning_rate"
    """What to resume with when a metric is not finite."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: Config,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: As many rows as an iteration steps side by side, or more.
            goals: Train goals, shape (N, G).
            config: Settings of the training.
            seed: Seed of weights, exploration, tasks, minibatches and resets.
            device: Where networks and buffers live.

        Raises:
            ConfigError: The robot has too few rows, or the config does not fit robot and goals.
        """
        self.space, self.robot, self.goals, self.config = space, robot, goals, config
        self.seed, self.device = seed, torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        """Iterations that are done."""
        self.environment_steps = 0
        """Low-level steps of the robot so far."""
        self.optimisers: dict[str, torch.optim.Adam] = {}
        # first weights are drawn on the CPU, so that a seed means the same networks on every device
        self._build(torch.Generator().manual_seed(seed))

    @abstractmethod
    def _build(self, source: torch.Generator) -> None:
        """Makes networks, `optimisers` and buffers; first weights are drawn from `source`, on the CPU.

        Raises:
            ConfigError: See the constructor.
        """

    @abstractmethod
    def _collect(self) -> tuple[Batch, dict[str, float]]:
        """What one iteration learns from, and metrics of it; the names of some begin with `return`."""

    @abstractmethod
    def _learn(self, batch: Batch) -> dict[str, float]:
        """All updates of one iteration; returns their metrics."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts of the learner's own: all but generators, optimisers and the count of iterations."""

    @abstractmethod
    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes what `_state` gave; a missing part raises KeyError, another size RuntimeError or ValueError."""

    @abstractmethod
    def agent(self) -> AdaptiveAgent:
        """See `MetaLearner.agent`."""

    @property
    def iterations(self) -> int:
        """Length of the training."""
        return self.config.iterations

    @property
    def left(self) -> float:
        """Share of the training that is still to come."""
        return 1.0 - self.iteration / self.iterations

    def train(self) -> Iterator[dict[str, float]]:
        """See `MetaLearner.train`; returns are those before the update of the iteration.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        while self.iteration < self.iterations:
            begin = time.perf_counter()
            batch, metrics = self._collect()
            middle = time.perf_counter()
            metrics |= self._learn(batch)
            require_finite(metrics, f"{self.name} iteration {self.iteration}", self.remedy)
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `MetaLearner.state`."""
        tensors, facts = self._state()
        tensors |= {"generator": self.generator.get_state()} | optimiser_tensors(self.optimisers)
        facts |= {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return {name: value.detach().contiguous() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `MetaLearner.load_state`.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        with refuse_parts(f"{self.name} checkpoint", "start again"):
            self._load(tensors, facts)
            self.generator.set_state(tensors["generator"].cpu())
            load_optimisers(self.optimisers, tensors)
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]

    # What iterations are made of

    def require_rows(self, rows: int, counted: str) -> None:
        """Checks that the robot has so many rows; `counted` says of what, for the error.

        Raises:
            ConfigError: It has fewer.
        """
        if self.robot.rows < rows:
            raise ConfigError(
                f"{self.name}: expected {rows} robot rows for {counted}, got {self.robot.rows}; make a robot of more "
                "rows or ask for fewer"
            )

    def draw_tasks(self, count: int) -> NDArray[np.int64]:
        """Indices of this many train tasks, without replacement where there are enough."""
        return self.rng.choice(len(self.goals), count, replace=count > len(self.goals))

    def shuffle(self, count: int) -> Tensor:
        """The numbers below `count` in an order drawn anew, on the device."""
        return torch.randperm(count, generator=self.generator, device=self.device)

    def play(self, choose: Choose, goals: NDArray[np.float32], *, stop_at_goal: bool = True) -> Episodes:
        """One episode in each of the first R rows, counted; goals are (R, G), see `collect`."""
        episodes = collect(
            self.robot, self.space, choose, goals, self.rng, device=self.device, stop_at_goal=stop_at_goal
        )
        self.environment_steps += int(episodes.steps.sum())
        return episodes

    def play_policy(self, policy: Policy, params: Params, goals: NDArray[np.float32]) -> Episodes:
        """One episode in each of the first R rows, by parameters of each task, (tasks, ...); rows are task-major."""
        rollouts = len(goals) // len(params["layers.0.bias"])
        return self.play(RowActor(policy, params, self.space, rollouts, self.generator), goals)

    def play_trials(self, actor: Actor, goals: NDArray[np.float32], trial: Trial) -> list[Episodes]:
        """One trial in each of the first R rows, counted; goals are (R, G), see `run_trial`."""
        rounds = run_trial(self.robot, self.space, actor, goals, trial, self.rng, device=self.device)
        self.environment_steps += sum(int(episodes.steps.sum()) for episodes in rounds)
        return rounds


def mean_metrics(updates: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Runs some updates, each of which gives the same metrics; returns the means over them."""
    total: dict[str, list[Tensor]] = {}
    for metrics in updates:
        for name, value in metrics.items():
            total.setdefault(name, []).append(value)
    return {name: float(torch.stack(values).mean()) for name, values in total.items()}


def running_means(updates: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """The same of any number of updates: no value is kept. A mean is over the updates that gave the metric."""
    total: dict[str, tuple[Tensor, int]] = {}
    for metrics in updates:
        for name, value in metrics.items():
            before, count = total.get(name, (torch.zeros_like(value), 0))
            total[name] = (before + value, count + 1)
    return {name: float(value) / count for name, (value, count) in total.items()}
