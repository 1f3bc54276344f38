"""RL2 and E-RL2 as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.evaluation import EvaluationConfig
from ...meta.memory.rl2 import Rl2Config
from ...meta.memory.rl2_learner import Rl2Learner
from ...meta.space import ActionSpace
from ...meta.trial import Trial
from ...robots.family import RobotFamily
from ...robots.robot import Float, RobotBatch
from .cell_stages import BenchConfig, Made

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Choice:
    """RL2's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/rl2.py"
    method: str = "rl2"
    """What records call it; E-RL2 has a name of its own."""
    config: Rl2Config = field(default_factory=Rl2Config)
    greedy: bool = False
    """Act by the mode at test time (published: sample)."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.config.trials

    @property
    def iterations(self) -> int:
        """See `LearnerChoice.iterations`."""
        return self.config.iterations

    @property
    def rollouts(self) -> int:
        """See `LearnerChoice.rollouts`: each row learns for itself."""
        return 1

    def make(self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str) -> Made:
        """See `LearnerChoice.make`."""
        learner = Rl2Learner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(greedy=self.greedy, seed=agent_seed)

        return Made(learner, make_agent)


def rl2_in_trials(
    robot: RobotFamily, trial: Trial, *, method: str = "rl2", repetitions: int = 1, **changes: Any
) -> BenchConfig:
    """RL2 in trials of several episodes, evaluated in the trials that it was trained in, so often in each task."""
    return BenchConfig(
        robot=robot,
        space="choice",
        learner=Rl2Choice(method=method, config=Rl2Config(trial=trial, **changes)),
        evaluation=EvaluationConfig(trial=trial, trials=repetitions),
    )
