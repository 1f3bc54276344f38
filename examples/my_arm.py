"""An arm from a model file of one's own: `supple run examples/my_arm.py:arm`, or `--robot examples/my_arm.py:ARM`.

The task is a place that the hand has to come within 10 cm of. The arm does not know the place: it finds it by trying.
"""

from dataclasses import replace
from pathlib import Path

from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.waypoint_play import WaypointConfig
from supple.skills.config import SkillConfig

ARM = MjcfFamily(
    name="my-arm",
    model=Path(__file__).with_name("my_arm.xml"),
    control_period=0.05,
    goal_site="hand",
    goal_low=(-0.75, -0.75, 0.05),
    goal_high=(0.75, 0.75, 1.0),
    success_radius=0.1,
    keyframe="home",
    episode_steps=100,
    waypoints=WaypointConfig(sweep_time=(0.6, 1.2)),
)
PRESETS = {
    "arm": RunConfig(
        robot=ARM,
        generate=GenerateConfig(steps=100_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=3e-5, num_updates=2_000)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
