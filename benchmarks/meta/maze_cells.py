"""Cells of the meta-RL results table in the maze of SiMPL, merged into `cells.py`.

Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, compare SiMPL with PEARL and
BC+PEARL in raw actions, BC+MAML in raw actions (appendix A) and others; SiMPL itself, SPiRL and SAC are run by
`supple adapt`. Here other meta-learners are also given the skills: what is left of the difference is the learner.
Goals are the published ones, 40 to train on and 10 to test on, and the first 20 episodes in a test task search, as
published.

PEARL and MAML over skills alone were run to the end so far; settings that are not published are first guesses.
"""

from dataclasses import replace

from supple.meta.baselines.config import SacConfig, TaskSacConfig
from supple.meta.config import CloneConfig, EvaluationConfig, Trial
from supple.meta.gradient.config import MamlConfig
from supple.meta.inference.config import PearlConfig
from supple.meta.memory.config import Rl2Config
from supple.pipeline.action_spaces import Space
from supple.pipeline.learners import (
    BcMamlSettings,
    BcPearlSettings,
    LearnerSettings,
    MamlSettings,
    PearlSettings,
    Rl2Settings,
)
from supple.robots.maze_family import Maze

from .cell import Cell
from .cell_train import BenchConfig

MAZE = Maze()
SEARCH = 20
"""Episodes that search (published)."""
INFERRED = EvaluationConfig(trial=Trial(episodes=SEARCH + 5))
TUNED = EvaluationConfig(adapt_steps=99)
"""A step of adaptation after each of 100 episodes."""
STEPS = EvaluationConfig(adapt_steps=3)

SKILL_SAC = SacConfig(hidden=(128, 128), discount=0.99, temperature=3e-3, learning_rate=1e-3)
SKILL_PEARL = PearlConfig(
    sac=SKILL_SAC,
    kl_weight=1e-4,
    iterations=200,
    tasks=20,
    rollouts=1,
    prior_episodes=1,
    posterior_episodes=1,
    posterior_in_context=True,
    updates=200,
    context=256,
    replay=20_000,
)
RAW_PEARL = replace(
    SKILL_PEARL, sac=replace(SKILL_SAC, batch=256), iterations=100, updates=400, context=1024, replay=40_000
)
"""Ten times as many decisions in an episode."""
MAML = MamlConfig(
    hidden=(64, 64),
    activation="tanh",
    step_size=0.1,
    iterations=100,
    tasks=20,
    episodes=5,
    curvature_tasks=5,
    trace=0.97,
)


def _cell(space: Space, learner: LearnerSettings, evaluation: EvaluationConfig, minutes: float, *extra: str) -> Cell:
    libraries = ("mujoco", *extra)
    return Cell(
        config=BenchConfig(robot=MAZE, space=space, learner=learner, evaluation=evaluation, libraries=libraries),
        minutes=minutes,
    )


def _rl2() -> LearnerSettings:
    """Trials of five episodes, in which search and use of what was found fit."""
    config = Rl2Config(
        trial=Trial(episodes=5),
        trials=80,
        minibatch=20,
        iterations=150,
        hidden=128,
        learning_rate=1e-3,
        trace=0.95,
        entropy_weight=0.0,
    )
    return Rl2Settings(method="rl2-skill", config=config)


def _demo() -> Cell:
    """Takes seconds, reaches nothing: the maze of the chain's `demo`, whose skills and play data fit."""
    robot = Maze(layout_size=10, layout_seed=1, episode_steps=60, num_train_tasks=3, num_test_tasks=2)
    config = PearlConfig(
        sac=SacConfig(hidden=(8,), batch=4),
        embedding_dim=2,
        encoder_hidden=(8,),
        iterations=4,
        tasks=3,
        rollouts=1,
        updates=4,
        batch_tasks=2,
        context=8,
        replay=400,
    )
    learner = BcPearlSettings(
        method="bc-pearl-skill", config=config, prior_episodes=1, cloning=CloneConfig(noise_dim=2, updates=50)
    )
    return Cell(
        config=BenchConfig(
            robot=robot,
            space="skill",
            learner=learner,
            evaluation=EvaluationConfig(trial=Trial(episodes=2)),
            libraries=("mujoco", "zarr"),
        ),
        minutes=0.1,
    )


MAZE_CELLS: dict[str, Cell] = {
    "demo-bc-pearl-maze": _demo(),
    "pearl-maze-skill": _cell(
        "skill",
        PearlSettings(method="pearl-skill", config=SKILL_PEARL, prior_episodes=SEARCH, greedy=False),
        INFERRED,
        17,
    ),
    "pearl-ft-maze-skill": _cell(
        "skill",
        PearlSettings(
            method="pearl-ft-skill",
            config=SKILL_PEARL,
            prior_episodes=SEARCH,
            greedy=False,
            fine_tuning=TaskSacConfig(sac=replace(SKILL_SAC, learning_rate=3e-4), updates=100, replay=20_000),
            inference_episodes=SEARCH,
        ),
        TUNED,
        21,
    ),
    "rl2-maze-skill": _cell("skill", _rl2(), EvaluationConfig(trial=Trial(episodes=5), trials=5), 27),
    "maml-maze-skill": _cell("skill", MamlSettings(method="maml-skill", config=MAML, rollouts=SEARCH), STEPS, 6),
    "pearl-maze-raw": _cell(
        "raw", PearlSettings(method="pearl-raw", config=RAW_PEARL, prior_episodes=SEARCH, greedy=False), INFERRED, 48
    ),
    "bc-pearl-maze-raw": _cell(
        "raw",
        BcPearlSettings(method="bc-pearl-raw", config=RAW_PEARL, prior_episodes=SEARCH, greedy=False),
        INFERRED,
        48,
        "zarr",
    ),
    "bc-maml-maze-raw": _cell(
        "raw", BcMamlSettings(method="bc-maml-raw", config=MAML, rollouts=SEARCH), STEPS, 21, "zarr"
    ),
}
"""By name."""
