"""variBAD as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.inference.varibad import VaribadConfig
from ...meta.inference.varibad_learner import VaribadLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadChoice:
    """variBAD's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/varibad.py"
    method: str = "varibad"
    """What records call it."""
    config: VaribadConfig = field(default_factory=VaribadConfig)
    greedy: bool = True
    """Act by the mode at test time, as published."""

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
        learner = VaribadLearner(space, robot, goals, self.config, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(greedy=self.greedy, seed=agent_seed)

        return Made(learner, make_agent)
