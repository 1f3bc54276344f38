"""An arm whose load and joints change from task to task: `supple run examples/loaded_arm.py:loaded`.

A built-in robot with a task of one's own, and a word for when it is solved. Each task has a place that the hand has to
come within 8 cm of, a mass in the hand (up to 1 kg), a factor of all torques (.5 to 1.5), one of all dampings (.5 to 2)
and a delay of up to 60 ms. Nothing of it is told. The controller holds the weight of the links, and not that of the
load.
"""

from dataclasses import dataclass, replace

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.pipeline.settings.map_logs import MapConfig
from supple.robots.arm import Arm, Arms
from supple.robots.family import TellsSuccess
from supple.robots.robot import Bool, Float
from supple.skills.config import SkillConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachingArms(Arms, TellsSuccess):
    """Arms that are paid for being there, and for nothing else."""

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`."""
        solved: Bool = reward > 0.0
        return solved


LOADED_ARM = ReachingArms(
    variant=Arm(name="loaded_arm", hidden_target=True, hidden_dynamics=True, radius=0.08), num_train=40, num_test=10
)
PRESETS = {
    "loaded": RunConfig(
        robot=LOADED_ARM,
        generate=GenerateConfig(steps=100_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=3e-5, num_updates=2_000)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
