"""The Panda of gym-hil as a Gymnasium environment: `supple run examples/panda_reach.py:panda`.

`pip install --no-deps gym-hil==0.1.14` brings the model; the environments of that package need an older MuJoCo. This
one is commanded by the speed of the fingers, as an arm with a Cartesian controller is: joint speeds by damped least
squares (Wampler, 1986), torques by feedback and gravity compensation. The task is a place that the policy is not told.
Its play data goes from place to place. Random speeds alone left four of ten places unseen in all of it.
"""

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from supple.errors import ConfigError
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

PACKAGE = find_spec("gym_hil")  # looked for, not imported
if PACKAGE is None or PACKAGE.origin is None:
    raise ConfigError("panda: expected the package gym-hil, got none; pip install --no-deps gym-hil==0.1.14")
SCENE = Path(PACKAGE.origin).parent / "assets" / "scene.xml"
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785])  # rad
SPEED, RADIUS = 0.3, 0.06  # m/s of each axis; m, within which the place counts as reached
STIFFNESS, DAMPING = 200.0, 20.0  # N m/rad, N m s/rad
LOOPS, STEPS = 4, 5  # of the joint controller in a control period; physics steps of 2 ms in each


@cache
def load_scene() -> mujoco.MjModel:
    """One model for all environments: its meshes take 60 MB."""
    return mujoco.MjModel.from_xml_path(str(SCENE))


class Panda(MujocoEnv):
    """Fingers that follow a speed."""

    metadata: ClassVar = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 25}

    def __init__(self) -> None:
        seen = Box(-np.inf, np.inf, (17,), np.float64)
        super().__init__(str(SCENE), LOOPS * STEPS, seen)
        self.action_space = Box(-SPEED, SPEED, (3,), np.float32)
        self.target = HOME

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = load_scene()
        return model, mujoco.MjData(model)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        moves = np.zeros((3, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, moves, None, self.model.site("pinch").id)
        arm = moves[:, :7]
        self.target = self.target + self.dt * arm.T @ np.linalg.solve(arm @ arm.T + 0.01 * np.eye(3), action)
        self.target = np.clip(self.target, *self.model.jnt_range[:7].T)
        self.target = np.clip(self.target, self.data.qpos[:7] - 0.2, self.data.qpos[:7] + 0.2)
        for _ in range(LOOPS):
            torque = STIFFNESS * (self.target - self.data.qpos[:7]) - DAMPING * self.data.qvel[:7]
            self.data.ctrl[:7] = torque + self.data.qfrc_bias[:7]
            mujoco.mj_step(self.model, self.data, STEPS)
        return self.observe(), 0.0, False, False, {}

    def reset_model(self) -> Any:
        self.target = HOME + self.np_random.uniform(-0.1, 0.1, 7)
        qpos = self.init_qpos.copy()
        qpos[:7] = self.target
        self.set_state(qpos, self.init_qvel)
        return self.observe()

    def observe(self) -> Any:
        """Place of the fingers, and angles and speeds of the joints."""
        mujoco.mj_kinematics(self.model, self.data)
        return np.concatenate([self.data.site("pinch").xpos, self.data.qpos[:7], self.data.qvel[:7]])


def set_target(env: Any, goal: Float) -> None:
    """Nothing of the environment depends on the place."""


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 where the fingers are at the place, which ends the task."""
    reached = np.linalg.norm(observation[..., :3] - goals, axis=-1) <= RADIUS
    return reached.astype(np.float32), reached


def steer(observation: Float, waypoint: Float) -> Float:
    """Straight to a place, slower near it."""
    return np.clip(4.0 * (waypoint - observation[:, :3]), -SPEED, SPEED)


PANDA = GymnasiumFamily(
    name="panda-reach",
    environment=Panda,
    goal=(Axis("goal_x", "m", 0.3, 0.65), Axis("goal_y", "m", -0.3, 0.3), Axis("goal_z", "m", 0.1, 0.55)),
    set_task=set_target,
    observation_axes=(
        *(Axis(f"hand_{axis}", "m", -np.inf, np.inf) for axis in "xyz"),
        *(Axis(f"joint{joint}", "rad", -np.inf, np.inf) for joint in range(1, 8)),
        *(Axis(f"joint{joint}_v", "rad/s", -np.inf, np.inf) for joint in range(1, 8)),
    ),
    action_axes=tuple(Axis(f"hand_{axis}_v", "m/s", -SPEED, SPEED) for axis in "xyz"),
    success="terminated",
    reward=compute_reward,
    goal_radius=RADIUS,
    episode_steps=100,
    num_train_tasks=24,
    script=Script(steer=steer, low=(0.25, -0.4, 0.05), high=(0.7, 0.4, 0.6)),
    packages=("gym-hil",),
)
PRESETS = {
    "panda": RunConfig(
        robot=PANDA,
        generate=GenerateConfig(steps=40_000, rows=20),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=1_500)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
