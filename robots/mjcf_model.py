"""MuJoCo models from a user's file: MJCF or URDF, with drives where the file has none, and every fault in one line.

A URDF file names joints, their limits and their efforts, but no actuators: `Drive` adds them. Its links stay bodies of
their own, also behind fixed joints, so that a tool can be named.

A robot whose file is part of an installed package is attached to a scene: by `<model name="arm" file="{arm}"/>` among
the assets and `<attach model="arm" body="base" prefix="arm_"/>`, see `MjcfFamily.model_files`. Its files are found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NoReturn

import mujoco
import numpy as np

from ..bounds import NonNegative, Positive, require_bounds
from ..errors import ConfigError, describe_error
from .mujoco_robots import command_kind

Ranges = Mapping[str, tuple[float, float]]
"""Lower and upper end by the name of a joint, rad or m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """An actuator that is added to a joint of the model.

    Raises:
        ConfigError: The gain is missing, is not positive, or is given for a motor.
    """

    joint: str
    """Name of a hinge or slide joint; the actuator gets it too, with `_drive` behind it where the model has an actuator
    of this name."""
    kind: Literal["motor", "position", "velocity"] = "motor"
    """What is commanded: a torque or force, an angle or place, or its speed."""
    gain: Positive | None = None
    """Of a position servo N m/rad or N/m, damped critically for the joint's own inertia; of a velocity servo N m s/rad
    or N s/m; a motor has none."""
    limit: Positive | None = None
    """Largest command, in N m, N, rad/s or m/s; None takes a motor's from the effort of the joint (`effort` in URDF,
    `actuatorfrcrange` in MJCF). A position servo takes the range of the joint."""
    armature: NonNegative = 0.0
    """Inertia of the rotor as the joint feels it, that is times the gear ratio squared, kg m^2 or kg; it is added to
    the joint's own. Files often leave it out, and a stiff servo then shakes the light last links apart."""

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


_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))


def is_xml(model: Path | str) -> bool:
    """Whether this is the text of a model, not its path."""
    return isinstance(model, str) and model.lstrip().startswith("<")


def load_mjcf(
    model: Path | str, drives: Sequence[Drive], where: str, ranges: Ranges = MappingProxyType({})
) -> mujoco.MjModel:
    """Compiles a model.

    Args:
        model: An MJCF or URDF file, or its text.
        drives: Actuators to add.
        where: Who asks, for the message.
        ranges: Of joints, narrower than the model's.

    Raises:
        ConfigError: The file is missing, is no model, or a drive or a range does not fit it.
    """
    spec = _read(model, where)
    driven = [drive.joint for drive in drives]
    for drive in drives:
        if (count := driven.count(drive.joint)) > 1:
            raise ConfigError(
                f"{where} drives: expected one drive of each joint, got {count} of '{drive.joint}'; leave one out"
            )
        _add_drive(spec, drive, where)
    try:
        compiled = spec.compile()
    except ValueError as error:
        _refuse(model, error, where)
    for drive in drives:
        _require_stable(compiled, drive, where)
    for name, (low, high) in ranges.items():
        _narrow(compiled, name, low, high, f"{where} ranges")
    return compiled


def _require_stable(model: mujoco.MjModel, drive: Drive, where: str) -> None:
    """Refuses position servos that the timestep cannot follow: a spring of k on an inertia I needs k dt^2 < I.

    Raises:
        ConfigError: The gain is larger.
    """
    timestep, inertia = float(model.opt.timestep), float(model.dof_M0[model.joint(drive.joint).dofadr[0]])
    if drive.kind == "position" and drive.gain is not None and drive.gain * timestep**2 > inertia:
        raise ConfigError(
            f"{where} drives: expected a gain of at most {inertia / timestep**2:.3g} for joint '{drive.joint}' with "
            f"its inertia of {inertia:.3g} at a timestep of {timestep:g} s, got {drive.gain:g}; lower the gain or the "
            "timestep, or give the drive the armature of its motor"
        )


def _narrow(model: mujoco.MjModel, name: str, low: float, high: float, where: str) -> None:
    """Gives a joint a narrower range, and the position servos that act on it, too.

    Raises:
        ConfigError: There is no such hinge or slide joint, or its range is not wider.
    """
    scalar = {model.joint(joint).name: joint for joint in range(model.njnt) if int(model.jnt_type[joint]) in _SCALAR}
    if name not in scalar:
        raise ConfigError(
            f"{where}: expected hinge or slide joints among {list(scalar)}, got '{name}'; correct the name"
        )
    joint = scalar[name]
    least, most = model.jnt_range[joint] if model.jnt_limited[joint] else (-np.inf, np.inf)
    if not least <= low < high <= most:
        raise ConfigError(
            f"{where}: expected a range within {least:g} .. {most:g} of joint '{name}', got {low:g} .. {high:g}; "
            "correct it"
        )
    model.jnt_limited[joint], model.jnt_range[joint] = True, (low, high)
    for index in range(model.nu):
        if command_kind(model, index) == "position" and int(model.actuator_trnid[index, 0]) == joint:
            ends = np.sort(model.actuator_gear[index, 0] * model.jnt_range[joint])
            if model.actuator_ctrllimited[index]:
                ends = np.clip(ends, *model.actuator_ctrlrange[index])
            model.actuator_ctrllimited[index], model.actuator_ctrlrange[index] = True, ends


