from dataclasses import replace

import numpy as np
import pytest

from benchmarks.policies.krazy_exploration import KrazyRecorder
from supple.errors import SpecError
from supple.robots.krazy_boards import KrazyConfig, parse_board
from supple.robots.krazy_world import KrazyBatch
from supple.robots.testing import RobotContract

CONFIG = replace(
    KrazyConfig(size=3, num_goals=1, min_goal_distance=1),
    shuffle_palette=False,
    death_fraction=0.0,
    num_teleporters=0,
    num_locks=0,
    energy=None,
)
BOARDS = {3: parse_board("SG. D.I ..."), 8: parse_board("SWG WW. ...")}
UP, DOWN, LEFT, RIGHT = range(4)
RNG = np.random.default_rng(0)
"""Nothing is drawn from it."""


def make_recorder(rows: int) -> KrazyRecorder:
    return KrazyRecorder(KrazyBatch(CONFIG, rows, boards=BOARDS), 3)


class TestContract(RobotContract):
    """One row, so that every reset begins a round."""

    near_goal = (3.0,)
    far_goal = (8.0,)
    max_rows = 1
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> KrazyRecorder:
        return KrazyRecorder(KrazyBatch(CONFIG, rows, episode_steps=episode_steps, boards=BOARDS), 3)


def play(recorder: KrazyRecorder, actions: list[int]) -> None:
    rows, goals = np.arange(2), np.array([[3.0], [8.0]], np.float32)
    recorder.reset(rows, goals, RNG)
    for action in actions:
        result = recorder.step(rows, np.full((len(rows), 1), action, np.float32))
        rows = rows[~result.terminated]


def test_each_episode_by_hand() -> None:
    recorder = make_recorder(2)
    play(recorder, [RIGHT, LEFT, LEFT])  # row 0: goal, back, against the border; row 1: against wall and border
    play(recorder, [DOWN, UP])  # row 0 dies; row 1 runs into the wall below, then into the border
    found = recorder.explored()
    # row 0 has normal, goal, ice, death: 2 of 4, then normal and death, then 3 of 4 in all; row 1: normal, goal, wall
    np.testing.assert_allclose(found.kinds, [[2 / 4, 2 / 3], [2 / 4, 2 / 3]])
    np.testing.assert_allclose(found.kinds_so_far, [[2 / 4, 2 / 3], [3 / 4, 2 / 3]])
    assert found.deaths.tolist() == [[0, 0], [1, 0]]
    assert found.goals.tolist() == [[1, 0], [0, 0]]
    # start, goal, start, start; then start and the death tile below it, where it ends
    assert found.visits[:, 0].tolist() == [[3, 1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0, 0]]
    assert found.visits[:, 1].tolist() == [[4, 0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0, 0]]


def test_refusals() -> None:
    recorder = make_recorder(2)
    with pytest.raises(SpecError, match="recorder: expected at least one episode, got none; reset and step it first"):
        recorder.explored()
    with pytest.raises(SpecError, match="expected all 2 rows to begin an episode together, got 1; make the batch"):
        recorder.reset(np.array([0]), np.array([[3.0]], np.float32), RNG)
