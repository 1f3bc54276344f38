"""MAESN: a policy explores by a latent z of the whole episode, and learns a task by moving the distribution of z alone.

Source: Gupta, Mendonca, Liu, Abbeel, Levine, "Meta-Reinforcement Learning of Structured Exploration Strategies",
NeurIPS 2018. "Published" values are those of the paper; "released" ones those of the authors' code.

Each train task i has a row (mu_i, log sigma_i) of a table, and z ~ N(mu_i, sigma_i^2) is drawn once per episode. The
inner step moves the row along the score of z, weighted by one advantage per episode; z is data there. The outer loss is
taken on new episodes whose z' = mu' + sigma' eps keeps its eps, so that it is differentiated through mu' and sigma'
into the row, the step sizes and the policy. The weights of the policy are not adapted (as released; the paper allows
it). What makes N(0, I) a fair start on a new task is the KL of the rows *before* the inner step.

Meta-parameters are one flat dict: `policy.*`, the weights theta; `table.mean` and `table.log_scale`, each (M, L); and
`rule.log_step.mean` and `rule.log_step.log_scale`, each (L,), the logarithms of the step sizes alpha.

Axes: M train tasks, N tasks of a meta-update, E episodes of a task, T decisions of an episode, L axes of z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...skills import gaussian
from ...skills.gaussian import Gaussian
from ..advantage import standardise
from ..distribution import log_prob
from ..policy import ConditionedPolicy, MlpPolicy, Params
from ..policy_gradient import mean_kl, ratio_loss
from ..state import named_part
from ..task_batch import TaskBatch
from .config import MaesnConfig


class TaskLatent(NamedTuple):
    """The distribution of z in each task, N(mean, exp(log_scale)^2)."""

    mean: Tensor
    """mu, shape (N, L)."""
    log_scale: Tensor
    """log sigma, shape (N, L)."""

    def draw(self, noise: Tensor) -> Tensor:
        """Z = mu + sigma eps for noise eps, both (N, E, L)."""
        return self.mean[:, None] + self.log_scale.exp()[:, None] * noise


class LatentBatch(NamedTuple):
    """Episodes of N tasks, each with the z that it was played with."""

    samples: TaskBatch
    """What happened, without z; `samples.old` is the policy at that z."""
    noise: Tensor
    """eps, shape (N, E, L)."""
    z: Tensor
    """Shape (N, E, L)."""


def init_table(tasks: int, latent_dim: int, scale: float, generator: torch.Generator) -> Params:
    """First rows of M tasks: mu ~ N(0, scale^2) and sigma = 1."""
    mean = scale * torch.randn((tasks, latent_dim), generator=generator, device=generator.device)
    return {"table.mean": mean, "table.log_scale": torch.zeros_like(mean)}


def init_rule(step_size: float, latent_dim: int) -> Params:
    """First step sizes, one for each axis of mu and of log sigma, shared by all tasks (released).

    Their logarithms are learned, which keeps them positive (departure: as released they may change their sign).
    """
    first = torch.full((latent_dim,), math.log(step_size))
    return {"rule.log_step.mean": first, "rule.log_step.log_scale": first.clone()}


def prior_latent(tasks: int, like: Tensor) -> TaskLatent:
    """N(0, I) for N tasks, from which a new task is learned; `like` is any (..., L)."""
    zeros = like.new_zeros((tasks, like.shape[-1]))
    return TaskLatent(zeros, zeros.clone())


def gather(meta: Params, chosen: Tensor) -> TaskLatent:
    """The table's rows of N train tasks; `chosen` (N,) are their indices. No other row gets a gradient."""
    return TaskLatent(meta["table.mean"][chosen], meta["table.log_scale"][chosen])


def episode_advantage(samples: TaskBatch) -> Tensor:
    """One advantage for each episode, that of its first decision, standardised over a task's episodes; shape (N, E)."""
    first = samples.advantage[..., 0]
    return standardise(first, torch.ones_like(first, dtype=torch.bool))


def latent_loss(latent: TaskLatent, z: Tensor, advantage: Tensor) -> Tensor:
    """-mean over episodes of log N(z; mu, sigma^2) A, shape (N,): what the inner step descends; z and A are data.

    Args:
        latent: Of the tasks.
        z: Shape (N, E, L).
        advantage: A, shape (N, E).
    """
    distribution = Gaussian(latent.mean[:, None], latent.log_scale.exp()[:, None])
    return -(gaussian.log_prob(distribution, z.detach()) * advantage.detach()).mean(1)


