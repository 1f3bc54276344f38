"""Limits of what an adaptation may do; see `guards.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..bounds import Bounded, Count, CountFromZero, NonNegative, Positive, Range, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig(Bounded):
    """Limits of what an adaptation may do."""

    step_kl: Positive = 1.0
    """Most that one update may move a policy: KL to the policy before it, nats of one decision."""
    prior_kl: Positive = 5.0
    """Most that all updates may move a policy: KL to the prior policy, nats of one decision."""
    baseline: Annotated[int, Range(3, 1000)] = 5
    """Extra episodes with the prior policy, before the first update: its interval."""
    window: Annotated[int, Range(3, 1000)] = 5
    """Newest episodes that are compared with the baseline."""
    least: Annotated[int, Range(1, 1000)] = 3
    """Episodes before anything is concluded from return or success."""
    canary: bool = True
    """Play an extra episode with a policy that has moved by `canary_kl`, before it acts at full speed."""
    canary_kl: NonNegative = 0.1
    """KL to the policy of the last canary episode from which on another one is played."""
    canary_speed: Annotated[float, Range(0.0, 1.0, above=True)] = 0.3
    """Speed of canary episodes, as a share of what the policy asks for. Returns at another speed are not compared."""
    max_rollbacks: CountFromZero = 3
    """Roll-backs to the last good policy. The next one brings back the prior policy, and nothing is learned any
    more."""
    max_updates: Count | None = None
    """Updates after which nothing is learned any more; the remaining episodes are played."""
    max_episodes: Count | None = None
    """Episodes, extra ones not counted, after which nothing is learned any more, and `supple adapt` ends."""
    update_seconds: Positive = 120.0
    """Seconds that one update may take in a process of its own; one that takes longer is ended and counts as a
    roll-back."""
    max_robot_seconds: Positive | None = None
    """Motion, extra episodes included, after which nothing is learned any more, and `supple adapt` ends. The episode in
    which it is used up is played to its end, and no other one begins."""
    clamp_margin: Share = 0.05
    """Share of clamped commands more than before that never counts as worse."""
    least_agreement: Annotated[float, Range(-1.0, 1.0)] = -0.2
    """Smallest correlation, over the steps of an episode, of the rewards that are told with those that the robot's
    `compute_reward` gives; with a smaller one nothing is learned from the episode."""
