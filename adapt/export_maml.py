"""MAML, E-MAML, Meta-SGD and learned updates from the trainer to a bundle, and what they adapted to as plain policies.

Axes: R rows, O observation, U outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import BundleError
from ..meta.adaptive import AdaptiveAgent
from ..meta.collect import Seen
from ..meta.distribution import Categorical
from ..meta.inner import GradientDescent
from ..meta.learned_rule import LearnedRule
from ..meta.maml_agent import MamlAgent
from ..meta.maml_learner import MamlLearner
from ..meta.policy import MlpPolicy, Params
from .exported import Exported


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


def read_policy_state(policy: MlpPolicy, params: Params, observation: Tensor, seen: Seen) -> dict[str, Tensor]:
    """`params.*` (R, ...) and the outputs (R, U) at the last observation, which is zero in rows that had ended."""
    table = observation.new_zeros(len(params["layers.0.bias"]), observation.shape[-1])
    table[torch.from_numpy(seen.rows)] = observation
    distribution = policy(params, table[:, None])
    output = distribution.logits if isinstance(distribution, Categorical) else distribution.loc
    return {f"params.{name}": value for name, value in params.items()} | {"output": output[:, 0]}


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


def plain_policy_facts(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a `policy` bundle, from those of a learner whose acting policy is the same."""
    return {"hidden": list(learner["hidden"]), "activation": learner["activation"], "greedy": False}
