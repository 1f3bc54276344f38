"""Policies for Bernoulli bandits that need no training, to compare a learner with.

Sources: Thompson, "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two
Samples", Biometrika 25, 1933, with uniform priors; Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the
Multiarmed Bandit Problem", Machine Learning 47, 2002, Figure 1 (UCB1); May, Korda, Lee and Leslie, "Optimistic Bayesian
Sampling in Contextual-Bandit Problems", Journal of Machine Learning Research 13, 2012, section 3 (optimistic Thompson
sampling). Duan et al., "RL2", 2016, section 3.1 tune the scale of UCB1's bonus, which is 1 in the original.

Axes: R rows, K arms.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from supple.robots.robot import Float, RobotBatch

Double = NDArray[np.float64]
Choose = Callable[[Double, Double, np.random.Generator], NDArray[np.int64]]
"""Arms to pull, shape (R,), from the successes and failures of each arm, both of shape (R, K)."""


def choose_greedy(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
    """The arm of the largest posterior mean (s + 1) / (s + f + 2) under a uniform prior."""
    arms: NDArray[np.int64] = ((successes + 1.0) / (successes + failures + 2.0)).argmax(axis=1)
    return arms


def choose_thompson(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
    """The arm that is best in one draw from the posterior, Beta(s + 1, f + 1) for each arm."""
    arms: NDArray[np.int64] = rng.beta(successes + 1.0, failures + 1.0).argmax(axis=1)
    return arms


def choose_optimistic_thompson(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
    """As `choose_thompson`, but no draw counts for less than its posterior mean (s + 1) / (s + f + 2)."""
    drawn = rng.beta(successes + 1.0, failures + 1.0)
    arms: NDArray[np.int64] = np.maximum(drawn, (successes + 1.0) / (successes + failures + 2.0)).argmax(axis=1)
    return arms


def make_ucb1(scale: float = 1.0) -> Choose:
    """UCB1: each arm once, then the arm of the largest s / n + scale sqrt(2 ln t / n) after t pulls, n of that arm."""

    def choose(successes: Double, failures: Double, rng: np.random.Generator) -> NDArray[np.int64]:
        pulls = successes + failures
        total = np.maximum(pulls.sum(axis=1, keepdims=True), 1.0)
        tried = np.maximum(pulls, 1.0)
        bound = successes / tried + scale * np.sqrt(2.0 * np.log(total) / tried)
        arms: NDArray[np.int64] = np.where(pulls == 0.0, np.inf, bound).argmax(axis=1)
        return arms

    return choose


def play_bandit(batch: RobotBatch, goals: Float, choose: Choose, rng: np.random.Generator) -> Double:
    """Plays one episode in every row of a Bernoulli bandit; returns the sums of rewards, shape (R,).

    Args:
        batch: The bandits.
        goals: Their success probabilities, shape (R, K).
        choose: The policy.
        rng: Source of the rewards and of the policy's draws.
    """
    rows = np.arange(batch.rows)
    batch.reset(rows, goals, rng)
    successes, failures = (np.zeros(goals.shape) for _ in range(2))
    for _ in range(batch.spec.episode_steps):
        arms = choose(successes, failures, rng)
        reward = batch.step(rows, arms[:, None].astype(np.float32)).reward
        successes[rows, arms] += reward
        failures[rows, arms] += 1.0 - reward
    total: Double = successes.sum(axis=1)
    return total
