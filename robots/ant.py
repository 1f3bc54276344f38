"""Ant, whose task is a direction to walk in or a place to walk to.

Sources: the robot is Gymnasium's Ant-v5 without contact forces (Towers et al., "Gymnasium: A Standard Interface for
Reinforcement Learning Environments", 2024), after Schulman et al., "High-Dimensional Continuous Control Using
Generalized Advantage Estimation", ICLR 2016: the model file of the installed Gymnasium, stepped and reset as there to
the bit. The tasks and rewards are those of the authors' code of Rakelly et al., "Efficient Off-Policy
Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019:

- direction: velocity along it + 1 - 0.5 |a|^2; the episode ends when the torso is not between 0.2 and 1 m high. Its
  direction is any angle; Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
  have two, along x, a control cost of 0.005 and 0.05 for being upright.
- goal: -|x - x*| - |y - y*| - 0.1 |a|^2, goals uniform in a disc of radius 3; nothing ends the episode. The observation
  then has the position, which a goal in the world needs.

Departure: the contact cost of that code, 0.0005 times the squared contact forces clipped at 1 (at most 0.042 a step),
is left out, and so are these forces in the observation of the goal task. That code ran on MuJoCo 1.5; since version 2
MuJoCo computes these forces on request only, and nothing here requests them.

The torso's position in the rewards is the one of MuJoCo's last physics step, as in both sources: up to one of five
physics steps behind the observation.

Axes: R rows, r rows of this call, O observation (27: qpos without x and y, then qvel; 29 with them), A = 8 action,
G = 2 goal: a unit vector, or a place in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, final

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .array_robots import Index
from .family import ONLY_TASKS
from .locomotion import FromGymnasium, LocomotionRobots, load_gymnasium_model, locomotion_spec
from .robot import Bool, Float, Rows
from .spec import Axis, RobotSpec
from .task_draws import DrawsTasks

MODEL = "ant"
"""Of Gymnasium."""
EPISODE_STEPS = 200
FRAME_SKIP = 5
GOAL_DISC = 3.0
"""Radius of the disc of goals, m."""
HEALTHY = (0.2, 1.0)
"""Height of an upright torso, m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ant:
    """One variant of the task."""

    name: str
    reward: Literal["direction", "goal"]
    """Velocity along a direction, or minus the L1 distance to a place."""
    control_cost: float
    """Of the squared length of the action."""
    healthy_reward: float = 0.0
    """For each step with the torso upright."""
    ends_unhealthy: bool = False
    """The episode ends when the torso is not upright."""


ANT_DIRECTION = Ant(name="ant_direction", reward="direction", control_cost=0.5, healthy_reward=1.0, ends_unhealthy=True)
ANT_GOAL = Ant(name="ant_goal", reward="goal", control_cost=0.1)


def ant_spec(variant: Ant, model: mujoco.MjModel, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of a variant on the compiled model."""
    unit, extent = ("1", 1.0) if variant.reward == "direction" else ("m", GOAL_DISC)
    goal = tuple(Axis(name, unit, -extent, extent) for name in ("x", "y"))
    hidden = 2 if variant.reward == "direction" else 0  # x and y where the task does not depend on them
    return locomotion_spec(variant.name, model, goal, hidden, FRAME_SKIP, episode_steps)


@final
class AntBatch(LocomotionRobots):
    """Rows of ants.

    Args:
        variant: The task.
        rows: Number of ants, R.
        threads: Physics threads; the result does not depend on them.
        episode_steps: Time limit, actions.

    Raises:
        ConfigError: There are no rows or threads.
        SpecError: There are no steps.
    """

    def __init__(self, variant: Ant, rows: int, *, threads: int = 1, episode_steps: int = EPISODE_STEPS) -> None:
        model = load_gymnasium_model(MODEL)
        spec = ant_spec(variant, model, episode_steps)
        super().__init__(spec, model, rows, frame_skip=FRAME_SKIP, threads=threads)
        self.variant = variant
        self._torso = self._batch.bind("xpos")[:, model.body("torso").id, :2]

    def _check_goals(self, goals: Float, where: str) -> None:
        length = np.linalg.norm(goals, axis=1)
        wrong = np.abs(length - 1.0) > 1e-4 if self.variant.reward == "direction" else length > GOAL_DISC + 1e-4
        if wrong.any():
            what = (
                "a direction of length 1" if self.variant.reward == "direction" else f"a place within {GOAL_DISC:g} m"
            )
            raise SpecError(f"{where}: expected {what}, got {goals[wrong][0].tolist()}; scale the goal")

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        before = self._torso[index].copy()
        self._simulate(rows, index, action)
        after, goal = self._torso[index], self._goal[index].astype(np.float64)
        if self.variant.reward == "direction":
            walk = ((after - before) * goal).sum(axis=1) / self._spec.control_period
        else:
            walk = -np.abs(after - goal).sum(axis=1)
        height = self._qpos[index][:, 2]
        healthy = (height >= HEALTHY[0]) & (height <= HEALTHY[1])
        cost = self.variant.control_cost * np.square(action, dtype=np.float64).sum(axis=1)
        reward = walk + self.variant.healthy_reward * healthy - cost
        return self._observe(index), reward.astype(np.float32), ~healthy & self.variant.ends_unhealthy


def draw_ant_goals(variant: Ant, count: int, rng: np.random.Generator) -> Float:
    """Directions uniform in angle, or places uniform in the disc, shape (count, 2)."""
    angle = 2.0 * np.pi * rng.random(count)
    radius = 1.0 if variant.reward == "direction" else GOAL_DISC * np.sqrt(rng.random(count))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ants(DrawsTasks, FromGymnasium):
    """Ants that walk in a direction or to a place; both are held out."""

    variant: Ant = ANT_GOAL
    num_train: int = field(default=150, metadata=ONLY_TASKS)
    """As Rakelly et al. for goals."""
    num_test: int = field(default=30, metadata=ONLY_TASKS)
    """As Rakelly et al. for goals."""
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return ant_spec(self.variant, load_gymnasium_model(MODEL))

    def make(self, rows: int, threads: int = 1) -> AntBatch:
        """See `RobotFamily.make`."""
        return AntBatch(self.variant, rows, threads=threads)

    def draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """See `draw_ant_goals`."""
        return draw_ant_goals(self.variant, count, rng)
