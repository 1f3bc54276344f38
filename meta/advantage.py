"""Returns, advantages and the linear baseline of policy-gradient learners, for rows of sequences.

Sources: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation", ICLR 2016; Duan
et al., "Benchmarking Deep Reinforcement Learning for Continuous Control", ICML 2016 (linear baseline).

Axes: ... leading axes (tasks, rows), T time, O observation, F features, N tasks, B samples of a task.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-5
"""Smallest weight of the squared coefficients in the baseline's fit."""
OBSERVATION_LIMIT = 10.0
"""Observations are clipped to this in the baseline's features."""


def compute_returns(reward: Tensor, continues: Tensor, discount: float) -> Tensor:
    """G_t = r_t + gamma c_t G_(t+1), shape (..., T).

    Args:
        reward: Shape (..., T).
        continues: c, shape (..., T): whether later rewards count for this step. False at the end of an episode for a
            learner of single episodes, only at the end of the trial for one that learns across episodes.
        discount: gamma, per decision.
    """
    return _backward_sum(reward, discount * continues.to(reward.dtype))


def compute_advantage(
    reward: Tensor, value: Tensor, next_value: Tensor, continues: Tensor, discount: float, trace: float
) -> Tensor:
    """GAE, A_t = sum_l (gamma lambda)^l delta_(t+l) with delta_t = r_t + gamma V(s_(t+1)) - V(s_t), Eq. 16; (..., T).

    Args:
        reward: Shape (..., T).
        value: V(s_t), shape (..., T).
        next_value: V(s_(t+1)), shape (..., T): 0 where nothing counts after this step; where a time limit cut the
            episode off, the value of where it ended.
        continues: Shape (..., T): whether the sum goes on to the next step.
        discount: gamma, per decision.
        trace: lambda.
    """
    delta = reward + discount * next_value - value
    return _backward_sum(delta, discount * trace * continues.to(reward.dtype))


def _backward_sum(value: Tensor, factor: Tensor) -> Tensor:
    """y_t = value_t + factor_t y_(t+1) along the last axis."""
    sums = []
    total = torch.zeros_like(value[..., 0])
    for step in range(value.shape[-1] - 1, -1, -1):
        total = value[..., step] + factor[..., step] * total
        sums.append(total)
    return torch.stack(sums[::-1], dim=-1)


def compute_features(observation: Tensor, step: Tensor) -> Tensor:
    """[o, o^2, t/100, (t/100)^2, (t/100)^3, 1] with o clipped to +-10, shape (..., F = 2 O + 4).

    Args:
        observation: Shape (..., O).
        step: Decision of the episode, shape (...).
    """
    clipped = observation.clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)
    time = (step.to(observation.dtype) / 100.0)[..., None]
    return torch.cat((clipped, clipped.square(), time, time.square(), time**3, torch.ones_like(time)), dim=-1)


def fit_linear_baseline(features: Tensor, target: Tensor, valid: Tensor, ridge: float = RIDGE) -> Tensor:
    """Coefficients of the ridge regression of each task, shape (N, F).

    Features that are linearly dependent (an observation that never moves) make the normal equations singular up to
    rounding; they are solved in float64 with a ridge relative to their own scale, which never fails.

    Args:
        features: Shape (N, B, F).
        target: Shape (N, B).
        valid: Shape (N, B) bool: samples that count.
        ridge: Weight of the squared coefficients, relative to the mean squared feature.
    """
    weighted = (features * valid[..., None]).double()
    normal = weighted.mT @ weighted
    scale = normal.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1.0)
    eye = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    moments = weighted.mT @ target.double()[..., None]
    coefficients: Tensor = torch.linalg.solve(normal + ridge * scale[:, None, None] * eye, moments)
    return coefficients.squeeze(-1).to(features.dtype)


def standardise(advantage: Tensor, valid: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the samples of each task; (N, B), padding stays 0."""
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    kept = advantage * valid
    centred = (kept - kept.sum(-1, keepdim=True) / count) * valid
    scale = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return centred / (scale + 1e-8)
