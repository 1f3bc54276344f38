"""Advantages in numpy for learners that adapt without autograd; see `meta/advantage.py`, whose sources hold here.

Axes: N tasks, E episodes, T decisions, O observation, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .networks import Array

RIDGE = 1e-5
"""Smallest weight of the squared coefficients in the baseline's fit."""
OBSERVATION_LIMIT = 10.0
"""Observations are clipped to this in the baseline's features."""


def compute_advantage(
    observation: Array, reward: Array, length: NDArray[np.int64], discount: float, trace: float
) -> tuple[Array, NDArray[np.bool_]]:
    """GAE over a linear baseline fitted to each task's own episodes, standardised within the task, (N, E, T).

    Args:
        observation: On the scale that networks see, (N, E, T, O).
        reward: Shape (N, E, T); zeros in the padding.
        length: Decisions of each episode, (N, E).
        discount: gamma, per decision.
        trace: lambda.

    Returns:
        Advantages, zero in the padding, and what is not padding, (N, E, T).
    """
    steps = np.arange(reward.shape[-1])
    valid, continues = steps < length[..., None], steps < length[..., None] - 1
    target = _backward_sum(reward, np.float32(discount) * continues)
    features = _compute_features(observation, steps)
    value = np.einsum("netf,nf->net", features, _fit(features, target, valid)) * valid
    next_value = np.concatenate([value[..., 1:], np.zeros_like(value[..., :1])], axis=-1) * continues
    delta = reward + np.float32(discount) * next_value - value
    advantage = _backward_sum(delta, np.float32(discount * trace) * continues) * valid
    flat = standardise(advantage.reshape(len(reward), -1), valid.reshape(len(reward), -1))
    return flat.reshape(reward.shape), valid


def standardise(advantage: Array, valid: NDArray[np.bool_]) -> Array:
    """Mean 0 and standard deviation 1 over the samples of each task; (N, B), padding stays 0."""
    count = np.maximum(valid.sum(-1, keepdims=True), 1).astype(np.float32)
    kept = advantage * valid
    centred = (kept - kept.sum(-1, keepdims=True) / count) * valid
    scale = np.sqrt(np.square(centred).sum(-1, keepdims=True) / count)
    scaled: Array = (centred / (scale + np.float32(1e-8))).astype(np.float32)
    return scaled


def _backward_sum(value: Array, factor: Array) -> Array:
    """y_t = value_t + factor_t y_(t+1) along the last axis."""
    sums = np.empty_like(value)
    total = np.zeros_like(value[..., 0])
    for step in range(value.shape[-1] - 1, -1, -1):
        total = value[..., step] + factor[..., step] * total
        sums[..., step] = total
    return sums


def _compute_features(observation: Array, steps: NDArray[np.int64]) -> Array:
    """[o, o^2, t/100, (t/100)^2, (t/100)^3, 1] with o clipped to +-10, (N, E, T, F)."""
    clipped = np.clip(observation, np.float32(-OBSERVATION_LIMIT), np.float32(OBSERVATION_LIMIT))
    time = np.broadcast_to((steps.astype(np.float32) / np.float32(100.0))[:, None], (*observation.shape[:-1], 1))
    return np.concatenate([clipped, np.square(clipped), time, np.square(time), time**3, np.ones_like(time)], axis=-1)


def _fit(features: Array, target: Array, valid: NDArray[np.bool_]) -> Array:
    """Coefficients of the ridge regression of each task, (N, F), solved in float64."""
    tasks, width = len(features), features.shape[-1]
    weighted = (features * valid[..., None]).astype(np.float64).reshape(tasks, -1, width)
    normal = weighted.swapaxes(1, 2) @ weighted
    scale = np.maximum(np.diagonal(normal, axis1=1, axis2=2).mean(-1), 1.0)
    moments = weighted.swapaxes(1, 2) @ target.astype(np.float64).reshape(tasks, -1, 1)
    solved = np.linalg.solve(normal + RIDGE * scale[:, None, None] * np.eye(width), moments)
    coefficients: Array = solved[..., 0].astype(np.float32)
    return coefficients
