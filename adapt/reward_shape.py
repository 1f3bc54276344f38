"""What the rewards of a family of tasks have in common: which axes they depend on, and how large a rewarded region is.

The train tasks' rewards of logged states tell both. On the axes that rewards depend on, the share of states that are
rewarded falls with the distance from the middle of the region. So these axes are chosen one by one, each the one that
explains the rewards best, until another explains them no better. An axis is one of the observation, or a linear
discriminant: a combination along which the states that one task rewards lie close together, while all states are spread
(Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7, 1936). Discriminants alone do
not tell which axes count: of an arm that is at a place the joints are nearly known, too, and a region in more axes than
the rewards depend on is searched much longer. No goal of a train task is kept: only this shape.

Axes: N states, O observation, G tasks, D axes that tell tasks apart, B bins of distance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .networks import Array

BINS = 24
"""B."""
LEAST_STATES = 10
"""Rewarded states of a task that is learned from."""
LEAST_GAIN = 1.0
"""Least precision that a task adds along a discriminant that is considered, over that of all states."""
LEAST_SHARE = 1e-6
"""Of rewarded states in a bin, and of others: one state in an empty bin is no proof."""
BEST_OF_OTHERS = 0.95
"""Quantile of the rewards of states that are not rewarded: a skill that brings more than so many of these was paid."""
CERTAIN = 0.95
"""Largest share: one visit does not exclude a place for ever."""
SURPRISING = 1e-3
"""Least share where a reward was seen."""


@dataclass(frozen=True, slots=True)
class RewardShape:
    """The share of states that are rewarded, by their distance from the middle of the rewarded region."""

    axes: Array
    """(D, O): |axes (s - c)| is the distance."""
    share: Array
    """(B,): does not increase; 0 beyond the last bin."""
    width: float
    """Of a bin, > 0."""
    low: float
    """Reward of a step that is not rewarded; where these differ, of one of the best."""
    high: float
    """Reward of a step that is; where these differ, their median."""

    def look_up(self, state: Array, middle: Array) -> Array:
        """Share of rewarded states, (r, M), in states (r, O) of tasks whose regions have their middle in (M, O)."""
        return self.look_up_points(state @ self.axes.T, middle @ self.axes.T)

    def look_up_points(self, x: Array, y: Array) -> Array:
        """The same, of states and middles on the axes that tell tasks apart, (r, D) and (M, D)."""
        squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2.0 * (x @ y.T)
        index = np.sqrt(np.maximum(squared, 0.0)) / np.float32(self.width)
        share: Array = np.append(self.share, np.float32(0.0))[np.minimum(index, BINS).astype(np.int64)]
        return share

    def is_rewarded(self, reward: Array, steps: int | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a sum of rewards over so many steps holds one of a rewarded step, at least by half.

        Args:
            reward: Sums, (r,).
            steps: Of each sum, (r,), or of all of them; a skill that the end of an episode cuts off has fewer.
        """
        rewarded: NDArray[np.bool_] = reward - self.low * steps > 0.5 * (self.high - self.low)
        return rewarded

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As a bundle holds it."""
        scale = np.array([self.width, self.low, self.high], np.float32)
        return {"reward.axes": self.axes, "reward.share": self.share, "reward.scale": scale}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> RewardShape:
        """What `to_arrays` gave.

        Raises:
            BundleError: A part is missing or wrong.
        """
        try:
            axes, share = arrays["reward.axes"], arrays["reward.share"]
            width, low, high = (float(value) for value in arrays["reward.scale"])
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(
                f"map of logs: expected the shape of rewards, got none ({error}); map the logs again"
            ) from error
        good = axes.ndim == 2 and share.shape == (BINS,) and bool(np.isfinite(axes).all())
        if not (good and 0.0 < width < np.inf and low < high and bool(((share >= 0) & (share <= 1)).all())):
            raise BundleError(
                f"map of logs: expected {BINS} shares in [0, 1] and a positive width, got {share.shape} and {width}; "
                "map the logs again"
            )
        return RewardShape(axes, share, width, low, high)


def fit_reward_shape(state: Array, reward: Array, between: Callable[[], None] = lambda: None) -> RewardShape | None:
    """The shape of the rewards of several tasks; None where none of them rewards enough of the states.

    A state is rewarded where its reward is nearer to the highest of all than to what is usual, which is the median. So
    a penalty, however large, makes no other state a rewarded one; and of a reward that falls with the distance the best
    part counts. Where more than half of the states have the highest reward, the lowest is what is usual.

    Args:
        state: (N, O).
        reward: Of each state in each task, finite, (N, G).
        between: Called again and again, as with many axes it takes minutes.
    """
    high, usual = reward.max(), np.quantile(reward, 0.5, method="lower")
    usual = reward.min() if usual == high else usual
    rewarded = reward > usual + 0.5 * (high - usual)
    told = (rewarded.sum(axis=0) >= LEAST_STATES) & ~rewarded.all(axis=0)
    if not told.any():
        return None
    low = float(np.quantile(reward[~rewarded], BEST_OF_OTHERS, method="lower"))
    high = float(np.quantile(reward[rewarded], 0.5, method="lower"))
    rewarded = rewarded[:, told]
    candidates = np.concatenate([np.eye(state.shape[1]), _find_discriminants(state, rewarded)])
    kept: list[int] = []
    best = -np.inf
    while len(kept) < state.shape[1]:
        others = [index for index in range(len(candidates)) if index not in kept]
        explained = []
        for index in others:
            between()
            explained.append(_fit(state, rewarded, candidates[[*kept, index]])[0])
        if max(explained) <= best:
            break
        best = max(explained)
        kept.append(others[int(np.argmax(explained))])
    _, axes, share, width = _fit(state, rewarded, candidates[kept])
    return RewardShape(axes, share, width, low, high)


def _find_discriminants(state: Array, rewarded: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Directions (D, O) along which rewarded states lie close together: generalised eigenvectors of the spreads."""
    root = np.linalg.inv(np.linalg.cholesky(_covariance(state)))
    values, vectors = np.linalg.eigh(root @ _covariance(_center(state, rewarded)[1]) @ root.T)
    found: NDArray[np.float64] = (vectors.T @ root)[1.0 / np.maximum(values, 1e-9) - 1.0 >= LEAST_GAIN]
    return found


