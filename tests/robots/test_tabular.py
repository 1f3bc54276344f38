import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.tabular import (
    Tables,
    TabularBatch,
    draw_tabular_goals,
    make_tabular_tasks,
    pack_tables,
    unpack_tables,
)
from supple.robots.testing import RobotContract

SMALL = {"states": 3, "actions": 2}


def cycle(count: int, reward: float = 0.0) -> np.ndarray:
    """Goals of MDPs of 3 states where action 0 stays and action 1 goes to the next state; rewards 10 s + a + reward."""
    transition = np.zeros((count, 3, 2, 3), np.float32)
    for state in range(3):
        transition[:, state, 0, state] = transition[:, state, 1, (state + 1) % 3] = 1.0
    table = 10.0 * np.arange(3)[:, None] + np.arange(2) + reward
    return pack_tables(Tables(transition, np.tile(table.astype(np.float32), (count, 1, 1))))


class TestTabularContract(RobotContract):
    near_goal = tuple(cycle(1, reward=1.0)[0].tolist())
    far_goal = tuple(draw_tabular_goals(1, np.random.default_rng(0), **SMALL)[0].tolist())
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> TabularBatch:
        return TabularBatch(rows, **SMALL, episode_steps=episode_steps)


def test_actions_follow_the_tables() -> None:
    batch, rows = TabularBatch(300, **SMALL), np.arange(300)
    assert batch.reset(rows, cycle(300), np.random.default_rng(0)).tolist() == [[1.0, 0.0, 0.0]] * 300
    # (action, state after, mean reward 10 s + a of the state before)
    for action, state, mean in ((1, 1, 1.0), (0, 1, 10.0), (1, 2, 11.0), (1, 0, 21.0), (0, 0, 0.0)):
        step = batch.step(rows, np.full((300, 1), action, np.float32))
        assert np.array_equal(step.observation, np.tile(np.eye(3)[state], (300, 1)))
        noise = step.reward - mean
        assert abs(noise.mean()) < 0.25  # 300 rows: standard deviation 0.06
        assert abs(noise.std() - 1.0) < 0.2


def test_noise_is_drawn_at_the_reset_and_does_not_depend_on_the_tables() -> None:
    rewards = []
    for shift in (0.0, 4.0):
        batch, rows = TabularBatch(5, **SMALL), np.arange(5)
        batch.reset(rows, cycle(5, shift), np.random.default_rng(1))
        rewards.append([batch.step(rows, np.ones((5, 1), np.float32)).reward for _ in range(10)])
    assert np.allclose(np.array(rewards[1]) - rewards[0], 4.0, atol=1e-5)
    rng = np.random.default_rng(1)
    rng.random((5, 10), np.float32)  # the transitions
    noise = rng.standard_normal((5, 10), np.float32)
    means = [1.0, 11.0, 21.0] * 4  # action 1 goes round: 10 s + 1
    assert np.allclose(rewards[0], noise.T + np.array(means[:10])[:, None], atol=1e-5)


def test_transitions_are_as_frequent_as_the_table_says() -> None:
    tables = Tables(
        np.tile(np.array([0.1, 0.0, 0.9], np.float32), (20_000, 3, 2, 1)), np.zeros((20_000, 3, 2), np.float32)
    )
    batch, rows = TabularBatch(20_000, **SMALL), np.arange(20_000)
    batch.reset(rows, pack_tables(tables), np.random.default_rng(2))
    for _ in range(2):
        share = batch.step(rows, np.zeros((20_000, 1), np.float32)).observation.mean(axis=0)
        assert share[1] == 0.0  # a state of probability 0 is never reached
        assert abs(share[0] - 0.1) < 0.01  # standard deviation 0.002


def test_probabilities_that_round_to_less_than_one_reach_the_last_state() -> None:
    transition = np.tile(np.array([0.0, 0.0, 0.99991], np.float32), (20_000, 3, 2, 1))
    batch, rows = TabularBatch(20_000, **SMALL), np.arange(20_000)
    goals = pack_tables(Tables(transition, np.zeros((20_000, 3, 2), np.float32)))
    batch.reset(rows, goals, np.random.default_rng(3))
    for _ in range(10):  # 200 000 draws, of which 18 are expected above 0.99991
        assert (batch.step(rows, np.zeros((20_000, 1), np.float32)).observation == [0.0, 0.0, 1.0]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 100))
def test_any_size_runs_and_packs(states: int, actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    goals = draw_tabular_goals(4, rng, states=states, actions=actions)
    tables = unpack_tables(goals, states=states, actions=actions)
    assert tables.transition.shape == (4, states, actions, states)
    assert np.array_equal(pack_tables(tables), goals)
    batch, rows = TabularBatch(4, states=states, actions=actions), np.arange(4)
    batch.reset(rows, goals, rng)
    for _ in range(10):
        step = batch.step(rows, rng.integers(actions, size=(4, 1)).astype(np.float32))
        assert step.observation.sum(axis=1).tolist() == [1.0] * 4


def test_tables_that_are_no_probabilities_are_refused() -> None:
    goals = cycle(2)
    goals[1, 3 * 2 + 2 * 3 + 1] = 0.25  # P[2, 0, 1] = 0.25 beside P[2, 0, 2] = 1 is at (2 * 2 + 0) * 3 + 1 = 13
    batch = TabularBatch(2, **SMALL)
    with pytest.raises(SpecError, match=r"^tabular reset: .* sum to 1, got 1\.25 for state 2 and action 0;"):
        batch.reset(np.arange(2), goals, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"^tabular states: expected at least 1, got 0;"):
        TabularBatch(1, states=0)


def test_published_sizes_and_distributions() -> None:
    spec = TabularBatch(1).spec
    assert (spec.observation.shape, len(spec.choices), spec.episode_steps) == ((10,), 5, 10)
    assert spec.goal.shape == (10 * 5 * 10 + 10 * 5,)
    tables = unpack_tables(draw_tabular_goals(500, np.random.default_rng(0)))
    assert np.allclose(tables.transition.sum(axis=-1), 1.0, atol=1e-6)
    # flat Dirichlet over 10: mean 1/10, variance 9 / (100 * 11)
    assert abs(tables.transition.var() - 9 / 1100) < 2e-4
    assert abs(tables.reward.mean() - 1.0) < 0.03  # 25 000 draws: standard deviation 0.006
    assert abs(tables.reward.std() - 1.0) < 0.03


def test_task_sets_fit_the_robot() -> None:
    tasks, batch = make_tabular_tasks(3, 2, 5), TabularBatch(5)
    goals = np.array([task.goal for task in (*tasks.train, *tasks.test)], np.float32)
    batch.reset(np.arange(5), goals, np.random.default_rng(0))
