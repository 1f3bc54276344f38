"""Distral as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.distral import DistralConfig
from ...meta.baselines.distral_learner import DistralLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class DistralChoice:
    """Distral's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/distral.py"
    method: str = "distral"
    """What records call it."""
    config: DistralConfig = field(default_factory=DistralConfig)
    rollouts: int = 40
    """Episodes of a test task before each step of fine-tuning, as for MAML."""

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
        learner = DistralLearner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(rollouts=self.rollouts, seed=agent_seed)

        return Made(learner, make_agent)
