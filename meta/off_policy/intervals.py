"""95 % intervals of off-policy estimates over episodes, which are independent; steps of an episode are not.

An estimate is sum_c mean_e n[e, c] / mean_e d[e, c] (`importance.Terms`). Its influence function gives the variance
(the delta method): psi_e = sum_c (n[e, c] - R_c d[e, c]) / mean d_c, with R_c = mean n_c / mean d_c, and the standard
error sd(psi) / sqrt(E). Importance weights are skewed, so that with them neither estimate +- t standard errors nor the
percentile bootstrap hold 95 %. `compute_bootstrap_t` takes the quantiles of (estimate* - estimate) / standard error*
over bootstrapped sets of episodes instead. Which estimator has which interval is said in `estimates.py`.

Measured coverage of all three, on tabular MDPs of known value: `docs/replay-measured.md`.

Sources: Efron, "Nonparametric Standard Errors and Confidence Intervals", Canadian Journal of Statistics 1981, and
Hall, "Theoretical Comparison of Bootstrap Confidence Intervals", Annals of Statistics 1988 (the bootstrap-t);
Owen, "Monte Carlo theory, methods and examples", 2013, chapter 9 (the delta method for ratios of weighted sums).

Axes: E episodes, C columns, B bootstrap samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from .decisions import Floats
from .importance import Terms

LEVEL = 0.95
SAMPLES = 999
"""B; with 999 the ends of a 95 % interval are order statistics."""
LEAST_WEIGHT = 1e-9
"""Weight of a bootstrapped column, as a share of that of all episodes, below which it counts as none."""
CHUNK = 2**24
"""Numbers of a table (E, B) at once, which bounds the memory."""


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard error."""


def compute_influence(terms: Terms) -> Floats:
    """psi, shape (E,), see the module; it sums to 0."""
    below = terms.denominator.mean(axis=0)
    ratio = terms.numerator.mean(axis=0) / below
    psi: Floats = ((terms.numerator - ratio * terms.denominator) / below).sum(axis=1)
    return psi


def compute_standard_error(terms: Terms) -> float:
    """sqrt(sum_e psi_e^2 / (E (E - 1))); 0 for a single episode, of which it says nothing."""
    psi = compute_influence(terms)
    return float(np.sqrt((psi**2).sum() / (len(psi) * max(len(psi) - 1, 1))))


def compute_delta(terms: Terms) -> Estimate:
    """The estimate +- t standard errors, t of E - 1 degrees of freedom."""
    value, error = terms.value, compute_standard_error(terms)
    half = float(stdtrit(max(len(terms.numerator) - 1, 1), 0.5 + LEVEL / 2.0)) * error
    return Estimate(value, value - half, value + half, error)


def compute_percentile(terms: Terms, rng: np.random.Generator, samples: int = SAMPLES) -> Estimate:
    """Quantiles of the estimates of bootstrapped episodes."""
    values, _ = _resample(terms, rng, samples)
    low, high = np.quantile(values, [0.5 - LEVEL / 2.0, 0.5 + LEVEL / 2.0])
    return Estimate(terms.value, float(low), float(high), compute_standard_error(terms))


def compute_bootstrap_t(terms: Terms, rng: np.random.Generator, samples: int = SAMPLES) -> Estimate:
    """[v - q(0.975) s, v - q(0.025) s], q the quantiles of (v* - v) / s* over bootstrapped episodes.

    Args:
        terms: Of at least one episode.
        rng: Draws the episodes.
        samples: B.
    """
    value, error = terms.value, compute_standard_error(terms)
    values, errors = _resample(terms, rng, samples)
    known = errors > 0.0  # a sample of one episode, drawn E times, says nothing
    if error == 0.0 or not known.any():
        return Estimate(value, value, value, error)
    pivot = (values[known] - value) / errors[known]
    low, high = np.quantile(pivot, [0.5 - LEVEL / 2.0, 0.5 + LEVEL / 2.0])
    return Estimate(value, value - float(high) * error, value - float(low) * error, error)


def _resample(terms: Terms, rng: np.random.Generator, samples: int) -> tuple[Floats, Floats]:
    """Estimates and standard errors of bootstrapped sets of episodes, each (B,)."""
    episodes = len(terms.numerator)
    parts = []
    at_once = max(1, CHUNK // episodes)
    for start in range(0, samples, at_once):
        count = min(at_once, samples - start)
        drawn = rng.multinomial(episodes, np.full(episodes, 1.0 / episodes), count).astype(np.float64)
        below = drawn @ terms.denominator / episodes
        # all weight of a column may lie in episodes that were not drawn: the column then says nothing
        some = below > LEAST_WEIGHT * terms.denominator.mean(axis=0)
        inverse = np.divide(1.0, below, out=np.zeros_like(below), where=some)
        ratio = drawn @ terms.numerator / episodes * inverse
        psi = terms.numerator @ inverse.T - terms.denominator @ (ratio * inverse).T
        square = (drawn.T * psi**2).sum(axis=0)
        parts.append((ratio.sum(axis=1), np.sqrt(square / (episodes * max(episodes - 1, 1)))))
    values, errors = (np.concatenate(part) for part in zip(*parts, strict=True))
    return values, errors
