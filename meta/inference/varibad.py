"""variBAD: the configuration and the variational objective, as pure functions of posteriors and predictions.

Source: Zintgraf, Shiarlis, Igl, Schulze, Gal, Hofmann, Whiteson, "VariBAD: A Very Good Method for Bayes-Adaptive Deep
RL via Meta-Learning", ICLR 2020, with the settings of the authors' code for GridNavi; Schulman et al., "Proximal Policy
Optimization Algorithms", 2017.

The belief about a task after t transitions is q_t(m) = q(m | tau_:t), t = 0 .. T. The objective of encoder and decoder
(section 3.1 of Zintgraf et al.) is sum_t ELBO_t,

    ELBO_t = E_(m ~ q_t)[ sum_(i < T) log p(r_(i+1) | s_i, a_i, s_(i+1), m) + log p(s_(i+1) | s_i, a_i, m) ]
             - w KL(q_t || q_(t-1)),     q_(-1) = N(0, I).

Each belief has to predict the whole trial, what was seen and what is still to come. Scale: sums over the beliefs t,
over the predicted decisions i and over the axes of the latent; a mean over trials only. So a trial of T decisions has
(T + 1) T terms of reconstruction against T + 1 of KL, and the published KL weights belong to that scale.

The policy reads the belief (mean and log variance) and nothing of its gradient goes back into it.

Departures: the value function is learned on standardised returns and advantages are standardised (see
`meta/memory/rl2.py`), where the published code clips a Huber loss; where some terms only are drawn, their sum is scaled
up so that it estimates the whole sum; `gaussian` predictions have the log density of unit variance, half of the
published squared error.

Axes: R trials, T decisions of a trial, S = T + 1 beliefs of a trial, D predicted decisions, M latent of a task.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...skills.gaussian import Gaussian, kl
from .config import RewardModel


def belief_valid(valid: Tensor) -> Tensor:
    """Which beliefs exist, (R, S): the one before anything was seen, and one after each decision; `valid` is (R, T)."""
    return torch.cat((torch.ones_like(valid[:, :1]), valid), dim=1)


def posterior_kl(posterior: Gaussian) -> Tensor:
    """KL(q_t || q_(t-1)) with q_(-1) = N(0, I), nats, shape (R, S); q is (R, S, M).

    Gradients flow into both: the last belief is moved as well towards what was found out after it.
    """
    loc, scale = posterior
    before = Gaussian(
        torch.cat((torch.zeros_like(loc[:, :1]), loc[:, :-1]), dim=1),
        torch.cat((torch.ones_like(scale[:, :1]), scale[:, :-1]), dim=1),
    )
    return kl(posterior, before)


def reward_log_prob(prediction: Tensor, reward: Tensor, model: RewardModel) -> Tensor:
    """Log p(r | .), nats, any shape; `gaussian` leaves out the constant.

    Args:
        prediction: A logit of r > 0, or the mean of r.
        reward: r, of the same shape or broadcast to it.
        model: See `RewardModel`.
    """
    reward = reward.expand_as(prediction)
    if model == "bernoulli":
        event = (reward > 0.0).to(prediction.dtype)
        return -functional.binary_cross_entropy_with_logits(prediction, event, reduction="none")
    return -0.5 * (prediction - reward).square()


def state_log_prob(prediction: Tensor, state: Tensor) -> Tensor:
    """Log N(s'; prediction, I) without its constant, summed over the axes of s', (...); both (..., O)."""
    return -0.5 * (prediction - state).square().sum(-1)


def sum_reconstruction(log_prob: Tensor, believed: Tensor, decided: Tensor) -> Tensor:
    """sum_t sum_i log p(x_i | m_t) of each trial, shape (R,): every belief predicts past and future alike.

    Args:
        log_prob: Of decision i under a draw of belief t, shape (R, S, D).
        believed: Shape (R, S) bool, from `belief_valid`.
        decided: Shape (R, D) bool: not padding.
    """
    counted = believed[:, :, None] & decided[:, None, :]
    return torch.where(counted, log_prob, torch.zeros_like(log_prob)).sum((1, 2))


def elbo(reconstruction: Tensor, posterior: Gaussian, believed: Tensor, kl_weight: float) -> Tensor:
    """sum_t ELBO_t of each trial, shape (R,): the reconstruction (R,) minus w times the sum of KL(q_t || q_(t-1))."""
    divergence = posterior_kl(posterior)
    return reconstruction - kl_weight * torch.where(believed, divergence, torch.zeros_like(divergence)).sum(1)
