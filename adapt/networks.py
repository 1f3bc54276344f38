"""Forward passes of a bundle's networks in numpy, many rows at once; the golden pairs of a bundle are made of these.

The policy is that of Nam et al., Skill-based Meta-Reinforcement Learning, ICLR 2022: a residual on the skill prior of
Pertsch et al., Accelerating Reinforcement Learning with Learned Skill Priors, CoRL 2020.

Axes: B batch, O observation, A action, Z skill, E task embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .contract import CRITICS, BundleContract, Weights

Array = NDArray[np.float32]

GOLDEN_TOLERANCE = 1e-5
"""Largest difference between a recorded output and a recomputed one, relative to max(1, largest output)."""

GOLDEN_PAIRS = 32
"""Number of recorded input -> output pairs, B of the golden arrays."""


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


def golden_shapes(contract: BundleContract, pairs: int) -> dict[str, tuple[int, ...]]:
    """Shape of every golden array by name: `in.*` are inputs, `out.*` what the networks gave for them."""
    skill = (pairs, contract.skill_dim)
    return {
        "in.observation": (pairs, contract.observation_dim),
        "in.embedding": (pairs, contract.embedding_dim),
        "in.skill": skill,
        "out.prior_loc": skill,
        "out.prior_scale": skill,
        "out.policy_loc": skill,
        "out.policy_scale": skill,
        "out.action": (pairs, contract.action_dim),
        "out.value": (CRITICS, pairs),
    }


def make_golden_inputs(contract: BundleContract, weights: Weights, rng: np.random.Generator) -> dict[str, Array]:
    """Golden inputs: observations spread as in training, embeddings and skills from N(0, I).

    Args:
        contract: The bundle's contract.
        weights: Weights by name; the normaliser gives the spread of the observations.
        rng: Source of the inputs.
    """
    inputs = {
        name: rng.standard_normal(shape, np.float32)
        for name, shape in golden_shapes(contract, GOLDEN_PAIRS).items()
        if name.startswith("in.")
    }
    inputs["in.observation"] = weights["normaliser.mean"] + weights["normaliser.std"] * inputs["in.observation"]
    return inputs


def compute_golden_outputs(contract: BundleContract, weights: Weights, inputs: Weights) -> dict[str, Array]:
    """What the networks give for golden inputs, by the names of `golden_shapes`."""
    observation, embedding, skill = inputs["in.observation"], inputs["in.embedding"], inputs["in.skill"]
    prior = compute_prior(contract, weights, observation)
    policy = compute_policy(contract, weights, observation, embedding)
    return {
        "out.prior_loc": prior.loc,
        "out.prior_scale": prior.scale,
        "out.policy_loc": policy.loc,
        "out.policy_scale": policy.scale,
        "out.action": compute_action(contract, weights, observation, skill),
        "out.value": compute_value(weights, observation, skill, embedding),
    }


def require_golden(recorded: Weights, outputs: Weights, where: str) -> None:
    """Checks recomputed outputs against the recorded ones.

    Args:
        recorded: Golden arrays of the bundle.
        outputs: Recomputed `out.*` arrays; those that are missing are not checked.
        where: Which runtime recomputed them, for the message.

    Raises:
        BundleError: An output differs by more than `GOLDEN_TOLERANCE`.
    """
    for name, output in outputs.items():
        limit = GOLDEN_TOLERANCE * max(1.0, float(np.abs(recorded[name]).max()))
        difference = float(np.abs(output.astype(np.float64) - recorded[name]).max())
        if not difference <= limit:
            raise BundleError(
                f"{where}: expected golden '{name}' within {limit:.1e} of the record, got a difference of "
                f"{difference:.3g}; the weights are not those that were exported, or this machine's numpy computes "
                "wrongly: export the bundle again, or reinstall numpy"
            )
