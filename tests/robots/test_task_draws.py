import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.task import goals_of
from supple.robots.task_draws import draw_tasks, split_tasks

SEEDS = st.integers(0, 2**32 - 1)
TEN = np.arange(20, dtype=np.float32).reshape(10, 2)


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((count, 3), np.float32)


@given(st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_draws_of_a_split_do_not_depend_on_the_other(num_train: int, num_test: int, seed: int) -> None:
    few, many = draw_tasks("toy", draw, 1, num_test, seed), draw_tasks("toy", draw, num_train, num_test + 1, seed)
    assert many.test[:num_test] == few.test
    assert many.train[0] == few.train[0]
    assert len({task.goal for task in (*many.train, *many.test)}) == num_train + num_test + 1


def test_goals_come_back_to_the_bit() -> None:
    tasks = draw_tasks("toy", draw, 4, 2, 7)
    train, test = (np.random.default_rng(source) for source in np.random.SeedSequence(7).spawn(2))
    assert np.array_equal(goals_of(tasks.train), draw(4, train))
    assert np.array_equal(goals_of(tasks.test), draw(2, test))
    assert tasks.name == "toy-4-2-7"
    assert [task.name for task in tasks.test] == ["test0", "test1"]


@given(SEEDS)
def test_a_goal_that_was_drawn_before_is_drawn_again(seed: int) -> None:
    def roll(count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 12, (count, 1)).astype(np.float32)

    tasks = draw_tasks("dice", roll, 5, 3, seed)
    assert len({task.goal for task in (*tasks.train, *tasks.test)}) == 8
    assert draw_tasks("dice", roll, 1, 3, seed).test == tasks.test


def test_a_distribution_of_one_goal_is_refused() -> None:
    with pytest.raises(SpecError, match=r"expected distinct goals, got .* for both 'train0' and 'test0'"):
        draw_tasks("toy", lambda count, rng: np.ones((count, 1), np.float32), 1, 1, 0)


@given(st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_splits_divide_the_list(num_train: int, num_test: int, seed: int) -> None:
    tasks, all_tasks = split_tasks("toy", TEN, num_train, num_test, seed), split_tasks("toy", TEN, 5, num_test, seed)
    chosen = {task.goal for task in (*tasks.train, *tasks.test)}
    assert (len(tasks.train), len(tasks.test), len(chosen)) == (num_train, num_test, num_train + num_test)
    assert chosen <= {tuple(goal) for goal in TEN.tolist()}
    assert tasks.test == all_tasks.test


def test_more_tasks_than_goals_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^toy tasks: expected at most 10 tasks, got 8 train \+ 3 test;"):
        split_tasks("toy", TEN, 8, 3, 0)
    with pytest.raises(SpecError, match=r"at least one test task"):
        split_tasks("toy", TEN, 8, 0, 0)
