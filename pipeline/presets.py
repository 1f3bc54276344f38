"""Presets of the whole chain, as Python objects: `supple run PRESET`, each field of which is a command-line option."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from ..meta.simpl.config import FinetuneConfig, SimplConfig
from ..meta.simpl.deployment import DeploymentConfig
from ..robots.family import RobotFamily
from ..robots.image_maze import ImageMaze
from ..robots.kitchen_family import Kitchen
from ..robots.maze_family import Maze
from ..skills.config import SkillConfig
from .learners import LearnerSettings, SimplSettings
from .settings.adapt import AdaptStageConfig
from .settings.explore import ExploreConfig
from .settings.export import ExportConfig
from .settings.extract import ExtractConfig
from .settings.generate import GenerateConfig
from .settings.ingest import IngestConfig
from .settings.map_logs import MapConfig
from .settings.meta_train import MetaTrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The chain: one robot with its tasks, and the settings of each stage."""

    robot: tyro.conf.Suppress[RobotFamily] = field(default_factory=Maze)
    """The robot family; on the command line its settings are `--robot.*`."""
    tasks: Path | None = None
    """CSV file of train goals, a column for each goal axis and perhaps name; without it, the family's own."""
    test_tasks: Path | None = None
    """CSV file of test goals; without it, the family's own."""
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    learner: tyro.conf.Suppress[LearnerSettings] = field(default_factory=SimplSettings)
    """The learner; on the command line its settings are `--learner.*`."""
    meta_train: MetaTrainConfig = field(default_factory=MetaTrainConfig)
    map: MapConfig = field(default_factory=MapConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    adapt: AdaptStageConfig = field(default_factory=AdaptStageConfig)


QUICK = SimplConfig(
    hidden=(128, 128, 128),
    encoder_hidden=64,
    learning_rate=1e-3,
    target_rate=0.05,
    posterior_tasks=12,
    batch=64,
    policy_kl_prior=(0.1, 0.5),
    policy_kl_posterior=(0.1, 1.0),
    epochs=120,
    pool_episodes=2000,
)
"""SiMPL with smaller networks and batches, for robots that meta-train in minutes. The policy begins close to the skill
prior: where skills say much more than their prior, a policy that was free from the start ran away with its critics."""

PRESETS: dict[str, RunConfig] = {
    "demo": RunConfig(
        robot=Maze(layout_size=10, layout_seed=1, episode_steps=400, num_train_tasks=16, num_test_tasks=8),
        generate=GenerateConfig(steps=200_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-3, num_updates=3_000)),
        learner=SimplSettings(
            config=replace(
                QUICK, policy_kl_prior=(1e-2, 0.5), policy_kl_posterior=(1e-2, 1.0), epochs=60, pool_episodes=800
            )
        ),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=80),
    ),
    "quick": RunConfig(
        robot=Maze(layout_size=10, layout_seed=1, episode_steps=400, num_train_tasks=16, num_test_tasks=8),
        generate=GenerateConfig(steps=100_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-4, num_updates=2_000)),
        learner=SimplSettings(config=QUICK),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=60),
    ),
    "maze": RunConfig(
        extract=ExtractConfig(skill=SkillConfig(kl_weight=1e-3)),
        map=MapConfig(enabled=True),
        adapt=AdaptStageConfig(episodes=300, evaluate_at=(1, 2, 3, 5, 8, 10, 15, 21, 30, 40, 60, 80, 100, 150, 200)),
    ),
    "maze-published": RunConfig(
        extract=ExtractConfig(
            skill=SkillConfig(
                encoder="lstm",
                decoder_hidden=(128,) * 6,
                prior_hidden=(128,) * 7,
                kl_weight=1e-3,
                batch_size=128,
                num_updates=480_000,
                decoded_steps=10,
            )
        ),
        learner=SimplSettings(
            config=SimplConfig(
                embedding_dim=5,
                encoder="set-transformer",
                learning_rate=3e-4,
                multiplier_learning_rate=3e-4,
                only_increase=True,
                policy_every=1,
                bfloat16=False,
                policy_kl_prior=(3e-3, 0.5),
                policy_kl_posterior=(1e-3, 1.0),
                target_rate=0.005,
                posterior_tasks=26,
                batch=1024,
                success_batch=0,
                posterior_context=8192,
                context_episodes=0,
                reward_prediction=0.0,
                relabel=False,
                epochs=1000,
                updates_per_epoch=0,
                warmup_epochs=41,
                pool_episodes=8000,
            ),
            deployment=DeploymentConfig(
                search="blind",
                keep_searching=False,
                learn_from_exploration=False,
                context=4000,
                finetune=FinetuneConfig(
                    reuse_rate=256.0,
                    learning_rate=3e-4,
                    target_rate=0.005,
                    critic_updates_first=0,
                    bfloat16=False,
                ),
            ),
        ),
        adapt=AdaptStageConfig(episodes=300),
    ),
    "image-maze": RunConfig(
        robot=ImageMaze(),
        generate=GenerateConfig(steps=400_000),
        extract=ExtractConfig(
            skill=SkillConfig(kl_weight=1e-2, batch_size=128, decoded_steps=2, hidden_axes=("x", "y"))
        ),
        explore=ExploreConfig(enabled=True),
        map=MapConfig(enabled=True, places=4096, lean=0.3),
        adapt=AdaptStageConfig(episodes=200, evaluate_at=(1, 3, 5, 10, 40, 60, 100, 150)),
    ),
    "kitchen": RunConfig(
        robot=Kitchen(),
        map=MapConfig(enabled=True),
        generate=GenerateConfig(steps=160_000),
        extract=ExtractConfig(
            skill=SkillConfig(
                encoder_hidden=(256, 256),
                decoder_hidden=(256, 256, 256),
                kl_weight=5e-4,
                num_updates=80_000,
                bfloat16=True,
            )
        ),
        learner=SimplSettings(
            config=replace(
                QUICK,
                learning_rate=3e-4,
                target_rate=0.01,
                policy_kl_prior=(3e-2, 0.5),
                policy_kl_posterior=(3e-2, 3.0),
                kl_clip=6.0,
                embedding_kl_prior=(1e-3, 2.0),
                embedding_kl_posterior=(1e-4, 10.0),
                prior_context=2,
                posterior_context=256,
                success_batch=0,
                warmup_epochs=3,
                epochs=36,
                updates_per_epoch=300,
                critic_norm=True,
                pool_episodes=2000,
            ),
            deployment=DeploymentConfig(
                search="blind",
                context=512,
                finetune=FinetuneConfig(
                    learning_rate=3e-4, target_rate=0.005, reuse_rate=256.0, kl_target=5.0, kl_clip=20.0
                ),
            ),
        ),
        adapt=AdaptStageConfig(episodes=100, evaluations=5, evaluate_at=(10, 40, 60)),
    ),
}
"""`demo` shows the chain in minutes; `quick` is a start for a robot of one's own; `maze` reaches the published curve at
a fraction of its cost; `maze-published` has every published hyper-parameter of the maze; `image-maze` takes skills
that see into an unseen maze; `kitchen` is an arm in a kitchen."""
