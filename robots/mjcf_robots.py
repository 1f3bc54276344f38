"""Rows of robots of a user's MuJoCo model that reach for places or poses.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import mujoco
import numpy as np
from numpy.typing import NDArray

from .array_robots import Index
from .mjcf_anatomy import Anatomy, Whole
from .mujoco_robots import Double, MujocoRobots, compute_distance
from .robot import Bool, Float, Rows, require_rows
from .spec import RobotSpec

_NO_GOAL = 1e6
"""Far from everything, m or rad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a task pays: within a radius of the goal, or for being near it."""

    columns: Whole
    """Of the observation: what is compared with the goal, shape (G,)."""
    radius: float
    """Distance at which the goal counts as reached, m or rad."""
    dense: bool
    """Minus the distance, and no end; else 1 within the radius, which ends the episode."""

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """Reward and termination, shapes (...), of observations, shape (..., O), and goals, shape (..., G)."""
        distance = compute_distance(observation[..., self.columns], goals)
        if self.dense:
            return -distance, np.zeros(distance.shape, np.bool_)
        reached = self.is_success(distance)
        return reached.astype(np.float32), reached

    def is_success(self, distance: Float) -> Bool:
        """Whether a goal at this distance counts as reached."""
        success: Bool = distance <= np.float32(self.radius)
        return success


@final
class MjcfRobots(MujocoRobots):
    """Rows of robots of one model.

    Args:
        spec: The contract of every row.
        anatomy: Of the model.
        reach: What a task pays.
        rows: Number of robots, R.
        frame_skip: Physics steps per action.
        reset_noise: Half width of the uniform noise on hinge and slide joints at the start, rad or m.
        threads: Physics threads; the result does not depend on them.
        forces: Whether `load` is asked for after each step.

    Raises:
        ConfigError: There are no rows, threads or physics steps.
    """

    def __init__(
        self,
        spec: RobotSpec,
        anatomy: Anatomy,
        reach: Reach,
        rows: int,
        *,
        frame_skip: int,
        reset_noise: float,
        threads: int = 1,
        forces: bool = False,
    ) -> None:
        stage = max(int(anatomy.stage), int(mujoco.mjtStage.mjSTAGE_VEL) if forces else 0)
        super().__init__(
            spec, anatomy.model, rows, frame_skip=frame_skip, threads=threads, stage=mujoco.mjtStage(stage)
        )
        self.anatomy = anatomy
        self._reach, self._reset_noise = reach, reset_noise
        self._places = [(self._batch.bind(frame.array), frame.row) for frame in anatomy.frames]
        self._sensors = self._batch.bind("sensordata") if len(anatomy.readings) else None
        self._load = (self._batch.bind("qfrc_bias"), self._batch.bind("qfrc_passive")) if forces else None

    @property
    def state(self) -> tuple[Double, Double]:
        """qpos, shape (R, nq), and qvel, shape (R, nv); copies."""
        return self._qpos.copy(), self._qvel.copy()

    def load(self) -> Double:
        """Forces that hold each degree of freedom against gravity, motion, springs and friction, shape (R, nv)."""
        assert self._load is not None, "made without forces"
        bias, passive = self._load
        load: Double = bias - passive
        return load

    def reset_to(self, rows: Rows, observation: Float) -> Float:
        """Starts an episode from observed joints, without a goal; the others stand as at the start.

        Args:
            rows: Row indices, shape (r,), strictly increasing.
            observation: Shape (r, O).

        Returns:
            The observations now, shape (r, O).

        Raises:
            SpecError: The rows are not increasing or not there, or the observation is not one per row or not finite.
        """
        where = f"{self._spec.name} reset_to"
        rows = require_rows(rows, self.rows, where)
        observed = self._spec.observation.require_rows(observation, len(rows), where).astype(np.float64)
        qpos, qvel = self._start(len(rows))
        count = len(self.anatomy.positions)
        qpos[:, self.anatomy.positions] = observed[:, :count]
        qvel[:, self.anatomy.velocities] = observed[:, count : count + len(self.anatomy.velocities)]
        index = self._index(rows)
        self._goal[index], self._elapsed[index] = _NO_GOAL, 0
        self._place(index, qpos, qvel, keyframe=self.anatomy.keyframe)
        return self._observe(index)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        seen = np.asarray(observation, np.float32)[..., None, :]
        return self._reach.compute_reward(seen, np.asarray(goals, np.float32))

    def _start(self, count: int) -> tuple[Double, Double]:
        """Qpos and qvel of the start without noise, (count, nq) and (count, nv)."""
        model, keyframe = self.anatomy.model, self.anatomy.keyframe
        qvel = np.zeros(model.nv) if keyframe < 0 else model.key_qvel[keyframe]
        return np.tile(self.anatomy.start, (count, 1)), np.tile(qvel, (count, 1))

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        qpos, qvel = self._start(len(goals))
        model, joints = self.anatomy.model, self.anatomy.scalar
        columns = model.jnt_qposadr[joints]
        noisy = qpos[:, columns] + rng.uniform(-self._reset_noise, self._reset_noise, (len(goals), len(columns)))
        limited = model.jnt_limited[joints].astype(np.bool_)
        low, high = np.where(limited, model.jnt_range[joints].T, [[-np.inf], [np.inf]])
        qpos[:, columns] = np.clip(noisy, low, high)
        self._place(index, qpos, qvel, keyframe=self.anatomy.keyframe)
        return self._observe(index)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        control = self._ctrl[index].copy()
        control[:, self.anatomy.actuators] = action
        self._simulate(rows, index, control)
        observation = self._observe(index)
        return observation, *self._reach.compute_reward(observation, self._goal[index])

    def _observe(self, index: Index) -> Float:
        """Shape (r, O), within the limits."""
        parts = [self._qpos[index][:, self.anatomy.positions], self._qvel[index][:, self.anatomy.velocities]]
        parts += [place[index][:, row] for place, row in self._places]
        if self._sensors is not None:
            parts.append(self._sensors[index][:, self.anatomy.readings])
        observation = np.concatenate(parts, axis=1).astype(np.float32)
        return np.clip(observation, self._spec.observation.low, self._spec.observation.high)
