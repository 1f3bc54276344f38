"""Limits of joints from a model of the robot: a URDF or an MJCF file.

URDF: the range, the velocity and the effort of `<limit>`, and the soft range of `<safety_controller>`, which is inside
it. MJCF: the ranges of joints and actuators, and the ranges of their forces. A MJCF model has no velocities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ..errors import ConfigError
from ..plain_files import read_plain_file
from .limits import CHAINS, Bound, RobotLimits
from .units import read_unit

MOST_BYTES = 1 << 26


class JointLimits(NamedTuple):
    """Of one hinge or slide joint: ends in rad or m, and in N m or N. Infinite where there is none."""

    low: float = -math.inf
    high: float = math.inf
    velocity: float = math.inf
    """Largest, in rad/s or m/s."""
    effort: float = math.inf
    """Largest, in N m or N."""


def apply_model(limits: RobotLimits, path: Path) -> RobotLimits:
    """These limits and those of a model.

    The joint of an action axis is the one that it commands, the one of its name, or that of the actuator of its name.
    A joint that is observed, and whose speed or force is commanded, has to stay within its range: the robot is stopped
    beyond it.

    Raises:
        ConfigError: The file is no model, or has no joint of an action axis.
    """
    joints = read_joints(path)
    spec, source = limits.spec, str(path.name)
    found: dict[str, dict[str, Bound]] = {}
    observed = dict(limits.observation)
    for axis, commanded, chain in zip(spec.action.axes, spec.find_commanded(), limits.chains, strict=True):
        if chain == CHAINS["another"]:
            continue
        name = next((one for one in (commanded, axis.name) if one in joints), None)
        if name is None and chain == CHAINS["place"] and commanded is None:
            continue  # of a place that is measured nowhere, such as that of a gripper, a model may know nothing
        if name is None:
            raise ConfigError(
                f"{path}: expected the joint of action axis '{axis.name}' among {', '.join(sorted(joints)) or 'none'}, "
                f"got none; name the axis after its joint, or let it name the observation axis of the joint by commands"
            )
        joint, scale = joints[name], abs(read_unit(axis.unit).scale)
        ends = {
            "position": (joint.low / scale, joint.high / scale),
            "velocity": (-joint.velocity / scale, joint.velocity / scale),
            "effort": (-joint.effort / scale, joint.effort / scale),
        }
        found[axis.name] = {
            quantity: Bound(low, high, source)
            for quantity, (low, high) in ends.items()
            if quantity in chain and math.isfinite(max(abs(low), abs(high)))
        }
        if chain != CHAINS["place"] and name in spec.observation.names and math.isfinite(joint.high - joint.low):
            seen = read_unit(spec.observation.axes[spec.observation.names.index(name)].unit).scale
            bound = Bound(min(joint.low / seen, joint.high / seen), max(joint.low / seen, joint.high / seen), source)
            observed[name] = observed[name].meet(bound) if name in observed else bound
    return limits.tighten(found, observed)


def read_joints(path: Path) -> Mapping[str, JointLimits]:
    """Limits of all hinge and slide joints of a model, by name; of an actuator's joint by that of the actuator, too.

    Raises:
        ConfigError: The file is missing, too large, or no model.
    """
    content = read_plain_file(path, ConfigError, "give a URDF or MJCF file", "a URDF or MJCF file")
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"{len(content)} bytes")
        root = ElementTree.fromstring(content)
        if root.tag == "robot":
            return dict(_read_urdf_joint(joint) for joint in root.findall("joint") if joint.get("type") != "fixed")
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"{path}: expected a URDF or MJCF file, got '{error}'; correct the file") from error
    return _read_mjcf(path)


def _read_urdf_joint(joint: ElementTree.Element) -> tuple[str, JointLimits]:
    limit, soft = joint.find("limit"), joint.find("safety_controller")
    low, high, velocity, effort = -math.inf, math.inf, math.inf, math.inf
    if limit is not None:
        if joint.get("type") != "continuous":
            low, high = float(limit.get("lower", "0")), float(limit.get("upper", "0"))
        velocity, effort = float(limit.get("velocity", "inf")), float(limit.get("effort", "inf"))
    if soft is not None:
        low = max(low, float(soft.get("soft_lower_limit", "-inf")))
        high = min(high, float(soft.get("soft_upper_limit", "inf")))
    numbers = JointLimits(low, high, velocity, effort)
    if any(math.isnan(number) for number in numbers) or velocity < 0 or effort < 0:
        raise ValueError(f"limits {tuple(numbers)} of joint {joint.get('name')}")
    return joint.get("name", ""), numbers


def _read_mjcf(path: Path) -> Mapping[str, JointLimits]:
    import mujoco

    from .mjcf_model import load_mjcf
    from .mujoco_robots import command_kind, name_actuator, name_joint

    model = load_mjcf(path, (), str(path))
    found: dict[str, JointLimits] = {}
    scalar = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    for joint in range(model.njnt):
        if int(model.jnt_type[joint]) in scalar:
            low, high = map(float, model.jnt_range[joint]) if model.jnt_limited[joint] else (-math.inf, math.inf)
            forces = model.jnt_actfrcrange[joint] if model.jnt_actfrclimited[joint] else (-math.inf, math.inf)
            effort = float(min(abs(forces[0]), abs(forces[1])))
            found[name_joint(model, joint)] = JointLimits(low, high, math.inf, effort)
    for actuator in range(model.nu):
        kind, name = command_kind(model, actuator), name_joint(model, int(model.actuator_trnid[actuator, 0]))
        if kind is None or name not in found:
            continue
        gear, gain = abs(float(model.actuator_gear[actuator, 0])), abs(float(model.actuator_gainprm[actuator, 0]))
        now = found[name]
        if model.actuator_ctrllimited[actuator]:
            low, high = map(float, model.actuator_ctrlrange[actuator])
            if kind == "position":
                now = now._replace(low=max(now.low, low / gear), high=min(now.high, high / gear))
            elif kind == "velocity":
                now = now._replace(velocity=min(now.velocity, max(abs(low), abs(high)) / gear))
            else:
                now = now._replace(effort=min(now.effort, max(abs(low), abs(high)) * gear * gain))
        if model.actuator_forcelimited[actuator]:
            force = float(min(abs(end) for end in model.actuator_forcerange[actuator]))
            now = now._replace(effort=min(now.effort, force * gear))
        found[name] = found[name_actuator(model, actuator)] = now
    return found
