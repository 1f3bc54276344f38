"""Where all that is observed and commanded stands in a MuJoCo model, and the poses that the model can be in.

Axes: O observation, A action, J hinge and slide joints, P poses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ..errors import ConfigError
from .mujoco_robots import (
    Double,
    action_axes,
    command_kind,
    joint_unit,
    name_actuator,
    name_joint,
    position_axes,
    sensor_axes,
    velocity_axes,
)
from .spec import Axis

Whole = NDArray[np.int64]

SOFT_LIMIT = 0.1
"""Of a joint's range: MuJoCo lets a joint run past its limits a little, so an observation may lie this far outside."""
POSES = 256
"""Random poses at a time."""
_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_SIZES = {  # of qpos and qvel
    int(mujoco.mjtJoint.mjJNT_FREE): (7, 6),
    int(mujoco.mjtJoint.mjJNT_BALL): (4, 3),
    int(mujoco.mjtJoint.mjJNT_HINGE): (1, 1),
    int(mujoco.mjtJoint.mjJNT_SLIDE): (1, 1),
}


class Frame(NamedTuple):
    """A site or a body of the model."""

    name: str
    array: Literal["site_xpos", "xpos"]
    """Where MuJoCo keeps its place."""
    row: int
    """... and in which row of it."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A compiled model, and where all that is observed and commanded stands in it.

    An observation holds positions of joints, their velocities, places of sites (x, y, z each) and readings of sensors.
    """

    model: mujoco.MjModel
    keyframe: int
    """Of the start; -1 for the model's default pose."""
    scalar: Whole
    """Indices of the J hinge and slide joints of the model, observed or not."""
    positions: Whole
    """Observed components of qpos."""
    velocities: Whole
    """Observed components of qvel."""
    frames: tuple[Frame, ...]
    """Observed places."""
    readings: Whole
    """Observed components of sensordata."""
    stage: mujoco.mjtStage
    """What MuJoCo has to compute for an observation."""
    actuators: Whole
    """Those that are commanded, A."""
    observation: tuple[Axis, ...]
    """O axes."""
    action: tuple[Axis, ...]
    """A axes."""

    @property
    def start(self) -> Double:
        """Qpos of the start without noise, shape (nq,)."""
        qpos: Double = (self.model.qpos0 if self.keyframe < 0 else self.model.key_qpos[self.keyframe]).copy()
        return qpos

    def pose_ranges(self) -> tuple[Double, Double]:
        """Lower and upper ends of the ranges of the J joints, shape (J,) each.

        A hinge without limits has -pi to pi; a slide joint without limits only its place at the start.
        """
        limited = self.model.jnt_limited[self.scalar].astype(np.bool_)
        turning = self.model.jnt_type[self.scalar] == int(mujoco.mjtJoint.mjJNT_HINGE)
        start = self.start[self.model.jnt_qposadr[self.scalar]]
        low, high = self.model.jnt_range[self.scalar].T
        return (
            np.where(limited, low, np.where(turning, -np.pi, start)),
            np.where(limited, high, np.where(turning, np.pi, start)),
        )

    def is_moved(self, frame: Frame) -> bool:
        """Whether one of the J joints moves a place."""
        model = self.model
        body = frame.row if frame.array == "xpos" else int(model.site_bodyid[frame.row])
        while body > 0:
            if any(int(model.jnt_bodyid[joint]) == body for joint in self.scalar):
                return True
            body = int(model.body_parentid[body])
        return False

    def list_open_slides(self, frame: Frame) -> list[str]:
        """Slide joints without a range that move a place, and that poses therefore leave where they are."""
        model = self.model
        chain, body = set(), frame.row if frame.array == "xpos" else int(model.site_bodyid[frame.row])
        while body > 0:
            chain.add(body)
            body = int(model.body_parentid[body])
        return [
            name_joint(model, joint)
            for joint in self.scalar.tolist()
            if int(model.jnt_bodyid[joint]) in chain
            and int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE)
            and not model.jnt_limited[joint]
        ]

    def draw_poses(self, rng: np.random.Generator, frame: Frame | None = None) -> Iterator[tuple[Double, Double]]:
        """Yields random poses without end: the J joints uniform in `pose_ranges`, all else as at the start.

        Poses in which more touches than at the start are left out.

        Args:
            rng: Source of the poses.
            frame: Whose place is computed.

        Yields:
            qpos, shape (P, nq), and places of the frame, m, shape (P, 3), or (P, 0) without one; P is at most `POSES`.
        """
        batch = Batch(self.model, POSES, 1)
        qpos, contacts = batch.bind("qpos"), batch.bind("ncon")
        place = np.empty((POSES, 0)) if frame is None else batch.bind(frame.array)[:, frame.row]
        qpos[:] = self.start
        batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS)
        touching = int(contacts.reshape(-1)[0])
        low, high = self.pose_ranges()
        columns = self.model.jnt_qposadr[self.scalar]
        while True:
            qpos[:, columns] = rng.uniform(low, high, (POSES, len(columns)))
            batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS)
            free = contacts.reshape(-1) <= touching
            yield qpos[free].copy(), place[free].copy()


