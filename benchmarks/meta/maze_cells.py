"""Cells of the meta-RL results table in the maze of SiMPL, merged into `cells.py`.

Source of the maze and its goals, 40 to train on and 10 to test on: Nam, Sun, Pertsch, Hwang, Lim, "Skill-based
Meta-Reinforcement Learning", ICLR 2022. SiMPL itself, SPiRL and SAC are run by `supple adapt`. Here PEARL and MAML are
given the same skills: what is left of the difference is the learner. The first 20 episodes in a test task search, as
published. Settings that are not published are first guesses.
"""

from supple.meta.baselines.config import SacConfig
from supple.meta.config import CloneConfig, EvaluationConfig, Trial
from supple.meta.gradient.config import MamlConfig
from supple.meta.inference.config import PearlConfig
from supple.pipeline.learners import BcPearlSettings, LearnerSettings, MamlSettings, PearlSettings
from supple.robots.maze_family import Maze

from .cell import Cell
from .cell_train import BenchConfig

MAZE = Maze()
SEARCH = 20
"""Episodes that search (published)."""
INFERRED = EvaluationConfig(trial=Trial(episodes=SEARCH + 5))
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


def _cell(learner: LearnerSettings, evaluation: EvaluationConfig, minutes: float) -> Cell:
    return Cell(
        config=BenchConfig(robot=MAZE, space="skill", learner=learner, evaluation=evaluation, libraries=("mujoco",)),
        minutes=minutes,
    )


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
        anchored=True,
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
        PearlSettings(method="pearl-skill", config=SKILL_PEARL, prior_episodes=SEARCH, greedy=False),
        INFERRED,
        17,
    ),
    "maml-maze-skill": _cell(MamlSettings(method="maml-skill", config=MAML, rollouts=SEARCH), STEPS, 6),
}
"""By name."""
