"""Diagonal Gaussians as a pair of tensors, with the closed forms that skills and policies need.

Axes: B batch (any number of leading axes), Z dimensions of the Gaussian (the last axis).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_SCALE_LOW = -3.0
LOG_SCALE_HIGH = 2.0
"""Bounds of every predicted log scale: of skills, priors, and policies that use `split`. SPiRL's code has -10 and 2."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian N(loc, scale^2)."""

    loc: Tensor
    """Mean, (..., Z)."""
    scale: Tensor
    """Standard deviation, (..., Z), > 0."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """A draw loc + scale * noise, (..., Z), differentiable in loc and scale; the generator gives the noise."""
        noise = torch.randn(self.loc.shape, generator=generator, device=self.loc.device, dtype=self.loc.dtype)
        return self.loc + self.scale * noise

    def detach(self) -> "Gaussian":
        """The same Gaussian, cut from the graph."""
        return Gaussian(self.loc.detach(), self.scale.detach())


def split(output: Tensor) -> Gaussian:
    """The Gaussian that a net's output (..., 2Z) = [loc, log scale] describes; the log scale is clamped to [-3, 2]."""
    loc, log_scale = output.chunk(2, dim=-1)
    return Gaussian(loc, log_scale.clamp(LOG_SCALE_LOW, LOG_SCALE_HIGH).exp())


def standard_like(gaussian: Gaussian) -> Gaussian:
    """N(0, I) of the same shape, device and type."""
    return Gaussian(torch.zeros_like(gaussian.loc), torch.ones_like(gaussian.scale))


def kl_per_dim(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of every dimension in nats, (..., Z): log(s_q/s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2."""
    ratio = p.scale / q.scale
    distance = (p.loc - q.loc) / q.scale
    return 0.5 * (ratio.square() + distance.square() - 1.0) - ratio.log()


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) in nats, summed over the dimensions, (...)."""
    return kl_per_dim(p, q).sum(-1)


def log_prob(gaussian: Gaussian, value: Tensor) -> Tensor:
    """Density log N(value; loc, scale^2) in nats, summed over the dimensions, (...)."""
    distance = (value - gaussian.loc) / gaussian.scale
    return (-0.5 * distance.square() - gaussian.scale.log() - 0.5 * math.log(2.0 * math.pi)).sum(-1)
