"""Importance sampling: logged rewards, weighted by how much likelier the policy makes them than the log's behaviour.

Sources: Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000 (per decision);
Thomas, "Safe Reinforcement Learning", PhD thesis 2015, chapter 3 (all four estimators; the weighted one per decision as
consistent weighted per-decision importance sampling); Ionides, "Truncated Importance Sampling", Journal of
Computational and Graphical Statistics 2008 (clipping); Kish, "Survey Sampling", 1965 (effective sample size).

Every estimator is a sum of ratios of means over episodes, sum_c mean_e n[e, c] / mean_e d[e, c], see `Terms`. Its
interval follows from that alone (`intervals.py`).

Axes: E episodes, K decisions, C columns, ... any leading axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError
from .decisions import Bools, Decisions, Floats

LARGEST_LOG = 80.0
"""Log weights are cut there, so that sums of weighted rewards stay finite; such an estimate is of no use."""
LOWEST_LOG = 1e6
"""Of a choice that the policy cannot make the log ratio is taken as minus this, so that differences stay numbers."""


class Terms(NamedTuple):
    """An estimate as sum_c mean_e n[e, c] / mean_e d[e, c]."""

    numerator: Floats
    """n, shape (E, C)."""
    denominator: Floats
    """d, shape (E, C), >= 0; ones where the estimator is a plain mean."""

    @property
    def value(self) -> float:
        """The estimate."""
        return float((self.numerator.mean(axis=0) / self.denominator.mean(axis=0)).sum())

    def weighted_value(self, times: NDArray[np.float32]) -> float:
        """The estimate of episodes of which each counts so many times, shape (E,); a column without weight is 0."""
        above, below = times @ self.numerator, times @ self.denominator
        some = below > 1e-9 * self.denominator.sum(axis=0)
        return float(np.divide(above, below, out=np.zeros_like(above), where=some).sum())


def plain_mean(values: Floats) -> Terms:
    """The terms of a mean of one number for each episode, shape (E,)."""
    return Terms(values[:, None], np.ones((len(values), 1)))


def compute_log_weights(log_ratio: Floats, valid: Bools, largest: float = np.inf) -> Floats:
    """Log rho_k = sum_{j <= k} log pi(a_j | s_j) - log b(a_j | s_j), (E, K); behind the end it stays what it was.

    Args:
        log_ratio: log pi - log b of each decision, shape (E, K); not read in the padding.
        valid: See `Decisions.valid`, shape (E, K).
        largest: Every rho_k is cut to this (Ionides 2008, who takes sqrt(E)); the estimate is then biased.

    Raises:
        SpecError: A ratio is not a number, or infinite: the log holds a choice that its behaviour cannot make.
    """
    used = np.where(valid, log_ratio, 0.0)
    if np.isnan(used).any() or np.isposinf(used).any():
        raise SpecError(
            "importance weights: expected log ratios below infinity, got others; give the behaviour of this log"
        )
    log_weight: Floats = np.minimum(np.cumsum(np.maximum(used, -LOWEST_LOG), axis=1), np.log(largest))
    return log_weight


def plain_weights(log_weight: Floats) -> Floats:
    """rho, of any shape."""
    weights: Floats = np.exp(np.minimum(log_weight, LARGEST_LOG))
    return weights


def relative_weights(log_weight: Floats) -> Floats:
    """Rho / max_e rho, shape (E, ...): for estimators that divide by the sum of the weights, which never is 0 so."""
    weights: Floats = np.exp(log_weight - log_weight.max(axis=0))
    return weights


def importance_sampling(decisions: Decisions, log_weight: Floats) -> Terms:
    """IS = mean_e rho_{K-1} G, Thomas 2015, Eq. 3.3; unbiased."""
    return plain_mean(plain_weights(log_weight[:, -1]) * decisions.compute_returns())


def weighted_importance_sampling(decisions: Decisions, log_weight: Floats) -> Terms:
    """WIS = sum_e rho_{K-1} G / sum_e rho_{K-1}, Thomas 2015, section 3.6; consistent."""
    last = relative_weights(log_weight[:, -1:])
    return Terms(last * decisions.compute_returns()[:, None], last)


def per_decision_importance_sampling(decisions: Decisions, log_weight: Floats) -> Terms:
    """PDIS = mean_e sum_k gamma^k rho_k r_k, Precup et al. 2000: a reward needs no weights of later decisions."""
    return plain_mean((decisions.past_discount * plain_weights(log_weight) * decisions.reward).sum(axis=1))


def weighted_per_decision_importance_sampling(decisions: Decisions, log_weight: Floats) -> Terms:
    """WPDIS = sum_k sum_e gamma^k rho_k r_k / sum_e rho_k, Thomas 2015, section 3.8; consistent."""
    weights = relative_weights(log_weight)
    return Terms(decisions.past_discount * weights * decisions.reward, weights)


def compute_effective_size(log_weight: Floats) -> float:
    """(sum_e w)^2 / sum_e w^2: as many episodes of the policy itself would say as much; 1 to E, of log weights (E,)."""
    weights = relative_weights(log_weight)
    return float(weights.sum() ** 2 / (weights**2).sum())


def compute_top_share(log_weight: Floats) -> float:
    """Share of all weight that the heaviest episode has, of log weights (E,); 1 / E to 1."""
    return float(1.0 / relative_weights(log_weight).sum())
