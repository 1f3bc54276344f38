"""Settings of off-policy evaluation in `supple replay`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ...bounds import Bounded, Count, CountFromZero, Positive, Range
from ...meta.off_policy.config import BehaviourConfig, FittedQConfig
from ...meta.off_policy.verdict import VerdictRule

RewardSource = Literal["auto", "log", "tasks", "goals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffPolicyConfig(Bounded):
    """How the return of a policy is estimated from a log."""

    discount: Annotated[float, Range(0.0, 1.0, above=True, below=True)] = 0.99
    """gamma of one control step."""
    rewards: RewardSource = "auto"
    """`tasks`: the reward function of the robot's family for the task of --tasks; `log`: as recorded; `goals`: the
    reward function for the goals that the log recorded; `auto`: the first of these that is there."""
    folds: Annotated[int, Range(2, 100)] = 5
    """Parts of the episodes for cross-fitting."""
    bootstraps: Annotated[int, Range(2, 1000)] = 10
    """Refits of fitted Q evaluation for its interval."""
    draws: Count = 4
    """Of the policy in each state, over which values are averaged."""
    clip: CountFromZero = 0
    """Largest weight of an episode; 0: none is cut."""
    most_steps: Count = 50_000
    """Of a log with more steps, episodes are drawn."""
    fitted_q: FittedQConfig = field(default_factory=FittedQConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    rule: VerdictRule = field(default_factory=VerdictRule)
    least_episodes: Annotated[int, Range(2, 10**6)] = 4
    """Fewer say nothing."""
    search_scale: Positive = 0.05
    """Standard deviation of a skill that was searched for because no skill encoder is there."""
