"""Configuration that learners share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..bounds import Batch, Bounded, Count, CountFromZero, Positive, Range, require_bounds
from ..errors import ConfigError

Activation = Literal["relu", "tanh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRegion(Bounded):
    """How far a step may go, and how it is found."""

    max_kl: Positive = 0.01
    """Largest mean KL(old || new) of a step, nats (published)."""
    iterations: Count = 10
    """Of conjugate gradients (published)."""
    damping: Positive = 1e-5
    """Added to the diagonal of the Hessian of the KL (published)."""
    shrink: Annotated[float, Range(0.0, 1.0, above=True, below=True)] = 0.8
    """Factor between two steps of the line search (published)."""
    backtracks: Count = 15
    """Steps that the line search tries (published)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How often an actor tries one task."""

    episodes: Count = 1
    """N, episodes of a trial; > 0."""
    exploration_episodes: CountFromZero = 0
    """Number of first episodes that only explore: their rewards are seen but do not count (E-RL2, Stadie et al.,
    "Some Considerations on Learning to Explore via Meta-Reinforcement Learning", 2018, Eq. 8)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.exploration_episodes >= self.episodes:
            raise ConfigError(
                f"Trial.exploration_episodes: expected 0 or more and fewer than episodes = {self.episodes}, got "
                f"{self.exploration_episodes}; lower it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig(Bounded):
    """What every agent is given to learn a task with."""

    trial: Trial = field(default_factory=Trial)
    """Episodes of each round, and which of them are for exploration only."""
    adapt_steps: CountFromZero = 0
    """Steps of adaptation, S, each after a round of the trial's episodes; >= 0."""
    trials: Count = 1
    """Independent repetitions of the whole protocol in each task, M; > 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneConfig(Bounded):
    """How a policy is cloned; the source gives no numbers."""

    updates: Count = 2000
    """Steps of Adam."""
    batch: Batch = 256
    """Samples of a step, drawn with replacement."""
    learning_rate: Positive = 1e-3
    """Of Adam."""
    noise_dim: Annotated[int, Range(0, 2**14)] = 0
    """L, axes of z ~ N(0, I) that the policy reads after the observation."""
    least_scale: Positive = 0.1
    """Standard deviations of the policy below this count as this, in units of the space's prior: a policy that copies
    exact data would have none left to explore with."""
    period: Count = 100
    """Updates between two reports."""
