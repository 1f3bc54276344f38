"""An arm from a model file of one's own: `supple run examples/my_arm.py:arm`, or `--robot examples/my_arm.py:ARM`.

The task is a place that the hand has to come within 10 cm of. The arm does not know the place: it finds it by trying.
"""

from pathlib import Path

from supple.adapt.config import AdaptConfig
from supple.meta.simpl.config import SimplConfig
from supple.pipeline.presets import RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.pipeline.settings.meta_train import MetaTrainConfig
from supple.robots.mjcf_family import MjcfFamily
from supple.skills.config import SkillConfig

ARM = MjcfFamily(
    name="my-arm",
    model=Path(__file__).with_name("my_arm.xml"),
    control_period=0.04,
    goal_site="hand",
    goal_low=(-0.75, -0.75, 0.05),
    goal_high=(0.75, 0.75, 1.0),
    success_radius=0.1,
    keyframe="home",
    episode_steps=120,
    num_train_tasks=40,
    num_test_tasks=10,
)
PRESETS = {
    "arm": RunConfig(
        robot=ARM,
        generate=GenerateConfig(steps=200_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-3, num_updates=3_000)),
        meta_train=MetaTrainConfig(
            simpl=SimplConfig(
                hidden=(128, 128, 128),
                encoder_hidden=64,
                learning_rate=1e-3,
                target_rate=0.05,
                posterior_tasks=12,
                batch=64,
                epochs=60,
                pool_episodes=2400,
            )
        ),
        adapt=AdaptStageConfig(loop=AdaptConfig(episodes=80)),
    ),
}
