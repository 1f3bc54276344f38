"""MAML and E-MAML: the objective of a policy after inner steps from its first parameters, as pure functions.

Sources: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017; Stadie et
al., "Some Considerations on Learning to Explore via Meta-Reinforcement Learning", 2018 (E-MAML). Published values are
those of the 2D navigation of Finn et al. and their code. Which objective a configuration has the gradient of stands in
`policy_gradient`; E-MAML is `exploration > 0`.

Meta-parameters are one flat dict: `policy.*`, the first parameters theta, and `rule.*`, those of the update rule.

Axes: N tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ..distribution import Distribution, log_prob
from ..policy import MlpPolicy, Params, for_tasks
from ..policy_gradient import (
    compare_tasks,
    exploration_loss,
    mean_kl,
    ppo_loss,
    ratio_loss,
    reinforce_loss,
    task_sum,
)
from ..state import named_part
from ..task_batch import TaskBatch, first_tasks
from .config import Correction, MamlConfig, Outer
from .inner import UpdateRule, inner_step


class Adapted(NamedTuple):
    """The first parameters of each task after its inner steps."""

    params: Params
    """theta', (N, ...)."""
    log_prob_sums: tuple[Tensor, ...]
    """Of each inner step, the sum over its samples of log pi under the parameters that sampled them, each (N,)."""


def adapt(
    policy: MlpPolicy,
    update: UpdateRule,
    meta: Params,
    supports: Sequence[TaskBatch],
    *,
    correction: Correction = "none",
    first_order: bool = False,
    score: bool = False,
) -> Adapted:
    """The parameters theta' after one inner step on each batch of samples, differentiable in `meta`.

    Args:
        policy: What the parameters belong to.
        update: The rule of the inner step.
        meta: `policy.*` and `rule.*`.
        supports: One batch per inner step.
        correction: Which inner loss.
        first_order: See `inner_step`.
        score: Whether the sums of log probabilities are wanted; else there are none.
    """
    rule = named_part(meta, "rule.")
    params = for_tasks(named_part(meta, "policy."), len(supports[0].valid))
    sums = []
    for batch in supports:
        if score:
            sums.append(task_sum(log_prob(policy(params, batch.observation), batch.choice), batch.valid))
        params = inner_step(policy, update, rule, params, batch, correction=correction, first_order=first_order)
    return Adapted(params, tuple(sums))


def outer_loss(new: Distribution, query: TaskBatch, outer: Outer, clip: float) -> Tensor:
    """The loss of each task after adaptation on samples of its own policy, shape (N,)."""
    log_probs = log_prob(new, query.choice)
    if outer == "ppo":
        return ppo_loss(log_probs, query.old_log_prob, query.advantage, query.valid, clip)
    if outer == "trpo":
        return ratio_loss(log_probs, query.old_log_prob, query.advantage, query.valid)
    return reinforce_loss(log_probs, query.advantage, query.valid)


def exploration_signal(query: TaskBatch, normalise: bool) -> Tensor:
    """J - b of each task for `exploration_loss`, shape (N,).

    Compared across tasks: within one task, standardised advantages have mean 0, and the term would vanish.
    """
    signal = compare_tasks(query.objective)
    if normalise and len(signal) > 1:
        signal = signal / (signal.std(correction=0) + 1e-8)
    return signal


def evaluate_outer(
    policy: MlpPolicy,
    update: UpdateRule,
    meta: Params,
    supports: Sequence[TaskBatch],
    query: TaskBatch,
    config: MamlConfig,
) -> tuple[Tensor, Tensor]:
    """Outer loss and mean KL(sampled || adapted) over tasks, scalars; both are functions of `meta` through U.

    The KL is that of the policies *after* adaptation, as published.
    """
    adapted = adapt(
        policy,
        update,
        meta,
        supports,
        correction=config.correction,
        first_order=config.first_order,
        score=config.exploration > 0.0,
    )
    new = policy(adapted.params, query.observation)
    loss = outer_loss(new, query, config.outer, config.ppo_clip)
    if config.exploration > 0.0:
        signal = exploration_signal(query, config.normalise_advantage)
        loss = loss + config.exploration * exploration_loss(adapted.log_prob_sums, signal)
    return loss.mean(), mean_kl(query.old, new, query.valid).mean()


def evaluate_curvature(
    policy: MlpPolicy,
    update: UpdateRule,
    meta: Params,
    supports: Sequence[TaskBatch],
    query: TaskBatch,
    config: MamlConfig,
) -> Tensor:
    """The mean KL whose Hessian shapes the direction of a trust region step, a scalar; see `MamlConfig.curvature`."""
    first_order = config.first_order or config.curvature == "first-order"
    tasks = config.curvature_tasks or len(query.valid)
    supports, query = [first_tasks(batch, tasks) for batch in supports], first_tasks(query, tasks)
    adapted = adapt(policy, update, meta, supports, correction=config.correction, first_order=first_order)
    return mean_kl(query.old, policy(adapted.params, query.observation), query.valid).mean()
