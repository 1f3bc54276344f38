"""What the networks of all agents are made of, in numpy, many rows at once.

Axes: B batch, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
"""Weights by name."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian."""

    loc: Array
    """Mean, shape (B, Z)."""
    scale: Array
    """Standard deviation, shape (B, Z); > 0."""


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), stable for large x."""
    return np.logaddexp(np.float32(0.0), x)


def inv_softplus(x: Array) -> Array:
    """log(exp(x) - 1) for x > 0, written x + log(1 - exp(-x)) so that a large x does not overflow."""
    return x + np.log(-np.expm1(-x))


def scale_from_log(log_scale: Array) -> Array:
    """exp(clip(log_scale, -3, 2)), the prior's standard deviation, bounded as in training (`skills/gaussian.py`)."""
    return np.exp(np.clip(log_scale, np.float32(-3.0), np.float32(2.0)))


def residual_scale(prior_scale: Array, delta: Array, min_scale: float) -> Array:
    """min_scale + softplus(inv_softplus(prior_scale) + delta), Nam et al. 2022."""
    return np.float32(min_scale) + softplus(inv_softplus(prior_scale) + delta)


def compute_mlp(weights: Weights, name: str, inputs: Array) -> Array:
    """The network `name` on rows.

    Args:
        weights: Weights by name.
        name: Which network; its layers are `name.layers.{i}`.
        inputs: Shape (B, in), or (C, B, in) for a network with C members stacked in front.

    Returns:
        Shape (B, out) or (C, B, out).
    """
    index = 0
    while f"{name}.layers.{index}.weight" in weights:
        if index > 0:
            inputs = np.maximum(inputs, np.float32(0.0))
        weight = weights[f"{name}.layers.{index}.weight"]
        bias = weights[f"{name}.layers.{index}.bias"]
        inputs = inputs @ np.swapaxes(weight, -1, -2) + bias[..., None, :]
        index += 1
    return inputs
