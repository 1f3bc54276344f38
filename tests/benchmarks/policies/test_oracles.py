import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.policies.bandit_policies import choose_greedy, play_bandit
from benchmarks.policies.oracles import (
    bernoulli_bayes_return,
    gridnavi_bayes_returns,
    gridnavi_known_goal_return,
    gridnavi_search_plan,
    movement_bandit_optimal_returns,
    navigation_optimal_returns,
    solve_tabular,
)
from supple.errors import ConfigError
from supple.robots.bandits import BernoulliBanditBatch, draw_bernoulli_goals
from supple.robots.gridnavi import CANDIDATES, MOVES, GridNaviBatch
from supple.robots.movement_bandits import MovementBanditBatch
from supple.robots.navigation import (
    NAVIGATION_2D,
    POINT_ROBOT,
    SEMICIRCLE,
    SPARSE_SEMICIRCLE,
    Navigation,
    NavigationBatch,
    draw_navigation_goals,
)
from supple.robots.tabular import Tables, TabularBatch, draw_tabular_goals, unpack_tables

# Bandits


def test_two_arms_and_two_pulls_by_hand() -> None:
    # 1/2 now; after a success (1/2) the same arm pays 2/3, after a failure (1/2) the other one pays 1/2
    assert bernoulli_bayes_return(2, 2) == pytest.approx(1 / 2 + (2 / 3 + 1 / 2) / 2)
    assert bernoulli_bayes_return(1, 7) == pytest.approx(3.5)  # one arm: nothing to choose


def test_published_bandit_is_not_beaten_and_nearly_reached() -> None:
    # Duan et al. 2016, Table 1, 10 pulls and 5 arms: the best two, RL2 and UCB1, reach 6.7, rounded
    best = bernoulli_bayes_return(5, 10)
    assert best == pytest.approx(6.66, abs=0.005)
    goals = draw_bernoulli_goals(20_000, np.random.default_rng(0))
    batch = BernoulliBanditBatch(20_000, episode_steps=10)
    greedy = play_bandit(batch, goals, choose_greedy, np.random.default_rng(1)).mean()
    assert 6.5 < greedy < best + 0.05  # the standard error of the mean is 0.014


def test_more_arms_and_pulls_are_worth_more() -> None:
    by_arms = [bernoulli_bayes_return(arms, 6) for arms in range(1, 6)]
    assert by_arms == sorted(by_arms)
    by_pulls = [bernoulli_bayes_return(3, pulls) / pulls for pulls in range(1, 8)]
    assert by_pulls == sorted(by_pulls)
    assert by_pulls[-1] < 3 / 4  # the expected best of three uniform arms
    with pytest.raises(ConfigError, match=r"at least 1 arm and 1 pull, got 0 and 5;"):
        bernoulli_bayes_return(0, 5)


# Tabular MDPs


def test_backward_induction_by_hand() -> None:
    # state 0: action 0 pays 1 and stays, action 1 pays 0 and goes to state 1; state 1 pays 3 and stays, for any action
    transition = np.array([[[[1, 0], [0, 1]], [[0, 1], [0, 1]]]], np.float32)
    tables = Tables(transition, np.array([[[1, 0], [3, 3]]], np.float32))
    value, actions = solve_tabular(tables, 3)
    assert value.tolist() == [[6.0, 9.0]]  # 0 + 3 + 3, better than 1 + 0 + 3
    assert actions[0, :, 0].tolist() == [1, 1, 0]  # with one step left going pays nothing
    assert solve_tabular(tables, 1)[0].tolist() == [[1.0, 3.0]]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_backward_induction_agrees_with_all_policies(seed: int) -> None:
    tables = unpack_tables(draw_tabular_goals(1, np.random.default_rng(seed), states=2, actions=2), states=2, actions=2)
    transition, reward = (table[0].astype(np.float64) for table in tables)
    best = -np.inf
    for plan in itertools.product(range(2), repeat=6):  # 3 steps of 2 states
        value = np.zeros(2)
        for choice in np.reshape(plan, (3, 2)):
            value = reward[range(2), choice] + transition[range(2), choice] @ value
        best = max(best, value[0])
    assert solve_tabular(tables, 3)[0][0, 0] == pytest.approx(best)