def mjcf_files(model: Path | str, where: str) -> tuple[Path, ...]:
    """All files that a model is made of: itself, what it includes and attaches, meshes, textures, height fields, skins.

    MuJoCo itself says where some of them are not. So each that a file names is looked for wherever MuJoCo may have
    found it; one of the same name in another of these folders counts, too.

    Raises:
        ConfigError: As `load_mjcf`; or MuJoCo found a file that is in none of these folders.
    """
    spec = _read(model, where)
    found = _Files()
    if is_xml(model):
        found.read(str(model), Path())
    else:
        found.visit(Path(model))
    needed = _list_needed(spec)
    if not all(map(found.find, needed)):
        try:
            spec.compile()
        except ValueError as error:
            _refuse(model, error, where)
        needed = _list_needed(spec)  # without those that were discarded unread
    for name in sorted(needed | found.parts):
        if not found.find(name):
            folders = ", ".join(sorted(str(folder.resolve()) for folder in found.folders))
            raise ConfigError(
                f"{where} model: expected each file of the model in one of its folders {folders}, got none for "
                f"'{name}'; name it by its whole path, so that its content counts"
            )
    files = found.find_all().union(*map(found.find, needed))
    return tuple(sorted({file.resolve() for file in files}))


def list_mjcf_files(file: Path) -> tuple[Path, ...]:
    """The file, and all others that it names and that are there, whether or not MuJoCo compiles it."""
    found = _Files()
    found.visit(file)
    return tuple(sorted({one.resolve() for one in found.find_all()}))


def _list_needed(spec: mujoco.MjSpec) -> set[str]:
    """Names of files that become part of the model."""
    pieces = [*spec.meshes, *spec.hfields, *spec.textures, *spec.skins]
    return {name for piece in pieces for name in (piece.file, *getattr(piece, "cubefiles", ())) if name}


_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FOLDER = re.compile(r"""\b(?:mesh|texture|asset)dir\s*=\s*["']([^"']*)["']""")
_STRIPS = re.compile(r"""\bstrippath\s*=\s*["']true|<robot\b""")  # URDF does unless it says otherwise
_NAMED = re.compile(r"<(\w+)\b[^<>]*")
_FILE = re.compile(r"""\bfile(?:name|right|left|up|down|front|back)?\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_PARTS = ("include", "model", "flexcomp")


class _Files:
    """Files that the files of a model name, and the folders that they may be in."""

    def __init__(self) -> None:
        self.folders: set[Path] = set()
        self.parts: set[str] = set()
        """Names of those that MuJoCo cannot do without."""
        self._places: set[str] = {""}
        self._inner: set[str] = {""}
        self._names: set[str] = set()
        self._strips = False
        self._visited: set[Path] = set()

    def visit(self, file: Path) -> None:
        """Reads a file of a model, and the files that it includes or attaches."""
        if file.resolve() in self._visited:
            return
        self._visited.add(file.resolve())
        self.read(file.read_text(encoding="utf-8", errors="replace"), file.parent)

    def read(self, text: str, folder: Path) -> None:
        """Reads the text of a file in a folder."""
        self.folders.add(folder)
        text = _COMMENT.sub("", text)
        self._places |= {unescape(place) for place in _FOLDER.findall(text)}
        self._strips |= _STRIPS.search(text) is not None
        for element in _NAMED.finditer(text):
            for quoted in _FILE.findall(element[0]):
                name = unescape("".join(quoted))
                self._names.add(name)
                if element[1] in _PARTS:
                    self.parts.add(name)
                    self._inner.add(str(Path(name).parent))
                if element[1] in _PARTS[:2]:
                    for file in self.find(name):
                        self.visit(file)

    def find(self, name: str) -> set[Path]:
        """Where a file may be: in one of the folders, with the folders of its name or without (`strippath`)."""
        name = name.removeprefix("package://")
        ends = {name, Path(name).name} if self._strips else {name}
        places = [folder / place / inner for folder in self.folders for place in self._places for inner in self._inner]
        return {file for place in places for end in ends if (file := place / end).is_file()}

    def find_all(self) -> set[Path]:
        """All that are there."""
        return self._visited.union(*(self.find(name) for name in self._names if name))


def _read(model: Path | str, where: str) -> mujoco.MjSpec:
    try:
        _refuse_macros(model, where)
        if is_xml(model):
            spec = mujoco.MjSpec.from_string(str(model))
        elif Path(model).is_file():
            spec = mujoco.MjSpec.from_file(str(model))
        else:
            near = "" if Path(model).is_absolute() else f", such as Path(__file__).with_name({Path(model).name!r})"
            raise ConfigError(
                f"{where} model: expected an MJCF or URDF file, got nothing at {model}; check the path{near}"
            )
    except OSError as error:
        raise ConfigError(
            f"{where} model: expected a file that can be read, got {describe_error(error)}; correct the path or its "
            "permissions"
        ) from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        _refuse(model, error, where)
    spec.compiler.fusestatic = False
    return spec


def _refuse_macros(model: Path | str, where: str) -> None:
    """Refuses a URDF file with macros of xacro in it, of which MuJoCo would only see what stands beside them.

    Raises:
        ConfigError: It is one.
    """
    text = str(model) if is_xml(model) else ""
    if not text and Path(model).is_file():
        text = Path(model).read_text(encoding="utf-8", errors="replace")
    if "<xacro:" in text:
        raise ConfigError(
            f"{where} model: expected an MJCF or URDF file, got macros of xacro; expand them first, with "
            "xacro FILE.xacro > FILE.urdf"
        )


def _refuse(model: Path | str, error: ValueError, where: str) -> NoReturn:
    source = "its text" if is_xml(model) else str(model)
    raise ConfigError(
        f"{where} model: expected a model that MuJoCo compiles, got {source}: {describe_error(error, 1000)}; "
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
    joint.armature += drive.armature
    taken = drive.joint in [actuator.name for actuator in spec.actuators]
    name = f"{drive.joint}_drive" if taken else drive.joint
    actuator = spec.add_actuator(name=name, target=drive.joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
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
