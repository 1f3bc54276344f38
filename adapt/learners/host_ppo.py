"""PPO between trainer and bundle: the agent that a bundle's weights make, on a host with torch."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from ...errors import BundleError, ConfigError
from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.ppo import PpoSteps
from ...meta.baselines.ppo_agent import PpoAgent
from ...meta.policy import make_policy
from ...meta.space import ActionSpace
from ..learner_contract import LearnerContract
from .kind_ppo import read_ppo
from .kind_recurrent_updater import ordered_names
from .step_seeded import StepSeeded


def make_ppo_agent(contract: LearnerContract, weights: dict[str, Tensor], space: ActionSpace) -> AdaptiveAgent:
    """See `host.Host.make_agent`.

    Raises:
        BundleError: The facts are none that PPO can have.
    """
    known = read_ppo(contract)
    # in the order of the policy's own: norms of gradients are sums over parameters, and rounded in their order
    first = {name: weights[f"policy.{name}"] for name in ordered_names(contract, known.policy)}
    facts = asdict(known)
    policy = make_policy(space, contract.observation_dim, facts.pop("hidden"), facts.pop("activation"))
    try:
        steps = PpoSteps(**facts)
    except ConfigError as error:
        raise BundleError(f"bundle.json learner: {error}") from error
    return StepSeeded(PpoAgent(policy, first, space, steps))


def read_ppo_params(agent: AdaptiveAgent) -> dict[str, Tensor]:
    """See `host.Host.read_params`."""
    assert isinstance(agent, StepSeeded)
    assert isinstance(agent.agent, PpoAgent)
    return agent.agent.params
