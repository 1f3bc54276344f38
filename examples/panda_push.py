"""The Panda of gym-hil pushes a cube: `supple run examples/panda_push.py:push`.

`pip install --no-deps gym-hil==0.1.14` brings the model. The closed fingers stay above the floor and point down; they
are commanded by their speed along x and y. The task is a place that the cube has to come to, within 5 cm, and that the
policy is not told. Play data pushes the cube from anywhere to anywhere, without any task in mind.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from panda_reach import DAMPING, HOME, LOOPS, SCENE, STEPS, STIFFNESS, Panda, set_target

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.pipeline.settings.map_logs import MapConfig
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.play import Script
from supple.robots.robot import Bool, Float
from supple.robots.spec import Axis
from supple.skills.config import SkillConfig

SPEED, RADIUS = 0.3, 0.05  # m/s of each axis; m, within which the cube counts as brought
HEIGHT = 0.03  # of the fingertips above the floor, m
CUBE, HAND = np.array([0.42, 0.0]), np.array([0.33, 0.0])  # where both are at the start, m
CLOSED = 255.0  # command of the gripper
AROUND = 0.075  # distance from the middle of the cube at which the fingers go around it, m
DOWN = np.array([0.0, 1.0, 0.0, 0.0])  # wxyz, of the fingers


@cache
def load_scene() -> mujoco.MjModel:
    """One model for all environments; of the robot, only the pads touch anything, which halves the time of a step."""
    spec = mujoco.MjSpec.from_file(str(SCENE))
    for geom in spec.geoms:
        if geom.name not in ("floor", "block") and "pad" not in geom.name:
            geom.contype, geom.conaffinity = 0, 0
    return spec.compile()


class PandaPush(Panda):
    """Fingers that follow a speed in a plane, and a cube."""

    def __init__(self) -> None:
        MujocoEnv.__init__(self, str(SCENE), LOOPS * STEPS, Box(-np.inf, np.inf, (6,), np.float64))
        self.action_space = Box(-SPEED, SPEED, (2,), np.float32)
        self.target = HOME

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = load_scene()
        return model, mujoco.MjData(model)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for _ in range(LOOPS):
            self.target = self.target + self.dt / LOOPS * self._follow(action)
            self.target = np.clip(self.target, self.data.qpos[:7] - 0.2, self.data.qpos[:7] + 0.2)
            torque = STIFFNESS * (self.target - self.data.qpos[:7]) - DAMPING * self.data.qvel[:7]
            self.data.ctrl[:7] = torque + self.data.qfrc_bias[:7]
            self.data.ctrl[7] = CLOSED
            mujoco.mj_step(self.model, self.data, STEPS)
        return self.observe(), 0.0, False, False, {}

    def _follow(self, speed: Any) -> Any:
        """Speeds of the joints, rad/s, that move the fingers so in the plane and keep them in it, pointing down."""
        moves, turns, error = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv)), np.zeros(3)
        site = self.data.site("pinch")
        mujoco.mj_jacSite(self.model, self.data, moves, turns, site.id)
        pose = np.zeros(4)
        mujoco.mju_mat2Quat(pose, site.xmat)
        back = np.zeros(4)
        mujoco.mju_negQuat(back, pose)
        mujoco.mju_mulQuat(back, DOWN, back)
        mujoco.mju_quat2Vel(error, back, 1.0)
        asked = np.concatenate([speed, [5.0 * (HEIGHT - site.xpos[2])], 5.0 * error])
        arm = np.concatenate([moves, turns])[:, :7]
        return arm.T @ np.linalg.solve(arm @ arm.T + 0.001 * np.eye(6), asked)

    def reset_model(self) -> Any:
        qpos, place = self.init_qpos.copy(), HAND + self.np_random.uniform(-0.02, 0.02, 2)
        qpos[:7] = HOME
        qpos[11] = qpos[7] = 0.8  # both drivers of the fingers, closed
        qpos[15:17] = CUBE + self.np_random.uniform(-0.01, 0.01, 2)
        self.set_state(qpos, self.init_qvel)
        for _ in range(200):  # inverse kinematics of the start
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            self.data.qpos[:7] += 0.1 * self._follow(5.0 * (place - self.data.site("pinch").xpos[:2]))
        mujoco.mj_forward(self.model, self.data)
        self.target = self.data.qpos[:7].copy()
        return self.observe()

    def observe(self) -> Any:
        """Places of the fingers and of the cube, and the speed of the fingers."""
        mujoco.mj_kinematics(self.model, self.data)
        speed = np.zeros(6)
        pinch = self.data.site("pinch")
        mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_SITE, pinch.id, speed, 0)
        return np.concatenate([pinch.xpos[:2], self.data.body("block").xpos[:2], speed[3:5]])


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 where the cube is at the place, which ends the task."""
    reached = np.linalg.norm(observation[..., 2:4] - goals, axis=-1) <= RADIUS
    return reached.astype(np.float32), reached


def steer(observation: Float, waypoint: Float) -> Float:
    """Around the cube to its far side, and then straight against it until it is at the waypoint."""
    hand, cube = observation[:, :2], observation[:, 2:4]
    way, offset = waypoint - cube, hand - cube
    far, away = (np.linalg.norm(one, axis=1, keepdims=True) for one in (way, offset))
    along = way / np.maximum(far, 1e-6)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    before, aside = -(offset * along).sum(axis=1, keepdims=True), (offset * across).sum(axis=1, keepdims=True)
    angle = np.arctan2(aside, before)  # around the cube; 0 behind it
    circle = -np.sign(angle) * (np.sin(angle) * along + np.cos(angle) * across)
    around = SPEED * np.minimum(2.0 * np.abs(angle), 1.0) * circle + 6.0 * (AROUND - away) * offset / away
    push = np.minimum(5.0 * far + 0.05, SPEED) * along - 5.0 * aside * across
    behind = (before > 0.0) & ((np.abs(angle) < 0.2) | ((np.abs(aside) < 0.012) & (away < AROUND)))
    speed = np.where(behind, push, around)
    return np.clip(np.where(far < 0.01, 0.0, speed), -SPEED, SPEED)


PANDA_PUSH = GymnasiumFamily(
    name="panda-push",
    environment=PandaPush,
    goal=(Axis("goal_x", "m", 0.5, 0.65), Axis("goal_y", "m", -0.2, 0.2)),
    set_task=set_target,
    observation_axes=(
        *(Axis(f"{what}_{axis}", "m", -np.inf, np.inf) for what in ("hand", "cube") for axis in "xy"),
        *(Axis(f"hand_{axis}_v", "m/s", -np.inf, np.inf) for axis in "xy"),
    ),
    action_axes=tuple(Axis(f"hand_{axis}_v", "m/s", -SPEED, SPEED) for axis in "xy"),
    success="terminated",
    reward=compute_reward,
    episode_steps=100,
    num_train_tasks=24,
    script=Script(steer=steer, low=(0.4, -0.25), high=(0.7, 0.25), steps=(30, 80)),
    packages=("gym-hil",),
)
PRESETS = {
    "push": RunConfig(
        robot=PANDA_PUSH,
        generate=GenerateConfig(steps=60_000, rows=20),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=1_500)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
