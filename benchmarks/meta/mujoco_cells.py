"""Cells of the meta-RL results table on MuJoCo robots, merged into `cells.py`.

Sources of references: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017: the results that the authors' code stores, 40 test tasks, 200 steps of 10 ms. Their cheetah starts with less
noise, and their policy also sees the centre of mass, see `robots/cheetah.py`. The cells of the other learners stand on
the same robots, so that they can be compared; in their own papers an action lasts 50 ms.

Settings that are not published are first guesses.
"""

from typing import Any

from supple.meta.baselines.config import PpoConfig, PpoSteps, SacConfig
from supple.meta.config import EvaluationConfig, Trial, TrustRegion
from supple.meta.gradient.config import MamlConfig
from supple.meta.inference.config import PearlConfig
from supple.meta.memory.config import Rl2Config
from supple.pipeline.learners import LearnerSettings, MamlSettings, PearlSettings, PpoSettings, Rl2Settings
from supple.robots.arm import ARM_DYNAMICS, ARM_TARGET, Arms
from supple.robots.cheetah import CHEETAH_DIRECTION_10MS, CHEETAH_VELOCITY_10MS, Cheetahs
from supple.robots.family import RobotFamily

from .cell import Cell, Reference
from .cell_train import BenchConfig

FINN = "Finn et al. 2017, the authors' stored results"
DIRECTION = Cheetahs(variant=CHEETAH_DIRECTION_10MS)
VELOCITY = Cheetahs(variant=CHEETAH_VELOCITY_10MS, num_test=40)
ARM_RL2: dict[str, Any] = {"learning_rate": 2e-3, "discount": 0.97}
"""The first that were tried on hidden dynamics, one seed; an arm reaches a target within a second."""
STEPS = EvaluationConfig(adapt_steps=3)
STEPS_REPEATED = EvaluationConfig(adapt_steps=3, trials=20)
"""There are two directions only, and one adaptation of each says little."""


def _maml() -> LearnerSettings:
    """As published, but for the tasks that give the curvature (published: all)."""
    config = MamlConfig(
        step_size=0.1,
        tasks=40,
        episodes=20,
        iterations=100,
        curvature_tasks=10,
        trust_region=TrustRegion(max_kl=0.02),
    )
    return MamlSettings(config=config, rollouts=20)


def _rl2(robot: RobotFamily, repetitions: int, **changes: Any) -> BenchConfig:
    """Trials of two episodes: one to find out the task, one to use it."""
    trial = Trial(episodes=2)
    settings: dict[str, Any] = {
        "trials": 64,
        "minibatch": 16,
        "iterations": 300,
        "hidden": 128,
        "learning_rate": 1e-3,
        "trace": 0.95,
        "entropy_weight": 0.0,
    }
    learner = Rl2Settings(config=Rl2Config(trial=trial, **{**settings, **changes}))
    evaluation = EvaluationConfig(trial=trial, trials=repetitions)
    return BenchConfig(robot=robot, space="unit", learner=learner, evaluation=evaluation)


def _pearl_velocity() -> BenchConfig:
    """Two episodes to infer the velocity from, as published, and one to run; networks are smaller than published."""
    config = PearlConfig(
        sac=SacConfig(hidden=(128, 128), discount=0.99, temperature=0.2),
        kl_weight=4e-3,
        iterations=100,
        rollouts=1,
        prior_episodes=2,
        posterior_episodes=3,
        updates=200,
        context=100,
    )
    evaluation = EvaluationConfig(trial=Trial(episodes=3), trials=2)
    return BenchConfig(robot=VELOCITY, space="unit", learner=PearlSettings(config=config), evaluation=evaluation)


def _ppo_arm() -> BenchConfig:
    """One policy for all dynamics, as many decisions as RL2 has, and what fine-tuning makes of it in each."""
    training = PpoSteps(learning_rate=1e-3, discount=0.97)
    config = PpoConfig(iterations=300, tasks=32, episodes=4, training=training, adaptation=training)
    learner = PpoSettings(config=config, rollouts=20)
    return BenchConfig(robot=Arms(variant=ARM_DYNAMICS), space="unit", learner=learner, evaluation=STEPS)


MUJOCO_CELLS: dict[str, Cell] = {
    "maml-cheetah-direction": Cell(
        config=BenchConfig(robot=DIRECTION, space="unit", learner=_maml(), evaluation=STEPS_REPEATED),
        minutes=26,
        references=(
            Reference("maml-published", (-50.7, 293.2, 313.5, 315.7), FINN),
            Reference("oracle-published", (442.7,) * 4, FINN),
        ),
    ),
    "pearl-cheetah-velocity": Cell(
        config=_pearl_velocity(), minutes=11, references=(Reference("oracle-published", (-54.5,) * 3, FINN),)
    ),
    "rl2-cheetah-direction": Cell(
        config=_rl2(DIRECTION, 20), minutes=13, references=(Reference("oracle-published", (442.7,) * 2, FINN),)
    ),
    "rl2-arm-target": Cell(config=_rl2(Arms(variant=ARM_TARGET), 5, iterations=450, **ARM_RL2), minutes=8),
    "rl2-arm-dynamics": Cell(config=_rl2(Arms(variant=ARM_DYNAMICS), 5, **ARM_RL2), minutes=6),
    "ppo-arm-dynamics": Cell(config=_ppo_arm(), minutes=4),
}
"""By name."""
