"""Rows of MuJoCo robots of one model: stepped on MuJoCo's batch, with the checks and the clock of `ArrayRobots`.

Stepping is bit for bit that of one `mj_step` loop per robot, at any number of threads (tested against Gymnasium).

Axes: R rows, r rows of this call, U actuators, D dimensions of a place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Literal

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ..errors import ConfigError, RobotFault
from .array_robots import ArrayRobots, Index
from .robot import Float, Rows
from .spec import Axis, RobotSpec

Double = NDArray[np.float64]

_DIVERGED = [
    int(kind)
    for kind in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
"""MuJoCo's warnings of a state that is not finite or huge; it then puts the robot back to its first state."""


_LOG = logging.getLogger(__name__)
_SAID: set[str] = set()


def _note(text: str) -> None:
    """Says each kind of warning once, whatever its numbers are; MuJoCo calls it from any thread."""
    kind = re.sub(r"[-+.\d]+", "", text)
    if kind not in _SAID:
        _SAID.add(kind)
        _LOG.warning("MuJoCo: %s", text)


# MuJoCo would write MUJOCO_LOG.TXT into the folder where the program was started, line by line
mujoco.set_mju_user_warning(_note)


class MujocoRobots(ArrayRobots):
    """Rows of robots of one model; a family says how a row begins and what its reward is.

    Args:
        spec: The contract of every row.
        model: The compiled model; it is copied.
        rows: Number of robots, R.
        frame_skip: Physics steps per action.
        threads: Physics threads; the result does not depend on them.
        stage: What MuJoCo computes at the end of an action, for families that read more than the state: places need
            its positions, sensors of forces its accelerations.

    Raises:
        ConfigError: There are no rows, threads or physics steps.
    """

    def __init__(
        self,
        spec: RobotSpec,
        model: mujoco.MjModel,
        rows: int,
        *,
        frame_skip: int,
        threads: int = 1,
        stage: mujoco.mjtStage = mujoco.mjtStage.mjSTAGE_NONE,
    ) -> None:
        super().__init__(spec, rows)
        for what, value in (("threads", threads), ("frame_skip", frame_skip)):
            if value < 1:
                raise ConfigError(f"{spec.name} {what}: expected at least 1, got {value}; raise it")
        self._frame_skip, self._stage = frame_skip, stage
        self._batch = Batch(model, rows, threads)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")

    def _place(self, index: Index, qpos: Double, qvel: Double, *, keyframe: int = -1) -> None:
        """Puts rows at a state, forgets their past, and computes what follows from the state.

        Args:
            index: The rows.
            qpos: Shape (r, nq).
            qvel: Shape (r, nv).
            keyframe: Where all the rest of the state is from, controls included; -1 for the model's defaults.
        """
        rows = _numbers(index)
        self._batch.reset(rows, keyframe=keyframe, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._qpos[index] = qpos
        self._qvel[index] = qvel
        self._batch.forward(rows)

    def _simulate(self, rows: Rows, index: Index, ctrl: NDArray[np.floating[Any]]) -> None:
        """One control period with these controls, shape (r, U).

        Raises:
            RobotFault: The physics of a row diverged.
        """
        self._ctrl[index] = ctrl
        self._batch.step(_numbers(index), nstep=self._frame_skip, stage=self._stage)
        diverged = self._batch.warning[index][:, _DIVERGED, 1].any(axis=1)
        if diverged.any():
            raise RobotFault(
                f"{self._spec.name} step: expected finite physics, got a state that is not finite or huge in row "
                f"{rows[diverged][0]}; reset the row, and lower the limits of the action, the gains or the timestep of "
                "the model if it happens again"
            )


def _numbers(index: Index) -> Rows | None:
    """Rows as MuJoCo's batch takes them."""
    return None if isinstance(index, slice) else index


def compute_distance(place: Float, goal: Float) -> Float:
    """Distance of two places, shape (...), of shapes (..., D); in float32 throughout, so that all callers agree."""
    difference = place - goal
    distance: Float = np.sqrt(sum(difference[..., axis] * difference[..., axis] for axis in range(goal.shape[-1])))
    return distance


def name_joint(model: mujoco.MjModel, joint: int) -> str:
    """The name of a joint, `joint<index>` where the model gives none."""
    return model.joint(joint).name or f"joint{joint}"


def name_actuator(model: mujoco.MjModel, actuator: int) -> str:
    """The name of an actuator; where the model gives none, that of its joint, or else `actuator<index>`.

    Of several without a name at one joint, as a position and a velocity servo may be, the first has the joint's, unless
    another is called so.
    """
    name = str(model.actuator(actuator).name)
    if name or not _drives_joint(model, actuator):
        return name or f"actuator{actuator}"
    joint = int(model.actuator_trnid[actuator, 0])
    names = [model.actuator(index).name for index in range(model.nu)]
    before = [index for index in range(actuator) if _drives_joint(model, index) and not names[index]]
    free = name_joint(model, joint) not in names and joint not in model.actuator_trnid[before, 0]
    return name_joint(model, joint) if free else f"actuator{actuator}"


def joint_unit(model: mujoco.MjModel, joint: int) -> str:
    """`m` or `rad`."""
    return "m" if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE else "rad"


def position_axes(model: mujoco.MjModel, joints: Sequence[int] | None = None) -> tuple[Axis, ...]:
    """The axes of qpos, quaternions as wxyz, without limits: those of joints are soft.

    Args:
        model: The model.
        joints: Indices of joints; None for all.
    """
    return _state_axes(model, joints, ("x", "y", "z"), ("qw", "qx", "qy", "qz"), ("m", "1"), ("", ""))


def velocity_axes(model: mujoco.MjModel, joints: Sequence[int] | None = None) -> tuple[Axis, ...]:
    """The axes of qvel, without limits; angular velocities of free and ball joints stand in the frame of the body.

    Args:
        model: The model.
        joints: Indices of joints; None for all.
    """
    return _state_axes(model, joints, ("vx", "vy", "vz"), ("wx", "wy", "wz"), ("m/s", "rad/s"), ("_v", "/s"))


def _state_axes(
    model: mujoco.MjModel,
    joints: Sequence[int] | None,
    moves: Sequence[str],
    turns: Sequence[str],
    units: tuple[str, str],
    rate: tuple[str, str],
) -> tuple[Axis, ...]:
    """Of qpos or qvel.

    Args:
        model: The model.
        joints: Indices of joints; None for all.
        moves: What the place of a free joint has.
        turns: What the turn of a free or ball joint has.
        units: Of both.
        rate: Ends of the name and of the unit of all other joints.
    """
    axes: list[tuple[str, str]] = []
    for joint in range(model.njnt) if joints is None else joints:
        name, kind = name_joint(model, joint), int(model.jnt_type[joint])
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            axes += [(f"{name}_{move}", units[0]) for move in moves]
        if kind in _TURNING:
            axes += [(f"{name}_{turn}", units[1]) for turn in turns]
        else:
            axes.append((name + rate[0], joint_unit(model, joint) + rate[1]))
    return tuple(Axis(name, unit, -np.inf, np.inf) for name, unit in axes)


def action_axes(model: mujoco.MjModel, actuators: Sequence[int] | None = None) -> tuple[Axis, ...]:
    """One axis per actuator with the limits of its control, in the unit of what it commands at its joint.

    A motor commands a torque or a force, a position servo an angle or a place, a velocity servo its speed. The unit
    holds the scale where the control is another number, as `150 N m`, and is 1 for whatever else MuJoCo drives.

    Args:
        model: The model.
        actuators: Their indices; None for all.
    """
    chosen = range(model.nu) if actuators is None else actuators
    limits = {index: map(float, model.actuator_ctrlrange[index]) for index in chosen}
    return tuple(
        Axis(name_actuator(model, index), _command_unit(model, index), low, high)
        for index, (low, high) in limits.items()
    )


def sensor_axes(model: mujoco.MjModel, sensors: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of the readings of sensors, in MuJoCo's frames; a cutoff is a limit."""
    axes = []
    for index in sensors:
        size, cutoff = int(model.sensor_dim[index]), float(model.sensor_cutoff[index])
        name = model.sensor(index).name or f"sensor{index}"
        ends = {1: ("",), 3: ("_x", "_y", "_z"), 4: ("_w", "_x", "_y", "_z")}
        bounded = cutoff > 0.0 and int(model.sensor_datatype[index]) in _CUT
        limit = cutoff if bounded else np.inf
        for end in ends.get(size) or tuple(f"_{place}" for place in range(size)):
            axes.append(Axis(name + end, _sensor_unit(model, index), -limit, limit))
    return tuple(axes)


def _sensor_unit(model: mujoco.MjModel, index: int) -> str:
    kind = mujoco.mjtSensor(int(model.sensor_type[index])).name.removeprefix("mjSENS_")
    if kind in ("JOINTPOS", "JOINTVEL"):
        return joint_unit(model, int(model.sensor_objid[index])) + ("/s" if kind == "JOINTVEL" else "")
    return _SENSOR_UNITS.get(kind, "1")


def _command_unit(model: mujoco.MjModel, index: int) -> str:
    kind = command_kind(model, index)
    if kind is None:
        return "1"
    unit = joint_unit(model, int(model.actuator_trnid[index, 0]))
    gear, gain = float(model.actuator_gear[index, 0]), float(model.actuator_gainprm[index, 0])
    if kind == "force":
        unit, scale = "N m" if unit == "rad" else "N", gear * gain
    else:
        unit, scale = unit if kind == "position" else f"{unit}/s", 1.0 / gear
    return unit if scale == 1.0 else f"{scale:g} {unit}"


def command_kind(model: mujoco.MjModel, index: int) -> Literal["force", "position", "velocity"] | None:
    """What the control of an actuator commands at a hinge or slide joint; None where it is something else."""
    if not _drives_joint(model, index) or model.actuator_gear[index, 0] == 0.0:
        return None
    return actuator_kind(model, index)


def actuator_kind(model: mujoco.MjModel, index: int) -> Literal["force", "position", "velocity"] | None:
    """What the control of an actuator commands, whatever it acts on; a position is its length in MuJoCo."""
    gain, bias = model.actuator_gainprm[index, 0], model.actuator_biasprm[index]
    dynamics = model.actuator_dyntype[index]
    if model.actuator_gaintype[index] != mujoco.mjtGain.mjGAIN_FIXED or gain == 0.0:
        return None
    if model.actuator_biastype[index] == mujoco.mjtBias.mjBIAS_NONE:
        return "force" if dynamics == mujoco.mjtDyn.mjDYN_NONE else None
    if model.actuator_biastype[index] != mujoco.mjtBias.mjBIAS_AFFINE or bias[0] != 0.0:
        return None
    if bias[1] == -gain:  # a servo; an integrator before it makes its control a speed
        return "velocity" if dynamics == mujoco.mjtDyn.mjDYN_INTEGRATOR else "position"
    return "velocity" if bias[1] == 0.0 and bias[2] == -gain and dynamics == mujoco.mjtDyn.mjDYN_NONE else None


def _drives_joint(model: mujoco.MjModel, index: int) -> bool:
    """Whether the actuator acts on a hinge or slide joint."""
    if int(model.actuator_trntype[index]) not in _AT_JOINT:
        return False
    return int(model.jnt_type[model.actuator_trnid[index, 0]]) not in _TURNING


_TURNING = (int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL))
"""Joints with a quaternion."""
_CUT = (int(mujoco.mjtDataType.mjDATATYPE_REAL), int(mujoco.mjtDataType.mjDATATYPE_POSITIVE))
"""Readings that MuJoCo cuts off."""
_SENSOR_UNITS = {
    "TOUCH": "N",
    "ACCELEROMETER": "m/s^2",
    "VELOCIMETER": "m/s",
    "GYRO": "rad/s",
    "FORCE": "N",
    "TORQUE": "N m",
    "MAGNETOMETER": "T",
    "RANGEFINDER": "m",
    "TENDONPOS": "m",
    "TENDONVEL": "m/s",
    "BALLANGVEL": "rad/s",
    "FRAMEPOS": "m",
    "FRAMELINVEL": "m/s",
    "FRAMEANGVEL": "rad/s",
    "FRAMELINACC": "m/s^2",
    "FRAMEANGACC": "rad/s^2",
    "SUBTREECOM": "m",
    "SUBTREELINVEL": "m/s",
    "CLOCK": "s",
}
"""By the end of MuJoCo's name; the unit of all others depends on the model, or is none."""
_AT_JOINT = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
