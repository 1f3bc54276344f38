"""Fitted Q evaluation against the closed form of the empirical MDP, which the log itself defines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from supple.errors import SpecError
from supple.meta.off_policy.config import FittedQConfig
from supple.meta.off_policy.decisions import make_decisions
from supple.meta.off_policy.estimates import clear_folds, compute_tail_factors, diagnose, estimate_fitted_q
from supple.meta.off_policy.fitted_q import FittedQ, QData, draw_members, fit_q

LINEAR = FittedQConfig(hidden=(), iterations=300)


def make_data(
    state: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    policy: np.ndarray,
    *,
    length: Sequence[int],
    terminated: Sequence[bool],
    discount: float = 0.5,
) -> QData:
    """One-hot pairs; states (E, T + 1), actions and rewards (E, T), policy (S, A)."""
    pairs = np.eye(policy.size, dtype=np.float32).reshape(*policy.shape, -1)
    decisions = make_decisions(reward, np.array(length), np.array(terminated), discount=discount)
    return QData(pairs[state[:, :-1], action], pairs[state], policy[state].astype(np.float32), decisions)


def fit(data: QData, config: FittedQConfig = LINEAR, members: np.ndarray | None = None) -> FittedQ:
    if members is None:
        members = np.ones((1, len(data.inputs)), np.float32)
    *_, last = fit_q(data, members, config, torch.Generator().manual_seed(0))
    assert last.fitted is not None
    return last.fitted


def test_two_episodes_by_hand() -> None:
    # one action; 0 -> 1 pays 1, then 1 -> end pays 2 (terminated): Q(1) = 2, Q(0) = 1 + 0.5 * 2 = 2
    # the second episode: 0 -> 1 pays 3 and is cut off there: Q(0) is the mean of 1 + 0.5 * 2 and 3 + 0.5 * 2
    data = make_data(
        np.array([[0, 1, 1], [0, 1, 1]]),
        np.zeros((2, 2), int),
        np.array([[1.0, 2.0], [3.0, 0.0]]),
        np.ones((2, 1)),
        length=[2, 1],
        terminated=[True, False],
    )
    fitted = fit(data)
    assert fitted.v[0, 0, :2] == pytest.approx([3.0, 2.0], abs=1e-4)
    assert not fitted.diverged.any()
    assert fitted.drift == pytest.approx([0.0], abs=1e-6)


def solve_empirical(state: np.ndarray, action: np.ndarray, reward: np.ndarray, ended: np.ndarray, policy: np.ndarray):  # type: ignore[no-untyped-def]
    """V of the MDP whose probabilities are the frequencies of the log, (S,)."""
    states, actions = policy.shape
    count, moves, paid = np.zeros((states, actions)), np.zeros((states, actions, states)), np.zeros((states, actions))
    for episode in range(len(action)):
        for step in range(action.shape[1]):
            s, a, after = state[episode, step], action[episode, step], state[episode, step + 1]
            count[s, a] += 1
            paid[s, a] += reward[episode, step]
            moves[s, a, after] += not (ended[episode] and step == action.shape[1] - 1)
    moves, paid = moves / count[..., None], paid / count
    step_reward, step_moves = (policy * paid).sum(1), np.einsum("sa,san->sn", policy, moves)
    return np.linalg.solve(np.eye(states) - 0.8 * step_moves, step_reward)


@pytest.mark.parametrize("hidden", [(), (32,)])
def test_the_fit_is_the_value_of_the_empirical_mdp(hidden: tuple[int, ...]) -> None:
    rng, policy = np.random.default_rng(1), np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    state, action = rng.integers(3, size=(40, 6)), rng.integers(2, size=(40, 5))
    reward, ended = rng.standard_normal((40, 5)) + action + state[:, :-1], rng.random(40) < 0.5
    data = make_data(state, action, reward, policy, length=[5] * 40, terminated=ended.tolist(), discount=0.8)
    config = FittedQConfig(hidden=hidden, iterations=60, updates=25, batch=200, learning_rate=5e-3)
    fitted = fit(data, config if hidden else LINEAR)
    wanted = solve_empirical(state, action, reward, ended, policy)
    tolerance = 0.15 if hidden else 1e-3
    assert fitted.v[0] == pytest.approx(wanted[state], abs=tolerance)
    assert not fitted.diverged.any()


def test_a_member_sees_its_own_episodes_alone() -> None:
    data = make_data(
        np.zeros((2, 2), int), np.zeros((2, 1), int), np.array([[1.0], [5.0]]), np.ones((1, 1)),
        length=[1, 1], terminated=[True, True],
    )  # fmt: skip
    members = draw_members(np.array([0, 1]), 0, np.random.default_rng(0))
    assert members.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    fitted = fit(data, members=members)
    assert fitted.q[:, 0, 0] == pytest.approx([5.0, 1.0, 3.0], abs=1e-4)
    cleared = clear_folds(fitted, np.array([0, 1]), data.decisions)
    assert cleared.q[:, 0] == pytest.approx([5.0, 1.0], abs=1e-4)  # each episode by the fit without it


def test_values_beyond_the_rewards_are_called_divergence() -> None:
    # features with Q(s') = 3 Q(s): the iteration multiplies by 0.9 * 3
    decisions = make_decisions(np.ones((1, 1)), np.array([1]), np.array([False]), discount=0.9)
    drawn = np.array([[[[1.0]], [[3.0]]]], np.float32)
    data = QData(np.ones((1, 1, 1), np.float32), drawn, np.ones((1, 2, 1), np.float32), decisions)
    fitted = fit(data)
    assert fitted.diverged.tolist() == [True]
    assert np.isfinite(fitted.v).all()
    found = diagnose({"FQE": estimate_fitted_q(fitted, np.ones((1, 1), np.float32), 0)}, fitted, 0, None, 1.0)
    assert found.diverged


def test_without_a_discount_there_is_no_bound() -> None:
    decisions = make_decisions(np.ones((1, 1)), np.array([1]), np.array([False]), discount=1.0)
    data = QData(*(np.ones(shape, np.float32) for shape in ((1, 1, 1), (1, 2, 1, 1), (1, 2, 1))), decisions)
    with pytest.raises(SpecError, match="below 1"):
        next(fit_q(data, np.ones((1, 1), np.float32), LINEAR, torch.Generator()))


def test_the_interval_comes_from_the_bootstrapped_members() -> None:
    v = np.zeros((4, 2, 2))
    v[:, :, 0] = [[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [4.0, 2.0]]
    members = np.array([[0, 1], [1, 1], [2, 0], [0, 2]], np.float32)
    fitted = FittedQ(v[:, :, :1], v, np.zeros(4, np.bool_), np.zeros(4))
    found = estimate_fitted_q(fitted, members, 1)
    # the second member's mean is 2; members 3 and 4 say 1 (its first episode twice) and 2 (its second twice)
    assert found.value == pytest.approx(2.0)
    assert found.error == pytest.approx(np.std([1.0, 2.0], ddof=1))


def test_an_uncertain_tail_widens_and_a_terminated_log_has_none() -> None:
    rng = np.random.default_rng(0)
    reward, zero = rng.standard_normal((30, 2)), np.zeros((30, 2))
    members = draw_members(np.arange(30) % 2, 10, rng)
    v = np.zeros((len(members), 30, 3))
    v[:, :, 2] = rng.standard_normal(len(members))[:, None]
    fitted = FittedQ(np.zeros((len(members), 30, 2)), v, np.zeros(len(members), np.bool_), np.zeros(len(members)))
    for ended, wider in ((False, True), (True, False)):
        decisions = make_decisions(reward, np.full(30, 2), np.full(30, ended), discount=0.9)
        cleared = clear_folds(fitted, np.arange(30) % 2, decisions)
        factors = compute_tail_factors(decisions, zero, cleared, fitted, members)
        assert (min(factors.values()) > 1.5) == wider
