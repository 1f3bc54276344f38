"""How estimates, intervals and diagnostics are put together, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from supple.meta.off_policy import support
from supple.meta.off_policy.decisions import make_decisions
from supple.meta.off_policy.estimates import (
    DR,
    FQE,
    WDR,
    Cleared,
    Weights,
    clear_folds,
    compute_estimates,
    compute_tail_factors,
    compute_terms,
    diagnose,
    estimate_fitted_q,
    measure_weights,
    widen,
)
from supple.meta.off_policy.fitted_q import FittedQ
from supple.meta.off_policy.importance import plain_mean
from supple.meta.off_policy.intervals import Estimate, compute_bootstrap_t, compute_delta

LOG_RATIO = np.log(np.array([[2.0, 0.5], [0.5, 4.0]]))
"""So rho is (2, 1) and (0.5, 2)."""
TWO = make_decisions(np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([2, 2]), np.array([True, True]), discount=0.5)
"""Returns 1 + 0.5 * 2 = 2 and 2 + 0.5 * 4 = 4."""
CLEARED = Cleared(np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([7.0, 9.0]))


def make_fitted(v: list[list[float]], diverged: list[bool]) -> FittedQ:
    """V of the first states alone; the drift of a member is its number."""
    table = np.zeros((len(v), 2, 3))
    table[:, :, 0] = v
    return FittedQ(table[:, :, :2], table, np.array(diverged), np.arange(len(v), dtype=float))


def test_every_name_stands_for_its_estimator() -> None:
    # worked out in test_importance.py; nothing follows a task that ended, so that the tail is not read
    found = {name: terms.value for name, terms in compute_terms(TWO, LOG_RATIO, CLEARED).items()}
    expected = {"IS": 5.0, "WIS": 10 / 3, "PDIS": 4.0, "WPDIS": 1.2 + 5 / 3, DR: 3.0, WDR: 2.5 / 3 + 1.6}
    assert found == pytest.approx(expected)


def test_what_was_cut_off_is_worth_its_tail() -> None:
    cut = TWO._replace(terminated=np.array([True, False]))
    # the second episode returns 4 + 0.25 * 9 = 6.25, with weights 1 and 2
    found = compute_terms(cut, LOG_RATIO, CLEARED)
    assert found["IS"].value == pytest.approx((1 * 2 + 2 * 6.25) / 2)
    assert found["WIS"].value == pytest.approx((1 * 2 + 2 * 6.25) / 3)


def test_weights_are_cut_where_asked_for() -> None:
    # weights (1, 1) and (0.5, 1)
    found = compute_terms(TWO, LOG_RATIO, CLEARED, 1.0)
    assert found["IS"].value == pytest.approx((2 + 4) / 2)
    assert found["PDIS"].value == pytest.approx(((1 + 0.5 * 2) + (0.5 * 2 + 0.5 * 4)) / 2)


def test_weights_are_measured_decision_by_decision() -> None:
    found = measure_weights(TWO, LOG_RATIO)
    # effective sizes 2.5^2 / 4.25 and 3^2 / 5 of the two decisions, which are worth 1 and 0.5
    assert found == pytest.approx(((6.25 / 4.25 + 0.5 * 1.8) / 1.5, 1.8, 2 / 3))


def test_only_members_that_drew_episodes_say_how_unsure_the_tail_is() -> None:
    """Members 0 and 1 left one out, and saw all; 2 and 3 drew an episode twice. The second episode was cut off."""
    cut = TWO._replace(terminated=np.array([True, False]))
    members = np.array([[1, 0], [1, 1], [2, 0], [0, 2]], np.float32)

    def factor(tails: list[float]) -> float:
        table = np.zeros((4, 2, 3))
        table[:, 1, 2] = tails
        fitted = FittedQ(table[:, :, :2], table, np.zeros(4, bool), np.zeros(4))
        return compute_tail_factors(cut, LOG_RATIO, CLEARED, fitted, members)["IS"]

    # with one value of 9: 1 * 2 and 2 * 6.25, 5.25 from their mean; with 0 and 17 instead: 2 and 2 * 8.25
    assert factor([0.0, 0.0, 0.0, 17.0]) == pytest.approx(7.25 / 5.25)
    assert factor([1e6, -1e6, 0.0, 17.0]) == pytest.approx(7.25 / 5.25)


def test_an_episode_is_valued_by_the_member_that_did_not_see_it() -> None:
    decisions = TWO._replace(length=np.array([1, 2]))
    q, v = np.arange(8.0).reshape(2, 2, 2), np.arange(12.0).reshape(2, 2, 3)
    found = clear_folds(FittedQ(q, v, np.zeros(2, bool), np.zeros(2)), np.array([1, 0]), decisions)
    # member 1 for episode 0, member 0 for episode 1
    assert found.q.tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert found.v.tolist() == [[6.0, 7.0], [3.0, 4.0]]
    assert found.tail.tolist() == [7.0, 5.0]


def test_the_interval_of_fitted_q_is_that_of_members_that_did_not_diverge() -> None:
    # a member for each of two folds, one that saw both episodes, then bootstrapped ones
    members = np.array([[0, 1], [1, 0], [1, 1], [2, 0], [0, 2], [1, 1]], np.float32)
    values = [[9.0, 9.0], [9.0, 9.0], [1.0, 4.0], [1.0, 0.0], [0.0, 3.0], [50.0, 50.0]]
    found = estimate_fitted_q(make_fitted(values, [False] * 5 + [True]), members, 2)
    # the mean of 1 and 4; members say 1 and 3, t of one degree of freedom is 12.7062
    error = np.sqrt(2.0)
    assert found == pytest.approx((2.5, 2.5 - 12.7062 * error, 2.5 + 12.7062 * error, error), rel=1e-5)
    alone = estimate_fitted_q(make_fitted(values, [False] * 4 + [True] * 2), members, 2)
    assert alone == (2.5, 2.5, 2.5, 0.0)


def test_an_interval_is_widened_on_both_sides_of_its_value() -> None:
    assert widen(Estimate(2.0, 1.0, 4.0, 0.5), 3.0) == Estimate(2.0, -1.0, 8.0, 1.5)
    assert widen(Estimate(-2.0, -3.0, 0.5, 0.5), 1.0) == Estimate(-2.0, -3.0, 0.5, 0.5)


def test_doubly_robust_estimates_have_the_delta_method_and_others_the_bootstrap() -> None:
    mean = plain_mean(np.array([1.0, 3.0, 5.0, 11.0]))
    terms = dict.fromkeys((DR, WDR, "WIS"), mean)
    found = compute_estimates(terms, {DR: 1.0, WDR: 2.0, "WIS": 3.0}, np.random.default_rng(4))
    assert found == {
        DR: compute_delta(mean),
        WDR: widen(compute_delta(mean), 2.0),
        "WIS": widen(compute_bootstrap_t(mean, np.random.default_rng(4)), 3.0),
    }


def test_diagnostics_by_hand() -> None:
    estimates = {FQE: Estimate(5.0, 0.0, 0.0, 3.0), WDR: Estimate(1.0, 0.0, 0.0, 4.0)}
    settled = make_fitted([[0.0, 0.0]] * 4, [False, False, False, True])  # a bootstrapped one counts for nothing
    weights = Weights(12.0, 5.0, 0.2)
    found = diagnose(estimates, settled, 2, weights, 0.8)
    # |5 - 1| over the hypotenuse of 3 and 4
    assert found == (12.0, 0.8, False, 2.0, pytest.approx(0.8))
    assert diagnose(estimates, settled, 2, None, 0.8).effective_size is None
    assert diagnose({FQE: estimates[FQE]}, settled, 2, weights, 0.8).disagreement is None
    lost = diagnose(estimates, make_fitted([[0.0, 0.0]] * 4, [False, False, True, False]), 2, weights, 0.8)
    assert (lost.diverged, lost.disagreement) == (True, None)
    exact = {name: Estimate(1.0, 1.0, 1.0, 0.0) for name in (FQE, WDR)}
    assert diagnose(exact, settled, 2, weights, 0.8).disagreement == 0.0


def test_of_many_decisions_some_different_ones_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "MOST", 10)
    for count in (9, 10):
        assert support._some(np.arange(count), np.random.default_rng(0)).tolist() == list(range(count))
    assert len(set(support._some(np.arange(11), np.random.default_rng(0)).tolist())) == 10
