"""Forward passes of a bundle's networks in numpy, many rows at once; `encoder.py` has that of the task encoder.

The policy is that of Nam et al., Skill-based Meta-Reinforcement Learning, ICLR 2022: a residual on the skill prior of
Pertsch et al., Accelerating Reinforcement Learning with Learned Skill Priors, CoRL 2020.

Axes: B batch, O observation, A action, Z skill, E task embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import CRITICS, BundleContract, Weights

Array = NDArray[np.float32]


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


def compute_normalised(weights: Weights, observation: Array) -> Array:
    """(observation - mean) / std, shape (B, O)."""
    return (observation - weights["normaliser.mean"]) / weights["normaliser.std"]


def compute_prior(contract: BundleContract, weights: Weights, observation: Array) -> Gaussian:
    """The skill prior p(z | s) of Pertsch et al. 2020; for raw actions the fixed Gaussian of the contract.

    Args:
        contract: The bundle's contract.
        weights: Weights by name.
        observation: Shape (B, O).
    """
    if contract.prior_scale is not None:
        shape = (len(observation), contract.skill_dim)
        return Gaussian(np.zeros(shape, np.float32), np.full(shape, contract.prior_scale, np.float32))
    loc, log_scale = np.split(compute_mlp(weights, "prior", compute_normalised(weights, observation)), 2, axis=-1)
    return Gaussian(loc, scale_from_log(log_scale))


def compute_policy(contract: BundleContract, weights: Weights, observation: Array, embedding: Array) -> Gaussian:
    """The policy pi(z | s, e): loc = prior loc + delta, scale as in `residual_scale`, Nam et al. 2022.

    Args:
        contract: The bundle's contract.
        weights: Weights by name.
        observation: Shape (B, O).
        embedding: Task embeddings, shape (B, E).
    """
    prior = compute_prior(contract, weights, observation)
    inputs = np.concatenate([compute_normalised(weights, observation), embedding], axis=-1)
    delta_loc, delta_scale = np.split(compute_mlp(weights, "policy", inputs), 2, axis=-1)
    return Gaussian(prior.loc + delta_loc, residual_scale(prior.scale, delta_scale, contract.min_scale))


def compute_action(contract: BundleContract, weights: Weights, observation: Array, skill: Array) -> Array:
    """The action, shape (B, A), within the limits: the decoder's for a skill, the skill itself for raw actions.

    Args:
        contract: The bundle's contract.
        weights: Weights by name.
        observation: Shape (B, O).
        skill: Shape (B, Z).
    """
    if contract.action_space == "skill":
        inputs = np.concatenate([compute_normalised(weights, observation), skill], axis=-1)
        skill = compute_mlp(weights, "decoder", inputs)
    return np.clip(skill, contract.robot.action.low, contract.robot.action.high)


def compute_value(weights: Weights, observation: Array, skill: Array, embedding: Array) -> Array:
    """Q_j(s, z, e) of each critic j, shape (critics, B).

    Args:
        weights: Weights by name.
        observation: Shape (B, O).
        skill: Shape (B, Z).
        embedding: Shape (B, E).
    """
    inputs = np.concatenate([compute_normalised(weights, observation), skill, embedding], axis=-1)
    return compute_mlp(weights, "critic", np.broadcast_to(inputs, (CRITICS, *inputs.shape)))[..., 0]
