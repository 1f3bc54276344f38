"""Where all that is observed and commanded stands in a MuJoCo model, and the poses that the model can be in.

Axes: O observation, A action, J hinge and slide joints, P poses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ..errors import ConfigError
from .mujoco_robots import (
    Double,
    action_axes,
    actuator_kind,
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
_EXACT = 1e-6
"""Part of a joint's range that limits may differ by through rounding."""
_TIE_POINTS = 1001
"""Places of a leading joint at which the ends of the range of its follower are looked for."""
_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_BALL = int(mujoco.mjtJoint.mjJNT_BALL)
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


class Tie(NamedTuple):
    """An equality that makes one hinge or slide joint follow another."""

    joint: int
    leader: int
    """-1 where the joint is held in place."""
    factors: Double
    """a_0 .. a_4 of q - rest = sum of a_k (q_leader - leader_rest)^k, as MuJoCo has it."""
    rest: float
    leader_rest: float

    def follow(self, leader: Double) -> Double:
        """Where the joint is, from where its leader is, any shape."""
        way = leader - self.leader_rest if self.leader >= 0 else np.zeros_like(leader)
        place: Double = np.asarray(self.rest + np.polynomial.polynomial.polyval(way, self.factors), np.float64)
        return place

    def joins(self, joints: set[int]) -> bool:
        """Whether it moves one of the joints, or one of them moves it."""
        return self.leader >= 0 and not joints.isdisjoint((self.joint, self.leader))


