"""How RL2 is trained and judged in trials of several episodes and of many decisions."""

from typing import Any

from supple.meta.config import EvaluationConfig, Trial
from supple.meta.memory.config import Rl2Config
from supple.pipeline.learners import Rl2Settings
from supple.robots.family import RobotFamily

from .cell_train import BenchConfig

GROWING_HORIZON: dict[str, Any] = {
    "trace": 0.95,
    "discount": 0.998,
    "first_discount": 0.0,
    "entropy_weight": 0.02,
    "anneal_entropy": True,
}
"""How RL2 is trained in trials of a hundred decisions and more.

On bandits of 100 pulls and 5 arms (4096 that are neither train nor test tasks, one seed) it returned 75.8 after 8 M
pulls and 77.6 after 15 M; with the published gamma of .99 and lambda of .3 from the begin 73.8 after 20 M and after
34 M. More steps are not what that lacks: under these two a policy that had been taught a good index, and returned 77.0,
fell to 76.2 in 5 M pulls.
"""


def rl2_in_trials(
    robot: RobotFamily, trial: Trial, *, method: str = "rl2", repetitions: int = 1, **changes: Any
) -> BenchConfig:
    """RL2 in trials of several episodes, evaluated in the trials that it was trained in, so often in each task."""
    return BenchConfig(
        robot=robot,
        space="choice",
        learner=Rl2Settings(method=method, config=Rl2Config(trial=trial, **changes)),
        evaluation=EvaluationConfig(trial=trial, trials=repetitions),
    )
