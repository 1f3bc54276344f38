"""PEARL: the configuration, the product of Gaussians and the encoder's loss, as pure functions.

Source: Rakelly, Zhou, Quillen, Finn, Levine, "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic
Context Variables", ICML 2019. Published values are those of the authors' code for its point robots.

What is believed of a task is q(z | c) = prod_n N(mu_n, var_n), one factor per transition (Eq. 2). A factor is kept as
its precision and its precision-weighted mean, of which a product is the sum: a new transition costs the same however
many there were, and their order does not matter. There is no factor for the prior; a belief in which nothing was seen
is N(0, I).

Departures: SAC has no value network, see `sac`; the KL to N(0, I) is weighted in units of the reward.

Axes: M tasks, C transitions of a context, E embedding (the latent z of the paper), B transitions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ...skills.gaussian import Gaussian
from ..replay import Steps
from ..simpl.simpl import embedding_kl

LEAST_VARIANCE = 1e-7
"""Of a factor (published)."""


class Belief(NamedTuple):
    """A product of Gaussian factors: sums over the factors."""

    precision: Tensor
    """Sum of 1 / var_n, shape (..., E); 0 where nothing was seen."""
    weighted: Tensor
    """Sum of mu_n / var_n, shape (..., E)."""


def factors_of(output: Tensor) -> Belief:
    """One factor per row of an encoder's output (..., 2 E) = [mu, s]: its *variance* is softplus(s), at least 1e-7."""
    mean, raw = output.chunk(2, dim=-1)
    precision = functional.softplus(raw).clamp(min=LEAST_VARIANCE).reciprocal()
    return Belief(precision, mean * precision)


def product(factors: Belief) -> Belief:
    """The product over the last axis but one: (..., C, E) -> (..., E)."""
    return Belief(factors.precision.sum(-2), factors.weighted.sum(-2))


def multiply(one: Belief, other: Belief) -> Belief:
    """The product of two beliefs of one shape."""
    return Belief(one.precision + other.precision, one.weighted + other.weighted)


def posterior_of(belief: Belief) -> Gaussian:
    """q(z | c), each (..., E); N(0, 1) where nothing was seen."""
    seen = belief.precision > 0.0
    precision = torch.where(seen, belief.precision, torch.ones_like(belief.precision))
    return Gaussian(belief.weighted / precision, precision.rsqrt())


def context_tokens(steps: Steps, next_observation: bool) -> Tensor:
    """[s, a, r], and s' where the dynamics differ between tasks, shape (..., F)."""
    parts = (steps.observation, steps.action, steps.reward[..., None])
    return torch.cat((*parts, steps.next_observation) if next_observation else parts, dim=-1)


def encoder_kl(posterior: Gaussian) -> Tensor:
    """KL(q(z | c) || N(0, I)), *summed* over tasks and dimensions (published), a scalar."""
    return embedding_kl(posterior).sum()