def latent_gradient(latent: TaskLatent, z: Tensor, advantage: Tensor) -> TaskLatent:
    """The gradient of `latent_loss` in closed form, which needs no autograd: each (N, L).

    With e = (z - mu) / sigma it is -mean(A e / sigma) for mu, and -mean(A (e^2 - 1)) for log sigma. It is
    differentiable in mu and sigma itself, for the outer loop.
    """
    z, weight = z.detach(), advantage.detach()[..., None]
    scale = latent.log_scale.exp()[:, None]
    distance = (z - latent.mean[:, None]) / scale
    return TaskLatent(-(weight * distance / scale).mean(1), -(weight * (distance.square() - 1.0)).mean(1))


def natural_gradient(latent: TaskLatent, gradient: TaskLatent) -> TaskLatent:
    """The gradient times the inverse Fisher information of N(mu, sigma^2), each (N, L).

    That of mu is 1 / sigma^2 and that of log sigma is 2, without a cross term: Wierstra et al., "Natural Evolution
    Strategies", JMLR 2014, section 3.
    """
    return TaskLatent((2.0 * latent.log_scale).exp() * gradient.mean, 0.5 * gradient.log_scale)


def latent_step(
    latent: TaskLatent,
    rule: Params,
    z: Tensor,
    advantage: Tensor,
    scale: float | Tensor = 1.0,
    *,
    natural: bool = False,
) -> TaskLatent:
    """(mu', log sigma') = (mu, log sigma) - alpha * grad, elementwise with learned alpha, each (N, L).

    Args:
        latent: Where to step from.
        rule: `log_step.mean` and `log_step.log_scale`, each (L,).
        z: Of the episodes, (N, E, L).
        advantage: Of the episodes, (N, E).
        scale: Factor on the step, 1 in training.
        natural: See `MaesnConfig.natural`.
    """
    gradient = latent_gradient(latent, z, advantage)
    if natural:
        gradient = natural_gradient(latent, gradient)
    return TaskLatent(
        latent.mean - scale * rule["log_step.mean"].exp() * gradient.mean,
        latent.log_scale - scale * rule["log_step.log_scale"].exp() * gradient.log_scale,
    )


def latent_kl(latent: TaskLatent) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) = sum of (sigma^2 + mu^2 - 1) / 2 - log sigma, nats, shape (N,)."""
    variance = (2.0 * latent.log_scale).exp()
    return (0.5 * (variance + latent.mean.square() - 1.0) - latent.log_scale).sum(-1)


def adapt(meta: Params, chosen: Tensor, supports: Sequence[LatentBatch], *, natural: bool = False) -> TaskLatent:
    """The latents of N train tasks after one inner step on each batch, differentiable in `meta`."""
    rule, latent = named_part(meta, "rule."), gather(meta, chosen)
    for batch in supports:
        latent = latent_step(latent, rule, batch.z, episode_advantage(batch.samples), natural=natural)
    return latent


def evaluate_outer(
    policy: MlpPolicy,
    meta: Params,
    chosen: Tensor,
    supports: Sequence[LatentBatch],
    query: LatentBatch,
    config: MaesnConfig,
) -> tuple[Tensor, Tensor]:
    """Outer loss and mean KL(sampled || adapted) of the policies over tasks, scalars; both are functions of `meta`.

    The loss is the ratio surrogate at z' = mu' + sigma' eps, plus the weighted KL of the rows before the inner steps,
    and of what became of them. The trust region is that of the policy at z'.

    Args:
        policy: Of inputs [observation, z].
        meta: See the module.
        chosen: Which train tasks, shape (N,).
        supports: Episodes before each inner step.
        query: Episodes after the last.
        config: Weights of the divergences, and kind of step.
    """
    samples = query.samples
    adapted = adapt(meta, chosen, supports, natural=config.natural)
    z = adapted.draw(query.noise)
    new = ConditionedPolicy(policy, z)(named_part(meta, "policy."), samples.observation)
    losses = ratio_loss(log_prob(new, samples.choice), samples.old_log_prob, samples.advantage, samples.valid)
    losses = losses + config.kl_weight * latent_kl(gather(meta, chosen)) + config.kl_weight_after * latent_kl(adapted)
    return losses.mean(), mean_kl(samples.old, new, samples.valid).mean()


def first_episodes(batch: LatentBatch, episodes: int) -> LatentBatch:
    """The first episodes of each task, this many."""
    fields = batch.samples._asdict()
    old, objective = fields.pop("old"), fields.pop("objective")
    samples = TaskBatch(
        old=type(old)(*(value[:, :episodes] for value in old)),
        objective=objective,
        **{name: value[:, :episodes] for name, value in fields.items()},
    )
    return LatentBatch(samples, batch.noise[:, :episodes], batch.z[:, :episodes])
