"""Cells of MAESN on the sparse semicircle, with MAML beside it: meta-trained on the dense reward, tested on the sparse.

The train tasks are those of the sparse robot, and only their reward is another, as Gupta et al. ("Meta-Reinforcement
Learning of Structured Exploration Strategies", NeurIPS 2018) do. Learners have the same number of environment steps.
"""

from supple.meta.config import EvaluationConfig, TrustRegion
from supple.meta.gradient.config import MaesnConfig, MamlConfig
from supple.pipeline.learners import LearnerSettings, MaesnSettings, MamlSettings
from supple.robots.navigation import SEMICIRCLE, SPARSE_SEMICIRCLE, PointNavigation

from .cell import Cell, Gate
from .cell_train import BenchConfig

ADAPT_STEPS = 10
"""Of a test task, with 20 episodes before each."""


def _cell(learner: LearnerSettings, minutes: float, *gates: Gate) -> Cell:
    return Cell(
        config=BenchConfig(
            robot=PointNavigation(variant=SPARSE_SEMICIRCLE, num_train=100, num_test=100),
            train_robot=PointNavigation(variant=SEMICIRCLE),
            space="unit",
            learner=learner,
            evaluation=EvaluationConfig(adapt_steps=ADAPT_STEPS),
        ),
        minutes=minutes,
        gates=gates,
    )


def _maesn(method: str, inner_steps: int, iterations: int) -> MaesnSettings:
    """Settings as tried, one seed each, return after ten steps on goals of neither train nor test tasks.

    With natural gradients and step sizes that stay as learned: 11.2 with `kl_weight_after` .01; 1.1 with 0; 6.9 with
    .02 and 8 episodes before each inner step instead of 20. With plain gradients, whose later steps had to be cut, 6.4,
    which was measured on test goals.
    """
    config = MaesnConfig(
        hidden=(64, 64),
        iterations=iterations,
        inner_steps=inner_steps,
        natural=True,
        kl_weight=0.02,
        kl_weight_after=0.01,
        trust_region=TrustRegion(max_kl=0.1),
        curvature_episodes=6,
    )
    return MaesnSettings(method=method, config=config, later_scale=1.0)


MAESN_CELLS: dict[str, Cell] = {
    "demo-maesn": Cell(
        config=BenchConfig(
            robot=PointNavigation(variant=SPARSE_SEMICIRCLE, num_train=8, num_test=4),
            train_robot=PointNavigation(variant=SEMICIRCLE),
            space="unit",
            learner=MaesnSettings(config=MaesnConfig(hidden=(8,), iterations=4, tasks=2, episodes=4), rollouts=4),
            evaluation=EvaluationConfig(adapt_steps=2),
        ),
        minutes=0.1,
    ),
    "maesn-sparse-semicircle": _cell(_maesn("maesn", 1, 300), 1, Gate(8.0, ADAPT_STEPS)),
    "latent-space-sparse-semicircle": _cell(_maesn("latent-space", 0, 600), 1),
    "maml-sparse-semicircle": _cell(MamlSettings(config=MamlConfig(iterations=300, curvature_tasks=5), rollouts=20), 5),
}
"""By name."""
