"""A point in the plane that moves to a goal it is not shown, in the variants of three papers.

Sources: `NAVIGATION_2D` is the 2D navigation of Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, section 5.3. `POINT_ROBOT`, `SEMICIRCLE` and `SPARSE_SEMICIRCLE` are the point robots of Rakelly
et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019, with the
numbers of the authors' code. Sparse goals on a semicircle come from Gupta et al., "Meta-Reinforcement Learning of
Structured Exploration Strategies", NeurIPS 2018.

Actions are normalised, as the authors' wrappers do: the point moves by 0.1 times the action. The two semicircles differ
in the reward alone, so that `compute_reward` of the one relabels the transitions of the other (a learner may train on
the dense reward and infer from the sparse one).

Axes: R rows, r rows of this call, N tasks, O = A = G = 2 [x, y]; lengths have no unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from .array_robots import ArrayRobots, Index
from .family import ONLY_TASKS, Draws, Scene
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec
from .task_draws import DrawsTasks

STEP = 0.1
"""Distance that the action 1 moves the point along an axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Navigation:
    """One variant of the task."""

    name: str
    goals: Literal["square", "semicircle"]
    """Goals uniform in a square around the origin, or uniform in angle on the upper half of a circle."""
    goal_extent: float
    """Half the side of the square, or the radius of the circle."""
    episode_steps: int
    start_extent: float = 0.0
    """Half the side of the square of random starts; 0 starts at the origin."""
    end_extent: float = 0.0
    """The episode ends when both coordinates are nearer to the goal than this; 0 never ends it."""
    reward_radius: float | None = None
    """None rewards with minus the distance; else with 1 minus the distance up to this distance, and 0 beyond."""


NAVIGATION_2D = Navigation(name="navigation_2d", goals="square", goal_extent=0.5, episode_steps=100, end_extent=0.01)
POINT_ROBOT = Navigation(name="point_robot", goals="square", goal_extent=1.0, episode_steps=20, start_extent=1.0)
SEMICIRCLE = Navigation(name="semicircle", goals="semicircle", goal_extent=1.0, episode_steps=20)
SPARSE_SEMICIRCLE = Navigation(
    name="sparse_semicircle", goals="semicircle", goal_extent=1.0, episode_steps=20, reward_radius=0.2
)


def navigation_spec(variant: Navigation, episode_steps: int | None = None) -> RobotSpec:
    """The contract of a variant; `episode_steps` replaces its time limit."""
    extent = variant.goal_extent
    lowest = 0.0 if variant.goals == "semicircle" else -extent
    return RobotSpec(
        name=variant.name,
        observation=ArraySpec("observation", tuple(Axis(name, "1", -np.inf, np.inf) for name in ("x", "y"))),
        action=ArraySpec("action", tuple(Axis(name, "0.1", -1.0, 1.0) for name in ("dx", "dy"))),
        goal=ArraySpec("goal", (Axis("x", "1", -extent, extent), Axis("y", "1", lowest, extent))),
        control_period=1.0,
        episode_steps=variant.episode_steps if episode_steps is None else episode_steps,
    )


@final
class NavigationBatch(ArrayRobots):
    """Rows of points.

    Args:
        variant: The task.
        rows: Number of points, R.
        episode_steps: Time limit; None takes the variant's.

    Raises:
        ConfigError: There are no rows.
        SpecError: There are no steps.
    """

    def __init__(self, variant: Navigation, rows: int, *, episode_steps: int | None = None) -> None:
        super().__init__(navigation_spec(variant, episode_steps), rows)
        self.variant = variant
        self._position = np.zeros((rows, 2), np.float32)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._judge(np.asarray(observation, np.float32)[..., None, :], np.asarray(goals, np.float32))

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        # drawn in any case, so that variants that differ in the start alone draw the same numbers afterwards
        position = np.float32(self.variant.start_extent) * (2.0 * rng.random((len(goals), 2), np.float32) - 1.0)
        self._position[index] = position
        return position

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        move: Float = action
        position = self._position[index] + np.float32(STEP) * move
        self._position[index] = position
        return position, *self._judge(position, self._goal[index])

    def _judge(self, position: Float, goal: Float) -> tuple[Float, Bool]:
        """Reward and termination at positions, shape (..., 2); in float32 throughout, so that all callers agree."""
        x, y = position[..., 0] - goal[..., 0], position[..., 1] - goal[..., 1]
        distance = np.sqrt(x * x + y * y)
        if self.variant.end_extent > 0.0:
            terminated = np.maximum(np.abs(x), np.abs(y)) < np.float32(self.variant.end_extent)
        else:
            terminated = np.zeros(distance.shape, np.bool_)
        if self.variant.reward_radius is None:
            return -distance, terminated
        return (1.0 - distance) * (distance <= np.float32(self.variant.reward_radius)), terminated


def draw_navigation_goals(variant: Navigation, count: int, rng: np.random.Generator) -> Float:
    """Goals of a variant, shape (count, 2).

    The authors of the semicircle space 100 goals evenly and split them at random; here angles are uniform.
    """
    if variant.goals == "square":
        return np.float32(variant.goal_extent) * (2.0 * rng.random((count, 2), np.float32) - 1.0)
    angle = np.pi * rng.random(count)
    goals = variant.goal_extent * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return goals.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointNavigation(DrawsTasks, Draws):
    """A point that has to find a goal in the plane."""

    variant: Navigation = NAVIGATION_2D
    num_train: int = field(default=2000, metadata=ONLY_TASKS)
    """Train goals; Finn et al. draw new ones for each meta-update."""
    num_test: int = field(default=40, metadata=ONLY_TASKS)
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return navigation_spec(self.variant)

    def make(self, rows: int, threads: int = 1) -> NavigationBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return NavigationBatch(self.variant, rows)

    def draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """See `draw_navigation_goals`."""
        return draw_navigation_goals(self.variant, count, rng)

    def scene(self) -> Scene:
        """See `Draws.scene`: the square around all goals and starts, and a margin of a quarter."""
        reach = 1.25 * max(self.variant.goal_extent, self.variant.start_extent)
        return Scene(
            axes=("x", "y"),
            goal_axes=("x", "y"),
            unit="1",
            limits=((-reach, reach), (-reach, reach)),
            goal_radius=self.variant.reward_radius,
            start=None if self.variant.start_extent > 0.0 else (0.0, 0.0),
        )
