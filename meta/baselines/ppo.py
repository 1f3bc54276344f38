"""PPO on several tasks side by side, each with parameters of its own: the plain learner that others are compared with.

Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017; Kingma, Ba, "Adam: A Method for Stochastic
Optimization", ICLR 2015. Parameters have a leading task axis. With one task they are one policy, wherever the samples
come from; with N, losses, gradient norms and Adam's moments of the tasks are apart, so that learning N tasks at once is
the same as learning each alone.

Departure: the baseline is linear in features of observation and time, fitted to each batch, as for the gradient-based
meta-learners (Duan et al., "Benchmarking Deep Reinforcement Learning for Continuous Control", ICML 2016), in place of a
learned value function. So the learners differ in how they learn, not in their critics.

Axes: N tasks, E episodes of a task, T decisions of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..distribution import detach, entropy, log_prob
from ..policy import MlpPolicy, Params
from ..policy_gradient import mean_kl, ppo_loss, task_mean
from ..task_batch import TaskBatch
from .config import PpoSteps

BETA_FIRST, BETA_SECOND, SMALL = 0.9, 0.999, 1e-8
"""Adam's published constants."""


def take(batch: TaskBatch, index: Tensor, axis: int) -> TaskBatch:
    """The samples of some tasks (axis 0), or of the same episodes of every task (axis 1)."""
    fields = batch._asdict()
    old = fields.pop("old")
    kept = {name: value.index_select(axis, index) if value.dim() > axis else value for name, value in fields.items()}
    return TaskBatch(old=type(old)(*(value.index_select(axis, index) for value in old)), **kept)


PARTS = ("first", "second")


class Moments(NamedTuple):
    """Adam's running moments of each parameter, and how many steps they have seen."""

    first: Params
    second: Params
    steps: int

    @classmethod
    def zeros(cls, params: Params) -> Moments:
        """Before the first step."""
        zeros = {name: torch.zeros_like(value) for name, value in params.items()}
        return cls(zeros, {name: value.clone() for name, value in zeros.items()}, 0)

    def tensors(self) -> dict[str, Tensor]:
        """The moments as tensors of a checkpoint."""
        return {f"moments.{part}.{name}": value for part in PARTS for name, value in getattr(self, part).items()}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], params: Params, steps: int) -> Moments:
        """What `tensors` gave, for parameters of these shapes.

        Raises:
            KeyError: A moment is missing.
            RuntimeError: A moment has another size.
        """
        first, second = (
            {name: tensors[f"moments.{part}.{name}"].clone().view_as(value) for name, value in params.items()}
            for part in PARTS
        )
        return cls(first, second, steps)


def adam_step(params: Params, gradient: Params, moments: Moments, rate: float) -> tuple[Params, Moments]:
    """Algorithm 1 of Kingma and Ba 2015; elementwise, so that tasks side by side do not touch each other."""
    steps = moments.steps + 1
    first = {name: BETA_FIRST * moments.first[name] + (1.0 - BETA_FIRST) * g for name, g in gradient.items()}
    second = {name: BETA_SECOND * moments.second[name] + (1.0 - BETA_SECOND) * g * g for name, g in gradient.items()}
    low, high = 1.0 - BETA_FIRST**steps, 1.0 - BETA_SECOND**steps
    moved = {
        name: value - rate * (first[name] / low) / ((second[name] / high).sqrt() + SMALL)
        for name, value in params.items()
    }
    return moved, Moments(first, second, steps)


def clip_gradient(gradient: Params, norm: float) -> Params:
    """Scales the gradient of each task, (N, ...), down to this norm over all its parameters."""
    squares = torch.stack([value.flatten(1).square().sum(1) for value in gradient.values()]).sum(0)
    factor = (norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    return {name: value * factor.reshape(-1, *(1,) * (value.dim() - 1)) for name, value in gradient.items()}


def surrogate_loss(policy: MlpPolicy, params: Params, batch: TaskBatch, steps: PpoSteps) -> tuple[Tensor, Tensor]:
    """PPO's loss less the weighted entropy, and mean KL(sampled || params), of each task, both (N,)."""
    new = policy(params, batch.observation)
    loss = ppo_loss(log_prob(new, batch.choice), batch.old_log_prob, batch.advantage, batch.valid, steps.clip)
    loss = loss - steps.entropy_weight * task_mean(entropy(new), batch.valid)
    return loss, mean_kl(batch.old, detach(new), batch.valid)


def improve(
    policy: MlpPolicy,
    params: Params,
    moments: Moments,
    batch: TaskBatch,
    steps: PpoSteps,
    generator: torch.Generator,
    *,
    share: float = 1.0,
) -> tuple[Params, Moments, dict[str, float]]:
    """The epochs of PPO on one batch of samples of each task.

    Args:
        policy: What the parameters belong to.
        params: Of each task, (N, ...).
        moments: Of Adam, (N, ...).
        batch: Sampled with `params`.
        steps: See `PpoSteps`.
        generator: Source of the minibatches.
        share: Factor on the learning rate.

    Returns:
        New parameters and moments, without a graph, and the means of `loss` and `kl` over all steps.
    """
    episodes = batch.valid.shape[1]
    totals = []
    for _ in range(steps.epochs):
        order = torch.randperm(episodes, generator=generator, device=batch.valid.device)
        for index in order.tensor_split(min(steps.minibatches, episodes)):
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            with torch.enable_grad():
                loss, kl = surrogate_loss(policy, leaves, take(batch, index, 1), steps)
                # tasks are independent, so that the gradient of the sum is the gradient of each
                found = torch.autograd.grad(loss.sum(), list(leaves.values()), materialize_grads=True)
            gradient = clip_gradient(dict(zip(leaves, found, strict=True)), steps.max_gradient_norm)
            params = {name: value.detach() for name, value in leaves.items()}
            params, moments = adam_step(params, gradient, moments, steps.learning_rate * share)
            totals.append(torch.stack((loss.detach().mean(), kl.detach().mean())))
    loss_mean, kl_mean = torch.stack(totals).mean(0).tolist()
    return params, moments, {"loss": loss_mean, "kl": kl_mean}
