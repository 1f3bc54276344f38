"""PPO and Distral: from the trainer to a bundle, and its steps on a host."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from ...errors import BundleError, ConfigError
from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.config import PpoSteps
from ...meta.baselines.distral_learner import DistralLearner
from ...meta.baselines.ppo_agent import PpoAgent
from ...meta.baselines.ppo_learner import PpoLearner
from ...meta.collect import Seen
from ...meta.policy import make_policy
from ...meta.space import ActionSpace
from ..agents.ppo import read_ppo
from ..agents.recurrent_updater import ordered_names
from ..contract import BundleContract
from .exported import Exported
from .policy_state import read_policy_state
from .step_seeded import StepSeeded


def make_ppo_agent(contract: BundleContract, weights: dict[str, Tensor], space: ActionSpace) -> AdaptiveAgent:
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
