import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from benchmarks.policies.oracles import solve_tabular
from benchmarks.policies.tabular_policies import (
    Evidence,
    Plan,
    make_beb,
    make_epsilon_greedy,
    make_ucrl2,
    optimistic_mean,
    plan_opsrl,
    plan_psrl,
    play_tabular,
)
from supple.robots.tabular import Tables, TabularBatch, draw_tabular_goals, pack_tables, unpack_tables

RNG = np.random.default_rng(0)
"""Nothing is drawn from it."""


def make_evidence(
    visits: int = 0, reward: float = 0.0, *, tasks: int = 1, states: int = 2, actions: int = 2
) -> Evidence:
    """Action 0 of state 0 led so often to state 1, with this sum of rewards."""
    evidence = Evidence(np.zeros((tasks, states, actions, states)), np.zeros((tasks, states, actions)))
    evidence.visits[:, 0, 0, 1] = visits
    evidence.reward[:, 0, 0] = reward
    return evidence


def test_posterior_means_by_hand() -> None:
    transition, reward = make_evidence(3, 11.0).means()
    # alpha = (1, 1 + 3); the prior counts as one reward of 1: (1 + 11) / (1 + 3)
    np.testing.assert_allclose(transition[0, 0], [[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_allclose(reward[0], [[3.0, 1.0], [1.0, 1.0]])


def test_draws_have_the_moments_of_the_posterior() -> None:
    transition, reward = make_evidence(3, 11.0, tasks=20_000).sample(np.random.default_rng(0))
    np.testing.assert_allclose(transition.sum(axis=-1), 1.0)
    # Beta(4, 1): mean 4/5, variance 4 / (25 * 6); N(3, 1/4); the errors of 20000 draws are below 0.005
    assert transition[:, 0, 0, 1].mean() == pytest.approx(0.8, abs=0.005)
    assert transition[:, 0, 0, 1].var() == pytest.approx(4 / 150, abs=0.001)
    assert reward[:, 0, 0].mean() == pytest.approx(3.0, abs=0.02)
    assert reward[:, 0, 0].std() == pytest.approx(0.5, abs=0.01)
    assert reward[:, 1, 1].std() == pytest.approx(1.0, abs=0.02)


def test_the_bonus_of_beb_decides_by_hand() -> None:
    # action 0 was tried three times and has the mean reward 1.2, action 1 never and has 1: 1.2 + b/4 against 1 + b
    evidence = make_evidence(3, 3.8)
    assert make_beb(0.2)(evidence, 1, RNG)[0, 0, 0] == 0  # 1.25 against 1.2
    assert make_beb(0.3)(evidence, 1, RNG)[0, 0, 0] == 1  # 1.275 against 1.3


def test_the_width_of_ucrl2_decides_by_hand() -> None:
    # three steps so far, log(e + 3) = 1.744: 1.2 + c sqrt(1.744 / 3) = 1.2 + 0.762 c against 1 + 1.321 c
    evidence = make_evidence(3, 3.8)
    assert make_ucrl2(0.3)(evidence, 1, RNG)[0, 0, 0] == 0  # 1.429 against 1.396
    assert make_ucrl2(0.4)(evidence, 1, RNG)[0, 0, 0] == 1  # 1.505 against 1.528


def test_optimism_about_transitions_by_hand() -> None:
    # 0.2 of the radius 0.4 goes to the best state: from the worst, which has 0.1, and then from the middle one
    p = np.array([0.3, 0.6, 0.1])[None, None, None]
    mean = optimistic_mean(p, np.array([[[0.4]]]), np.array([[3.0, 2.0, 1.0]]))
    assert mean.item() == pytest.approx(0.5 * 3.0 + 0.5 * 2.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 2.5))
def test_optimism_about_transitions_is_the_best_of_its_region(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    p, value = rng.dirichlet(np.ones(4)), rng.standard_normal(4)
    found = optimistic_mean(p[None, None, None], np.array([[[radius]]]), value[None]).item()
    # maximise (p + u - v) V with u, v >= 0, sum u = sum v <= radius / 2, p + u - v >= 0
    eye, one = np.eye(4), np.ones(4)
    limits = np.vstack([np.hstack([-eye, eye]), np.concatenate([one, 0 * one])])
    best = linprog(np.concatenate([-value, value]), limits, [*p, radius / 2], [np.concatenate([one, -one])], [0.0])
    assert found == pytest.approx(p @ value - best.fun, abs=1e-7)


def test_without_uncertainty_all_of_them_solve_the_task() -> None:
    goals = draw_tabular_goals(4, np.random.default_rng(0), states=3, actions=2)
    tables = unpack_tables(goals, states=3, actions=2)
    seen = 1e12
    evidence = Evidence(seen * tables.transition.astype(np.float64), seen * tables.reward.astype(np.float64))
    best = solve_tabular(tables, 4)[1]
    for plan in (plan_psrl, plan_opsrl, make_beb(), make_ucrl2(), make_epsilon_greedy(0.0)):
        np.testing.assert_array_equal(plan(evidence, 4, np.random.default_rng(0)), best)


def test_a_share_of_the_actions_is_uniform() -> None:
    # of two actions, half of the uniform ones are the best one: 0.3 / 2 differ; 20000 entries, error 0.003
    actions = make_epsilon_greedy(0.3)(make_evidence(3, 11.0, tasks=10_000), 2, np.random.default_rng(0))
    assert (actions[:, :, 0] == 1).mean() == pytest.approx(0.15, abs=0.01)


def test_evidence_is_what_happened() -> None:
    # two states that alternate whatever one does; noise aside, state 0 pays 5 and state 1 pays -5
    transition = np.array([[0.0, 1.0], [1.0, 0.0]])[None, :, None].repeat(2, axis=2).repeat(3, axis=0)
    reward = np.array([[5.0, 5.0], [-5.0, -5.0]])[None].repeat(3, axis=0)
    goals = pack_tables(Tables(transition.astype(np.float32), reward.astype(np.float32)))
    kept = []

    def plan(evidence: Evidence, steps: int, rng: np.random.Generator) -> np.ndarray:
        kept.append(evidence.tried.copy())
        return np.tile([0, 1], (3, steps, 1))  # action 0 in state 0, 1 in state 1

    batch = TabularBatch(3, states=2, actions=2, episode_steps=3)
    returns = play_tabular(batch, goals, plan, 2, np.random.default_rng(0))
    assert kept[0].sum() == 0.0
    np.testing.assert_array_equal(kept[1], np.tile([[2.0, 0.0], [0.0, 1.0]], (3, 1, 1)))
    # 5 - 5 + 5, and the noise of three steps
    assert np.abs(returns - 5.0).max() < 8.0
    assert returns.shape == (3, 2)


def test_replanning_sees_what_the_episode_has_shown_and_what_is_left_of_it() -> None:
    goals = draw_tabular_goals(2, np.random.default_rng(0), states=2, actions=2)
    calls = []

    def plan(evidence: Evidence, steps: int, rng: np.random.Generator) -> np.ndarray:
        calls.append((float(evidence.tried[0].sum()), steps))
        # action 1 now, and 0 later, which is never reached
        return np.concatenate((np.ones((2, 1, 2), np.int64), np.zeros((2, steps - 1, 2), np.int64)), axis=1)

    batch = TabularBatch(2, states=2, actions=2, episode_steps=3)
    play_tabular(batch, goals, plan, 2, np.random.default_rng(0), replan=True)
    assert calls == [(0, 3), (1, 2), (2, 1), (3, 3), (4, 2), (5, 1)]
    last = []
    play_tabular(batch, goals, lambda e, n, r: (last.append(e.tried.copy()), plan(e, n, r))[1], 2, RNG, replan=True)
    assert last[-1][:, :, 0].sum() == 0.0


def test_replanning_pays() -> None:
    goals = draw_tabular_goals(400, np.random.default_rng(2))
    once, always = (
        play_tabular(TabularBatch(400), goals, make_beb(), 10, np.random.default_rng(3), replan=replan).sum(axis=1)
        for replan in (False, True)
    )
    assert (always - once).mean() > 7.0  # measured on 1024 tasks: 162 and 151.5; the error of a difference is 1.2


@pytest.mark.parametrize(
    ("plan", "published", "ours"),
    # Duan et al. 2016, Table 2, from an unknown number of tasks; None where ours does something else, and differs
    [
        (make_epsilon_greedy(1.0), 100.1, 100.0),  # ten episodes of ten rewards with the mean 1
        (plan_psrl, 138.1, 134.6),
        (plan_opsrl, None, 138.9),
        (make_beb(), 150.2, 151.5),
        (make_ucrl2(), None, 151.0),
    ],
)
def test_published_returns(plan: Plan, published: float | None, ours: float) -> None:
    goals = draw_tabular_goals(400, np.random.default_rng(2))
    returns = play_tabular(TabularBatch(400), goals, plan, 10, np.random.default_rng(3)).sum(axis=1)
    error = returns.std() / 400**0.5  # 1.3
    assert abs(returns.mean() - ours) < 3.5 * error
    assert published is None or abs(returns.mean() - published) < 3.5 * np.hypot(error, error)
