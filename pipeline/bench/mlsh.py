"""MLSH, and one policy shared by all tasks, as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.hierarchy.mlsh import MlshConfig
from ...meta.hierarchy.mlsh_learner import MlshLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshChoice:
    """MLSH's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/mlsh.py"
    method: str = "mlsh"
    """What records call it; with one sub-policy, which is PPO on all tasks, it has a name of its own."""
    config: MlshConfig = field(default_factory=MlshConfig)
    rollouts: int = 40
    """Episodes of a test task before each update of its master (published: 2000 decisions)."""
    random_choice: float = 0.0
    """Share of uniform choices of the master at test time; in training it is the config's."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.config.groups * self.config.rollouts

    @property
    def iterations(self) -> int:
        """See `LearnerChoice.iterations`."""
        return self.config.iterations

    def make(self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str) -> Made:
        """See `LearnerChoice.make`."""
        learner = MlshLearner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(rollouts=self.rollouts, random_choice=self.random_choice, seed=agent_seed)

        return Made(learner, make_agent)
