"""Multi-armed bandits: one state, K arms, an episode of as many pulls as the time limit.

Sources: the Bernoulli bandits with success probabilities drawn from U[0, 1] are those of Duan et al., "RL2: Fast
Reinforcement Learning via Slow Reinforcement Learning", arXiv 1611.02779, 2016, section 3.1 (K = 5, 10, 50 and 10, 100,
500 pulls). Gaussian bandits of unit variance are those of Lattimore and Szepesvári, "Bandit Algorithms", Cambridge
University Press, 2020; their means are drawn from N(0, 1). RL2 counts each pull as an episode of one step; here a pull
is a step, and what a learner sees is the same.

A bandit has no state, and a robot needs an observation: it is one axis that is always 0. The goal of a task is the
vector of its arm parameters, which the learner does not see.

Axes: R rows, r rows of this call, K arms, T pulls.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .array_robots import ArrayRobots, Index
from .family import ONLY_TASKS
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet
from .task_draws import draw_tasks

ARMS = 5
PULLS = 100


def _bandit_spec(name: str, parameters: list[Axis], pulls: int) -> RobotSpec:
    choices = tuple(f"arm{arm}" for arm in range(len(parameters)))
    return RobotSpec(
        name=name,
        observation=ArraySpec("observation", (Axis("state", "1", 0.0, 1.0),)),
        action=make_choice_spec(choices),
        goal=ArraySpec("goal", tuple(parameters)),
        control_period=1.0,
        episode_steps=pulls,
        choices=choices,
    )


def bernoulli_bandit_spec(arms: int = ARMS, pulls: int = PULLS) -> RobotSpec:
    """The contract of Bernoulli bandits.

    Raises:
        SpecError: There are fewer than two arms, or no pulls.
    """
    return _bandit_spec("bernoulli_bandit", [Axis(f"probability{arm}", "1", 0.0, 1.0) for arm in range(arms)], pulls)


def _gaussian_bandit_spec(arms: int, pulls: int) -> RobotSpec:
    return _bandit_spec("gaussian_bandit", [Axis(f"mean{arm}", "1", -np.inf, np.inf) for arm in range(arms)], pulls)


class Bandits(ArrayRobots):
    """Rows of bandits, with one noise number per pull, drawn at the reset, shape (R, T).

    Args:
        rows: Number of bandits, R.
        arms: Number of arms, K; 2 or more.
        episode_steps: Pulls per episode.

    Raises:
        ConfigError: There are no rows.
        SpecError: There are fewer than two arms, or no pulls.
    """

    def __init__(self, rows: int, *, arms: int = ARMS, episode_steps: int = PULLS) -> None:
        super().__init__(self.make_spec(arms, episode_steps), rows)
        self._noise = np.zeros((rows, episode_steps), np.float32)

    @staticmethod
    @abstractmethod
    def make_spec(arms: int, pulls: int) -> RobotSpec:
        """The contract of so many arms."""

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        self._noise[index] = self._draw_noise(rng, (len(goals), self._spec.episode_steps))
        return np.zeros((len(goals), 1), np.float32)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        reward = self._pay(self._goal[rows, action], self._noise[rows, elapsed])
        return np.zeros((len(rows), 1), np.float32), reward, np.zeros(len(rows), np.bool_)

    @abstractmethod
    def _draw_noise(self, rng: np.random.Generator, shape: tuple[int, int]) -> Float:
        """Noise of whole episodes."""

    @abstractmethod
    def _pay(self, parameter: Float, noise: Float) -> Float:
        """Rewards of arms with these parameters, shape (r,)."""


@final
class BernoulliBanditBatch(Bandits):
    """Rows of Bernoulli bandits: arm k pays 1 with probability goal[k], else 0; see `Bandits`."""

    make_spec = staticmethod(bernoulli_bandit_spec)

    def _draw_noise(self, rng: np.random.Generator, shape: tuple[int, int]) -> Float:
        return rng.random(shape, np.float32)

    def _pay(self, parameter: Float, noise: Float) -> Float:
        return (noise < parameter).astype(np.float32)


@final
class GaussianBanditBatch(Bandits):
    """Rows of Gaussian bandits: arm k pays goal[k] plus standard normal noise; see `Bandits`."""

    make_spec = staticmethod(_gaussian_bandit_spec)

    def _draw_noise(self, rng: np.random.Generator, shape: tuple[int, int]) -> Float:
        return rng.standard_normal(shape, np.float32)

    def _pay(self, parameter: Float, noise: Float) -> Float:
        return parameter + noise


def draw_bernoulli_goals(count: int, rng: np.random.Generator, *, arms: int = ARMS) -> Float:
    """Success probabilities from U[0, 1), shape (count, K)."""
    return rng.random((count, arms), np.float32)


def draw_gaussian_goals(count: int, rng: np.random.Generator, *, arms: int = ARMS) -> Float:
    """Means from N(0, 1), shape (count, K)."""
    return rng.standard_normal((count, arms), np.float32)


def make_bernoulli_bandit_tasks(num_train: int, num_test: int, seed: int, *, arms: int = ARMS) -> TaskSet:
    """Bernoulli bandits; see `draw_tasks`."""
    name = f"bernoulli-bandit-{arms}"
    return draw_tasks(name, lambda count, rng: draw_bernoulli_goals(count, rng, arms=arms), num_train, num_test, seed)


def make_gaussian_bandit_tasks(num_train: int, num_test: int, seed: int, *, arms: int = ARMS) -> TaskSet:
    """Gaussian bandits; see `draw_tasks`."""
    name = f"gaussian-bandit-{arms}"
    return draw_tasks(name, lambda count, rng: draw_gaussian_goals(count, rng, arms=arms), num_train, num_test, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class BernoulliBandits:
    """Bandits whose arms pay 1 with probabilities from U[0, 1]; an episode is all pulls."""

    pulls: int = PULLS
    arms: int = ARMS
    num_train: int = field(default=100_000, metadata=ONLY_TASKS)
    """Train tasks; Duan et al. draw new ones for each trial, and so many stand in for that."""
    num_test: int = field(default=4096, metadata=ONLY_TASKS)
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"bandit-{self.pulls}-{self.arms}"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return bernoulli_bandit_spec(self.arms, self.pulls)

    def make(self, rows: int, threads: int = 1) -> BernoulliBanditBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return BernoulliBanditBatch(rows, arms=self.arms, episode_steps=self.pulls)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        return make_bernoulli_bandit_tasks(self.num_train, self.num_test, self.task_seed, arms=self.arms)
