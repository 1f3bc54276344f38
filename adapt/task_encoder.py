"""SiMPL's task encoder in numpy: q(e | c) from transitions of a few episodes, so that a robot infers without torch.

Sources: Zaheer et al., "Deep Sets", NeurIPS 2017 (mean and maximum over tokens); Lee et al., "Set Transformer", ICML
2019, as in Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (no layer norm, 4 heads).

Axes: M contexts, C transitions of a context, U queries, W heads, D width of a head, F features of a token, E task
embedding, P inducing points.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from .networks import Array, Gaussian, Shapes, Weights, compute_mlp, mlp_shapes, softplus
from .spaces import RowSpace

Encoder = Literal["mean-max", "set-transformer"]
HEADS, POINTS = 4, 32
"""Heads of each attention block of a set transformer, W, and its inducing points, P."""
MIN_SCALE = np.float32(1e-3)
"""Smallest standard deviation of an embedding, as in `meta/simpl/networks.py`."""


class Context(NamedTuple):
    """Transitions of a task, one for each latent that was chosen; observations are raw."""

    observation: Array
    """Where the latent was chosen, shape (..., O)."""
    skill: Array
    """The latent z, shape (..., Z)."""
    reward: Array
    """Sum of rewards while it lasted, shape (...)."""
    terminated: Array
    """1 where the task ended with it, else 0, shape (...)."""
    next_observation: Array
    """Where it ended, shape (..., O)."""

    def tokens(self, space: RowSpace) -> Array:
        """As the encoder reads them: [s, z, r, terminated, s'], s and s' normalised, (..., F)."""
        scaled, after = space.normalise(self.observation), space.normalise(self.next_observation)
        return np.concatenate([scaled, self.skill, self.reward[..., None], self.terminated[..., None], after], axis=-1)


def encoder_shapes(encoder: Encoder, features: int, hidden: int, embedding_dim: int) -> Shapes:
    """Shapes of `encoder.context.*`."""
    name = "encoder.context"
    if encoder == "mean-max":
        return {
            **mlp_shapes(f"{name}.token", (features, hidden, hidden)),
            **mlp_shapes(f"{name}.head", (2 * hidden, hidden, 2 * embedding_dim)),
        }
    shapes: Shapes = {f"{name}.seed": (1, 1, hidden)}
    blocks = {"pool": (hidden, hidden)}
    for index, width in enumerate((features, hidden)):
        shapes[f"{name}.points.{index}"] = (1, POINTS, hidden)
        blocks |= {f"gather.{index}": (hidden, width), f"spread.{index}": (width, hidden)}
    for block, (query, key) in blocks.items():
        for part, width in (("query", query), ("key", key), ("value", key), ("output", hidden)):
            shapes |= mlp_shapes(f"{name}.{block}.{part}", (width, hidden))
    return shapes | mlp_shapes(f"{name}.head", (hidden, hidden, hidden, 2 * embedding_dim))


def compute_embedding(encoder: Encoder, weights: Weights, tokens: Array) -> Gaussian:
    """q(e | c), each (M, E): loc, and a softplus of the output + log(e - 1), which at output zero is close to 1.

    Args:
        encoder: Which one.
        weights: Weights by name, see `encoder_shapes`.
        tokens: See `Context.tokens`, shape (M, C, F).
    """
    output = (_compute_mean_max if encoder == "mean-max" else _compute_set_transformer)(weights, tokens)
    loc, pre_scale = np.split(output, 2, axis=-1)
    return Gaussian(loc, MIN_SCALE + softplus(pre_scale + np.float32(np.log(np.expm1(1.0)))))


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
