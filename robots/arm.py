"""A reaching arm of three joints whose task is a hidden target, hidden dynamics, or both.

Supple's own, in the spirit of the system identification tasks of Yu et al., "Preparing for the Unknown: Learning a
Universal Policy with Online System Identification", RSS 2017: a base that turns, a shoulder and an elbow, driven by
torques at 50 Hz. As in many real arms the controller holds the weight of the links, not that of what the hand carries.
The reward is minus the distance of the hand to the target, in metres; or 1 within a radius, which ends the task.

Hidden dynamics are four numbers: the mass in the hand (kg), the factor of all motor torques, the factor of all joint
dampings, and the delay of actions (whole control periods). With visible targets, each episode draws its own and shows
it, so that only the dynamics are left to find out; the delayed actions are not shown.

Axes: R rows, r rows of this call, N tasks, O observation (3 angles, 3 angular velocities, 3 of the hand's place and,
where it is visible, 3 of the target), A = 3 action, G goal: 3 of the target, 4 of the dynamics, or both in this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .array_robots import Index, require_whole
from .family import ONLY_TASKS, BuiltFrom, PlayChunk, Plays
from .mujoco_robots import Double, MujocoRobots, action_axes, compute_distance, position_axes, velocity_axes
from .play import NoiseConfig, Script, play_noise
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec
from .task import goals_of
from .task_draws import DrawsTasks

TIMESTEP = 0.005
FRAME_SKIP = 4
EPISODE_STEPS = 100
"""Two seconds."""
SHOULDER_HEIGHT = 0.4
"""m."""
LENGTHS = (0.4, 0.35)
"""Of the upper arm and the forearm, m."""
MAX_DELAY = 3
"""Control periods, of 20 ms."""
START = (0.0, -np.pi / 4.0, np.pi / 2.0)
"""Base, shoulder, elbow; positive shoulder and elbow angles lower the hand. rad."""
START_NOISE = 0.1
"""Half width of the uniform start angles around `START`, rad."""
TARGET_LOW, TARGET_HIGH = (-2.0, -1.4, 0.1), (2.0, 0.5, 2.3)
"""Targets are where the hand is at angles uniform between these, rad: all of them can be reached."""

STIFFNESS, DAMPING = 2.0, 0.3
"""Of the play data, in shares of the largest torque: per rad, and per rad/s."""


class Dynamics(NamedTuple):
    """What an arm is like; shape () or (r,) each."""

    payload: Any = 0.0
    """Mass in the hand, kg."""
    gear: Any = 1.0
    """Factor of the torques."""
    damping: Any = 1.0
    """Factor of the dampings."""
    delay: Any = 0.0
    """Control periods until an action takes effect; a whole number."""


LIGHTEST, HEAVIEST = Dynamics(0.0, 0.5, 0.5, 0.0), Dynamics(1.0, 1.5, 2.0, float(MAX_DELAY))
"""Limits of the hidden dynamics; at half the torque the shoulder still holds the largest mass at arm's length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One variant of the task; at least one of the two is hidden."""

    name: str
    hidden_target: bool
    hidden_dynamics: bool
    radius: float | None = None
    """Distance at which the target is reached, m: that pays 1 and ends the task, and all else pays nothing. None pays
    minus the distance until the time is over."""

    def __post_init__(self) -> None:
        if self.radius is not None and not 0.0 < self.radius < np.inf:
            raise ConfigError(f"arm radius: expected None or a distance > 0, got {self.radius:g} m; correct it")


ARM_TARGET = Arm(name="arm_target", hidden_target=True, hidden_dynamics=False)
ARM_DYNAMICS = Arm(name="arm_dynamics", hidden_target=False, hidden_dynamics=True)
ARM_BOTH = Arm(name="arm_both", hidden_target=True, hidden_dynamics=True)


