"""MovementBandits: two points are shown, one of them pays, and nothing but the reward tells which.

Source: Frans et al., "Meta Learning Shared Hierarchies", ICLR 2018, with the numbers of the authors' code: a field of
400 x 400 pixels, start in its middle, four moves of 20 pixels (the agent may leave the field) or none, 50 steps, reward
1 at each step that ends less than 50 pixels from the correct point, no end there. Both points are drawn anew at each
reset; which of them is correct is fixed for a task and hidden.

The paper has two points and so two tasks, between which training and tests alternate (`draw_movement_bandit_goals`).
Train and test tasks that are disjoint need more `points`, which is our extension.

Axes: R rows, r rows of this call, K points, N tasks, O = 2 + 2 K observation [x, y, x1, y1, x2, y2, ...] / 400, G = 1
goal [index of the correct point].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .array_robots import ArrayRobots, Index, require_whole
from .family import ONLY_TASKS
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet
from .task_draws import repeat_tasks, split_tasks

FIELD = 400.0
"""Side of the field in which the points lie, pixels; observations are divided by it."""
START = 200.0
"""Both coordinates of the start, pixels."""
STEP = 20.0
"""Length of a move, pixels."""
RADIUS = 50.0
"""Distance below which the correct point pays, pixels."""
POINTS = 2
EPISODE_STEPS = 50
CHOICES = ("stay", "right", "left", "up", "down")
MOVES = np.array([(0, 0), (STEP, 0), (-STEP, 0), (0, STEP), (0, -STEP)], np.float32)
"""Change of x and y by each choice, pixels."""


def movement_bandit_spec(*, points: int = POINTS, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of MovementBandits.

    Raises:
        ConfigError: There are fewer than two points.
        SpecError: There are no steps.
    """
    if points < 2:
        raise ConfigError(f"movement bandit points: expected at least 2, got {points}; there must be a choice")
    position = [Axis(name, "400 pixel", -np.inf, np.inf) for name in ("x", "y")]
    shown = [Axis(f"point{point}_{name}", "400 pixel", 0.0, 1.0) for point in range(points) for name in ("x", "y")]
    return RobotSpec(
        name="movement_bandit",
        observation=ArraySpec("observation", (*position, *shown)),
        action=make_choice_spec(CHOICES),
        goal=ArraySpec("goal", (Axis("correct", "1", 0.0, points - 1.0),)),
        control_period=1.0,
        episode_steps=episode_steps,
        choices=CHOICES,
    )


@final
class MovementBanditBatch(ArrayRobots):
    """Rows of agents, each with points of its own.

    Args:
        rows: Number of agents, R.
        points: Number of points, K; 2 or more.
        episode_steps: Time limit.

    Raises:
        ConfigError: There are no rows, or fewer than two points.
        SpecError: There are no steps.
    """

    def __init__(self, rows: int, *, points: int = POINTS, episode_steps: int = EPISODE_STEPS) -> None:
        super().__init__(movement_bandit_spec(points=points, episode_steps=episode_steps), rows)
        self._position = np.zeros((rows, 2), np.float32)
        self._points = np.zeros((rows, 2 * points), np.float32)
        self._correct = np.zeros(rows, np.int64)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`: whether the correct one of the points shown is near; nothing ends."""
        correct = require_whole(self._spec.goal.require_within(goals, "movement_bandit goals")[:, 0], "goals", "goals")
        reward = _near(np.asarray(observation, np.float32))[..., correct].astype(np.float32)
        return reward, np.zeros(reward.shape, np.bool_)

    def _check_goals(self, goals: Float, where: str) -> None:
        require_whole(goals, "the index of the correct point", where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        self._position[index] = START
        self._points[index] = rng.random((len(goals), self._points.shape[1]), np.float32)
        self._correct[index] = goals[:, 0].astype(np.int64)
        return self._observe(index, len(goals))

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        self._position[index] += MOVES[action]
        observation = self._observe(index, len(rows))
        reward = _near(observation)[np.arange(len(rows)), self._correct[index]].astype(np.float32)
        return observation, reward, np.zeros(len(rows), np.bool_)

    def _observe(self, index: Index, count: int) -> Float:
        observation = np.empty((count, 2 + self._points.shape[1]), np.float32)
        np.divide(self._position[index], np.float32(FIELD), out=observation[:, :2])
        observation[:, 2:] = self._points[index]
        return observation


def _near(observation: Float) -> Bool:
    """Which points are nearer than `RADIUS`, shape (..., K), by what an observation, shape (..., O), shows."""
    x = observation[..., 2::2] - observation[..., 0:1]
    y = observation[..., 3::2] - observation[..., 1:2]
    near: Bool = x * x + y * y < np.float32((RADIUS / FIELD) ** 2)
    return near


def draw_movement_bandit_goals(count: int, rng: np.random.Generator, *, points: int = POINTS) -> Float:
    """Indices of the correct point, uniform, with replacement, shape (count, 1)."""
    return rng.integers(points, size=(count, 1)).astype(np.float32)


def make_movement_bandit_tasks(num_train: int, num_test: int, seed: int, *, points: int = POINTS) -> TaskSet:
    """Divides the tasks, one per point; see `split_tasks`."""
    goals = np.arange(points, dtype=np.float32)[:, None]
    return split_tasks(f"movement-bandit-{points}", goals, num_train, num_test, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementBandits:
    """MovementBandits as published, trained and tested on both tasks: it measures adapting, no held-out task."""

    num_train: int = field(default=POINTS, metadata=ONLY_TASKS)
    """Train tasks: the two in turn."""

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return "movement-bandits"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return movement_bandit_spec()

    def make(self, rows: int, threads: int = 1) -> MovementBanditBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return MovementBanditBatch(rows)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        both = np.arange(POINTS, dtype=np.float32)[:, None]
        return repeat_tasks("movement-bandits-both", np.resize(both, (self.num_train, 1)), both)
