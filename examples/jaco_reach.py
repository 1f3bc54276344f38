"""The Jaco arm of dm_control as a robot: `supple run examples/jaco_reach.py:jaco`, with `supple[dm-control]`.

The manipulation task `reach_site_features` with its target hidden: the hand has to find the place by trying, from
another pose in each episode. The fingers are held. Its play data goes from place to place, at joint speeds by damped
least squares (Wampler, 1986).
"""

from dataclasses import replace
from functools import cache
from typing import Any

import mujoco
import numpy as np
from dm_control import composer, manipulation

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

RADIUS = 0.08  # m, within which the place counts as reached
SPEEDS = (0.62, 0.62, 0.62, 0.83, 0.83, 0.83)  # limits of the six joints, rad/s


def make_environment() -> composer.Environment:
    environment = manipulation.load("reach_site_features")
    site = environment.task.root_entity.mjcf_model.find("site", "target_site")
    environment.target = np.zeros(3)

    def place(physics: Any, random_state: Any) -> None:
        physics.bind(site).pos = environment.target

    environment.add_extra_hook("initialize_episode", place)  # after the task has drawn a place of its own
    return environment


def set_target(environment: Any, goal: Float) -> None:
    environment.target = goal.astype(np.float64)


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 where the fingers meet at the place, which ends the task."""
    reached = np.linalg.norm(observation[..., :3] - goals, axis=-1) <= RADIUS
    return reached.astype(np.float32), reached


@cache
def load_arm() -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The arm, for kinematics alone."""
    model = make_environment().physics.model.ptr
    return model, mujoco.MjData(model)


def steer(observation: Float, waypoint: Float) -> Float:
    """Straight to a place, slower near it; no joint faster than it may be."""
    model, data = load_arm()
    speeds = np.zeros((len(observation), 6))
    for row, (seen, place) in enumerate(zip(observation.astype(np.float64), waypoint, strict=True)):
        data.qpos[:6] = np.arctan2(seen[3:15:2], seen[4:15:2])
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        moves = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, moves, None, model.site("jaco_arm/jaco_hand/pinchsite").id)
        arm = moves[:, :6]
        speeds[row] = arm.T @ np.linalg.solve(arm @ arm.T + 0.003 * np.eye(3), 4.0 * (place - seen[:3]))
    return (speeds / np.maximum(1.0, np.abs(speeds / SPEEDS).max(axis=1, keepdims=True))).astype(np.float32)


JACO = DmControlFamily(
    name="jaco-reach",
    environment=make_environment,
    goal=(Axis("target_x", "m", -0.2, 0.2), Axis("target_y", "m", -0.2, 0.2), Axis("target_z", "m", 0.02, 0.4)),
    set_task=set_target,
    hide=(
        "target_position",
        "jaco_arm/joints_torque",
        "jaco_arm/jaco_hand/joints_pos",
        "jaco_arm/jaco_hand/joints_vel",
        "jaco_arm/jaco_hand/pinch_site_rmat",
    ),
    observation_axes=(
        *(Axis(f"hand_{axis}", "m", -np.inf, np.inf) for axis in "xyz"),
        *(Axis(f"{name}_joint{joint}", "1", -1.0, 1.0) for joint in range(1, 7) for name in ("sin", "cos")),
        *(Axis(f"joint{joint}_v", "rad/s", -np.inf, np.inf) for joint in range(1, 7)),
    ),
    commanded=tuple(range(6)),
    action_axes=tuple(Axis(f"speed{joint}", "rad/s", -limit, limit) for joint, limit in enumerate(SPEEDS, start=1)),
    success="terminated",
    reward=compute_reward,
    goal_radius=RADIUS,
    episode_steps=100,
    num_train_tasks=24,
    script=Script(steer=steer, low=(-0.3, -0.3, 0.02), high=(0.3, 0.3, 0.5)),
)
PRESETS = {
    "jaco": RunConfig(
        robot=JACO,
        generate=GenerateConfig(steps=200_000, rows=20),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=6_000)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