def make_arm_model(dynamics: Dynamics = Dynamics()) -> mujoco.MjModel:  # noqa: B008 (it is immutable)
    """Compiles an arm; its delay is not part of the physics."""
    spec = mujoco.MjSpec()
    spec.modelname = "arm"
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.compiler.degree = False
    parts = (  # joint, axis, range, torque N m, damping N m s, armature kg m^2, length m, mass kg
        ("base", (0.0, 0.0, 1.0), (-2.6, 2.6), 12.0, 3.0, 0.05, 0.0, 0.5),
        ("shoulder", (0.0, 1.0, 0.0), (-1.8, 1.2), 20.0, 4.0, 0.05, LENGTHS[0], 1.5),
        ("elbow", (0.0, 1.0, 0.0), (-0.1, 2.6), 10.0, 1.5, 0.02, LENGTHS[1], 1.0),
    )
    body, end = spec.worldbody, (0.0, 0.0, SHOULDER_HEIGHT)
    for name, axis, limits, torque, damping, armature, length, mass in parts:
        # the links carry their own weight and never touch anything
        body = body.add_body(name=name, pos=end, gravcomp=1.0)
        end = (length, 0.0, 0.0)
        link = body.add_geom(name=name, size=(0.04, 0.0, 0.0), mass=mass, contype=0, conaffinity=0)
        if length > 0.0:
            link.type = mujoco.mjtGeom.mjGEOM_CAPSULE
            link.fromto = (0.0, 0.0, 0.0, *end)
        joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, range=limits, limited=True)
        joint.damping[0] = damping * dynamics.damping
        joint.armature = armature
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.gear[0] = torque * dynamics.gear
        motor.ctrllimited = True
        motor.ctrlrange = (-1.0, 1.0)
    hand = body.add_body(name="hand", pos=end, mass=dynamics.payload, inertia=_inertia(np.array(dynamics.payload)))
    hand.explicitinertial = True
    hand.ipos = (0.0, 0.0, 0.0)  # else MuJoCo takes that of the body, beyond the hand
    hand.add_site(name="hand")
    return spec.compile()


def _inertia(payload: Double) -> Double:
    """Of a solid sphere of radius 3 cm, 2/5 m r^2 about each axis, shape (..., 3)."""
    return np.repeat(0.4 * 0.03**2 * payload[..., None], 3, axis=-1)


def hand_place(angles: Double) -> Double:
    """Where the hand is, shape (..., 3), m, at angles of base, shoulder and elbow, shape (..., 3), rad."""
    base, shoulder, elbow = np.moveaxis(angles, -1, 0)
    upper, fore = LENGTHS
    reach = upper * np.cos(shoulder) + fore * np.cos(shoulder + elbow)
    height = SHOULDER_HEIGHT - upper * np.sin(shoulder) - fore * np.sin(shoulder + elbow)
    return np.stack([reach * np.cos(base), reach * np.sin(base), height], axis=-1)