def test_the_best_actions_earn_their_value_in_the_robot() -> None:
    goals = np.repeat(draw_tabular_goals(1, np.random.default_rng(0)), 4000, axis=0)
    value, actions = solve_tabular(unpack_tables(goals[:1]), 10)
    batch, rows = TabularBatch(4000), np.arange(4000)
    observation = batch.reset(rows, goals, np.random.default_rng(1))
    total = np.zeros(4000)
    for step in range(10):
        choice = actions[0, step, observation.argmax(axis=1)]
        observation, reward, *_ = batch.step(rows, choice[:, None].astype(np.float32))
        total += reward
    assert abs(total.mean() - value[0, 0]) < 5.0 * total.std() / np.sqrt(4000)


# GridNavi


def follow(cells: tuple[tuple[int, int], ...], goal: tuple[int, int]) -> tuple[float, bool]:
    """Return of walking along cells until one pays and staying there, and whether one paid, in the robot itself."""
    batch, row = GridNaviBatch(1), np.arange(1)
    at = batch.reset(row, np.array([goal], np.float32), np.random.default_rng(0))[0]
    total, found = 0.0, False
    for step in range(15):
        move = np.zeros(2) if found or step >= len(cells) else np.array(cells[step]) - at
        action = int(np.flatnonzero((move == MOVES).all(axis=1))[0])
        result = batch.step(row, np.array([[action]], np.float32))
        at, total = result.observation[0], total + float(result.reward[0])
        found = found or result.reward[0] > 0.0
    return total, found


def test_the_search_reaches_both_bounds_in_the_robot() -> None:
    plan = gridnavi_search_plan()
    first, second = [], []
    for goal in CANDIDATES:
        one, found = follow(plan[0], goal)
        shortest = tuple((x, 0) for x in range(1, goal[0] + 1))
        shortest += tuple((goal[0], y) for y in range(1, goal[1] + 1))
        other, found_again = follow(shortest if found else plan[1], goal)
        first.append(one)
        second.append(other)
        assert found_again
        assert other == pytest.approx(gridnavi_known_goal_return(np.array([goal]))[0], abs=1e-5)
    # one new candidate at each of the steps 2 .. 15, found at step t: 16.1 - 1.1 t; never, for 7 of 21: -1.5;
    # (14 * 16.1 - 1.1 * 119 - 7 * 1.5) / 21 = 84 / 21
    assert np.mean(first) == pytest.approx(4.0, abs=1e-5)
    # the 21 distances sum to 96: 16.1 - 1.1 * 96 / 21
    assert np.mean(second) == pytest.approx(16.1 - 1.1 * 96 / 21, abs=1e-5)
    assert gridnavi_bayes_returns(4) == pytest.approx([4.0, 11.0714, 11.0714, 11.0714], abs=1e-4)
    assert gridnavi_bayes_returns(1).shape == (1,)


def test_the_first_episode_visits_a_new_candidate_at_each_step() -> None:
    first, _ = gridnavi_search_plan()
    assert len(first) == 15
    assert first[0] not in CANDIDATES
    assert len(set(first[1:]) & set(CANDIDATES)) == 14


def test_known_goal_at_the_start_pays_at_every_step() -> None:
    assert gridnavi_known_goal_return(np.array([[0, 0], [0, 1], [4, 4]])).tolist() == pytest.approx([15.0, 15.0, 7.3])


# Navigation


def test_published_optimal_returns() -> None:
    # the numbers of a planner and of simulations with 100 goals: -0.51, -3.85, 13.36 and -5.17
    middle = (np.arange(60) + 0.5) / 60.0 - 0.5
    square = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
    angle = np.pi * (np.arange(2000) + 0.5) / 2000
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert navigation_optimal_returns(NAVIGATION_2D, 0.0 * square, square).mean() == pytest.approx(-0.506, abs=0.002)
    assert navigation_optimal_returns(SEMICIRCLE, 0.0 * circle, circle).mean() == pytest.approx(-3.840, abs=0.002)
    assert navigation_optimal_returns(SPARSE_SEMICIRCLE, 0.0 * circle, circle).mean() == pytest.approx(13.38, abs=0.01)
    starts, goals = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 40_000, 2))
    # the returns spread by 4.7: standard error 0.024
    assert navigation_optimal_returns(POINT_ROBOT, starts, goals).mean() == pytest.approx(-5.18, abs=0.07)


