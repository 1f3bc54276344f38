"""Logged decisions side by side: what all estimators read.

A decision is a low-level step at the raw level, and a skill of H steps at the skill level, where an episode is one of a
semi-Markov decision process (Sutton, Precup, Singh, "Between MDPs and Semi-MDPs", Artificial Intelligence 1999).
Rewards within the skill are summed with their discounts, and what follows is discounted by gamma^H. So both levels
estimate the same number, the discounted return.

Axes: E episodes, K decisions of the longest episode, H low-level steps of a decision, T low-level steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Decisions(NamedTuple):
    """Rewards of logged episodes; a shorter episode is padded with decisions that pay nothing."""

    reward: Floats
    """Discounted sum over the steps of the decision, shape (E, K); 0 in the padding."""
    discount: Floats
    """Of what follows the decision, gamma^steps, shape (E, K)."""
    length: NDArray[np.int64]
    """Decisions taken, shape (E,), > 0."""
    terminated: Bools
    """Nothing follows the last decision, shape (E,); else the time limit or the end of the recording cut it off."""

    @property
    def valid(self) -> Bools:
        """Whether it is a decision, and not padding, shape (E, K)."""
        taken: Bools = np.arange(self.reward.shape[1]) < self.length[:, None]
        return taken

    @property
    def past_discount(self) -> Floats:
        """Product of the discounts of the decisions before, gamma^t at the raw level, shape (E, K)."""
        product = np.cumprod(self.discount, axis=1)
        return np.concatenate([np.ones((len(product), 1)), product[:, :-1]], axis=1)

    def compute_returns(self) -> Floats:
        """G = sum_k (product of the discounts before k) r_k, shape (E,)."""
        returns: Floats = (self.past_discount * self.reward).sum(axis=1)
        return returns

    def take(self, episodes: NDArray[np.int64]) -> Decisions:
        """Some of the episodes, in this order; shape of `episodes` (e,)."""
        return Decisions(
            self.reward[episodes], self.discount[episodes], self.length[episodes], self.terminated[episodes]
        )


def make_decisions(
    reward: Floats, length: NDArray[np.int64], terminated: Bools, *, discount: float, horizon: int = 1
) -> Decisions:
    """Decisions of H steps each: R_k = sum_{j < H} gamma^j r_{kH + j}, and gamma^(steps taken) for what follows.

    The last decision of an episode may be shorter.

    Args:
        reward: Of each low-level step, shape (E, T).
        length: Low-level steps of each episode, shape (E,), > 0; what stands in `reward` behind them is not read.
        terminated: Shape (E,).
        discount: gamma of one low-level step, 0 < gamma <= 1.
        horizon: H.

    Raises:
        SpecError: An episode has no step, or more than there are rewards; or a reward is not finite.
    """
    episodes, steps = reward.shape
    if not len(length) or length.min() < 1 or length.max() > steps:
        raise SpecError(
            f"decisions: expected episodes of 1 to {steps} steps, got {length.tolist()!s:.80}; correct them"
        )
    count = -(-steps // horizon)
    padded = np.zeros((episodes, count * horizon))
    padded[:, :steps] = np.where(np.arange(steps) < length[:, None], reward, 0.0)
    if not np.isfinite(padded).all():
        episode, step = np.argwhere(~np.isfinite(padded))[0]
        raise SpecError(
            f"decisions: expected finite rewards, got {padded[episode, step]} in step {step} of episode {episode}; "
            "clean the log"
        )
    within = padded.reshape(episodes, count, horizon) * discount ** np.arange(horizon)
    taken = np.clip(length[:, None] - horizon * np.arange(count), 0, horizon)
    return Decisions(within.sum(axis=2), discount ** taken.astype(np.float64), -(-length // horizon), terminated)


def add_tail(decisions: Decisions, value: Floats) -> Decisions:
    """Episodes that were cut off go on with V(s_K): its discounted value is added to the last reward.

    Truncation bootstraps and termination does not, in every estimator alike, so that all of them estimate the return
    without a time limit, as fitted Q evaluation does.

    Args:
        decisions: As logged.
        value: V of the state in which each episode was cut off, shape (E,); not read where the episode terminated.
    """
    row, last = np.arange(len(value)), decisions.length - 1
    reward = decisions.reward.copy()
    reward[row, last] += np.where(decisions.terminated, 0.0, decisions.discount[row, last] * value)
    return decisions._replace(reward=reward)
