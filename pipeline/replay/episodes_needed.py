"""How many episodes an adaptation will need, from recorded adaptations of the same bundle to other tasks.

A task is *reached* at the first episode from which `steady` episodes in a row succeed. A record of R reference tasks,
played in simulation, says when each of them was. The prediction for a new task is their distribution, weighted by how
much a reference task was like it so far:

    w_j = exp(-d_j^2 / 2 h^2)    if task j is still possible, else 0

d is the distance of two summaries of the first n episodes (Nadaraya, "On Estimating Regression", 1964; the estimator of
a distribution is that of Hall, Wolff and Yao, "Methods for Estimating a Conditional Distribution Function", 1999). A
task is possible if it is reached no earlier than the log shows. The bandwidth h has the best score of all on the
reference tasks, each predicted from the others (continuous ranked probability score, Gneiting and Raftery, "Strictly
Proper Scoring Rules, Prediction, and Estimation", 2007). The interval is the narrowest of `TAILS` with which the same
leave-one-out predictions cover their tasks as often as is claimed (Vovk, "Cross-conformal predictors", 2015). It holds
for tasks that are drawn as the reference tasks were.

A task that is not reached within the E episodes of the record counts as E + 1: "more than E".

Axes: R reference tasks, E episodes of each, n episodes of the log, F features.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError

Double = NDArray[np.float64]
Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]

LEVEL = 0.9
"""Share of tasks that an interval is to cover."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, np.inf)
"""Bandwidths that are tried, in units of the median distance."""
TAILS: tuple[tuple[float | None, float | None], ...] = (
    *((tail, tail) for tail in np.linspace(0.25, 0.0, 26).tolist()),
    *((None, tail) for tail in np.linspace(0.25, 0.0, 26).tolist()),
    (None, None),
)
"""Shares below and above an interval that are tried, one after the other. None for the earliest episode that the log
allows, and for more than E: what is left where the reference tasks are too few."""
LEAST = 20
"""Reference tasks from which on the leave-one-out predictions can cover `LEVEL` of them by their own range."""


class Needed(NamedTuple):
    """The prediction of one task."""

    median: int
    """Episodes; E + 1 for more than E."""
    low: int
    """Lower end of the interval of `LEVEL`."""
    high: int
    """Upper end; E + 1 for more than E."""
    reached: float
    """Probability that the task is reached within E episodes."""
    coverage: float
    """Share of the reference tasks that such intervals cover, each predicted from the others."""
    weights: Double
    """Of the reference, shape (R,); their sum is 1."""


def find_needed(success: Truth, steady: int) -> Whole:
    """The first episode, from 1, from which `steady` in a row succeed; E + 1 where none is, shape (R,).

    Args:
        success: Shape (R, E).
        steady: > 0.

    Raises:
        ConfigError: There are fewer episodes than `steady`.
    """
    episodes = success.shape[1]
    if not 1 <= steady <= episodes:
        raise ConfigError(
            f"rehearsal: expected 1 to {episodes} successes in a row, the episodes of the record, got {steady}; "
            "lower steady, or record more episodes"
        )
    runs = np.lib.stride_tricks.sliding_window_view(success, steady, axis=1).all(axis=2)
    found: Whole = np.where(np.any(runs, axis=1), np.argmax(runs, axis=1) + 1, episodes + 1)
    return found


def find_bound(success: Truth, steady: int) -> Whole:
    """The earliest episode at which tasks may be reached that were not within these n episodes, shape (R,).

    Args:
        success: Shape (R, n).
        steady: See `find_needed`.
    """
    count = success.shape[1]
    trailing = np.where(success.all(axis=1), count, np.argmin(success[:, ::-1], axis=1)) if count else 0
    return np.asarray(count + 1 - np.minimum(trailing, steady - 1), np.int64) * np.ones(len(success), np.int64)