def find_anatomy(
    model: mujoco.MjModel,
    where: str,
    *,
    joints: Sequence[str] | None,
    sites: Sequence[str],
    sensors: Sequence[str],
    actuators: Sequence[str] | None,
    keyframe: str | None,
) -> Anatomy:
    """The anatomy of a model by names; see the fields of `MjcfFamily`.

    Raises:
        ConfigError: A name is not in the model, or a commanded actuator has no limits.
    """
    joint_names = [name_joint(model, joint) for joint in range(model.njnt)]
    sensor_names = [model.sensor(index).name or f"sensor{index}" for index in range(model.nsensor)]
    actuator_names = [name_actuator(model, index) for index in range(model.nu)]
    keyframes = [model.key(index).name for index in range(model.nkey)]
    seen = find_names(joint_names if joints is None else joints, joint_names, f"{where} joints")
    read = find_names(sensors, sensor_names, f"{where} sensors")
    driven = find_names(actuator_names if actuators is None else actuators, actuator_names, f"{where} actuators")
    if not driven:
        raise ConfigError(f"{where} actuators: expected at least one, got none; add them to the model, or pass drives")
    for index in driven:
        low, high = model.actuator_ctrlrange[index]
        if not (model.actuator_ctrllimited[index] and -np.inf < low < high < np.inf):
            raise ConfigError(
                f"{where} actuators: expected limits of each control, got none for '{actuator_names[index]}'; write "
                "its ctrlrange in the model, or name the actuators to command without it"
            )
    frames = tuple(_find_frame(model, name, f"{where} sites") for name in sites)
    places = tuple(Axis(f"{frame.name}_{axis}", "m", -np.inf, np.inf) for frame in frames for axis in "xyz")
    positions = tuple(axis for joint in seen for axis in _limited_axes(model, joint))
    needs = [int(model.sensor_needstage[index]) for index in read]
    stage = max([*needs, int(mujoco.mjtStage.mjSTAGE_POS if frames else mujoco.mjtStage.mjSTAGE_NONE)])
    sizes = [_SIZES[int(model.jnt_type[joint])] for joint in seen]
    return Anatomy(
        model=model,
        keyframe=-1 if keyframe is None else find_names([keyframe], keyframes, f"{where} keyframe")[0],
        scalar=np.array([joint for joint in range(model.njnt) if int(model.jnt_type[joint]) in _SCALAR], np.int64),
        positions=_components(model.jnt_qposadr[seen], [size for size, _ in sizes]),
        velocities=_components(model.jnt_dofadr[seen], [size for _, size in sizes]),
        frames=frames,
        readings=_components(model.sensor_adr[read], model.sensor_dim[read].tolist()),
        stage=mujoco.mjtStage(stage),
        actuators=np.array(driven, np.int64),
        observation=(*positions, *velocity_axes(model, seen), *places, *sensor_axes(model, read)),
        action=tuple(
            _add_commanded(model, index, axis, [axis.name for axis in positions])
            for index, axis in zip(driven, action_axes(model, driven), strict=True)
        ),
    )


def _add_commanded(model: mujoco.MjModel, actuator: int, axis: Axis, positions: Sequence[str]) -> Axis:
    """The axis of an actuator, and which observed position it commands where it is a servo of one, without a gear."""
    if command_kind(model, actuator) != "position":
        return axis
    joint = int(model.actuator_trnid[actuator, 0])
    observed = axis.unit == joint_unit(model, joint) and name_joint(model, joint) in positions
    return replace(axis, commands=name_joint(model, joint)) if observed else axis


def find_names(names: Sequence[str], known: Sequence[str], where: str) -> list[int]:
    """Indices of names in a list.

    Raises:
        ConfigError: A name is not in it, is there twice, or is asked for twice.
    """
    for name in names:
        if known.count(name) != 1 or list(names).count(name) != 1:
            raise ConfigError(f"{where}: expected distinct names among {list(known)}, got '{name}'; correct the name")
    return [known.index(name) for name in names]


def _find_frame(model: mujoco.MjModel, name: str, where: str) -> Frame:
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if max(site, body) < 0:
        sites = [model.site(index).name for index in range(model.nsite) if model.site(index).name]
        bodies = [model.body(index).name for index in range(1, model.nbody) if model.body(index).name]
        raise ConfigError(
            f"{where}: expected a site among {sites} or a body among {bodies}, got '{name}'; correct the name"
        )
    return Frame(name, "site_xpos", site) if site >= 0 else Frame(name, "xpos", body)


def _limited_axes(model: mujoco.MjModel, joint: int) -> tuple[Axis, ...]:
    """Axes of a joint's qpos; a hinge or slide joint with a range has soft limits around it."""
    axes = position_axes(model, [joint])
    if not model.jnt_limited[joint] or int(model.jnt_type[joint]) not in _SCALAR:
        return axes
    low, high = map(float, model.jnt_range[joint])
    margin = SOFT_LIMIT * (high - low)
    return (Axis(axes[0].name, joint_unit(model, joint), low - margin, high + margin),)


def _components(begins: Sequence[int], sizes: Sequence[int]) -> Whole:
    """Indices of pieces of an array, one piece after the other."""
    pieces = [np.arange(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *pieces]).astype(np.int64)
