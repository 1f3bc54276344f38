"""The inner step U(theta, D) -> theta' of learners that adapt by gradients, a pure function with a task axis.

Sources: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017; Li et
al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017 (learned step sizes). What the losses of
`CORRECTIONS` are for stands in `policy_gradient`.

Axes: N tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..distribution import log_prob
from ..policy import MlpPolicy, Params
from ..policy_gradient import dice_loss, lvc_loss, reinforce_loss
from ..task_batch import TaskBatch
from .config import Correction, StepSizes


class UpdateRule(Protocol):
    """How parameters follow from parameters and the gradient of the inner loss."""

    def init(self, params: Params, generator: torch.Generator) -> Params:
        """The rule's own parameters, learned in the outer loop; `params` (no task axis) are those that it updates."""
        ...

    def apply(self, rule: Params, params: Params, gradient: Params, batch: TaskBatch, scale: float) -> Params:
        """New parameters.

        Args:
            rule: The rule's own, without a task axis.
            params: (N, ...).
            gradient: Of each task's inner loss, (N, ...).
            batch: The samples behind the gradient.
            scale: Factor on the step, 1 in training.
        """
        ...


@dataclass(frozen=True, slots=True)
class GradientDescent:
    """theta' = theta - alpha grad L(theta), Eq. 1 of Finn et al. 2017, with a given or a learned alpha.

    A learned alpha is kept positive by learning its logarithm (departure from Meta-SGD, where it may change its sign).
    """

    step_size: float
    """alpha, or the value from which it is learned."""
    step_sizes: StepSizes = "fixed"
    """Not learned; or learned, one for all parameters, one for each tensor, or one for each parameter (Meta-SGD)."""

    def init(self, params: Params, generator: torch.Generator) -> Params:
        """See `UpdateRule.init`; nothing is drawn."""
        first = math.log(self.step_size)
        like = next(iter(params.values()))
        if self.step_sizes == "fixed":
            return {}
        if self.step_sizes == "scalar":
            return {"log_step": like.new_full((), first)}
        shapes = {name: value.shape if self.step_sizes == "parameter" else () for name, value in params.items()}
        return {f"log_step.{name}": like.new_full(shape, first) for name, shape in shapes.items()}

    def apply(self, rule: Params, params: Params, gradient: Params, batch: TaskBatch, scale: float) -> Params:
        """See `UpdateRule.apply`."""
        return {name: value - scale * self._step_size(rule, name) * gradient[name] for name, value in params.items()}

    def _step_size(self, rule: Params, name: str) -> Tensor | float:
        if self.step_sizes == "fixed":
            return self.step_size
        return rule["log_step" if self.step_sizes == "scalar" else f"log_step.{name}"].exp()


def inner_loss(policy: MlpPolicy, params: Params, batch: TaskBatch, correction: Correction) -> Tensor:
    """The loss of each task that the inner step descends, shape (N,); `params` are (N, ...)."""
    log_probs = log_prob(policy(params, batch.observation), batch.choice)
    if correction == "lvc":
        return lvc_loss(log_probs, batch.old_log_prob, batch.advantage, batch.valid)
    if correction == "dice":
        return dice_loss(log_probs, batch.advantage, batch.valid)
    return reinforce_loss(log_probs, batch.advantage, batch.valid)


def inner_step(
    policy: MlpPolicy,
    update: UpdateRule,
    rule: Params,
    params: Params,
    batch: TaskBatch,
    *,
    correction: Correction = "none",
    first_order: bool = False,
    scale: float = 1.0,
) -> Params:
    """The parameters theta' of each task, (N, ...), differentiable in `params` and `rule`.

    Args:
        policy: What the parameters belong to.
        update: The rule.
        rule: Its parameters.
        params: (N, ...).
        batch: Samples of each task.
        correction: Which inner loss.
        first_order: No gradient flows through the inner gradient; it still flows through theta itself and the rule.
        scale: Factor on the step.
    """
    through = not first_order and torch.is_grad_enabled() and any(value.requires_grad for value in params.values())
    with torch.enable_grad():
        start = params if through else {name: value.detach().requires_grad_() for name, value in params.items()}
        # tasks are independent of each other, so the gradient of the sum is the gradient of each
        total = inner_loss(policy, start, batch, correction).sum()
        gradients = torch.autograd.grad(total, list(start.values()), create_graph=through)
    return update.apply(rule, params, dict(zip(start, gradients, strict=True)), batch, scale)
