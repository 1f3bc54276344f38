"""What the rewards of a family of tasks have in common: which axes they depend on, and how large a rewarded region is.

The train tasks' rewards of logged states tell both. Along some axes the states that one task rewards lie close
together, while all states are spread: these axes tell tasks apart (linear discriminants, Fisher, "The use of multiple
measurements in taxonomic problems", Annals of Eugenics 7, 1936). On them, the share of states that are rewarded falls
with the distance from the middle of the region. No goal of a train task is kept: only this shape.

Axes: N states, O observation, G tasks, D axes that tell tasks apart, B bins of distance.
"""

from __future__ import annotations

from collections.abc import Mapping
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
"""Least precision that a task adds along an axis, over that of all states."""
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
    """Reward of a step that is not rewarded."""
    high: float
    """Reward of a step that is."""

    def look_up(self, state: Array, middle: Array) -> Array:
        """Share of rewarded states, (r, M), in states (r, O) of tasks whose regions have their middle in (M, O)."""
        return self.look_up_points(state @ self.axes.T, middle @ self.axes.T)

    def look_up_points(self, x: Array, y: Array) -> Array:
        """The same, of states and middles on the axes that tell tasks apart, (r, D) and (M, D)."""
        squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2.0 * (x @ y.T)
        index = np.sqrt(np.maximum(squared, 0.0)) / np.float32(self.width)
        share: Array = np.append(self.share, np.float32(0.0))[np.minimum(index, BINS).astype(np.int64)]
        return share

    def is_rewarded(self, reward: Array, steps: int) -> NDArray[np.bool_]:
        """Whether a sum of rewards over so many steps holds one of a rewarded step, at least by half."""
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


def fit_reward_shape(state: Array, reward: Array) -> RewardShape | None:
    """The shape of the rewards of several tasks; None where none of them rewards enough of the states.

    Args:
        state: (N, O).
        reward: Of each state in each task, (N, G).
    """
    low, high = float(reward.min()), float(reward.max())
    rewarded = reward > 0.5 * (low + high)
    rewarded = rewarded[:, (rewarded.sum(axis=0) >= LEAST_STATES) & ~rewarded.all(axis=0)]
    if not low < high or not rewarded.shape[1]:
        return None
    middle = np.stack([state[column].mean(axis=0) for column in rewarded.T])
    within = np.concatenate([state[column] - centre for column, centre in zip(rewarded.T, middle, strict=True)])
    spread = _covariance(state)
    # generalised eigenvectors of the spread within a task over that of all states
    root = np.linalg.inv(np.linalg.cholesky(spread))
    values, vectors = np.linalg.eigh(root @ _covariance(within) @ root.T)
    gain = 1.0 / np.maximum(values, 1e-9) - 1.0
    kept = gain >= min(LEAST_GAIN, float(gain.max()))
    axes = ((vectors.T @ root)[kept] * np.sqrt(np.maximum(gain[kept], 1e-9))[:, None]).astype(np.float32)
    point, centre = state @ axes.T, middle @ axes.T
    distance = np.sqrt(((point[:, None] - centre) ** 2).sum(axis=-1))
    width = float(np.quantile(distance[rewarded], 0.999)) * 1.2 / BINS
    index = np.minimum(distance / max(width, 1e-9), BINS).astype(np.int64)
    count = np.bincount(index.ravel(), minlength=BINS + 1)[:BINS]
    paid = np.bincount(index[rewarded], minlength=BINS + 1)[:BINS]
    share = np.minimum.accumulate(np.where(count > 0, paid / np.maximum(count, 1), 1.0)).astype(np.float32)
    return RewardShape(axes, share, max(width, 1e-9), low, high)


def make_default_shape(metric: Array) -> RewardShape:
    """The shape where no train task tells one: what is one skill away, see `log_map.compute_metric`, pays alike."""
    share = np.clip(2.0 - np.arange(BINS) / (BINS / 2), 0.0, 1.0).astype(np.float32)
    return RewardShape(metric, share, 2.0 / BINS, 0.0, 1.0)


def _covariance(state: Array) -> NDArray[np.float64]:
    """(O, O), with a little added to every axis, so that a constant one can be divided by."""
    covariance = np.cov(state.T.astype(np.float64)).reshape(state.shape[1], -1)
    return covariance + np.diag(1e-6 * np.diag(covariance) + 1e-9)
