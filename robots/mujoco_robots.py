"""Rows of MuJoCo robots of one model: stepped on MuJoCo's batch, with the checks and the clock of `ArrayRobots`.

Stepping is bit for bit that of one `mj_step` loop per robot, at any number of threads (tested against Gymnasium).

Axes: R rows, r rows of this call, U actuators.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ..errors import ConfigError, RobotFault
from .array_robots import ArrayRobots, Index
from .robot import Rows
from .spec import Axis, RobotSpec

Double = NDArray[np.float64]

RESET_NOISE = 0.1
"""Of Gymnasium's locomotion robots: half width of the uniform positions, scale of the normal velocities."""

_DIVERGED = [
    int(kind)
    for kind in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
"""MuJoCo's warnings of a state that is not finite or huge; it then puts the robot back to its first state."""


def load_gymnasium_model(name: str) -> mujoco.MjModel:
    """Compiles a model of the installed Gymnasium, e.g. `ant`.

    Equal to the bit to what Gymnasium compiles. The total mass is set after compilation, since the attribute that sets
    it in the file is deprecated and warns.

    Args:
        name: File name in Gymnasium's assets, without the ending.
    """
    with as_file(files("gymnasium").joinpath("envs", "mujoco", "assets", f"{name}.xml")) as path:
        spec = mujoco.MjSpec.from_file(str(path))
    total = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1.0
    model = spec.compile()
    if total > 0.0:
        mujoco.mj_setTotalmass(model, total)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


class MujocoRobots(ArrayRobots):
    """Rows of robots of one model; a family says how a row begins and what its reward is.

    Args:
        spec: The contract of every row.
        model: The compiled model; it is copied.
        rows: Number of robots, R.
        frame_skip: Physics steps per action.
        threads: Physics threads; the result does not depend on them.

    Raises:
        ConfigError: There are no rows, threads or physics steps.
    """

    def __init__(self, spec: RobotSpec, model: mujoco.MjModel, rows: int, *, frame_skip: int, threads: int = 1) -> None:
        super().__init__(spec, rows)
        for what, value in (("threads", threads), ("frame_skip", frame_skip)):
            if value < 1:
                raise ConfigError(f"{spec.name} {what}: expected at least 1, got {value}; raise it")
        self._frame_skip = frame_skip
        self._batch = Batch(model, rows, threads)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")

    def _draw_noise(self, count: int, rng: np.random.Generator) -> tuple[Double, Double]:
        """Positions and velocities of a start as Gymnasium draws them for one robot, (count, nq) and (count, nv)."""
        qpos = self._batch.model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, (count, self._qpos.shape[1]))
        return qpos, RESET_NOISE * rng.standard_normal((count, self._qvel.shape[1]))

    def _place(self, index: Index, qpos: Double, qvel: Double) -> None:
        """Puts rows at a state, forgets their past, and computes what follows from the state."""
        rows = _numbers(index)
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._qpos[index] = qpos
        self._qvel[index] = qvel
        self._batch.forward(rows)

    def _simulate(self, rows: Rows, index: Index, ctrl: NDArray[np.float32]) -> None:
        """One control period with these controls, shape (r, U).

        Raises:
            RobotFault: The physics of a row diverged.
        """
        self._ctrl[index] = ctrl
        self._batch.step(_numbers(index), nstep=self._frame_skip)
        diverged = self._batch.warning[index][:, _DIVERGED, 1].any(axis=1)
        if diverged.any():
            raise RobotFault(
                f"{self._spec.name} step: expected finite physics, got a state that is not finite or huge in row "
                f"{rows[diverged][0]}; reset the row, and lower the limits of the action if it happens again"
            )


def _numbers(index: Index) -> Rows | None:
    """Rows as MuJoCo's batch takes them."""
    return None if isinstance(index, slice) else index


def position_axes(model: mujoco.MjModel) -> tuple[Axis, ...]:
    """The axes of qpos, without limits: those of joints are soft."""
    axes: list[tuple[str, str]] = []
    for joint in map(model.joint, range(model.njnt)):
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            axes += [(f"{joint.name}_{name}", "m") for name in "xyz"]
            axes += [(f"{joint.name}_q{name}", "1") for name in "wxyz"]
        else:
            axes.append((joint.name, "m" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "rad"))
    return _unlimited(axes)


def velocity_axes(model: mujoco.MjModel) -> tuple[Axis, ...]:
    """The axes of qvel, without limits; of a free joint the angular velocity stands in the frame of its body."""
    axes: list[tuple[str, str]] = []
    for joint in map(model.joint, range(model.njnt)):
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            axes += [(f"{joint.name}_v{name}", "m/s") for name in "xyz"]
            axes += [(f"{joint.name}_w{name}", "rad/s") for name in "xyz"]
        else:
            slides = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
            axes.append((f"{joint.name}_v", "m/s" if slides else "rad/s"))
    return _unlimited(axes)


def action_axes(model: mujoco.MjModel) -> tuple[Axis, ...]:
    """One axis per motor, named as its joint, in units of its gear."""
    axes = []
    for motor in map(model.actuator, range(model.nu)):
        low, high = (float(limit) for limit in motor.ctrlrange)
        axes.append(Axis(model.joint(int(motor.trnid[0])).name, f"{motor.gear[0]:g} N m", low, high))
    return tuple(axes)


def _unlimited(axes: list[tuple[str, str]]) -> tuple[Axis, ...]:
    return tuple(Axis(name, unit, -np.inf, np.inf) for name, unit in axes)
