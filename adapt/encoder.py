"""The task encoder in numpy: q(e | c) from transitions of a few episodes, so that a controller infers without torch.

Sources: Zaheer et al., "Deep Sets", NeurIPS 2017 (mean and maximum over tokens); Lee et al., "Set Transformer", ICML
2019, as in Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (no layer norm, 4 heads). Which of the two
a bundle holds is told by the names of its tensors.

Axes: M contexts, C transitions of a context, U queries, W heads, D width of a head, O observation, Z skill, E task
embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import BundleError
from .contract import BundleContract, Weights
from .networks import Array, Gaussian, compute_mlp, compute_normalised, softplus

HEADS = 4
"""Heads of each attention block of a set transformer, W."""

_FIRST = {"mean-max": "encoder.context.token.layers.0.weight", "set-transformer": "encoder.context.points.0"}
"""A tensor by which each encoder is recognised."""


class Context(NamedTuple):
    """Transitions of M tasks, one for each skill that was chosen; observations are raw."""

    observation: Array
    """Where the skill was chosen, shape (M, C, O)."""
    skill: Array
    """The skill z, shape (M, C, Z)."""
    reward: Array
    """Sum of rewards while it lasted, shape (M, C)."""
    terminated: Array
    """1 where the task ended with it, else 0, shape (M, C)."""
    next_observation: Array
    """Where it ended, shape (M, C, O)."""


def find_encoder(contract: BundleContract) -> str | None:
    """Which encoder the bundle holds, "mean-max" or "set-transformer"; None where it is none that numpy computes."""
    return next((kind for kind, name in _FIRST.items() if name in contract.encoder), None)


def compute_embedding(contract: BundleContract, weights: Weights, context: Context) -> Gaussian:
    """q(e | c), each (M, E): loc, and min_scale + softplus(output + log(e - 1)), which at output zero is close to 1.

    Args:
        contract: The bundle's contract.
        weights: Weights by name.
        context: What was seen.

    Raises:
        BundleError: The bundle's encoder is not known here, or its tensors do not fit each other.
    """
    kind = find_encoder(contract)
    if kind is None:
        raise BundleError(
            f"bundle.json encoder: expected one of {sorted(_FIRST)}, got tensors of neither; infer with torch instead"
        )
    try:
        tokens = _compute_tokens(weights, context)
        output = (_compute_mean_max if kind == "mean-max" else _compute_set_transformer)(weights, tokens)
    except (ValueError, KeyError) as error:
        raise BundleError(
            f"bundle.json encoder: expected the tensors of {kind}, got {error}; export the bundle again"
        ) from error
    if output.shape != (len(tokens), 2 * contract.embedding_dim):
        raise BundleError(
            f"bundle.json encoder: expected {2 * contract.embedding_dim} outputs, got {output.shape[-1]}; "
            "export the bundle again"
        )
    loc, pre_scale = np.split(output, 2, axis=-1)
    offset = np.float32(np.log(np.expm1(1.0)))
    return Gaussian(loc, np.float32(contract.min_scale) + softplus(pre_scale + offset))


def _compute_tokens(weights: Weights, context: Context) -> Array:
    """[s, z, r, terminated, s'] of each transition, shape (M, C, 2 O + Z + 2)."""
    return np.concatenate(
        [
            compute_normalised(weights, context.observation),
            context.skill,
            context.reward[..., None],
            context.terminated[..., None],
            compute_normalised(weights, context.next_observation),
        ],
        axis=-1,
    )


def _compute_mean_max(weights: Weights, tokens: Array) -> Array:
    """An MLP per token, mean and maximum over tokens, an MLP on both (Deep Sets); shape (M, 2 E)."""
    hidden = np.maximum(compute_mlp(weights, "encoder.context.token", tokens), np.float32(0.0))
    pooled = np.concatenate([hidden.mean(axis=1), hidden.max(axis=1)], axis=-1)
    return compute_mlp(weights, "encoder.context.head", pooled)


def _compute_set_transformer(weights: Weights, tokens: Array) -> Array:
    """Two induced self-attention blocks, pooling by attention, an MLP; shape (M, 2 E)."""
    count = len(tokens)
    for index in range(2):
        points = weights[f"encoder.context.points.{index}"]
        gathered = _attend(weights, f"encoder.context.gather.{index}", np.repeat(points, count, axis=0), tokens)
        tokens = _attend(weights, f"encoder.context.spread.{index}", tokens, gathered)
    seed = np.repeat(weights["encoder.context.seed"], count, axis=0)
    pooled = _attend(weights, "encoder.context.pool", seed, tokens)
    return compute_mlp(weights, "encoder.context.head", pooled[:, 0])


def _attend(weights: Weights, name: str, query: Array, key: Array) -> Array:
    """Queries (M, U, .) attend to keys (M, C, .): h + relu(f(h)) with h = q + softmax(q k^T / sqrt(W D)) v."""
    q, k, v = (
        _split_heads(compute_mlp(weights, f"{name}.{part}", inputs))
        for part, inputs in (("query", query), ("key", key), ("value", key))
    )
    score = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(HEADS * q.shape[-1]))
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    mixed = q + score / score.sum(axis=-1, keepdims=True) @ v
    hidden = mixed.swapaxes(1, 2).reshape(len(mixed), mixed.shape[2], -1)
    attended: Array = hidden + np.maximum(compute_mlp(weights, f"{name}.output", hidden), np.float32(0.0))
    return attended


def _split_heads(value: Array) -> Array:
    """(M, U, W D) -> (M, W, U, D)."""
    return value.reshape(*value.shape[:2], HEADS, -1).swapaxes(1, 2)
