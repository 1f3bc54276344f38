"""The Jaco arm of dm_control lifts a brick: `supple run examples/jaco_lift.py:lift`, with `supple[dm-control]`.

The manipulation task `lift_brick_features` with a reward of our own: the brick has to be brought to a place in the air,
within 5 cm, that the policy is not told. Brick and hand start at random. The robot is commanded by the speeds of all
joints and fingers. Its play data grasp the brick and carry it from place to place, at joint speeds by damped least
squares (Wampler, 1986).
"""

from dataclasses import replace
from functools import cache
from typing import Any

import mujoco
import numpy as np
from dm_control import composer, manipulation
from numpy.typing import NDArray

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.pipeline.settings.map_logs import MapConfig
from supple.robots.dm_control_family import DmControlFamily
from supple.robots.play import Script
from supple.robots.robot import Bool, Float
from supple.robots.spec import Axis
from supple.skills.config import SkillConfig

RADIUS = 0.05  # m, within which the brick counts as brought
SPEEDS = (0.62, 0.62, 0.62, 0.83, 0.83, 0.83)  # limits of the six joints, rad/s
CLOSING = 4.0  # limit of the fingers, rad/s
HAND_SPEED = 0.35  # of play data, m/s
MIDDLE = -0.012  # of the three fingers along y of the site where they meet, m
ORIENTATION, BRICK, FINGERS, FINGER_SPEEDS = slice(0, 4), slice(4, 7), slice(7, 10), slice(10, 13)
SINES, COSINES = slice(16, 28, 2), slice(17, 28, 2)
Array = NDArray[np.float64]


def make_environment() -> composer.Environment:
    return manipulation.load("lift_brick_features")


def set_place(environment: Any, goal: Float) -> None:
    """The place is not part of the environment: `compute_reward` alone knows it."""


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 where the brick is at the place, which ends the task."""
    brought = np.linalg.norm(observation[..., BRICK] - goals, axis=-1) <= RADIUS
    return brought.astype(np.float32), brought


@cache
def load_arm() -> tuple[composer.Environment, mujoco.MjModel, mujoco.MjData]:
    """The arm, for kinematics alone; the model lives as long as its environment."""
    environment = make_environment()
    model = environment.physics.model.ptr
    return environment, model, mujoco.MjData(model)


def steer(observation: Float, waypoint: Float) -> Float:
    """Over the brick, down, the fingers together, and to the waypoint; no joint faster than it may be."""
    speeds = [steer_one(seen.astype(np.float64), place) for seen, place in zip(observation, waypoint, strict=True)]
    return np.array(speeds, np.float32)


def steer_one(seen: Array, place: Float) -> Array:
    """Speeds of the joints and the fingers; what comes next depends on where the brick and the fingers are alone."""
    _, model, data = load_arm()
    brick, fingers = seen[BRICK], seen[FINGERS]
    data.qpos[:6], data.qpos[6:9] = np.arctan2(seen[SINES], seen[COSINES]), fingers
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    pinch = data.site("jaco_arm/jaco_hand/pinchsite")
    pose = pinch.xmat.reshape(3, 3)  # the fingers close along x and point along z
    moves, turns = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    mujoco.mj_jacSite(model, data, moves, turns, pinch.id)
    arm = np.concatenate([moves, turns])[:, :6]

    turn = 0.5 * np.cross(pose, find_grasp(seen[ORIENTATION], pose), axis=0).sum(axis=1)  # rad, while it is small
    way = brick - pinch.xpos - MIDDLE * pose[:, 1]
    side, tilt, above = np.linalg.norm(way[:2]), np.linalg.norm(turn), -way[2]
    around = side < 0.03 and abs(above) < 0.03
    if around and fingers.mean() > 1.0 and np.abs(seen[FINGER_SPEEDS]).max() < 0.3:  # something stops them
        move, closing = 4.0 * (place - brick), CLOSING
    elif around and side < 0.02 and above < 0.022 and tilt < 0.3:
        move, closing = np.append(3.0 * way[:2], 3.0 * (0.012 - above)), CLOSING
    else:  # down a funnel over the brick
        height = 0.01 + 0.07 * np.clip(max(side / 0.02, tilt / 0.2) - 0.5, 0.0, 1.0)
        sideways = 1.0 if side > 0.03 and above < 0.05 else 4.0  # beside the brick: up first
        move, closing = np.append(sideways * way[:2], 4.0 * (height - above)), -CLOSING
    move *= min(1.0, HAND_SPEED / max(float(np.linalg.norm(move)), 1e-9))
    joints = arm.T @ np.linalg.solve(arm @ arm.T + 0.002 * np.eye(6), np.concatenate([move, 4.0 * turn]))
    return np.append(joints / max(1.0, float(np.abs(joints / SPEEDS).max())), np.full(3, closing))


def find_grasp(orientation: Array, pose: Array) -> Array:
    """The pose of a hand that points down and closes across the narrow side of the brick, shape (3, 3)."""
    brick = np.zeros(9)
    mujoco.mju_quat2Mat(brick, orientation)
    across = brick.reshape(3, 3)[:, 0]
    if abs(across[2]) > 0.7:  # it stands on its side
        across = pose[:, 0]
    across = across * [1.0, 1.0, 0.0] * np.where(across @ pose[:, 0] < 0.0, -1.0, 1.0)
    across /= np.linalg.norm(across)
    down = np.array([0.0, 0.0, -1.0])
    return np.stack([across, np.cross(down, across), down], axis=1)


JACO_LIFT = DmControlFamily(
    name="jaco-lift",
    environment=make_environment,
    goal=(Axis("place_x", "m", -0.15, 0.15), Axis("place_y", "m", -0.15, 0.15), Axis("place_z", "m", 0.1, 0.35)),
    set_task=set_place,
    hide=(
        "duplo2x4/angular_velocity",
        "duplo2x4/linear_velocity",
        "jaco_arm/jaco_hand/pinch_site_rmat",
        "jaco_arm/joints_torque",
    ),
    observation_axes=(
        *(Axis(f"brick_q{axis}", "1", -np.inf, np.inf) for axis in "wxyz"),
        *(Axis(f"brick_{axis}", "m", -np.inf, np.inf) for axis in "xyz"),
        *(Axis(f"finger{finger}", "rad", -np.inf, np.inf) for finger in range(1, 4)),
        *(Axis(f"finger{finger}_v", "rad/s", -np.inf, np.inf) for finger in range(1, 4)),
        *(Axis(f"hand_{axis}", "m", -np.inf, np.inf) for axis in "xyz"),
        *(Axis(f"{name}_joint{joint}", "1", -1.0, 1.0) for joint in range(1, 7) for name in ("sin", "cos")),
        *(Axis(f"joint{joint}_v", "rad/s", -np.inf, np.inf) for joint in range(1, 7)),
    ),
    action_axes=(
        *(Axis(f"speed{joint}", "rad/s", -limit, limit) for joint, limit in enumerate(SPEEDS, start=1)),
        *(Axis(f"finger{finger}_speed", "rad/s", -CLOSING, CLOSING) for finger in range(1, 4)),
    ),
    success="terminated",
    reward=compute_reward,
    goal_radius=RADIUS,
    episode_steps=150,
    num_train_tasks=24,
    script=Script(steer=steer, low=(-0.2, -0.2, 0.05), high=(0.2, 0.2, 0.4), steps=(30, 60)),
)
PRESETS = {
    "lift": RunConfig(
        robot=JACO_LIFT,
        generate=GenerateConfig(steps=300_000, rows=20),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=10_000)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
