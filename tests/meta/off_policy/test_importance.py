"""Numbers worked by hand on two episodes of two steps, and what must hold of any log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from supple.errors import SpecError
from supple.meta.off_policy.decisions import Decisions, add_tail, make_decisions
from supple.meta.off_policy.doubly_robust import doubly_robust, weighted_doubly_robust
from supple.meta.off_policy.importance import (
    Terms,
    compute_effective_size,
    compute_log_weights,
    compute_top_share,
    importance_sampling,
    per_decision_importance_sampling,
    weighted_importance_sampling,
    weighted_per_decision_importance_sampling,
)

ESTIMATORS = {
    "IS": importance_sampling,
    "WIS": weighted_importance_sampling,
    "PDIS": per_decision_importance_sampling,
    "WPDIS": weighted_per_decision_importance_sampling,
}
SELF_NORMALISED = ("WIS", "WPDIS")
RATIO = np.array([[2.0, 0.5], [0.5, 4.0]])
"""So rho is (2, 1) and (0.5, 2)."""
TWO = make_decisions(np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([2, 2]), np.array([True, True]), discount=0.5)
"""Returns 1 + 0.5 * 2 = 2 and 2 + 0.5 * 4 = 4."""
Q = np.array([[1.0, 1.0], [2.0, 2.0]])
V = np.array([[1.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IS", 5.0),  # (1 * 2 + 2 * 4) / 2
        ("WIS", 10.0 / 3.0),  # the same over 1 + 2
        ("PDIS", 4.0),  # ((2 * 1 + 0.5 * 1 * 2) + (0.5 * 2 + 0.5 * 2 * 4)) / 2
        ("WPDIS", 1.2 + 5.0 / 3.0),  # (2 * 1 + 0.5 * 2) / 2.5 + 0.5 (1 * 2 + 2 * 4) / 3
    ],
)
def test_two_episodes_by_hand(name: str, value: float) -> None:
    log_weight = compute_log_weights(np.log(RATIO), TWO.valid)
    assert ESTIMATORS[name](TWO, log_weight).value == pytest.approx(value)


def test_doubly_robust_by_hand() -> None:
    # first: 1 + 0.5 (2 - 1) = 1.5, then 1 + 2 (1 + 0.5 * 1.5 - 1) = 2.5
    # second: 2 + 4 (4 - 2) = 10, then 1 + 0.5 (2 + 0.5 * 10 - 2) = 3.5
    terms = doubly_robust(TWO, compute_log_weights(np.log(RATIO), TWO.valid), Q, V)
    assert terms.numerator[:, 0] == pytest.approx([2.5, 3.5])
    assert terms.value == pytest.approx(3.0)


def test_weighted_doubly_robust_by_hand() -> None:
    # missed: 0 and 0.5 (1 * 1 + 2 * 2) / 3; V: (1 + 1) / 2 and 0.5 (2 * 1 + 0.5 * 2) / 2.5
    log_weight = compute_log_weights(np.log(RATIO), TWO.valid)
    assert weighted_doubly_robust(TWO, log_weight, Q, V).value == pytest.approx(2.5 / 3.0 + 1.0 + 0.6)


def test_effective_size_and_top_share_by_hand() -> None:
    assert compute_effective_size(np.log([1.0, 2.0])) == pytest.approx(9.0 / 5.0)
    assert compute_top_share(np.log([1.0, 2.0])) == pytest.approx(2.0 / 3.0)
    # squares of these weights vanish in float64
    assert compute_effective_size(np.array([-500.0, -500.0, -2000.0])) == pytest.approx(2.0)


def test_clipping_bounds_every_weight() -> None:
    log_weight = compute_log_weights(np.log(RATIO), TWO.valid, largest=1.5)
    assert np.exp(log_weight) == pytest.approx(np.array([[1.5, 1.0], [0.5, 1.5]]))


def test_the_weight_stays_behind_the_end_of_an_episode() -> None:
    shorter = make_decisions(np.ones((2, 3)), np.array([1, 3]), np.array([True, True]), discount=0.9)
    log_weight = compute_log_weights(np.log(np.full((2, 3), 2.0)), shorter.valid)
    assert np.exp(log_weight) == pytest.approx(np.array([[2.0, 2.0, 2.0], [2.0, 4.0, 8.0]]))


def test_a_choice_that_the_behaviour_cannot_make_is_refused() -> None:
    with pytest.raises(SpecError, match="infinity"):
        compute_log_weights(np.array([[np.inf]]), np.array([[True]]))
    never = compute_log_weights(np.array([[-np.inf, -np.inf]]), np.array([[True, True]]))
    assert np.isfinite(never).all()


def test_truncation_bootstraps_and_termination_does_not() -> None:
    cut = TWO._replace(terminated=np.array([False, True]))
    tailed = add_tail(cut, np.array([8.0, 8.0]))
    # 0.5 * 8 more in the last step of the first episode alone
    assert tailed.reward == pytest.approx(np.array([[1.0, 6.0], [2.0, 4.0]]))
    assert tailed.compute_returns() == pytest.approx([4.0, 4.0])


def test_a_skill_sums_its_rewards_and_discounts_what_follows() -> None:
    # 5 steps by 2: 1 + 0.5 * 2, 3 + 0.5 * 4, and 5 alone; discounts 0.25, 0.25, 0.5
    skills = make_decisions(
        np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), np.array([5]), np.array([True]), discount=0.5, horizon=2
    )
    assert skills.reward == pytest.approx(np.array([[2.0, 5.0, 5.0]]))
    assert skills.discount == pytest.approx(np.array([[0.25, 0.25, 0.5]]))
    assert skills.length.tolist() == [3]
    flat = make_decisions(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), np.array([5]), np.array([True]), discount=0.5)
    assert skills.compute_returns() == pytest.approx(flat.compute_returns())


def test_rewards_behind_the_end_are_not_read_and_others_must_be_finite() -> None:
    rewards = np.array([[1.0, np.nan], [1.0, 1.0]])
    assert make_decisions(rewards, np.array([1, 2]), np.array([True, True]), discount=0.9).reward[0, 1] == 0.0
    with pytest.raises(SpecError, match="step 1 of episode 0"):
        make_decisions(rewards, np.array([2, 2]), np.array([True, True]), discount=0.9)
    with pytest.raises(SpecError, match="1 to 2 steps"):
        make_decisions(rewards, np.array([0, 2]), np.array([True, True]), discount=0.9)


NUMBERS = st.floats(-3.0, 3.0, width=32)


@st.composite
def logs(draw: st.DrawFn) -> tuple[Decisions, np.ndarray]:
    """Episodes of several lengths with log ratios."""
    episodes, steps = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    reward, ratio = (draw(arrays(np.float64, (episodes, steps), elements=NUMBERS)) for _ in range(2))
    length = draw(arrays(np.int64, episodes, elements=st.integers(1, steps)))
    ended = draw(arrays(np.bool_, episodes))
    return make_decisions(reward, length, ended, discount=0.9), ratio


@given(logs())
def test_equal_policies_give_the_mean_return(log: tuple[Decisions, np.ndarray]) -> None:
    decisions, _ = log
    none = compute_log_weights(np.zeros_like(decisions.reward), decisions.valid)
    for estimator in ESTIMATORS.values():
        assert estimator(decisions, none).value == pytest.approx(decisions.compute_returns().mean(), abs=1e-9)
    zero = np.zeros_like(decisions.reward)
    assert doubly_robust(decisions, none, zero, zero).value == pytest.approx(decisions.compute_returns().mean())


@given(logs(), st.floats(-200.0, 200.0))
def test_self_normalised_estimates_do_not_depend_on_the_scale_of_weights(
    log: tuple[Decisions, np.ndarray], shift: float
) -> None:
    decisions, ratio = log
    log_weight = compute_log_weights(ratio, decisions.valid)
    for name in SELF_NORMALISED:
        before, after = (ESTIMATORS[name](decisions, weight).value for weight in (log_weight, log_weight + shift))
        assert after == pytest.approx(before, rel=1e-6, abs=1e-9)
    assert compute_effective_size(log_weight[:, -1] + shift) == pytest.approx(compute_effective_size(log_weight[:, -1]))


@given(logs(), st.randoms(use_true_random=False))
def test_the_order_of_episodes_does_not_matter(log: tuple[Decisions, np.ndarray], random: object) -> None:
    decisions, ratio = log
    order = np.array(random.sample(range(len(ratio)), len(ratio)))  # type: ignore[attr-defined]
    first, second = (
        [of(part, compute_log_weights(some, part.valid)).value for of in ESTIMATORS.values()]
        for part, some in ((decisions, ratio), (decisions.take(order), ratio[order]))
    )
    assert second == pytest.approx(first, abs=1e-9)


@given(logs(), NUMBERS)
def test_a_constant_reward_shifts_the_weighted_per_decision_estimate_by_its_discounted_sum(
    log: tuple[Decisions, np.ndarray], more: float
) -> None:
    decisions, ratio = log
    steps = decisions.reward.shape[1]
    whole = decisions._replace(length=np.full(len(ratio), steps), discount=np.full_like(ratio, 0.9))
    log_weight = compute_log_weights(ratio, whole.valid)
    before, after = (
        weighted_per_decision_importance_sampling(part, log_weight).value
        for part in (whole, whole._replace(reward=whole.reward + more))
    )
    discounts = whole.past_discount[0].sum()
    assert after - before == pytest.approx(more * discounts, abs=1e-6)


@given(logs())
def test_a_model_that_is_exact_needs_no_weights(log: tuple[Decisions, np.ndarray]) -> None:
    # Q of what was logged is the logged return from there on, and V is the same: nothing is left to correct
    decisions, ratio = log
    value, parts = np.zeros(len(ratio)), []
    for k in reversed(range(ratio.shape[1])):
        value = decisions.reward[:, k] + decisions.discount[:, k] * value
        parts.append(value)
    exact = np.where(decisions.valid, np.stack(parts[::-1], axis=1), 0.0)
    found = doubly_robust(decisions, compute_log_weights(ratio, decisions.valid), exact, exact).value
    assert found == pytest.approx(decisions.compute_returns().mean(), abs=1e-6)


def test_terms_of_drawn_episodes() -> None:
    terms = Terms(np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert terms.value == pytest.approx(2.0 + 7.0)
    # the first episode twice: 1, and a column without any weight
    assert terms.weighted_value(np.array([2.0, 0.0], np.float32)) == pytest.approx(1.0)


def test_weights_beyond_all_numbers_stay_finite() -> None:
    many = make_decisions(np.ones((2, 50)), np.full(2, 50), np.full(2, True), discount=0.99)
    log_weight = compute_log_weights(np.array([[60.0], [-60.0]]).repeat(50, axis=1), many.valid)
    zero = np.zeros_like(many.reward)
    for estimator in ESTIMATORS.values():
        assert np.isfinite(estimator(many, log_weight).value)
    assert np.isfinite(doubly_robust(many, log_weight, zero, zero).value)
    assert np.isfinite(weighted_doubly_robust(many, log_weight, zero, zero).value)


def test_padding_pays_nothing_and_discounts_nothing() -> None:
    # skills of 2 steps, episodes of 1 and 3: the last skill of both takes one step
    reward = np.array([[1.0, 9.0, 9.0], [1.0, 2.0, 4.0]])
    decisions = make_decisions(reward, np.array([1, 3]), np.array([True, True]), discount=0.5, horizon=2)
    assert decisions.reward.tolist() == [[1.0, 0.0], [2.0, 4.0]]
    assert decisions.discount.tolist() == [[0.5, 1.0], [0.25, 0.5]]
