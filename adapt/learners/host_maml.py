"""MAML and its variants between trainer and bundle: the agent that a bundle's weights make, on a host with torch."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ...errors import BundleError, ConfigError
from ...meta.adaptive import AdaptiveAgent
from ...meta.gradient.inner import GradientDescent, StepSizes, UpdateRule
from ...meta.gradient.learned_rule import LearnedRule
from ...meta.gradient.maml import MamlConfig
from ...meta.gradient.maml_agent import MamlAgent
from ...meta.policy import Activation, make_policy
from ...meta.space import ActionSpace
from ..learner_contract import LearnerContract
from .kind_policy import MamlFacts, read_maml


def make_rule(facts: MamlFacts) -> UpdateRule:
    """The rule of the inner step."""
    if facts.rule == "learned":
        return LearnedRule(
            step_size=facts.step_size,
            hidden=facts.rule_hidden,
            embedding=facts.rule_embedding,
            addition=facts.rule_addition,
        )
    return GradientDescent(facts.step_size, cast(StepSizes, facts.step_sizes))


def make_maml_agent(contract: LearnerContract, weights: dict[str, Tensor], space: ActionSpace) -> AdaptiveAgent:
    """See `host.Host.make_agent`.

    Raises:
        BundleError: The facts are none that MAML can have.
    """
    facts = read_maml(contract)
    try:
        config = MamlConfig(
            hidden=facts.hidden,
            activation=cast(Activation, facts.activation),
            step_size=facts.step_size,
            step_sizes=cast(StepSizes, facts.step_sizes),
            correction=facts.correction,  # type: ignore[arg-type]
            discount=facts.discount,
            trace=facts.trace,
            normalise_advantage=facts.normalise_advantage,
        )
    except ConfigError as error:
        raise BundleError(f"bundle.json learner: {error}") from error
    policy = make_policy(space, contract.observation_dim, facts.hidden, facts.activation)
    meta = {name: value for name, value in weights.items() if name.startswith(("policy.", "rule."))}
    return MamlAgent(policy, make_rule(facts), meta, space, config, later_scale=facts.later_scale)


def read_maml_params(agent: AdaptiveAgent) -> dict[str, Tensor]:
    """See `host.Host.read_params`."""
    assert isinstance(agent, MamlAgent)
    return agent.params
