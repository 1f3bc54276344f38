"""MAESN as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.gradient.maesn import MaesnConfig
from ...meta.gradient.maesn_learner import MaesnLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class MaesnChoice:
    """MAESN's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/maesn.py"
    method: str = "maesn"
    """What records call it; the baseline without fast adaptation has a name of its own."""
    config: MaesnConfig = field(default_factory=MaesnConfig)
    rollouts: int = 20
    """Episodes of a test task before each step of adaptation."""
    later_scale: float = 0.5
    """Factor on the step sizes at test time, after every step but the first (released: 0.5)."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.config.tasks * self.config.episodes

    @property
    def iterations(self) -> int:
        """See `LearnerChoice.iterations`."""
        return self.config.iterations

    def make(self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str) -> Made:
        """See `LearnerChoice.make`."""
        learner = MaesnLearner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(rollouts=self.rollouts, later_scale=self.later_scale, seed=agent_seed)

        return Made(learner, make_agent)
