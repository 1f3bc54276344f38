"""The recurrent updater as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.memory.recurrent_updater import RecurrentUpdaterConfig
from ...meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterChoice:
    """The recurrent updater's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/recurrent_updater.py"
    method: str = "recurrent-updater"
    """What records call it."""
    config: RecurrentUpdaterConfig = field(default_factory=RecurrentUpdaterConfig)
    rollouts: int = 20
    """Episodes of a test task that are read; what it was trained to read is `config.support`."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.config.tasks * max(self.config.support, self.config.query)

    @property
    def iterations(self) -> int:
        """See `LearnerChoice.iterations`."""
        return self.config.iterations

    def make(self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str) -> Made:
        """See `LearnerChoice.make`."""
        learner = RecurrentUpdaterLearner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(rollouts=self.rollouts, seed=agent_seed)

        return Made(learner, make_agent)
