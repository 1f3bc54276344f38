"""All estimates of one policy from one log, with their intervals, and what the verdict about them rests on.

Axes: E episodes, K decisions of the longest episode, S members of fitted Q evaluation, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from .decisions import Decisions, Floats, add_tail
from .doubly_robust import doubly_robust, weighted_doubly_robust
from .fitted_q import FittedQ
from .importance import (
    Terms,
    compute_effective_size,
    compute_log_weights,
    compute_top_share,
    importance_sampling,
    per_decision_importance_sampling,
    weighted_importance_sampling,
    weighted_per_decision_importance_sampling,
)
from .intervals import LEVEL, Estimate, compute_bootstrap_t, compute_delta
from .verdict import Diagnostics

FQE, DR, WDR = "FQE", "DR", "WDR"
BY_DELTA = (DR, WDR)
"""Estimators with the interval of the delta method."""


class Cleared(NamedTuple):
    """Values of the episodes by the members that did not see them."""

    q: Floats
    """Of logged choices, shape (E, K)."""
    v: Floats
    """Of the states in which they were taken, shape (E, K)."""
    tail: Floats
    """V of the state in which each episode ended, shape (E,)."""


class Weights(NamedTuple):
    """How far importance weights can be relied on."""

    effective_size: float
    """Episodes of the policy that the log is worth: mean over decisions of the effective size of their weights rho_k,
    each decision weighed by its discount."""
    whole_size: float
    """Effective size of the weights of whole episodes."""
    top_share: float
    """Share of the weight of whole episodes that the heaviest has."""


def clear_folds(fitted: FittedQ, folds: NDArray[np.int64], decisions: Decisions) -> Cleared:
    """Q and V of each episode by the member that left its fold out; the members are those of `draw_members`.

    A member that diverged has values of 0: its episodes then have no model, which is unbiased.
    """
    row = np.arange(len(folds))
    v = fitted.v[folds, row]
    return Cleared(fitted.q[folds, row], v[:, :-1], v[row, decisions.length])


def compute_terms(
    decisions: Decisions, log_ratio: Floats, cleared: Cleared, largest: float = np.inf
) -> dict[str, Terms]:
    """The terms of every estimator that reads densities, by its name.

    Args:
        decisions: As logged.
        log_ratio: log pi - log b of each decision, shape (E, K).
        cleared: Values of what was cut off, and the model of the doubly robust estimates.
        largest: Weights are cut to this, see `compute_log_weights`.
    """
    whole = add_tail(decisions, cleared.tail)
    log_weight = compute_log_weights(log_ratio, decisions.valid, largest)
    return {
        "IS": importance_sampling(whole, log_weight),
        "WIS": weighted_importance_sampling(whole, log_weight),
        "PDIS": per_decision_importance_sampling(whole, log_weight),
        "WPDIS": weighted_per_decision_importance_sampling(whole, log_weight),
        DR: doubly_robust(whole, log_weight, cleared.q, cleared.v),
        WDR: weighted_doubly_robust(whole, log_weight, cleared.q, cleared.v),
    }


def measure_weights(decisions: Decisions, log_ratio: Floats) -> Weights:
    """See `Weights`; the arguments are those of `compute_terms`."""
    log_weight = compute_log_weights(log_ratio, decisions.valid)
    sizes = np.array([compute_effective_size(column) for column in log_weight.T])
    worth = (decisions.past_discount * decisions.valid).mean(axis=0)
    return Weights(
        float((sizes * worth).sum() / worth.sum()),
        compute_effective_size(log_weight[:, -1]),
        compute_top_share(log_weight[:, -1]),
    )


def estimate_fitted_q(fitted: FittedQ, members: NDArray[np.float32], folds: int) -> Estimate:
    """Mean V(s_0) of the member that saw all episodes, +- t standard deviations of the bootstrapped members.

    A bootstrapped member's own initial states are drawn with its episodes.

    Args:
        fitted: Of these members.
        members: See `draw_members`, shape (S, E).
        folds: F.
    """
    initial = (fitted.v[:, :, 0] * members).sum(axis=1) / members.sum(axis=1)
    value, drawn = float(initial[folds]), initial[folds + 1 :]
    drawn = drawn[~fitted.diverged[folds + 1 :]]
    if len(drawn) < 2:
        return Estimate(value, value, value, 0.0)
    error = float(drawn.std(ddof=1))
    half = float(stdtrit(len(drawn) - 1, 0.5 + LEVEL / 2.0)) * error
    return Estimate(value, value - half, value + half, error)


def compute_tail_factors(
    decisions: Decisions,
    log_ratio: Floats,
    cleared: Cleared,
    fitted: FittedQ,
    members: NDArray[np.float32],
    largest: float = np.inf,
) -> dict[str, float]:
    """Factor by which the value of what was cut off widens the interval of each estimator, by its name; 1 or more.

    The influence function takes that value as known. It was fitted to the same rewards, so that its error adds to that
    of the estimate instead of cancelling. Each bootstrapped member gives its own value for its own drawn episodes: the
    factor is the standard deviation of such estimates, over that of estimates of the same episodes with one value.

    Args:
        decisions: As for `compute_terms`, as the two that follow.
        log_ratio: See there.
        cleared: See there.
        fitted: Of these members.
        members: See `draw_members`, shape (S, E).
        largest: As for `compute_terms`.
    """
    row, fixed = np.arange(len(decisions.length)), compute_terms(decisions, log_ratio, cleared, largest)
    drawn = [member for member in range(len(members)) if (members[member] > 1.0).any() and not fitted.diverged[member]]
    if len(drawn) < 2 or decisions.terminated.all():
        return dict.fromkeys(fixed, 1.0)
    known: dict[str, list[float]] = {name: [] for name in fixed}
    whole: dict[str, list[float]] = {name: [] for name in fixed}
    for member in drawn:
        tail = fitted.v[member, row, decisions.length]
        own = compute_terms(decisions, log_ratio, cleared._replace(tail=tail), largest)
        for name, terms in fixed.items():
            known[name].append(terms.weighted_value(members[member]))
            whole[name].append(own[name].weighted_value(members[member]))
    spreads = {name: (float(np.std(whole[name])), max(float(np.std(known[name])), 1e-12)) for name in fixed}
    return {name: max(1.0, wide / narrow) for name, (wide, narrow) in spreads.items()}


def widen(estimate: Estimate, factor: float) -> Estimate:
    """The estimate with an interval and a standard error that are so many times as wide."""
    low, high = (estimate.value + factor * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(estimate.value, low, high, factor * estimate.error)


def compute_estimates(
    terms: Mapping[str, Terms], factors: Mapping[str, float], rng: np.random.Generator
) -> dict[str, Estimate]:
    """Each with its interval, widened by its `compute_tail_factors`.

    What a model missed is hardly skewed, so that doubly robust estimates have the interval of the delta method, and the
    others that of the bootstrap-t: those that came closest to 95 % in `docs/replay-measured.md`.
    """
    return {
        name: widen(compute_delta(of) if name in BY_DELTA else compute_bootstrap_t(of, rng), factors[name])
        for name, of in terms.items()
    }


def diagnose(
    estimates: Mapping[str, Estimate], fitted: FittedQ, folds: int, weights: Weights | None, support: float
) -> Diagnostics:
    """What `verdict.judge` asks for.

    Args:
        estimates: By name, `FQE` among them.
        fitted: Behind them.
        folds: F.
        weights: None where there are no densities.
        support: See `Support.share`.
    """
    diverged, disagreement = bool(fitted.diverged[: folds + 1].any()), None
    if WDR in estimates and not diverged:
        model, robust = estimates[FQE], estimates[WDR]
        error = float(np.hypot(model.error, robust.error))
        disagreement = abs(model.value - robust.value) / error if error > 0.0 else 0.0
    return Diagnostics(
        effective_size=None if weights is None else weights.effective_size,
        support=support,
        diverged=diverged,
        drift=float(fitted.drift[folds]),
        disagreement=disagreement,
    )
