"""PEARL, PEARL with fine-tuning, and SAC from scratch as cells of the meta-RL benchmark.

This file, with what it imports, is the code version of those cells.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.sac_agent import TaskSacConfig
from ...meta.baselines.sac_learner import SacLearner
from ...meta.inference.pearl import PearlConfig
from ...meta.inference.pearl_learner import PearlLearner, ShapedReward
from ...meta.space import ActionSpace
from ...robots.navigation import Navigation, NavigationBatch
from ...robots.robot import Float, RobotBatch
from .cell_stages import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlChoice:
    """PEARL's settings in training and at test time."""

    module: ClassVar[str] = "pipeline/bench/pearl.py"
    method: str = "pearl"
    """What records call it; fine-tuning has a name of its own."""
    config: PearlConfig = field(default_factory=PearlConfig)
    shaped: Navigation | None = None
    """In training SAC learns from the reward of this variant; the encoder, and the agent at test time, see the robot's
    own. None takes the robot's own throughout."""
    prior_episodes: int = 2
    """First test episodes with z from the prior."""
    greedy: bool = True
    """Act by the mode of the policy at test time (published)."""
    fine_tuning: TaskSacConfig | None = None
    """SAC after the episodes of inference; None infers to the end (published)."""
    inference_episodes: int = 10
    """With fine-tuning: the last episode after which the belief is frozen."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.config.tasks * self.config.rollouts

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
        learner = PearlLearner(
            space, robot, goals, self.config, shaped_reward=self._shaped_reward(), seed=seed, device=device
        )

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            if self.fine_tuning is None:
                return learner.agent(prior_episodes=self.prior_episodes, greedy=self.greedy, seed=agent_seed)
            # inference acts by the mode, fine-tuning wants samples
            return learner.fine_tuned_agent(
                self.fine_tuning,
                inference_episodes=self.inference_episodes,
                prior_episodes=self.prior_episodes,
                greedy=self.greedy,
                seed=agent_seed,
            )

        return Made(learner, make_agent)

    def _shaped_reward(self) -> ShapedReward | None:
        if self.shaped is None:
            return None
        shaped = NavigationBatch(self.shaped, 1)

        def reward_of(observation: Float, goals: Float) -> Float:
            return shaped.compute_reward(observation, goals)[0]

        return reward_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SacChoice:
    """SAC from scratch in each test task; training is a rehearsal on train tasks that nothing is taken from."""

    module: ClassVar[str] = "pipeline/bench/pearl.py"
    method: ClassVar[str] = "sac"
    config: TaskSacConfig = field(default_factory=TaskSacConfig)
    tasks: int = 8
    """Train tasks of the rehearsal."""
    iterations: int = 20
    """Episodes of the rehearsal, with a step of adaptation after each."""

    @property
    def rows(self) -> int:
        """See `LearnerChoice.rows`."""
        return self.tasks * self.config.rollouts

    @property
    def rollouts(self) -> int:
        """See `LearnerChoice.rollouts`."""
        return self.config.rollouts

    def make(self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str) -> Made:
        """See `LearnerChoice.make`."""
        learner = SacLearner(
            space, robot, goals, self.config, tasks=self.tasks, iterations=self.iterations, seed=seed, device=device
        )

        def make_agent(agent_seed: int) -> AdaptiveAgent:
            # its weights are drawn in each task: with the evaluation's seed alone every seed would be the same run
            return learner.agent(seed=agent_seed + seed)

        return Made(learner, make_agent)
