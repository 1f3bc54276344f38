"""Action distributions of policies: a diagonal Gaussian over a latent, or a choice among finitely many actions.

Both are NamedTuples of tensors, so that `torch.func` maps over tasks through them. A choice is an index held as a float
in the last axis, as robots take it (`RobotSpec.choices`).

Axes: ... any leading axes, Z latent (1 for choices), C choices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..skills import gaussian
from ..skills.gaussian import Gaussian


class Categorical(NamedTuple):
    """One of C choices, with log probabilities up to a constant."""

    logits: Tensor
    """Shape (..., C)."""


Distribution = Gaussian | Categorical


def sample(distribution: Distribution, generator: torch.Generator) -> Tensor:
    """A draw, shape (..., Z); not differentiable."""
    if isinstance(distribution, Gaussian):
        return distribution.detach().sample(generator)
    logits = distribution.logits.detach()
    # the smallest of exponential clocks with rates exp(logit) is the draw: one pass for any leading axes
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    clock = -torch.log1p(-uniform)
    return (logits - clock.log()).argmax(-1, keepdim=True).to(logits.dtype)


def mode(distribution: Distribution) -> Tensor:
    """The most likely latent, shape (..., Z)."""
    if isinstance(distribution, Gaussian):
        return distribution.loc
    return distribution.logits.argmax(-1, keepdim=True).to(distribution.logits.dtype)


def log_prob(distribution: Distribution, latent: Tensor) -> Tensor:
    """Log p(latent), nats, summed over the axes of the latent, shape (...); `latent` is (..., Z)."""
    if isinstance(distribution, Gaussian):
        return gaussian.log_prob(distribution, latent)
    log_probs = functional.log_softmax(distribution.logits, dim=-1)
    return log_probs.gather(-1, latent.long()).squeeze(-1)


def kl(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), nats, shape (...)."""
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return gaussian.kl(p, q)
    assert isinstance(p, Categorical)
    assert isinstance(q, Categorical)
    log_p, log_q = functional.log_softmax(p.logits, dim=-1), functional.log_softmax(q.logits, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(distribution: Distribution) -> Tensor:
    """Entropy, nats, shape (...)."""
    if isinstance(distribution, Gaussian):
        return (distribution.scale.log() + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)
    log_probs = functional.log_softmax(distribution.logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def detach(distribution: Distribution) -> Distribution:
    """The same distribution, cut from the graph."""
    return type(distribution)(*(value.detach() for value in distribution))
