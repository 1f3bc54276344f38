"""Doubly robust estimates: a model of the return, corrected by importance sampling of what the model missed.

Sources: Jiang and Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning", ICML 2016; Thomas and
Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning", ICML 2016 (weighted).

The model of an episode must not have seen that episode, or the correction is too small (cross-fitting; Chernozhukov et
al., "Double/Debiased Machine Learning", Econometrics Journal 2018): pass Q and V of the fold that left it out.

Axes: E episodes, K decisions.
"""

from __future__ import annotations

import numpy as np

from .decisions import Bools, Decisions, Floats
from .importance import LARGEST_LOG, Terms, plain_mean, relative_weights


def doubly_robust(decisions: Decisions, log_weight: Floats, q: Floats, v: Floats) -> Terms:
    """V_DR(k) = V(s_k) + rho_k (r_k + gamma V_DR(k + 1) - Q(s_k, a_k)), Eq. 10 of Jiang and Li; mean of V_DR(0).

    Args:
        decisions: With the value of what was cut off, see `add_tail`.
        log_weight: log rho_k, see `compute_log_weights`, shape (E, K).
        q: Q of the logged choices, shape (E, K).
        v: V of the states in which they were taken, sum_a pi(a | s) Q(s, a), shape (E, K).
    """
    valid = decisions.valid
    # of each decision alone, so that no product of them leaves the range of numbers
    capped = np.minimum(log_weight, LARGEST_LOG)
    ratio = np.exp(np.minimum(np.diff(capped, axis=1, prepend=0.0), LARGEST_LOG))
    value = np.zeros(len(valid))
    with np.errstate(over="ignore", invalid="ignore"):  # an estimate without bounds is capped where it is shown
        for k in reversed(range(valid.shape[1])):
            step = v[:, k] + ratio[:, k] * (decisions.reward[:, k] + decisions.discount[:, k] * value - q[:, k])
            value = np.where(valid[:, k], step, 0.0)
    return plain_mean(value)


def weighted_doubly_robust(decisions: Decisions, log_weight: Floats, q: Floats, v: Floats) -> Terms:
    """WDR = sum_e sum_k gamma^k (w_k (r_k - Q(s_k, a_k)) + w_{k-1} V(s_k)), section 4 of Thomas and Brunskill.

    w_k = rho_k / sum_e rho_k, and w_{-1} = 1 / E. Behind the end of an episode all of r, Q and V are 0.

    Args:
        decisions: With the value of what was cut off, see `add_tail`.
        log_weight: log rho_k, see `compute_log_weights`, shape (E, K).
        q: As for `doubly_robust`.
        v: The same.
    """
    valid, past = decisions.valid, decisions.past_discount
    weights = relative_weights(log_weight)
    before = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)
    missed = _within(valid, decisions.reward - q)
    return Terms(
        np.concatenate([past * weights * missed, past * before * _within(valid, v)], axis=1),
        np.concatenate([weights, before], axis=1),
    )


def _within(valid: Bools, value: Floats) -> Floats:
    return np.where(valid, value, 0.0)
