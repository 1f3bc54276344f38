"""A dm_control task as a robot: `supple run examples/dm_control_reacher.py:reacher`, with `supple[dm-control]`.

The reacher of the Control Suite with its target hidden: the arm has to find the target by trying. The task of the suite
draws another target in each episode, so a subclass puts it where the task says.
"""

from typing import Any

import numpy as np
from dm_control.rl import control
from dm_control.suite import reacher

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.robots.dm_control_family import DmControlFamily
from supple.robots.robot import Bool, Float
from supple.robots.spec import Axis
from supple.skills.config import SkillConfig

RADIUS, LINK = 0.025, 0.12  # of target and finger together; length of each link; m


class Hidden(reacher.Reacher):
    """The suite's task with the target where the family's task says."""

    target = np.zeros(2)

    def initialize_episode(self, physics: Any) -> None:
        super().initialize_episode(physics)
        physics.named.model.geom_pos["target", :2] = self.target


def make_environment() -> control.Environment:
    physics = reacher.Physics.from_xml_string(*reacher.get_model_and_assets())
    return control.Environment(physics, Hidden(target_size=0.015))


def set_target(environment: Any, goal: Float) -> None:
    environment.task.target = goal.astype(np.float64)


def compute_reward(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """1 at the target, which ends the task; the finger follows from the angles."""
    shoulder, both = observation[..., 0], observation[..., 0] + observation[..., 1]
    x, y = LINK * (np.cos(shoulder) + np.cos(both)), LINK * (np.sin(shoulder) + np.sin(both))
    reached = np.hypot(x - goals[..., 0], y - goals[..., 1]) <= RADIUS
    return reached.astype(np.float32), reached


REACHER = DmControlFamily(
    name="dm-control-reacher",
    environment=make_environment,
    goal=(Axis("target_x", "m", -0.16, 0.16), Axis("target_y", "m", -0.16, 0.16)),
    set_task=set_target,
    hide=("to_target",),
    observation_axes=(
        Axis("shoulder", "rad", -np.inf, np.inf),
        Axis("wrist", "rad", -3.0, 3.0),
        *(Axis(f"{name}_v", "rad/s", -np.inf, np.inf) for name in ("shoulder", "wrist")),
    ),
    action_axes=tuple(Axis(name, "0.05 N m", -1.0, 1.0) for name in ("shoulder", "wrist")),
    success="terminated",
    reward=compute_reward,
    episode_steps=150,
    num_train_tasks=24,
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
