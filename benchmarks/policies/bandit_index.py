"""Policies for Bernoulli bandits that plan: the finite-horizon Gittins index, and Bayes-optimal play.

Sources: Gittins, "Bandit Processes and Dynamic Allocation Indices", Journal of the Royal Statistical Society B 41,
1979; with a finite horizon in place of a discount, Kaufmann, "On Bayesian Index Policies for Sequential Resource
Allocation", Annals of Statistics 46, 2018, section 2. The index of an arm is the reward per pull that makes one
indifferent between pulling it as long as one likes and not at all, with so many pulls left. It is Bayes-optimal for one
unknown arm, and close to it for several.

Axes: L rewards per pull on a grid, m pulls left, s successes, f failures of an arm, R rows, K arms.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from supple.errors import ConfigError

from .bandit_policies import Choose, Double
from .oracles import bernoulli_bayes_choice

GRID = 257
"""Rewards per pull between 0 and 1 at which a stopped arm is valued; the index is interpolated between two of them,
and good to 0.002."""
MAX_PULLS = 200
"""Longest horizon: time and memory grow with its cube."""


@cache
def gittins_indices(pulls: int) -> Double:
    """The index of an arm under a uniform prior, shape (n, n, n): [m - 1, s, f]; 0 where s or f is above n - m.

    With V_0 = 0, Q_m = p - x + p V_{m-1}(s + 1, f) + (1 - p) V_{m-1}(s, f + 1), V_m = max(0, Q_m) and the posterior
    mean p = (s + 1) / (s + f + 2), the index is the x at which Q_m = 0.

    Args:
        pulls: Horizon, n; 1 .. 200.

    Raises:
        ConfigError: The horizon is out of its range.
    """
    if not 1 <= pulls <= MAX_PULLS:
        raise ConfigError(f"gittins pulls: expected 1 .. {MAX_PULLS}, got {pulls}; use another policy")
    paid = np.linspace(0.0, 1.0, GRID)
    index = np.zeros((pulls, pulls, pulls))
    value = np.zeros((GRID, pulls + 1, pulls + 1))
    for left in range(1, pulls + 1):
        side = pulls - left + 1
        seen = np.arange(side)
        mean = (seen[:, None] + 1.0) / (seen[:, None] + seen + 2.0)
        quality = value[:, :-1, 1:] * (1.0 - mean) + value[:, 1:, :-1] * mean
        quality += mean - paid[:, None, None]
        above = np.count_nonzero(quality > 0.0, axis=0)[None]  # quality falls with the reward per pull
        upper, lower = (np.take_along_axis(quality, place, axis=0)[0] for place in (above - 1, above))
        index[left - 1, :side, :side] = (above[0] - 1 + upper / (upper - lower)) / (GRID - 1)
        value = np.maximum(quality, 0.0)
    index.setflags(write=False)
    return index


def make_gittins(pulls: int) -> Choose:
    """The arm of the largest finite-horizon Gittins index, in episodes of this many pulls; see `gittins_indices`.

    Raises:
        ConfigError: As `gittins_indices`.
    """
    index = gittins_indices(pulls)

    def choose(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
        won, lost = successes.astype(np.int64), failures.astype(np.int64)
        left = pulls - (won + lost).sum(axis=1, keepdims=True)
        arms: NDArray[np.int64] = index[left - 1, won, lost].argmax(axis=1)
        return arms

    return choose


def make_bayes_optimal(pulls: int) -> Choose:
    """The arm that is best if all later choices are, for short horizons only; see `bernoulli_bayes_choice`."""

    def choose(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
        arms = np.zeros(len(successes), np.int64)
        for row, pairs in enumerate(np.stack([successes, failures], axis=-1).astype(np.int64).tolist()):
            counts = [(won, lost) for won, lost in pairs]
            ordered = tuple(sorted(counts))
            left = pulls - sum(won + lost for won, lost in counts)
            arms[row] = counts.index(ordered[bernoulli_bayes_choice(ordered, left).arm])
        return arms

    return choose
