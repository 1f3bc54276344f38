"""MuJoCo models from a user's file: MJCF or URDF, with drives where the file has none, and every fault in one line.

A URDF file names joints, their limits and their efforts, but no actuators: `Drive` adds them. Its links stay bodies of
their own, also behind fixed joints, so that a tool can be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import mujoco

from ..bounds import Positive, require_bounds
from ..errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """An actuator that is added to a joint of the model.

    Raises:
        ConfigError: The gain is missing, is not positive, or is given for a motor.
    """

    joint: str
    """Name of a hinge or slide joint; the actuator gets it too."""
    kind: Literal["motor", "position", "velocity"] = "motor"
    """What is commanded: a torque or force, an angle or place, or its speed."""
    gain: Positive | None = None
    """Of a position servo N m/rad or N/m, damped critically for the joint's own inertia; of a velocity servo N m s/rad
    or N s/m; a motor has none."""
    limit: Positive | None = None
    """Largest command, in N m, N, rad/s or m/s; None takes a motor's from the effort of the joint (`effort` in URDF,
    `actuatorfrcrange` in MJCF). A position servo takes the range of the joint."""

    def __post_init__(self) -> None:
        require_bounds(self)
        where = f"drive of joint '{self.joint}'"
        if (self.gain is None) != (self.kind == "motor"):
            expected = "no gain for a motor" if self.kind == "motor" else f"a gain for a {self.kind} drive"
            raise ConfigError(f"{where}: expected {expected}, got {self.gain}; correct gain")
        if self.limit is not None and self.kind == "position":
            raise ConfigError(
                f"{where}: expected no limit, since the range of the joint is one, got {self.limit}; leave it out"
            )


def is_xml(model: Path | str) -> bool:
    """Whether this is the text of a model, not its path."""
    return isinstance(model, str) and model.lstrip().startswith("<")


def load_mjcf(model: Path | str, drives: Sequence[Drive], where: str) -> mujoco.MjModel:
    """Compiles a model.

    Args:
        model: An MJCF or URDF file, or its text.
        drives: Actuators to add.
        where: Who asks, for the message.

    Raises:
        ConfigError: The file is missing, is no model, or a drive does not fit it.
    """
    spec = _read(model, where)
    for drive in drives:
        _add_drive(spec, drive, where)
    try:
        return spec.compile()
    except ValueError as error:
        _refuse(model, error, where)


def mjcf_files(model: Path | str, where: str) -> tuple[Path, ...]:
    """All files that a model is made of: itself, what it includes, meshes, textures and height fields.

    Raises:
        ConfigError: As `load_mjcf`.
    """
    spec = _read(model, where)
    paths = set()
    if not is_xml(model):
        paths |= {Path(path).resolve() for path in mujoco.mju_getXMLDependencies(str(model))}
    folder = Path(spec.modelfiledir or ".")  # meshes of a URDF file are not among the dependencies
    named = [folder / spec.meshdir / mesh.file for mesh in spec.meshes if mesh.file]
    named += [folder / spec.meshdir / Path(mesh.file).name for mesh in spec.meshes if mesh.file]
    return tuple(sorted(paths | {path.resolve() for path in named if path.is_file()}))


def _read(model: Path | str, where: str) -> mujoco.MjSpec:
    try:
        if is_xml(model):
            spec = mujoco.MjSpec.from_string(str(model))
        elif Path(model).is_file():
            spec = mujoco.MjSpec.from_file(str(model))
        else:
            raise ConfigError(f"{where} model: expected an MJCF or URDF file, got nothing at {model}; check the path")
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        _refuse(model, error, where)
    spec.compiler.fusestatic = False
    return spec


def _refuse(model: Path | str, error: ValueError, where: str) -> NoReturn:
    source = "its text" if is_xml(model) else str(model)
    raise ConfigError(
        f"{where} model: expected a model that MuJoCo compiles, got {source}: {' '.join(str(error).split())}; "
        "correct the file"
    ) from error


def _add_drive(spec: mujoco.MjSpec, drive: Drive, where: str) -> None:
    scalar = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    joints = {joint.name: joint for joint in spec.joints if joint.type in scalar}
    if drive.joint not in joints:
        raise ConfigError(
            f"{where} drives: expected hinge or slide joints among {list(joints)}, got '{drive.joint}'; correct "
            "the name"
        )
    joint = joints[drive.joint]
    actuator = spec.add_actuator(name=drive.joint, target=drive.joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    limit = drive.limit
    if drive.kind == "motor":
        actuator.set_to_motor()
        limit = float(joint.actfrcrange[1]) if limit is None else limit
    elif drive.kind == "velocity":
        actuator.set_to_velocity(kv=drive.gain)
    else:
        if not joint.range[0] < joint.range[1]:
            raise ConfigError(
                f"{where} drives: expected a joint with a range, got '{drive.joint}' without one; write its limits in "
                "the model, or drive it by velocity"
            )
        actuator.set_to_position(kp=drive.gain, dampratio=1.0)
        actuator.inheritrange = 1.0
        return
    if not limit:
        raise ConfigError(
            f"{where} drives: expected a limit for joint '{drive.joint}', got none; pass Drive(limit=...)"
        )
    actuator.ctrllimited, actuator.ctrlrange = True, (-limit, limit)
