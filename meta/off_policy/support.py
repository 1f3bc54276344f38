"""Whether the log holds what the policy would do: no estimator knows what happens where nobody was.

Axes: N logged decisions, P features of a decision (observation and choice, standardised), M draws of the policy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

NEIGHBOURS = 5
"""k: the distance to the k-th neighbour does not hang on a single logged decision."""
USUAL = 0.95
"""A decision is within the data if it is as near to them as this share of logged decisions of other episodes is."""
MOST = 2000
"""Decisions of each half that are looked at."""


class Support(NamedTuple):
    """How near the policy's decisions are to logged ones."""

    share: float
    """Share of the policy's decisions that are within the data."""
    logged: NDArray[np.float64]
    """Distance of logged decisions of other episodes to the data at `QUANTILES`, standard deviations."""
    policy: NDArray[np.float64]
    """The same of the policy's."""


QUANTILES = (0.5, 0.9, 0.99)


def compute_support(
    observation: NDArray[np.float32],
    choice: NDArray[np.float32],
    drawn: NDArray[np.float32],
    episode: NDArray[np.int64],
    rng: np.random.Generator,
) -> Support:
    """Distances of (s, a) to the k-th neighbour in one half of the episodes, for s of the other half.

    Axes are standardised by the log's own spread; an axis of observations weighs as much as an axis of choices.

    Args:
        observation: Shape (N, O).
        choice: As logged, shape (N, Z); one-hot where it is one of finitely many.
        drawn: What the policy would choose there, shape (N, Z).
        episode: Of each decision, shape (N,).
        rng: Draws the halves, and decisions where there are many.
    """
    numbers = rng.permutation(np.unique(episode))
    first = np.isin(episode, numbers[: max(1, len(numbers) // 2)])
    if first.all():  # a single episode: its decisions in turns
        first = np.arange(len(episode)) % 2 == 0
    data, asked = (_some(np.flatnonzero(half), rng) for half in (first, ~first))
    spread = np.concatenate([_spread(observation), _spread(choice)])
    pairs = np.concatenate([observation, choice], axis=1) / spread
    ours = np.concatenate([observation, drawn], axis=1)[asked] / spread
    k = min(NEIGHBOURS, len(data))
    tree = cKDTree(pairs[data])
    logged, policy = (tree.query(points, k=[k])[0][:, 0] for points in (pairs[asked], ours))
    # rounding must not put a choice that is the logged one outside
    usual = np.quantile(logged, USUAL) * (1.0 + 1e-6)
    return Support(float((policy <= usual).mean()), np.quantile(logged, QUANTILES), np.quantile(policy, QUANTILES))


def _some(index: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return index if len(index) <= MOST else rng.choice(index, MOST, replace=False)


def _spread(values: NDArray[np.float32]) -> NDArray[np.float64]:
    std = values.astype(np.float64).std(axis=0)
    return np.where(std > 1e-9, std, 1.0)
