"""MAML, E-MAML, Meta-SGD and learned updates from the trainer to a bundle, and what they adapted to as plain policies.

Axes: R rows, O observation, U outputs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.distribution import Categorical
from ...meta.gradient.inner import GradientDescent
from ...meta.gradient.learned_rule import LearnedRule
from ...meta.gradient.maml import MamlConfig
from ...meta.gradient.maml_agent import MamlAgent
from ...meta.gradient.maml_learner import MamlLearner
from ...meta.policy import MlpPolicy, Params, make_policy
from ..learner_bundle import LearnerBundle
from ..learner_contract import Budget
from .exported import Exported, write_exported
from .host import make_space


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


def read_policy_state(
    policy: MlpPolicy, params: Params, observation: Tensor, seen: Seen, z: Tensor | None = None
) -> dict[str, Tensor]:
    """`params.*` (R, ...) and the outputs (R, U) at the last observation, which is zero in rows that had ended.

    Args:
        policy: Of inputs O, or [O, z].
        params: Of every row, (R, ...).
        observation: Of the rows that ran, (r, O), normalised.
        seen: Which rows these are.
        z: Of every row, (R, .), where the policy reads one.
    """
    table = observation.new_zeros(len(params["layers.0.bias"]), observation.shape[-1])
    table[torch.from_numpy(seen.rows)] = observation
    table = table if z is None else torch.cat((table, z), dim=-1)
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


PLAIN_POLICIES = frozenset({"maml", "recurrent-updater"})
"""Kinds whose agents have, for each task, the parameters of a plain policy (`params`)."""


class _Fixed:
    """A trainer's agent that does not learn."""

    def __init__(self, agent: MamlAgent) -> None:
        self.agent = agent
        self.rollouts = agent.rollouts
        self.begin_task, self.begin_episode, self.act = agent.begin_task, agent.begin_episode, agent.act
        self.state, self.load_state = agent.state, agent.load_state

    def observe(self, episodes: Episodes) -> None:
        """Nothing is learned."""

    def adapt(self) -> None:
        """Nothing is learned."""


def write_plain_policy(
    path: str | os.PathLike[str],
    bundle: LearnerBundle,
    params: Mapping[str, NDArray[np.float32]],
    provenance: Mapping[str, Any],
) -> LearnerBundle:
    """The policy of one task as a bundle of its own, of kind `policy`.

    Args:
        path: The directory to make.
        bundle: Of the learner that adapted, of a kind in `PLAIN_POLICIES`.
        params: What it came to, without an axis of tasks.
        provenance: Where they come from.

    Raises:
        BundleError: See `write_exported`.
    """
    contract = bundle.contract
    hidden, activation = tuple(contract.learner["hidden"]), contract.learner["activation"]
    space = make_space(contract, bundle.weights)
    policy = make_policy(space, contract.observation_dim, hidden, activation)
    theta = {f"policy.{name}": torch.from_numpy(np.array(value)) for name, value in params.items()}
    agent = _Fixed(MamlAgent(policy, GradientDescent(1.0), theta, space, MamlConfig()))

    def read_state(_: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_policy_state(policy, agent.agent.params, space.normalise(seen.observation), seen)

    exported = Exported(
        kind="policy",
        learner={"hidden": list(hidden), "activation": activation, "greedy": False},
        weights=theta,
        agent=agent,
        space=space,
        read_state=read_state,
    )
    return write_exported(
        path,
        exported,
        contract.robot,
        Budget(episodes=1),
        simulator=contract.simulator,
        provenance={**contract.provenance, **provenance},
    )