def summarise(success: Truth, returns: Double) -> Double:
    """What the first n episodes were like, shape (R, F): successes, the later ones again, and the mean return.

    Args:
        success: Shape (R, n).
        returns: On any scale, shape (R, n).
    """
    if success.shape[1] == 0:
        return np.zeros((len(success), 3))
    later = success[:, success.shape[1] // 2 :]
    return np.stack([success.sum(axis=1), later.sum(axis=1), returns.mean(axis=1)], axis=1).astype(np.float64)


def compute_distances(feature: Double, references: Double) -> tuple[Double, Double]:
    """Euclidean distances of standardised features.

    Args:
        feature: Of the log, shape (F,).
        references: Shape (R, F).

    Returns:
        From the log to each reference, (R,), and between these, (R, R).
    """
    spread = references.std(axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)
    scaled = references / scale
    between = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    return np.linalg.norm(scaled - feature / scale, axis=1), between


class Calibration(NamedTuple):
    """What the reference tasks say of predictions from n episodes."""

    width: float
    """Bandwidth, in units of the median distance; inf where what was seen tells nothing."""
    unit: float
    """Median distance of two reference tasks."""
    tails: tuple[float | None, float | None]
    """Shares below and above the interval; one of `TAILS`."""
    coverage: float
    """Share of the reference tasks that are covered, each predicted from the others."""


def calibrate(needed: Whole, between: Double, bounds: Whole, groups: Whole) -> Calibration:
    """Chooses bandwidth and interval; see the module's docstring.

    Args:
        needed: Of the R adaptations of the reference, shape (R,).
        between: Their distances, shape (R, R).
        bounds: Earliest episode at which each may have been reached, by its first n episodes, shape (R,).
        groups: Which task each is of, shape (R,); adaptations of one task do not predict each other.

    Raises:
        ConfigError: There are fewer than two tasks.
    """
    if len(np.unique(groups)) < 2:
        raise ConfigError(
            f"rehearsal: expected at least 2 reference tasks, got {len(np.unique(groups))}; adapt to more tasks"
        )
    apart = between[groups[:, None] != groups]
    unit = float(np.median(apart[apart > 0.0])) if (apart > 0.0).any() else 1.0
    # a task that was reached within its first n episodes is no example of one that was not
    judged = np.flatnonzero(needed >= bounds)

    def weigh(width: float) -> list[Double]:
        others = [(needed >= bounds[row]) & (groups != groups[row]) for row in judged]
        return [_weigh(between[row], width * unit, mine) for row, mine in zip(judged, others, strict=True)]

    best, score, weights = np.inf, np.inf, weigh(np.inf)
    for width in sorted(WIDTHS, reverse=True):
        tried = weigh(width)
        costs = [_score(needed, mine, int(needed[row])) for row, mine in zip(judged, tried, strict=True)]
        if costs and np.mean(costs) < score - 1e-12:
            best, score, weights = width, float(np.mean(costs)), tried
    covered, tails = 1.0, TAILS[-1]
    for tails in TAILS:
        inside = []
        for row, mine in zip(judged, weights, strict=True):
            low, high = find_interval(needed, mine, tails)
            low = int(bounds[row]) if low is None else low
            inside.append(low <= needed[row] and (high is None or needed[row] <= high))
        covered = float(np.mean(inside)) if inside else 1.0
        if inside and covered >= LEVEL:
            break
    return Calibration(float(best), unit, tails, covered)


def predict_needed(needed: Whole, episodes: int, distance: Double, bound: int, calibration: Calibration) -> Needed:
    """The prediction of one task; see the module's docstring.

    Args:
        needed: Of the reference, shape (R,).
        episodes: E.
        distance: From the log to each adaptation of the reference, shape (R,).
        bound: Earliest episode at which the task may be reached, by the log.
        calibration: For as many seen episodes.
    """
    weights = _weigh(distance, calibration.width * calibration.unit, needed >= bound)
    if not weights.any():  # no reference task took so long
        weights = np.ones(len(needed)) / len(needed)
        return Needed(episodes + 1, bound, episodes + 1, 0.0, calibration.coverage, weights)
    median = int(needed[_find_place(needed, weights, 0.5)])
    low, high = find_interval(needed, weights, calibration.tails)
    return Needed(
        median,
        bound if low is None else low,
        episodes + 1 if high is None else high,
        float(weights[needed <= episodes].sum()),
        calibration.coverage,
        weights,
    )


def find_interval(
    needed: Whole, weights: Double, tails: tuple[float | None, float | None]
) -> tuple[int | None, int | None]:
    """Ends below and above which less than these shares of the weights lie; None for an end without a share."""
    if not weights.any():
        return None, None
    low, high = tails
    return (
        None if low is None else int(needed[_find_place(needed, weights, low + 1e-9)]),
        None if high is None else int(needed[_find_place(needed, weights, 1.0 - high - 1e-9)]),
    )


def _find_place(needed: Whole, weights: Double, share: float) -> int:
    """Index of the smallest number up to which at least this share of the weights lies."""
    order = np.argsort(needed, kind="stable")
    total = np.cumsum(weights[order])
    last = int(np.flatnonzero(weights[order] > 0.0)[-1])
    return int(order[min(int(np.searchsorted(total, share, side="left")), last)])


def _weigh(distance: Double, width: float, possible: Truth) -> Double:
    """Weights of the reference, (R,): their sum is 1, or 0 where nothing is possible."""
    if not possible.any():
        return np.zeros(len(distance))
    scaled = np.zeros_like(distance) if np.isinf(width) else np.square(distance / width) / 2.0
    weights = np.where(possible, np.exp(-(scaled - scaled[possible].min())), 0.0)
    found: Double = weights / weights.sum()
    return found


def _score(needed: Whole, weights: Double, truth: int) -> float:
    """Continuous ranked probability score, sum over w_j |x_j - x| - 1/2 sum over w_j w_k |x_j - x_k|; small is good."""
    if not weights.any():
        return float(np.abs(needed - truth).max())
    apart = np.abs(needed[:, None] - needed[None])
    return float(weights @ np.abs(needed - truth) - 0.5 * weights @ apart @ weights)


class Ranked(NamedTuple):
    """One of several bundles."""

    label: str
    mean: float
    """Episodes until the task is reached, at most E + 1; mean of the prediction."""
    low: float
    """Lower end of its 95 % interval over the draw of the reference tasks."""
    high: float
    """Upper end."""
    best: float
    """Probability that it is the one that needs fewest episodes."""


def rank_bundles(
    predictions: Mapping[str, tuple[Hashable, Whole, Double]], rng: np.random.Generator, draws: int = 4000
) -> list[Ranked]:
    """Bundles by the episodes that they will need, fewest first.

    The reference tasks of each bundle are drawn anew, with replacement, in proportion to their weights (a bootstrap);
    bundles whose records are of the same tasks, in the same order, are drawn together.

    Args:
        predictions: By label: the reference tasks, the episodes that each needed, (R,), and their weights, (R,).
        rng: Source of the draws.
        draws: Of the bootstrap.
    """
    means = {}
    shared: dict[Hashable, Double] = {}
    for label, (tasks, needed, weights) in predictions.items():
        if tasks not in shared:
            shared[tasks] = rng.dirichlet(np.ones(len(needed)), draws)
        mass = shared[tasks] * weights
        total = mass.sum(axis=1, keepdims=True)
        means[label] = (mass / np.where(total > 0.0, total, 1.0)) @ needed.astype(np.float64)
    table = np.stack(list(means.values()))
    lowest = table == table.min(axis=0)
    share = (lowest / lowest.sum(axis=0)).mean(axis=1)
    found = []
    for row, (label, (_, needed, weights)) in enumerate(predictions.items()):
        low, high = np.quantile(table[row], [0.025, 0.975]).tolist()
        found.append(Ranked(label, float(weights @ needed), low, high, float(share[row])))
    return sorted(found, key=lambda one: (one.mean, one.label))