@pytest.mark.parametrize("variant", [NAVIGATION_2D, POINT_ROBOT, SEMICIRCLE, SPARSE_SEMICIRCLE])
def test_optimal_returns_are_those_of_going_straight(variant: Navigation) -> None:
    batch, rows = NavigationBatch(variant, 4000), np.arange(4000)
    goals = draw_navigation_goals(variant, 4000, np.random.default_rng(0))
    position = batch.reset(rows, goals, np.random.default_rng(1))
    optimal = navigation_optimal_returns(variant, position, goals)
    total, running = np.zeros(4000), np.ones(4000, np.bool_)
    for _ in range(variant.episode_steps):
        position, reward, terminated, *_ = batch.step(rows, (goals - position) / np.float32(0.1))
        total += running * reward
        running &= ~terminated
    # float32 against float64: a few points lie on a rim on one side or the other
    assert np.mean(np.abs(total - optimal) > 1e-4) < 2e-3


def test_optimal_returns_by_hand() -> None:
    goals = np.array([[0.25, 0.1], [0.0, 0.005]])
    # distances (.15, 0), (.05, 0), (0, 0): the end; the second goal is reached at once, at distance 0
    assert navigation_optimal_returns(NAVIGATION_2D, np.zeros((2, 2)), goals) == pytest.approx([-0.2, 0.0])
    # .35 away on one axis: outside after one step, then 1 - .15, 1 - .05 and 17 times 1
    assert navigation_optimal_returns(SPARSE_SEMICIRCLE, np.zeros((1, 2)), [[0.35, 0.0]]) == pytest.approx([18.8])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([NAVIGATION_2D, POINT_ROBOT, SEMICIRCLE, SPARSE_SEMICIRCLE]), st.integers(0, 1000))
def test_no_action_sequence_beats_the_optimum(variant: Navigation, seed: int) -> None:
    rng, rows = np.random.default_rng(seed), np.arange(64)
    batch = NavigationBatch(variant, 64)
    goals = draw_navigation_goals(variant, 64, rng)
    position = batch.reset(rows, goals, rng)
    optimal = navigation_optimal_returns(variant, position, goals)
    total, running = np.zeros(64), np.ones(64, np.bool_)
    for _ in range(variant.episode_steps):
        noise = 0.3 * rng.standard_normal((64, 2))
        position, reward, terminated, *_ = batch.step(rows, ((goals - position) / 0.1 + noise).astype(np.float32))
        total += running * reward
        running &= ~terminated
    assert (total <= optimal + 1e-3).all()


# MovementBandits


def test_places_that_pay_by_hand() -> None:
    # at the start; 49 away: pays at once; 51 away: one move; (100, 100) away: (60, 80) is 3 + 4 moves off, sqrt(2000) =
    # 44.7 away from it, and (60, 60) after 6 moves is 56.6 away: the first 6 of the 50 steps pay nothing
    points = 200.0 + np.array([[0.0, 0.0], [49.0, 0.0], [51.0, 0.0], [100.0, 100.0]])
    assert movement_bandit_optimal_returns(points).tolist() == [50.0, 50.0, 50.0, 44.0]


def test_published_optimum_of_movement_bandits() -> None:
    middle = (np.arange(100) + 0.5) * 4.0  # the midpoints of 100 x 100 squares
    points = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(100, 100, 2)
    mean = np.mean([movement_bandit_optimal_returns(row) for row in points])
    assert mean == pytest.approx(43.81, abs=0.05)


def test_a_search_over_all_short_ways_agrees() -> None:
    # breadth first in the robot itself: a return of 50 - k + 1 means that k moves are enough and k - 1 are not
    points = np.array([[260.0, 275.0], [120.0, 190.0], [200.0, 300.0]])
    optimal = movement_bandit_optimal_returns(points)
    batch = MovementBanditBatch(1)
    for point, value in zip(points, optimal, strict=True):
        paid = [
            moves
            for moves in range(6)
            for x, y in itertools.product(range(-moves, moves + 1), repeat=2)
            if abs(x) + abs(y) == moves and _pays(batch, 200.0 + 20.0 * np.array([x, y]), point)
        ]
        assert value == 50 - max(min(paid) - 1, 0)


def _pays(batch: MovementBanditBatch, position: np.ndarray, point: np.ndarray) -> bool:
    observation = np.concatenate([position, point, point]) / 400.0
    return bool(batch.compute_reward(observation.astype(np.float32), np.zeros((1, 1), np.float32))[0][0] > 0.0)
