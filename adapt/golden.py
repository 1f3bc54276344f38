"""Golden pairs of a bundle: recorded inputs, and what the networks gave for them where they were trained.

They are recomputed whenever a bundle is loaded, so that damaged weights, or a machine that computes otherwise, are
found before a robot moves.

Axes: B pairs, M contexts, C transitions of a context, E task embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .contract import CRITICS, BundleContract, Weights, check_tensors
from .golden_trial import GOLDEN_TOLERANCE as GOLDEN_TOLERANCE
from .encoder import Context, compute_embedding, find_encoder
from .networks import Array, compute_action, compute_policy, compute_prior, compute_value

GOLDEN_PAIRS = 32
"""Number of recorded input -> output pairs, B of the golden arrays, and of contexts, M."""

GOLDEN_TRANSITIONS = 8
"""Transitions of each recorded context, C."""


def golden_shapes(contract: BundleContract, pairs: int) -> dict[str, tuple[int, ...]]:
    """Shape of every golden array by name: `in.*` are inputs, `out.*` what the networks gave for them.

    Args:
        contract: The bundle's contract; the encoder has pairs where this runtime can compute it.
        pairs: B, and the number of contexts M.
    """
    shapes = _policy_shapes(contract, pairs)
    return shapes | encoder_shapes(contract, pairs) if find_encoder(contract) else shapes


def encoder_shapes(contract: BundleContract, pairs: int) -> dict[str, tuple[int, ...]]:
    """The part of `golden_shapes` that belongs to the task encoder."""
    context = (pairs, GOLDEN_TRANSITIONS)
    return {
        "in.context_observation": (*context, contract.observation_dim),
        "in.context_skill": (*context, contract.skill_dim),
        "in.context_reward": context,
        "in.context_terminated": context,
        "in.context_next_observation": (*context, contract.observation_dim),
        "out.embedding_loc": (pairs, contract.embedding_dim),
        "out.embedding_scale": (pairs, contract.embedding_dim),
    }


def check_golden(contract: BundleContract, golden: Mapping[str, NDArray[Any]], where: str) -> None:
    """Checks names, shapes, dtype and finiteness of golden arrays; a bundle of before has none for its encoder.

    Args:
        contract: The bundle's contract.
        golden: Arrays by name.
        where: The file, for the message.

    Raises:
        BundleError: Names the first array that is wrong.
    """
    shapes = golden_shapes(contract, GOLDEN_PAIRS)
    if not set(golden) & set(encoder_shapes(contract, GOLDEN_PAIRS)):
        shapes = _policy_shapes(contract, GOLDEN_PAIRS)
    check_tensors(golden, shapes, where, "export the bundle again")


def _policy_shapes(contract: BundleContract, pairs: int) -> dict[str, tuple[int, ...]]:
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
    """Golden inputs: observations spread as in training; embeddings, skills and rewards from N(0, I).

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
    for name in inputs:
        if name.endswith("observation"):
            inputs[name] = weights["normaliser.mean"] + weights["normaliser.std"] * inputs[name]
        elif name == "in.context_terminated":
            inputs[name] = (inputs[name] > 0).astype(np.float32)
    return inputs


def compute_golden_outputs(contract: BundleContract, weights: Weights, inputs: Weights) -> dict[str, Array]:
    """What the networks give for golden inputs, by the names of `golden_shapes`."""
    observation, embedding, skill = inputs["in.observation"], inputs["in.embedding"], inputs["in.skill"]
    prior = compute_prior(contract, weights, observation)
    policy = compute_policy(contract, weights, observation, embedding)
    outputs = {
        "out.prior_loc": prior.loc,
        "out.prior_scale": prior.scale,
        "out.policy_loc": policy.loc,
        "out.policy_scale": policy.scale,
        "out.action": compute_action(contract, weights, observation, skill),
        "out.value": compute_value(weights, observation, skill, embedding),
    }
    if "in.context_observation" in inputs:
        posterior = compute_embedding(contract, weights, context_of(inputs))
        outputs |= {"out.embedding_loc": posterior.loc, "out.embedding_scale": posterior.scale}
    return outputs


def context_of(inputs: Weights) -> Context:
    """The recorded contexts among golden inputs."""
    return Context(*(inputs[f"in.context_{name}"] for name in Context._fields))


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
