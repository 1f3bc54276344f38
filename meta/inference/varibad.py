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

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...bounds import Batch, Bounded, Count, NonNegative, Positive, Share, Width, Widths
from ...skills.gaussian import Gaussian, kl
from ..trial import Trial

RewardModel = Literal["bernoulli", "gaussian"]
"""What is predicted of a reward: whether it is above 0, or its mean (variance 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig(Bounded):
    """The encoder, the decoder and how they are trained; published values are those of GridNavi."""

    latent: Width = 5
    """M (published)."""
    hidden: Width = 64
    """Width of the encoder's GRU (published)."""
    embedding: Width = 16
    """Width of each embedding of action, reward and observation (published)."""
    decoder: Literal["cells", "state"] = "state"
    """`cells` has an output for each cell of an observation that takes few whole values (published, GridNavi); `state`
    reads the observation (published, MuJoCo)."""
    decoder_hidden: Widths = (32, 32)
    """Widths of the decoders' hidden layers (published)."""
    reward_model: RewardModel = "gaussian"
    """`bernoulli` (published, GridNavi) suits rewards of two values, one of them above 0."""
    reward_of: Literal["next", "transition"] = "next"
    """What a `state` decoder of rewards reads: s' (published), or s, a and s' (bandits, costs of actions)."""
    transition_weight: NonNegative = 0.0
    """Of log p(s' | s, a, m); 0 has no decoder of transitions (published: tasks differ in their rewards)."""
    kl_weight: NonNegative = 0.01
    """w (published)."""
    learning_rate: Positive = 1e-3
    """Of Adam (published)."""
    updates: Count = 3
    """Updates per iteration (published, there for 960 new decisions)."""
    batch: Batch = 25
    """Trials of an update (published)."""
    buffer_trials: Count = 4096
    """Trials that are kept; published 100,000, with fewer new ones per iteration."""
    elbo_terms: Count | None = None
    """Number of beliefs of a trial that have to predict, drawn anew for each update; None takes all (published,
    GridNavi; 50 in MuJoCo)."""
    decode_terms: Count | None = None
    """Number of decisions of a trial that are predicted, drawn anew for each update; None takes all (published, as
    above)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadConfig(Bounded):
    """variBAD: the policy's training; published values are those of GridNavi."""

    trial: Trial = field(default_factory=Trial)
    """Episodes of a trial (published 4)."""
    trials: Batch = 128
    """R, trials of an iteration, each in a task drawn anew (published 16)."""
    iterations: Count = 1000
    """Iterations of the whole training (published: 2e7 steps, 60 per trial)."""
    vae: VaeConfig = field(default_factory=VaeConfig)
    """Encoder and decoder."""
    policy_hidden: Widths = (32,)
    """Widths of the hidden layers of policy and value function, tanh (published)."""
    discount: Share = 0.95
    """gamma per decision (published)."""
    trace: Share = 0.95
    """lambda (published)."""
    epochs: Count = 2
    """Passes over an iteration's decisions (published)."""
    minibatches: Count = 4
    """Updates per pass (published)."""
    clip: Positive = 0.05
    """PPO's clip of the ratio (published)."""
    entropy_weight: NonNegative = 0.01
    """Of the mean entropy (published), here in units of the standardised advantage."""
    value_weight: NonNegative = 0.5
    """Of the value loss (published), here in units of the standardised return."""
    learning_rate: Positive = 7e-4
    """Of the policy's Adam (published)."""
    anneal: bool = True
    """Lower both learning rates linearly to 0 over the iterations (published: constant)."""
    anneal_entropy: bool = False
    """Lower the weight of the entropy in the same way (published: constant)."""
    max_gradient_norm: Positive = 0.5
    """Gradients of the policy are scaled down to this norm (published)."""


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
