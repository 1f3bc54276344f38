import itertools

import numpy as np
import pytest

from benchmarks.policies.bandit_index import MAX_PULLS, gittins_indices, make_bayes_optimal, make_gittins
from benchmarks.policies.bandit_policies import Choose, play_bandit
from benchmarks.policies.oracles import bernoulli_bayes_return
from supple.errors import ConfigError
from supple.robots.bandits import BernoulliBanditBatch, draw_bernoulli_goals

RNG = np.random.default_rng(0)
"""Nothing is drawn from it."""


def value_of(choose: Choose, arms: int, pulls: int) -> float:
    """Exact expected sum of rewards of a policy without noise, by all outcomes."""

    def value(won: tuple[int, ...], lost: tuple[int, ...], left: int) -> float:
        if left == 0:
            return 0.0
        (arm,) = choose(np.array([won], np.float64), np.array([lost], np.float64), RNG)
        mean = (won[arm] + 1) / (won[arm] + lost[arm] + 2)
        after = [tuple(n + (k == arm) for k, n in enumerate(counts)) for counts in (won, lost)]
        return float(mean * (1.0 + value(after[0], lost, left - 1)) + (1.0 - mean) * value(won, after[1], left - 1))

    return value((0,) * arms, (0,) * arms, pulls)


def test_index_by_hand() -> None:
    index = gittins_indices(3)
    # the last pull is worth the posterior mean
    np.testing.assert_allclose(index[0, :2, :2], [[1 / 2, 1 / 3], [2 / 3, 1 / 2]], atol=2e-3)
    # two pulls, nothing seen: 1/2 - x + 1/2 (2/3 - x) = 0 at x = 5/9
    assert index[1, 0, 0] == pytest.approx(5 / 9, abs=2e-3)
    # one success seen: 2/3 - x + 2/3 (3/4 - x) = 0 at x = 7/10
    assert index[1, 1, 0] == pytest.approx(7 / 10, abs=2e-3)
    # three pulls: after a success 2/3 - x + 2/3 (3/4 - x), so 1/2 - x + 1/2 (7/6 - 5/3 x) = 0 at x = 13/22
    assert index[2, 0, 0] == pytest.approx(13 / 22, abs=2e-3)


def test_an_unknown_arm_is_worth_more_the_more_pulls_are_left() -> None:
    index = gittins_indices(30)
    assert (np.diff(index[:, 0, 0]) > 0.0).all()
    # and more than its mean, by less the more is known of it
    left = 9
    above_mean = [index[left, seen, seen] - 0.5 for seen in range(5)]
    assert (np.array(above_mean) > 0.0).all()
    assert (np.diff(above_mean) < 0.0).all()


@pytest.mark.parametrize(("arms", "pulls"), [(2, 5), (3, 4)])
def test_bayes_optimal_play_has_the_bayes_optimal_value(arms: int, pulls: int) -> None:
    best = bernoulli_bayes_return(arms, pulls)
    assert value_of(make_bayes_optimal(pulls), arms, pulls) == pytest.approx(best, abs=1e-12)
    # the index comes close, from below
    index = value_of(make_gittins(pulls), arms, pulls)
    assert 0.998 * best < index <= best + 1e-12


def test_best_of_three_pulls_by_hand() -> None:
    # one arm pays as well as another: 1/2; then stay after a success (2/3 against 1/2), change after a failure
    choose = make_bayes_optimal(3)
    for won, lost, arm in ([(0, 0), (0, 0), 0], [(0, 1), (0, 0), 1], [(0, 0), (1, 0), 1], [(1, 0), (0, 1), 0]):
        assert choose(np.array([won], np.float64), np.array([lost], np.float64), RNG).tolist() == [arm]


def test_arms_do_not_differ_before_the_first_pull() -> None:
    choose = make_bayes_optimal(4)
    wins = np.array(list(itertools.permutations([0.0, 1.0, 2.0])))
    # the arm with two successes in two pulls, wherever it stands
    np.testing.assert_array_equal(choose(wins, np.zeros((6, 3)), RNG), wins.argmax(axis=1))


@pytest.mark.parametrize(
    ("pulls", "published", "exact"),
    # Duan et al. 2016, Table 1; theirs of 1000 tasks have standard errors of 0.06 and 0.5
    [(10, 6.6, 6.66), (100, 78.3, None)],
)
def test_published_returns(pulls: int, published: float, exact: float | None) -> None:
    goals = draw_bernoulli_goals(4000, np.random.default_rng(2))
    batch = BernoulliBanditBatch(4000, episode_steps=pulls)
    returns = play_bandit(batch, goals, make_gittins(pulls), np.random.default_rng(3))
    # tasks whose best arms pay more than 5/6 on average have larger returns: take off what that explains
    best = pulls * (goals.max(axis=1) - 5 / 6)
    returns = returns - best * np.cov(returns, best)[0, 1] / best.var()
    error = returns.std() / 4000**0.5
    assert abs(returns.mean() - published) < 3.0 * np.hypot(error, 0.06 if pulls == 10 else 0.5)
    if exact is not None:
        assert abs(returns.mean() - exact) < 3.0 * error


def test_horizons_out_of_range_are_refused() -> None:
    for pulls in (0, MAX_PULLS + 1):
        with pytest.raises(ConfigError, match=f"gittins pulls: expected 1 .. 200, got {pulls}; use another policy"):
            make_gittins(pulls)
