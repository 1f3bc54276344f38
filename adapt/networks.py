"""What the networks of all agents are made of, in numpy, many rows at once.

Axes: B batch, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
"""Weights by name."""
Shapes = dict[str, tuple[int, ...]]
"""The shape of each weight by name."""
Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "relu": lambda value: np.maximum(value, np.float32(0.0)),
    "tanh": np.tanh,
}
"""What stands between the layers of a network."""


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


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh so that a large x does not overflow."""
    value: Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
    return value


def linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    """Shapes of `name.weight` (out, in) and `name.bias` (out,)."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def mlp_shapes(name: str, sizes: tuple[int, ...]) -> Shapes:
    """Shapes of the layers `name.layers.{i}` of these widths, input first."""
    shapes: Shapes = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes |= linear_shapes(f"{name}.layers.{index}", inputs, outputs)
    return shapes


def compute_linear(weights: Weights, name: str, inputs: Array) -> Array:
    """W x + b of the layer `name`.

    Args:
        weights: Weights by name.
        name: Which layer.
        inputs: Shape (B, in), or (C, B, in), also for a layer with C members stacked in front.

    Returns:
        Shape (B, out) or (C, B, out).
    """
    output: Array = inputs @ weights[f"{name}.weight"].swapaxes(-1, -2) + weights[f"{name}.bias"][..., None, :]
    return output


def compute_mlp(weights: Weights, name: str, inputs: Array, activation: Activation = "relu") -> Array:
    """The network whose layers are `name.layers.{i}`, or `layers.{i}` without a name; shapes as in `compute_linear`."""
    layers, index = f"{name}.layers" if name else "layers", 0
    while f"{layers}.{index}.weight" in weights:
        if index > 0:
            inputs = ACTIVATIONS[activation](inputs)
        inputs = compute_linear(weights, f"{layers}.{index}", inputs)
        index += 1
    return inputs
