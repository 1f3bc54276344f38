"""MAML, its variants and learned inner updates as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.gradient.learned_rule import LearnedRule
from ...meta.gradient.maml import MamlConfig
from ...meta.gradient.maml_learner import MamlLearner
from ...meta.space import ActionSpace
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class MamlChoice:
    """MAML's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/maml.py"
    method: str = "maml"
    """What records call it; its variants have names of their own."""
    config: MamlConfig = field(default_factory=MamlConfig)
    rule: LearnedRule | None = None
    """The inner update where it is learned as a network; None descends the gradient as `config` says."""
    rollouts: int = 40
    """Episodes of a test task before each gradient step (Finn et al.: 4000 decisions, 40 episodes)."""
    later_scale: float = 1.0
    """Every test-time step but the first is so many times as long as the one before it."""

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
        learner = MamlLearner(space, robot, goals, self.config, update=self.rule, seed=seed, device=device)

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            return learner.agent(rollouts=self.rollouts, later_scale=self.later_scale, seed=agent_seed)

        return Made(learner, make_agent)
