"""HalfCheetah, whose task is a direction or a velocity to run at.

Sources: the robot is Gymnasium's HalfCheetah-v5 (Towers et al., "Gymnasium: A Standard Interface for Reinforcement
Learning Environments", 2024), after Wawrzynski, "A cat-like robot real-time learning to run", 2009: the model file of
the installed Gymnasium, stepped and reset as there to the bit. The tasks are those of Finn et al., "Model-Agnostic
Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section 5.3, with the rewards of the authors' code:
direction * velocity - 0.05 |a|^2, and -|velocity - v*| - 0.05 |a|^2 with v* from U[0, 2]. Rakelly et al., "Efficient
Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019, take the same rewards, and v*
from U[0, 3].

There are two control periods in the literature. Gymnasium, Rakelly et al. and most others hold an action for 5 physics
steps (50 ms); the code of Finn et al. holds it for one (10 ms), so that its 200 steps are 2 s and its returns are not
comparable. Departures from that code: the velocity is that of the torso's origin (there: of the centre of mass), the
observation lacks the centre of mass, and the start is Gymnasium's.

Axes: R rows, r rows of this call, O = 17 observation (qpos without x, then qvel), A = 6 action, G = 1 goal.
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
from .task import TaskSet
from .task_draws import DrawsTasks, repeat_tasks

MODEL = "half_cheetah"
"""Of Gymnasium."""
EPISODE_STEPS = 200
CONTROL_COST = 0.05
"""Of the squared length of the action (Finn et al., Rakelly et al.; Gymnasium: 0.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheetah:
    """One variant of the task."""

    name: str
    reward: Literal["direction", "velocity"]
    """Velocity times the direction, or minus the distance to the goal velocity."""
    frame_skip: int = 5
    """Physics steps of 10 ms per action."""
    top_speed: float = 2.0
    """Goal velocities are drawn from 0 to this, m/s; of no meaning to directions."""


CHEETAH_DIRECTION = Cheetah(name="cheetah_direction", reward="direction")
CHEETAH_VELOCITY = Cheetah(name="cheetah_velocity", reward="velocity")
CHEETAH_DIRECTION_10MS = Cheetah(name="cheetah_direction_10ms", reward="direction", frame_skip=1)
"""Stepped as in the code of Finn et al."""
CHEETAH_VELOCITY_10MS = Cheetah(name="cheetah_velocity_10ms", reward="velocity", frame_skip=1)
"""Stepped as in the code of Finn et al."""
CHEETAH_VELOCITY_3 = Cheetah(name="cheetah_velocity_3", reward="velocity", top_speed=3.0)
"""The goals of Rakelly et al."""


def cheetah_spec(variant: Cheetah, model: mujoco.MjModel, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of a variant on the compiled model."""
    if variant.reward == "direction":
        goal = Axis("direction", "1", -1.0, 1.0)
    else:
        goal = Axis("velocity", "m/s", 0.0, variant.top_speed)
    return locomotion_spec(variant.name, model, (goal,), 1, variant.frame_skip, episode_steps)


@final
class CheetahBatch(LocomotionRobots):
    """Rows of cheetahs.

    Args:
        variant: The task.
        rows: Number of cheetahs, R.
        threads: Physics threads; the result does not depend on them.
        episode_steps: Time limit, actions.

    Raises:
        ConfigError: There are no rows, threads or physics steps.
        SpecError: There are no steps.
    """

    def __init__(self, variant: Cheetah, rows: int, *, threads: int = 1, episode_steps: int = EPISODE_STEPS) -> None:
        model = load_gymnasium_model(MODEL)
        spec = cheetah_spec(variant, model, episode_steps)
        super().__init__(spec, model, rows, frame_skip=variant.frame_skip, threads=threads)
        self.variant = variant

    def _check_goals(self, goals: Float, where: str) -> None:
        if self.variant.reward == "direction" and (np.abs(goals) != 1.0).any():
            wrong = float(goals[np.abs(goals) != 1.0][0])
            raise SpecError(f"{where}: expected the direction 1 or -1, got {wrong:g}; choose one of them")

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        before = self._qpos[index][:, 0].copy()
        self._simulate(rows, index, action)
        velocity = (self._qpos[index][:, 0] - before) / self._spec.control_period
        goal = self._goal[index, 0].astype(np.float64)
        run = goal * velocity if self.variant.reward == "direction" else -np.abs(velocity - goal)
        reward = run - CONTROL_COST * np.square(action, dtype=np.float64).sum(axis=1)
        return self._observe(index), reward.astype(np.float32), np.zeros(len(rows), np.bool_)


DIRECTIONS = np.array([[1.0], [-1.0]], np.float32)
"""Both tasks of a variant with directions, shape (2, 1); no task can be held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheetahs(DrawsTasks, FromGymnasium):
    """HalfCheetah. Velocities are held out; of the two directions none can be, so that they measure adaptation only."""

    variant: Cheetah = CHEETAH_VELOCITY
    num_train: int = field(default=100, metadata=ONLY_TASKS)
    """Velocities to train on (Rakelly et al.); directions are repeated up to this number."""
    num_test: int = field(default=30, metadata=ONLY_TASKS)
    """Velocities to test on (Rakelly et al.)."""
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return cheetah_spec(self.variant, load_gymnasium_model(MODEL))

    def make(self, rows: int, threads: int = 1) -> CheetahBatch:
        """See `RobotFamily.make`."""
        return CheetahBatch(self.variant, rows, threads=threads)

    def draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """Velocities from U[0, top_speed], shape (count, 1)."""
        return (self.variant.top_speed * rng.random((count, 1))).astype(np.float32)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        if self.variant.reward != "direction":
            return DrawsTasks.tasks(self)  # `super` does not find it: a dataclass with slots is made anew
        train = np.tile(DIRECTIONS, (-(-self.num_train // 2), 1))
        return repeat_tasks(f"{self.name}-both", train, DIRECTIONS)
