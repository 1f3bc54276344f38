import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import SpecError
from supple.robots.gridnavi import CANDIDATES, GridNaviBatch, draw_gridnavi_goals, make_gridnavi_tasks
from supple.robots.testing import RobotContract

STAY, UP, RIGHT, DOWN, LEFT = range(5)


class TestGridNaviContract(RobotContract):
    near_goal = (0.0, 1.0)
    far_goal = (4.0, 4.0)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> GridNaviBatch:
        return GridNaviBatch(rows, episode_steps=episode_steps)


def walk(goal: tuple[float, float], actions: list[int]) -> list[tuple[float, ...]]:
    """x, y and reward after each action."""
    batch, row = GridNaviBatch(1), np.arange(1)
    assert batch.reset(row, np.array([goal], np.float32), np.random.default_rng(0)).tolist() == [[0.0, 0.0]]
    steps = [batch.step(row, np.array([[action]], np.float32)) for action in actions]
    return [(*step.observation[0].tolist(), round(float(step.reward[0]), 6)) for step in steps]


def test_moves_walls_and_rewards_by_hand() -> None:
    assert walk((2, 1), [LEFT, DOWN, RIGHT, RIGHT, UP, STAY, DOWN, UP]) == [
        (0, 0, -0.1),  # the wall on the left
        (0, 0, -0.1),  # the wall below
        (1, 0, -0.1),
        (2, 0, -0.1),
        (2, 1, 1.0),  # the goal pays when it is entered,
        (2, 1, 1.0),  # and again for staying,
        (2, 0, -0.1),
        (2, 1, 1.0),  # and again when it is entered again
    ]
    assert walk((4, 4), [RIGHT] * 5 + [UP] * 5)[4:6] == [(4, 0, -0.1), (4, 1, -0.1)]
    assert walk((4, 4), [UP] * 5 + [RIGHT] * 5)[-2:] == [(4, 4, 1.0), (4, 4, 1.0)]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CANDIDATES), st.lists(st.integers(0, 4), min_size=15, max_size=15))
def test_walks_agree_with_a_plain_loop(goal: tuple[int, int], actions: list[int]) -> None:
    x = y = 0
    expected = []
    for action in actions:
        x += (action == RIGHT and x < 4) - (action == LEFT and x > 0)
        y += (action == UP and y < 4) - (action == DOWN and y > 0)
        expected.append((x, y, 1.0 if (x, y) == goal else -0.1))
    assert walk(goal, actions) == expected


def test_goals_are_the_21_cells_away_from_the_start() -> None:
    assert len(CANDIDATES) == len(set(CANDIDATES)) == 21
    assert not {(0, 0), (0, 1), (1, 0), (1, 1)} & set(CANDIDATES)
    drawn, counts = np.unique(draw_gridnavi_goals(21_000, np.random.default_rng(0)), axis=0, return_counts=True)
    assert {tuple(cell) for cell in drawn.astype(int).tolist()} == set(CANDIDATES)
    assert counts.min() > 850  # 1000 expected, standard deviation 31


def test_a_goal_between_cells_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^gridnavi reset: expected goal cells as whole numbers, got 2\.5;"):
        GridNaviBatch(1).reset(np.arange(1), np.array([[2.5, 1.0]], np.float32), np.random.default_rng(0))


def test_task_sets_divide_the_candidates() -> None:
    tasks = make_gridnavi_tasks(14, 7, 0)
    assert {task.goal for task in (*tasks.train, *tasks.test)} == {(float(x), float(y)) for x, y in CANDIDATES}


def test_spec() -> None:
    spec = GridNaviBatch(1).spec
    assert (spec.episode_steps, spec.choices) == (15, ("stay", "up", "right", "down", "left"))
    assert spec.observation.high.tolist() == [4.0, 4.0]