def _center(state: Array, rewarded: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Mean of the states that each task rewards, (G, O), and their offsets from it, one below the other."""
    middle = np.stack([state[column].mean(axis=0) for column in rewarded.T])
    return middle, np.concatenate([state[column] - centre for column, centre in zip(rewarded.T, middle, strict=True)])


def _fit(
    state: Array, rewarded: NDArray[np.bool_], directions: NDArray[np.float64]
) -> tuple[float, Array, Array, float]:
    """Log-likelihood of the rewards by distance along directions (D, O), and the axes, shares and width of a bin."""
    point = state @ directions.T.astype(np.float32)
    middle, within = _center(point, rewarded)
    scale = np.linalg.inv(np.linalg.cholesky(_covariance(within)))
    point, middle = ((place @ scale.T).astype(np.float32) for place in (point, middle))
    squared = (point**2).sum(axis=1)[:, None] + (middle**2).sum(axis=1) - 2.0 * (point @ middle.T)
    distance = np.sqrt(np.maximum(squared, 0.0))
    width = max(float(np.quantile(distance[rewarded], 0.999)) * 1.2 / BINS, 1e-9)
    index = np.minimum(distance / np.float32(width), BINS).astype(np.int64)
    count = np.bincount(index.ravel(), minlength=BINS + 1)
    paid = np.bincount(index[rewarded], minlength=BINS + 1)
    chance = np.clip(paid / np.maximum(count, 1), LEAST_SHARE, 1.0 - LEAST_SHARE)
    explained = float((paid * np.log(chance) + (count - paid) * np.log1p(-chance)).sum())
    share = fit_falling_share(paid[:BINS], count[:BINS])
    return explained, (scale @ directions).astype(np.float32), share, width


def fit_falling_share(paid: NDArray[np.int64], count: NDArray[np.int64]) -> Array:
    """The likeliest shares that do not increase from bin to bin, (B,): neighbours that do so are pooled.

    Ayer, Brunk, Ewing, Reid, Silverman, "An Empirical Distribution Function for Sampling with Incomplete Information",
    Annals of Mathematical Statistics 26, 1955. So a single state that was not rewarded in an inner bin says little
    beside many rewarded ones farther out. An empty bin is like the one before it; before the first state all are
    rewarded.

    Args:
        paid: Rewarded states in each bin, (B,).
        count: All states in it, (B,).
    """
    blocks: list[tuple[int, int, int]] = []  # rewarded states, all states, bins
    for here, all_here in zip(paid.tolist(), count.tolist(), strict=True):
        rewarded, states, bins = (here, all_here, 1) if all_here or blocks else (1, 1, 1)
        while blocks and rewarded * blocks[-1][1] >= blocks[-1][0] * states:
            before = blocks.pop()
            rewarded, states, bins = rewarded + before[0], states + before[1], bins + before[2]
        blocks.append((rewarded, states, bins))
    return np.concatenate([np.full(bins, rewarded / states, np.float32) for rewarded, states, bins in blocks])


def make_default_shape(metric: Array) -> RewardShape:
    """The shape where no train task tells one: what is one skill away, see `log_map.compute_metric`, pays alike."""
    share = np.clip(2.0 - np.arange(BINS) / (BINS / 2), 0.0, 1.0).astype(np.float32)
    return RewardShape(metric, share, 2.0 / BINS, 0.0, 1.0)


def _covariance(state: Array) -> NDArray[np.float64]:
    """(O, O), with a little added to every axis, so that a constant one can be divided by."""
    covariance = np.cov(state.T.astype(np.float64)).reshape(state.shape[1], -1)
    return covariance + np.diag(1e-6 * np.diag(covariance) + 1e-9)
