"""PPO from a first policy, in numpy: it acts by the parameters of each task, which a host with torch improves.

The first policy was trained on all train tasks (PPO), distilled from their policies (Distral), or merely drawn. Names
are those of `meta/baselines/ppo.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from ..contract import Kind
from ..policies import policy_shapes
from ..policy_settings import ActingSettings
from .policy import make_policy_agent


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings(ActingSettings):
    """A first policy and how a step improves it; the fields here are those of `PpoSteps`."""

    epochs: int
    minibatches: int
    clip: float
    learning_rate: float
    entropy_weight: float
    max_gradient_norm: float
    discount: float
    trace: float


PPO = Kind(
    summary="It adapts by PPO, which a host with torch runs; here it acts by the parameters of each task.",
    settings=PpoSettings,
    shapes=lambda contract, settings: policy_shapes(contract, settings.policy),
    agent=make_policy_agent,
    policy=attrgetter("policy"),
    hosted=True,
)
