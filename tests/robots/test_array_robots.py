import numpy as np
import pytest

from supple.errors import ConfigError, SpecError
from supple.robots.array_robots import require_whole
from supple.robots.gridnavi import GridNaviBatch
from supple.robots.navigation import POINT_ROBOT, NavigationBatch

GOALS = np.array([[4.0, 4.0], [2.0, 0.0]], np.float32)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^gridnavi rows: expected at least 1, got 0;"):
        GridNaviBatch(0)


def test_an_episode_that_is_over_is_refused_and_moves_nothing() -> None:
    batch = GridNaviBatch(2, episode_steps=3)
    rows, right = np.arange(2), np.full((2, 1), 2.0, np.float32)
    batch.reset(rows, GOALS, np.random.default_rng(0))
    batch.step(rows[1:], right[1:])
    batch.step(rows[1:], right[1:])
    assert batch.step(rows[1:], right[1:]).truncated.tolist() == [True]
    with pytest.raises(SpecError, match=r"^gridnavi step: expected a running episode, got row 1 after its 3 steps;"):
        batch.step(rows, right)
    step = batch.step(rows[:1], right[:1])  # row 0 has not moved with the refused call
    assert step.observation.tolist() == [[1.0, 0.0]]
    assert not step.truncated.any()


def test_continuous_actions_are_clipped_per_axis() -> None:
    batch = NavigationBatch(POINT_ROBOT, 1)
    start = batch.reset(np.arange(1), np.zeros((1, 2), np.float32), np.random.default_rng(0))
    step = batch.step(np.arange(1), np.array([[-7.0, 0.5]], np.float32))
    assert np.allclose(step.observation - start, [[-0.1, 0.05]], atol=1e-6)  # -7 counts as -1, each times 0.1


def test_require_whole_names_the_first_fraction() -> None:
    assert require_whole(np.array([[2.0, -3.0]], np.float32), "cells", "run").tolist() == [[2, -3]]
    with pytest.raises(SpecError, match=r"^run: expected cells as whole numbers, got 0\.25; round it"):
        require_whole(np.array([[2.0, 0.25], [0.5, 1.0]], np.float32), "cells", "run")
