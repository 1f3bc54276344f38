"""PPO and Distral: from the trainer to a bundle, and its steps on a host."""

from __future__ import annotations

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.config import PpoSteps
from ...meta.baselines.distral_learner import DistralLearner
from ...meta.baselines.ppo_agent import PpoAgent
from ...meta.baselines.ppo_learner import PpoLearner
from ...meta.collect import Seen
from ...meta.policy import make_policy
from ...meta.space import ActionSpace
from ..agents.ppo import PpoSettings
from ..agents.recurrent_updater import ordered_names
from ..contract import BundleContract
from .exported import Exported, make_config, write_settings
from .policy_state import read_policy_state
from .step_seeded import StepSeeded


def make_ppo_agent(
    contract: BundleContract, settings: PpoSettings, weights: dict[str, Tensor], space: ActionSpace
) -> AdaptiveAgent:
    """See `Host.make_agent`."""
    # in the order of the policy's own: norms of gradients are sums over parameters, and rounded in their order
    first = {name: weights[f"policy.{name}"] for name in ordered_names(contract, settings.policy)}
    policy = make_policy(space, contract.observation_dim, settings.hidden, settings.activation)
    return StepSeeded(PpoAgent(policy, first, space, make_config(PpoSteps, settings)))


def read_ppo_params(agent: AdaptiveAgent) -> dict[str, Tensor]:
    """See `Host.read_params`."""
    assert isinstance(agent, StepSeeded)
    assert isinstance(agent.agent, PpoAgent)
    return agent.agent.params


def export_ppo(learner: PpoLearner | DistralLearner) -> Exported:
    """What every task begins with, the policy or the centroid, and the settings of a step."""
    policy, space = learner.policy, learner.space
    agent = learner.agent(rollouts=1)
    agent.begin_task(1)
    first = {f"policy.{name}": value[0].clone() for name, value in agent.params.items()}

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_policy_state(policy, read_ppo_params(acting), space, seen)

    return Exported(
        kind="ppo",
        learner=write_settings(PpoSettings, policy, learner.config.adaptation),
        weights=first,
        agent=StepSeeded(agent),
        space=space,
        read_state=read_state,
    )
