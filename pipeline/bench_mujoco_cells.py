"""Cells of the meta-RL results table on MuJoCo robots, merged into `bench_cells.py`.

Sources of references: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017: the results that the authors' code stores, 40 test tasks, 200 steps of 10 ms. Their cheetah starts with less
noise, and their policy also sees the centre of mass, see `robots/cheetah.py`.
"""

from ..meta.evaluation import EvaluationConfig
from ..meta.maml import MamlConfig
from ..meta.rl2 import Rl2Config
from ..meta.trial import Trial
from ..meta.trpo import TrustRegion
from ..robots.cheetah import CHEETAH_DIRECTION_10MS
from .bench_cell import Cell, Reference
from .bench_mujoco_robots import Cheetahs, MujocoMaml, MujocoRl2
from .stage_bench_meta import BenchConfig

FINN = "Finn et al. 2017, the authors' stored results"
DIRECTION = Cheetahs(variant=CHEETAH_DIRECTION_10MS)
TWO_EPISODES = Trial(episodes=2)

MUJOCO_CELLS: dict[str, Cell] = {
    "maml-cheetah-direction": Cell(
        config=BenchConfig(
            robot=DIRECTION,
            space="unit",
            # as published, but for the tasks that give the curvature (published: all)
            learner=MujocoMaml(
                config=MamlConfig(step_size=0.1, tasks=40, curvature_tasks=10, trust_region=TrustRegion(max_kl=0.02)),
                rollouts=20,
            ),
            evaluation=EvaluationConfig(adapt_steps=3),
        ),
        minutes=0,
        references=(
            Reference("maml-published", (-50.7, 293.2, 313.5, 315.7), FINN),
            Reference("oracle-published", (442.7, 442.7, 442.7, 442.7), FINN),
        ),
    ),
    "rl2-cheetah-direction": Cell(
        config=BenchConfig(
            robot=DIRECTION,
            space="unit",
            learner=MujocoRl2(
                config=Rl2Config(
                    trial=TWO_EPISODES,
                    trials=64,
                    minibatch=16,
                    iterations=300,
                    hidden=128,
                    learning_rate=1e-3,
                    trace=0.95,
                    entropy_weight=0.0,
                )
            ),
            evaluation=EvaluationConfig(trial=TWO_EPISODES, trials=20),
        ),
        minutes=0,
        references=(Reference("oracle-published", (442.7, 442.7), FINN),),
    ),
}
"""By name; not run so far, so that settings that are not published are first guesses."""
