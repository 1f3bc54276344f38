"""PPO and Distral from the trainer to a bundle."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.distral_learner import DistralLearner
from ...meta.baselines.ppo_learner import PpoLearner
from ...meta.collect import Seen
from .exported import Exported
from .host_ppo import read_ppo_params
from .plain_policy import read_policy_state
from .step_seeded import StepSeeded


def export_ppo(learner: PpoLearner | DistralLearner) -> Exported:
    """What every task begins with, the policy or the centroid, and the settings of a step."""
    policy, space = learner.policy, learner.space
    agent = learner.agent(rollouts=1)
    agent.begin_task(1)
    first = {f"policy.{name}": value[0].clone() for name, value in agent.params.items()}

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_policy_state(policy, read_ppo_params(acting), space.normalise(seen.observation), seen)

    return Exported(
        kind="ppo",
        learner={
            "hidden": list(policy.hidden),
            "activation": policy.activation,
            **asdict(learner.config.adaptation),
        },
        weights=first,
        agent=StepSeeded(agent),
        space=space,
        read_state=read_state,
    )