def arm_spec(variant: Arm, model: mujoco.MjModel, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of a variant on the compiled model."""
    reach = sum(LENGTHS)
    place = [("x", -reach, reach), ("y", -reach, reach), ("z", SHOULDER_HEIGHT - reach, SHOULDER_HEIGHT + reach)]
    # a little more than can be reached, for the rounding to float32
    target = [Axis(f"target_{name}", "m", low - 1e-3, high + 1e-3) for name, low, high in place]
    units = zip(Dynamics._fields, ("kg", "1", "1", "20 ms"), LIGHTEST, HEAVIEST, strict=True)
    dynamics = [Axis(name, unit, low, high) for name, unit, low, high in units]
    hand = [Axis(f"hand_{name}", "m", low - 1e-3, high + 1e-3) for name, low, high in place]
    shown = () if variant.hidden_target else target
    return RobotSpec(
        name=variant.name,
        observation=ArraySpec("observation", (*position_axes(model), *velocity_axes(model), *hand, *shown)),
        action=ArraySpec("action", action_axes(model)),
        goal=ArraySpec(
            "goal", (*(target if variant.hidden_target else ()), *(dynamics if variant.hidden_dynamics else ()))
        ),
        control_period=FRAME_SKIP * TIMESTEP,
        episode_steps=episode_steps,
    )


@final
class ArmBatch(MujocoRobots):
    """Rows of arms, each with dynamics of its own.

    Args:
        variant: The task.
        rows: Number of arms, R.
        threads: Physics threads; the result does not depend on them.
        episode_steps: Time limit, actions.

    Raises:
        ConfigError: There are no rows or threads.
        SpecError: There are no steps.
    """

    def __init__(self, variant: Arm, rows: int, *, threads: int = 1, episode_steps: int = EPISODE_STEPS) -> None:
        model = make_arm_model()
        super().__init__(arm_spec(variant, model, episode_steps), model, rows, frame_skip=FRAME_SKIP, threads=threads)
        self.variant = variant
        self._target = np.zeros((rows, 3), np.float32)
        self._delay = np.zeros(rows, np.int64)
        self._waiting = np.zeros((rows, MAX_DELAY + 1, 3), np.float32)
        self._nominal = model
        self._hand = model.body("hand").id
        if variant.hidden_dynamics:
            self._mass, self._inertia = self._batch.expand("body_mass"), self._batch.expand("body_inertia")
            self._gear, self._damping = self._batch.expand("actuator_gear"), self._batch.expand("dof_damping")

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`; dynamics do not count, and a visible target is the observed one."""
        seen, goals = np.asarray(observation, np.float32)[..., None, :], np.asarray(goals, np.float32)
        target = goals[..., :3] if self.variant.hidden_target else seen[..., 9:12]
        return self._pay(compute_distance(seen[..., 6:9], target) * np.ones(len(goals), np.float32))

    def _pay(self, distance: Float) -> tuple[Float, Bool]:
        """Reward and whether it ends the task, at a distance of the hand from the target, m."""
        if self.variant.radius is None:
            return -distance, np.zeros(distance.shape, np.bool_)
        reached = distance <= self.variant.radius
        return reached.astype(np.float32), reached

    def _check_goals(self, goals: Float, where: str) -> None:
        if self.variant.hidden_dynamics:
            require_whole(goals[:, -1], "delays", where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        angles = np.array(START) + rng.uniform(-START_NOISE, START_NOISE, (len(goals), 3))
        # drawn in any case, so that variants that differ in what they hide start alike
        target = draw_targets(len(goals), rng)
        self._target[index] = goals[:, :3] if self.variant.hidden_target else target
        if self.variant.hidden_dynamics:
            self._set_dynamics(index, Dynamics(*goals[:, -4:].T.astype(np.float64)))
        self._waiting[index] = 0.0
        self._place(index, angles, np.zeros((len(goals), 3)))
        return self._observe(index)

    def _set_dynamics(self, index: Index, dynamics: Dynamics) -> None:
        self._mass[index, self._hand] = dynamics.payload
        self._inertia[index, self._hand] = _inertia(dynamics.payload)
        self._gear[index, :, 0] = self._nominal.actuator_gear[:, 0] * dynamics.gear[:, None]
        self._damping[index] = self._nominal.dof_damping * dynamics.damping[:, None]
        self._delay[index] = dynamics.delay
        # what MuJoCo derives from masses at compile time
        self._batch.set_const(None if isinstance(index, slice) else index)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        size = self._waiting.shape[1]
        self._waiting[rows, elapsed % size] = action
        # before the first action arrives the slot is still zero: no torque
        self._simulate(rows, index, self._waiting[rows, (elapsed - self._delay[index]) % size])
        observation = self._observe(index)
        return observation, *self._pay(compute_distance(observation[:, 6:9], self._target[index]))

    def _observe(self, index: Index) -> Float:
        angles, target = self._qpos[index], self._target[index]
        shown = () if self.variant.hidden_target else (target,)
        return np.concatenate([angles, self._qvel[index], hand_place(angles), *shown], axis=1).astype(np.float32)


def draw_targets(count: int, rng: np.random.Generator) -> Float:
    """Places of the hand at uniform angles, shape (count, 3)."""
    return hand_place(rng.uniform(TARGET_LOW, TARGET_HIGH, (count, 3))).astype(np.float32)


def draw_arm_goals(variant: Arm, count: int, rng: np.random.Generator) -> Float:
    """Targets as `draw_targets`, dynamics uniform between their limits, shape (count, G)."""
    parts = []
    if variant.hidden_target:
        parts.append(draw_targets(count, rng))
    if variant.hidden_dynamics:
        dynamics = rng.uniform(LIGHTEST[:3], HEAVIEST[:3], (count, 3))
        parts += [dynamics.astype(np.float32), rng.integers(MAX_DELAY + 1, size=(count, 1)).astype(np.float32)]
    return np.concatenate(parts, axis=1)


def steer(observation: Float, pose: Float) -> Float:
    """Torques of a spring and a damper, (r, 3), from observations and angles, rad; none knows the hidden dynamics."""
    return STIFFNESS * (pose - observation[:, :3]) - DAMPING * observation[:, 3:6]


PLAY = Script(steer=steer, low=TARGET_LOW, high=TARGET_HIGH, steps=(15, 50))
"""Play data goes from pose to pose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms(DrawsTasks, Plays, BuiltFrom):
    """The reaching arm."""

    variant: Arm = ARM_TARGET
    num_train: int = field(default=1000, metadata=ONLY_TASKS)
    num_test: int = field(default=40, metadata=ONLY_TASKS)
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return arm_spec(self.variant, make_arm_model())

    def make(self, rows: int, threads: int = 1) -> ArmBatch:
        """See `RobotFamily.make`."""
        return ArmBatch(self.variant, rows, threads=threads)

    def draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """See `draw_arm_goals`."""
        return draw_arm_goals(self.variant, count, rng)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return EPISODE_STEPS

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: from pose to pose, on one train task's dynamics in each episode."""
        return play_noise(self.make(rows, threads), goals_of(self.tasks().train), NoiseConfig(), seed, PLAY)

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`; the model is built in this module."""
        return ("mujoco",)
