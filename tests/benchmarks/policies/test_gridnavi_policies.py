from itertools import permutations

import numpy as np
import pytest

from benchmarks.policies.gridnavi_policies import (
    PRIOR,
    Search,
    aim_bayes_optimally,
    aim_by_posterior_sampling,
    play_gridnavi,
    update_belief,
)
from benchmarks.policies.oracles import gridnavi_bayes_returns
from supple.robots.gridnavi import CANDIDATES, CELLS, EPISODE_STEPS, GridNaviBatch

COPIES = 100


def play(aim: object, episodes: int = 4) -> Search:
    goals = np.tile(np.array(CANDIDATES, np.float32), (COPIES, 1))
    return play_gridnavi(GridNaviBatch(len(goals)), goals, aim, episodes, np.random.default_rng(0))  # type: ignore[arg-type]


def expected_first_return() -> float:
    """Of posterior sampling: all goals, all draws, all shortest ways, each equally likely."""
    total = 0.0
    for x, y in CANDIDATES:
        ways = set(permutations([(1, 0)] * x + [(0, 1)] * y))
        for way in ways:
            cells = np.cumsum(way, axis=0).tolist()
            cells += [[x, y]] * (EPISODE_STEPS - len(cells))
            for goal in CANDIDATES:
                found = cells.index(list(goal)) if list(goal) in cells else EPISODE_STEPS
                total += (-0.1 * found + EPISODE_STEPS - found) / len(ways)
    return total / len(CANDIDATES) ** 2


def test_belief_by_hand() -> None:
    assert PRIOR.sum() == pytest.approx(1.0)
    # cells (0, 2) and (4, 4) do not pay and pay
    after = update_belief(np.tile(PRIOR, (2, 1)), np.array([2, 24]), np.array([False, True]))
    assert after[0, 2] == 0.0
    assert after[0, 24] == pytest.approx(1 / 20)
    assert after[1].tolist() == [0.0] * 24 + [1.0]


def test_the_search_earns_the_exact_optimum() -> None:
    # each goal stands as often as another and nothing is random, so that the mean is the expectation
    returns = play(aim_bayes_optimally).reward.sum(axis=1).mean(axis=1)
    np.testing.assert_allclose(returns, gridnavi_bayes_returns(4), atol=1e-5)


def test_posterior_sampling_earns_what_all_ways_earn_on_average() -> None:
    returns = play(aim_by_posterior_sampling, 6).reward.sum(axis=1)
    error = returns.std(axis=1) / returns.shape[1] ** 0.5
    assert abs(returns[0].mean() - expected_first_return()) < 3.0 * error[0]
    # computed by another program, with ways of its own choice where several are shortest: 0.51, 2.22, 3.78, 5.08 ...;
    # which ways are taken moves the returns by up to 0.2
    computed = (0.51, 2.22, 3.78, 5.08, 6.29, 7.33)
    assert (np.abs(returns.mean(axis=1) - computed) < 3.0 * error + 0.2).all()


def test_a_row_is_told_by_its_own_cells() -> None:
    search = play(aim_by_posterior_sampling, 2)
    goals = np.tile([CELLS * x + y for x, y in CANDIDATES], COPIES)
    paid = search.cell[:, 1:] == goals
    np.testing.assert_allclose(search.reward, np.where(paid, 1.0, -0.1), atol=1e-6)
    np.testing.assert_allclose(search.belief.sum(axis=-1), 1.0)
    # the goal is never ruled out, and known from the step on in which it pays
    own = np.take_along_axis(search.belief, goals[None, None, :, None], axis=-1)[..., 0]
    assert (own > 0.0).all()
    known = np.maximum.accumulate(np.concatenate(paid), axis=0)
    np.testing.assert_array_equal(np.concatenate(own[:, 1:]) == 1.0, known)
    # what is known at the end of an episode is known at the begin of the next
    np.testing.assert_array_equal(search.belief[1, 0], search.belief[0, -1])
    assert (search.cell[:, 0] == 0).all()


def test_every_drawn_goal_is_reached_unless_the_true_one_is_found_first() -> None:
    search = play(aim_by_posterior_sampling, 1)
    ends = np.unique(search.cell[0, -1])
    np.testing.assert_array_equal(ends, np.flatnonzero(PRIOR))
    steps = np.abs(np.diff(np.stack(np.divmod(search.cell[0], CELLS)), axis=1)).sum(axis=0)
    assert steps.max() == 1  # one cell at a time, as far as 8 moves
    assert steps.sum(axis=0).max() == 8
