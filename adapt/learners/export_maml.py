"""MAML, E-MAML, Meta-SGD and learned updates from the trainer to a bundle."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.gradient.inner import GradientDescent
from ...meta.gradient.learned_rule import LearnedRule
from ...meta.gradient.maml_agent import MamlAgent
from ...meta.gradient.maml_learner import MamlLearner
from .exported import Exported
from .plain_policy import read_policy_state


def export_maml(learner: MamlLearner, *, later_scale: float) -> Exported:
    """First policy and inner update; one host step of a task has the episodes that the caller grants it."""
    config, policy = learner.config, learner.policy

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(agent, MamlAgent)
        return read_policy_state(policy, agent.params, learner.space.normalise(seen.observation), seen)

    return Exported(
        kind="maml",
        learner={
            "hidden": list(policy.hidden),
            "activation": policy.activation,
            "correction": config.correction,
            "discount": config.discount,
            "trace": config.trace,
            "normalise_advantage": config.normalise_advantage,
            "later_scale": later_scale,
            **_rule_facts(learner.update_rule),
        },
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