class Pull(NamedTuple):
    """A tendon of limited length that is a sum of joints, such as one that couples two joints of a finger."""

    factors: Double
    """Of the J joints."""
    moving: Double
    """The same, and 0 for joints that stay where they are."""
    low: float
    high: float

    def bring(self, places: Double, rng: np.random.Generator) -> Double:
        """Places of the J joints, (P, J), with those poses that are out of reach brought to a random length in it."""
        length = places @ self.factors
        out = (length < self.low) | (length > self.high)
        way = np.where(out, rng.uniform(self.low, self.high, len(places)) - length, 0.0)
        brought: Double = places + way[:, None] * self.moving / (self.moving @ self.moving)
        return brought


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

    def pose_ranges(self, frame: Frame | None = None) -> tuple[Double, Double]:
        """Lower and upper ends of what the J joints can be brought to, shape (J,) each.

        That is the range of a joint, and within it the control range of position servos that alone command it. A hinge
        without limits has -pi to pi; a slide joint without limits only its place at the start. So has a joint that
        nothing commands, for it is held or hangs, and one in a closed chain. Where no command moves the `frame`, as
        with an object that is pushed, joints that move it and have no actuator are free as well.
        """
        limited = self.model.jnt_limited[self.scalar].astype(np.bool_)
        turning = self.model.jnt_type[self.scalar] == int(mujoco.mjtJoint.mjJNT_HINGE)
        start = self.start[self.model.jnt_qposadr[self.scalar]]
        low, high = self.model.jnt_range[self.scalar].T
        low = np.where(limited, low, np.where(turning, -np.pi, start))
        high = np.where(limited, high, np.where(turning, np.pi, start))
        places = {joint: place for place, joint in enumerate(self.scalar.tolist())}
        for joint, (least, most) in self.servos.items():
            place = places[joint]
            slack = _EXACT * (high[place] - low[place])  # degrees and radians of one limit differ a little
            ends = np.clip((least, most), low[place], high[place])
            low[place] = ends[0] if least > low[place] + slack else low[place]
            high[place] = ends[1] if most < high[place] - slack else high[place]
        for tie in self.ties:
            if tie.leader >= 0:
                values = tie.follow(np.linspace(low[places[tie.leader]], high[places[tie.leader]], _TIE_POINTS))
                ends = np.clip((values.min(), values.max()), low[places[tie.joint]], high[places[tie.joint]])
                low[places[tie.joint]], high[places[tie.joint]] = ends
        posed = np.isin(self.scalar, sorted(self.list_posed(frame)))
        return np.where(posed, low, start), np.where(posed, high, start)

    def list_posed(self, frame: Frame | None = None) -> set[int]:
        """The joints that take part in random poses: hinges and slides, see `pose_ranges`, and balls, which turn."""
        held = set().union(*self.loops)
        posed = self._spread(self._list_actuated(self.actuators.tolist()))
        if frame is not None and not posed & self._list_chain(frame):
            posed |= self._list_chain(frame) & self.list_idle()
        return (posed & self._jointed) - held

    def list_idle(self) -> set[int]:
        """Joints without any actuator, free ones aside, which other parts of the robot can swing or push."""
        driven = self._spread(self._list_actuated(range(self.model.nu)))
        return self._jointed - driven - set().union(*self.loops)

    @property
    def _jointed(self) -> set[int]:
        """Hinge, slide and ball joints."""
        return {*self.scalar.tolist(), *np.flatnonzero(self.model.jnt_type == _BALL).tolist()}

    def _list_actuated(self, actuators: Iterable[int]) -> set[int]:
        return set().union(*(_list_driven(self.model, index) for index in actuators))

    def _spread(self, joints: set[int]) -> set[int]:
        """The joints, and those that joint equalities tie to them."""
        for _ in self.ties:
            joints = joints.union(*({tie.joint, tie.leader} - {-1} for tie in self.ties if tie.joins(joints)))
        return joints

    @cached_property
    def servos(self) -> dict[int, tuple[float, float]]:
        """Control ranges of position servos in units of their joints, by joint, where nothing else commands it."""
        found: dict[int, list[tuple[float, float] | None]] = {}
        for index in self.actuators.tolist():
            for joint in _list_driven(self.model, index):
                found.setdefault(joint, []).append(_find_servo_range(self.model, index))
        ranges: dict[int, tuple[float, float]] = {}
        for joint, given in found.items():
            servos = [one for one in given if one is not None]
            if len(servos) == len(given) and joint in self.scalar:
                ranges[joint] = (min(low for low, _ in servos), max(high for _, high in servos))
        return ranges

    @cached_property
    def ties(self) -> tuple[Tie, ...]:
        """The equalities of hinge and slide joints that are active at the start."""
        model, found = self.model, []
        for index in _list_equalities(model, mujoco.mjtEq.mjEQ_JOINT):
            joint, leader = int(model.eq_obj1id[index]), int(model.eq_obj2id[index])
            if joint in self.scalar and (leader < 0 or leader in self.scalar):
                rests = [0.0 if one < 0 else float(model.qpos0[model.jnt_qposadr[one]]) for one in (joint, leader)]
                found.append(Tie(joint, leader, model.eq_data[index, :5].copy(), rests[0], rests[1]))
        return tuple(found)

    @cached_property
    def loops(self) -> tuple[set[int], ...]:
        """The joints of each closed chain: of bodies that are connected or welded, and of tied tendons."""
        model, found = self.model, []
        for index in _list_equalities(model, mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD):
            ends = [int(model.eq_obj1id[index]), int(model.eq_obj2id[index])]
            if int(model.eq_objtype[index]) == int(mujoco.mjtObj.mjOBJ_SITE):
                ends = [int(model.site_bodyid[end]) for end in ends]
            joints = set(_list_joints(model, ends[0])) ^ set(_list_joints(model, ends[1]))
            if not any(int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_FREE) for joint in joints):
                found.append(joints)  # else an object that is held goes along
        for index in _list_equalities(model, mujoco.mjtEq.mjEQ_TENDON):
            ends = [int(model.eq_obj1id[index]), int(model.eq_obj2id[index])]
            found.append(set().union(*(_list_pulled(model, tendon) for tendon in ends if tendon >= 0)))
        return tuple(found)

    def _list_chain(self, frame: Frame) -> set[int]:
        """The joints that move a place."""
        body = frame.row if frame.array == "xpos" else int(self.model.site_bodyid[frame.row])
        return set(_list_joints(self.model, body))

    def is_moved(self, frame: Frame) -> bool:
        """Whether a joint moves a place in random poses, see `list_posed`."""
        return bool(self.list_posed(frame) & self._list_chain(frame))

    def floats(self, frame: Frame) -> bool:
        """Whether a place is of an object that is free."""
        return bool(self._list_chain(frame) - self._jointed)

    def is_in_loop(self, frame: Frame) -> bool:
        """Whether a joint of a closed chain moves a place."""
        return any(loop & self._list_chain(frame) for loop in self.loops)

    def list_held(self, frame: Frame) -> list[str]:
        """Names of joints that would move a place, and that no command moves."""
        held = self._list_chain(frame) & self._jointed - self.list_posed(frame)
        return [name_joint(self.model, joint) for joint in sorted(held)]

    def list_shared(self, frame: Frame) -> list[str]:
        """Names of joints that move a place and have no actuator of their own, but share too few with others."""
        chain = self._list_chain(frame) & self.list_posed(frame)
        chain -= {tie.joint for tie in self.ties}
        driven = [_list_driven(self.model, index) & chain for index in self.actuators.tolist()]
        shared = set().union(*driven).difference(*(one for one in driven if len(one) == 1))
        if sum(not one.isdisjoint(shared) for one in driven) >= len(shared):
            return []
        return [name_joint(self.model, joint) for joint in sorted(shared)]

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

        Ball joints are turned around random axes, as far as `_find_turns` says. Joints that an equality ties to another
        follow it. Poses that it does not allow are left out, those that make tendons or servos longer or shorter than
        they may be, see `_bound_lengths`, and those in which more touches than at the start.

        Args:
            rng: Source of the poses.
            frame: Whose place is computed.

        Yields:
            qpos, shape (P, nq), and places of the frame, m, shape (P, 3), or (P, 0) without one; P is at most `POSES`.
        """
        batch = Batch(self.model, POSES, 1)
        qpos, contacts = batch.bind("qpos"), batch.bind("ncon")
        lengths = [batch.bind("ten_length"), batch.bind("actuator_length")]
        place = np.empty((POSES, 0)) if frame is None else batch.bind(frame.array)[:, frame.row]
        qpos[:] = self.start
        batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS)
        touching = int(contacts.reshape(-1)[0])
        low, high = self.pose_ranges(frame)
        columns = self.model.jnt_qposadr[self.scalar]
        ties, slack = self.ties, _EXACT * (high - low)
        turns = self._find_turns(frame)
        shortest, longest = self._bound_lengths(np.concatenate([length[0] for length in lengths]))
        pulls = self._find_pulls(shortest, longest, moving=high > low)
        while True:
            qpos[:, columns] = rng.uniform(low, high, (POSES, len(columns)))
            for pull in pulls:
                qpos[:, columns] = np.clip(pull.bring(qpos[:, columns], rng), low, high)
            for tie in ties * len(ties):  # one may lead the next
                qpos[:, self.model.jnt_qposadr[tie.joint]] = tie.follow(qpos[:, self.model.jnt_qposadr[tie.leader]])
            for joint, most in turns.items():
                begin = int(self.model.jnt_qposadr[joint])
                qpos[:, begin : begin + 4] = _draw_turns(most, rng)
            batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS)
            length = np.concatenate(lengths, axis=1)
            free = contacts.reshape(-1) <= touching
            free &= ((length >= shortest) & (length <= longest)).all(axis=1)
            if ties:
                free &= ((qpos[:, columns] >= low - slack) & (qpos[:, columns] <= high + slack)).all(axis=1)
            yield qpos[free].copy(), place[free].copy()

    def _find_turns(self, frame: Frame | None) -> dict[int, float]:
        """How far ball joints turn in random poses, rad: their range, or as far as servos of all axes tell them."""
        found: dict[int, float] = {}
        for joint in sorted(self.list_posed(frame) - set(self.scalar.tolist())):
            most = float(self.model.jnt_range[joint, 1]) if self.model.jnt_limited[joint] else np.pi
            told = [
                np.abs(ends).max() / np.linalg.norm(self.model.actuator_gear[servo, :3])
                for servo, ends in self._find_servos().items()
                if _list_driven(self.model, servo) == {joint}
            ]
            most = min(most, float(np.linalg.norm(told))) if len(told) >= 3 else most
            found[joint] = most
        return found

    def _bound_lengths(self, start: Double) -> tuple[Double, Double]:
        """Least and greatest lengths of the tendons, and then of the actuators, in random poses.

        A tendon with a range keeps to it. A position servo of anything but a hinge or slide joint, which `pose_ranges`
        knows, has the length that it is told. What is outside at the start may be so.

        Args:
            start: Lengths at the start.
        """
        model = self.model
        low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
        limited = np.flatnonzero(model.tendon_limited)
        low[limited], high[limited] = model.tendon_range[limited].T
        for servo, ends in self._find_servos().items():
            if command_kind(model, servo) is None:
                low[model.ntendon + servo], high[model.ntendon + servo] = ends
        slack = _EXACT * np.where(np.isfinite(high - low), high - low, 0.0)
        return np.minimum(low - slack, start), np.maximum(high + slack, start)

    def _find_pulls(self, shortest: Double, longest: Double, moving: NDArray[np.bool_]) -> list[Pull]:
        """What tendons that sum up joints ask of these, from `_bound_lengths` and the J joints that move."""
        model, found = self.model, []
        places = {joint: place for place, joint in enumerate(self.scalar.tolist())}
        for tendon in range(model.ntendon):
            wraps = range(int(model.tendon_adr[tendon]), int(model.tendon_adr[tendon]) + int(model.tendon_num[tendon]))
            if any(int(model.wrap_type[wrap]) != int(mujoco.mjtWrap.mjWRAP_JOINT) for wrap in wraps):
                continue
            factors = np.zeros(len(self.scalar))
            for wrap in wraps:
                factors[places[int(model.wrap_objid[wrap])]] = model.wrap_prm[wrap]
            low, high = float(shortest[tendon]), float(longest[tendon])
            for servo in np.flatnonzero(model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_TENDON)).tolist():
                if int(model.actuator_trnid[servo, 0]) == tendon and model.actuator_gear[servo, 0] != 0.0:
                    ends = np.array([shortest[model.ntendon + servo], longest[model.ntendon + servo]])
                    least, most = np.sort(ends / model.actuator_gear[servo, 0]).tolist()
                    low, high = max(low, least), min(high, most)
            if np.isfinite([low, high]).all() and low < high and (factors[moving] != 0.0).any():
                found.append(Pull(factors, factors * moving, low, high))
        return found

    def _find_servos(self) -> dict[int, Double]:
        """What each commanded position servo can be told, unless another kind acts on the same thing."""
        model = self.model
        told = {index: _find_command_range(model, index) for index in self.actuators.tolist()}
        targets = {index: (int(model.actuator_trntype[index]), *model.actuator_trnid[index].tolist()) for index in told}
        others = {targets[index] for index, ends in told.items() if ends is None}
        return {index: ends for index, ends in told.items() if ends is not None and targets[index] not in others}


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
    start = -1 if keyframe is None else find_names([keyframe], keyframes, f"{where} keyframe")[0]
    if start >= 0:
        _require_inside(model, start, f"{where} keyframe")
    frames = tuple(_find_frame(model, name, f"{where} sites") for name in sites)
    places = tuple(Axis(f"{frame.name}_{axis}", "m", -np.inf, np.inf) for frame in frames for axis in "xyz")
    positions = tuple(axis for joint in seen for axis in _limited_axes(model, joint))
    needs = [int(model.sensor_needstage[index]) for index in read]
    stage = max([*needs, int(mujoco.mjtStage.mjSTAGE_POS if frames else mujoco.mjtStage.mjSTAGE_NONE)])
    sizes = [_SIZES[int(model.jnt_type[joint])] for joint in seen]
    return Anatomy(
        model=model,
        keyframe=start,
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


def _require_inside(model: mujoco.MjModel, keyframe: int, where: str) -> None:
    """Refuses a start that joints cannot be at.

    Raises:
        ConfigError: A joint is further outside of its range than soft limits let it run.
    """
    for joint in np.flatnonzero(model.jnt_limited & np.isin(model.jnt_type, _SCALAR)).tolist():
        (low, high), place = model.jnt_range[joint].tolist(), float(model.key_qpos[keyframe, model.jnt_qposadr[joint]])
        if not low - SOFT_LIMIT * (high - low) <= place <= high + SOFT_LIMIT * (high - low):
            unit = joint_unit(model, joint)
            raise ConfigError(
                f"{where}: expected '{model.key(keyframe).name}' to have each joint within its range, got {place:g} "
                f"{unit} of '{name_joint(model, joint)}' outside of {low:g} .. {high:g} {unit}; correct it: keyframes "
                "are in rad, also where the model counts in degrees"
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


def _list_joints(model: mujoco.MjModel, body: int) -> list[int]:
    """The joints that move a body."""
    found: list[int] = []
    while body > 0:
        begin = int(model.body_jntadr[body])
        found += range(begin, begin + int(model.body_jntnum[body]))
        body = int(model.body_parentid[body])
    return found


def _list_equalities(model: mujoco.MjModel, *kinds: mujoco.mjtEq) -> list[int]:
    """Equalities of some kinds that are active at the start."""
    types = [int(kind) for kind in kinds]
    return [index for index in range(model.neq) if model.eq_active0[index] and int(model.eq_type[index]) in types]


def _list_pulled(model: mujoco.MjModel, tendon: int) -> set[int]:
    """The joints that a tendon pulls."""
    found: set[int] = set()
    begin = int(model.tendon_adr[tendon])
    for wrap in range(begin, begin + int(model.tendon_num[tendon])):
        kind, index = int(model.wrap_type[wrap]), int(model.wrap_objid[wrap])
        if kind == int(mujoco.mjtWrap.mjWRAP_JOINT):
            found.add(index)
        elif kind == int(mujoco.mjtWrap.mjWRAP_SITE):
            found |= set(_list_joints(model, int(model.site_bodyid[index])))
    return found


def _list_driven(model: mujoco.MjModel, actuator: int) -> set[int]:
    """The joints that an actuator moves."""
    kind, index = int(model.actuator_trntype[actuator]), int(model.actuator_trnid[actuator, 0])
    if kind in (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)):
        return {index}
    if kind == int(mujoco.mjtTrn.mjTRN_TENDON):
        return _list_pulled(model, index)
    if kind in (int(mujoco.mjtTrn.mjTRN_SITE), int(mujoco.mjtTrn.mjTRN_SLIDERCRANK)):
        return set(_list_joints(model, int(model.site_bodyid[index])))
    return set()


def _find_servo_range(model: mujoco.MjModel, actuator: int) -> tuple[float, float] | None:
    """What a position servo can be told, in units of its joint; None for another actuator."""
    ends = None if command_kind(model, actuator) is None else _find_command_range(model, actuator)
    if ends is None:
        return None
    low, high = np.sort(ends / model.actuator_gear[actuator, 0]).tolist()
    return low, high


def _find_command_range(model: mujoco.MjModel, actuator: int) -> Double | None:
    """What a position servo can be told, as a length of the actuator; None for another actuator."""
    kind = actuator_kind(model, actuator)
    if kind == "velocity" and model.actuator_actlimited[actuator]:  # a servo whose place is the sum of speeds
        return np.array(model.actuator_actrange[actuator], np.float64)
    if kind == "position" and model.actuator_ctrllimited[actuator]:
        return np.array(model.actuator_ctrlrange[actuator], np.float64)
    return None


def _draw_turns(most: float, rng: np.random.Generator) -> Double:
    """Random turns by at most this angle, rad, as quaternions wxyz, shape (POSES, 4)."""
    axis = rng.standard_normal((POSES, 3))
    half = 0.5 * rng.uniform(0.0, most, (POSES, 1))
    return np.concatenate([np.cos(half), np.sin(half) * axis / np.linalg.norm(axis, axis=1, keepdims=True)], axis=1)


def _components(begins: Sequence[int], sizes: Sequence[int]) -> Whole:
    """Indices of pieces of an array, one piece after the other."""
    pieces = [np.arange(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *pieces]).astype(np.int64)
