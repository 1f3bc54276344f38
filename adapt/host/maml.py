"""MAML, E-MAML, Meta-SGD and learned updates: from the trainer to a bundle, and its steps on a host."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.gradient.config import MamlConfig
from ...meta.gradient.inner import GradientDescent, UpdateRule
from ...meta.gradient.learned_rule import LearnedRule
from ...meta.gradient.maml_agent import MamlAgent
from ...meta.gradient.maml_learner import MamlLearner
from ...meta.policy import make_policy
from ...meta.space import ActionSpace
from ..agents.policy import MamlSettings
from ..contract import BundleContract
from .exported import Exported, make_config, write_settings
from .policy_state import read_policy_state


def make_rule(settings: MamlSettings) -> UpdateRule:
    """The rule of the inner step."""
    if settings.rule == "learned":
        return LearnedRule(
            step_size=settings.step_size,
            hidden=settings.rule_hidden,
            embedding=settings.rule_embedding,
            addition=settings.rule_addition,
        )
    return GradientDescent(settings.step_size, settings.step_sizes)


def make_maml_agent(
    contract: BundleContract, settings: MamlSettings, weights: dict[str, Tensor], space: ActionSpace
) -> AdaptiveAgent:
    """See `Host.make_agent`."""
    policy = make_policy(space, contract.observation_dim, settings.hidden, settings.activation)
    meta = {name: value for name, value in weights.items() if name.startswith(("policy.", "rule."))}
    return MamlAgent(
        policy, make_rule(settings), meta, space, make_config(MamlConfig, settings), later_scale=settings.later_scale
    )


def export_maml(learner: MamlLearner, *, later_scale: float) -> Exported:
    """First policy and inner update; one host step of a task has the episodes that the caller grants it."""
    policy = learner.policy

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(agent, MamlAgent)
        return read_policy_state(policy, agent.params, learner.space, seen)

    return Exported(
        kind="maml",
        learner=write_settings(
            MamlSettings, learner.config, policy, later_scale=later_scale, **_rule_facts(learner.update_rule)
        ),
        weights=learner.meta,
        agent=learner.agent(rollouts=1, later_scale=later_scale),
        space=learner.space,
        read_state=read_state,
    )


def _rule_facts(rule: Any) -> dict[str, Any]:
    if isinstance(rule, LearnedRule):
        return {
            "rule": "learned",
            "step_size": rule.step_size,
            "step_sizes": "fixed",
            "rule_hidden": rule.hidden,
            "rule_embedding": rule.embedding,
            "rule_addition": rule.addition,
        }
    if isinstance(rule, GradientDescent):
        return {
            "rule": "gradient-descent",
            "step_size": rule.step_size,
            "step_sizes": rule.step_sizes,
            "rule_hidden": 0,
            "rule_embedding": 0,
            "rule_addition": 0.0,
        }
    raise BundleError(
        f"export: expected gradient descent or a learned update, got {type(rule).__name__}; the host knows no other"
    )
