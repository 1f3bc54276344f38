"""A Gymnasium environment as a robot: `supple run examples/gymnasium_reacher.py:reacher`.

Gymnasium's Reacher with its target hidden: the arm has to find the target by trying. The environment draws another
target at each reset, so a subclass puts it where the task says.
"""

from typing import Any

import numpy as np
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.play import NoiseConfig
from supple.robots.robot import Bool, Float
from supple.robots.spec import Axis
from supple.skills.config import SkillConfig

RADIUS = 0.02  # m, within which the target counts as reached


class Reacher(ReacherEnv):
    """Reacher-v5 whose target is where the task says."""

    target = np.zeros(2)

    def reset_model(self) -> Any:
        super().reset_model()
        self.set_state(np.concatenate([self.data.qpos[:2], self.target]), self.data.qvel)
        return self._get_obs()


def set_target(env: Any, goal: Float) -> None:
    env.target = goal.astype(np.float64)


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 at the target, which ends the task; the fingertip follows from the cosines and sines of the angles."""
    cos, sin = observation[..., :2], observation[..., 2:4]
    x = 0.1 * cos[..., 0] + 0.11 * (cos[..., 0] * cos[..., 1] - sin[..., 0] * sin[..., 1])
    y = 0.1 * sin[..., 0] + 0.11 * (sin[..., 0] * cos[..., 1] + cos[..., 0] * sin[..., 1])
    reached = np.hypot(x - goals[..., 0], y - goals[..., 1]) <= RADIUS
    return reached.astype(np.float32), reached


REACHER = GymnasiumFamily(
    name="gymnasium-reacher",
    environment=Reacher,
    goal=(Axis("target_x", "m", -0.14, 0.14), Axis("target_y", "m", -0.14, 0.14)),
    set_task=set_target,
    hide=(4, 5, 8, 9),  # the target, and the way to it
    observation_axes=(
        *(Axis(f"{name}_joint{index}", "1", -1.0, 1.0) for name in ("cos", "sin") for index in (0, 1)),
        *(Axis(f"joint{index}_v", "rad/s", -np.inf, np.inf) for index in (0, 1)),
    ),
    action_axes=tuple(Axis(f"torque{index}", "200 N m", -1.0, 1.0) for index in (0, 1)),
    success="terminated",
    reward=compute_reward,
    episode_steps=100,
    num_train_tasks=24,
    noise=NoiseConfig(amplitude=(0.03, 0.2)),
)
PRESETS = {
    "reacher": RunConfig(
        robot=REACHER,
        generate=GenerateConfig(steps=60_000, rows=20),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=2_000)),
        learner=SimplSettings(config=QUICK),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
