"""The planner of Krazy World: what it knows by hand, and what it takes on boards whose best tours are known."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.policies.krazy_policies import BoardMap, can_be_planned, play_krazy
from supple.errors import ConfigError
from supple.robots.krazy_boards import (
    DEATH,
    GOAL,
    ICE,
    KRAZY_PRESETS,
    LOCK,
    NORMAL,
    OUTSIDE,
    TELEPORTER,
    UNIT_MOVES,
    WALL,
    KrazyConfig,
    parse_board,
)
from supple.robots.krazy_world import KrazyBatch

SMALL = replace(KRAZY_PRESETS["5x5"], shuffle_palette=False)
UP, DOWN, LEFT, RIGHT = range(4)
CORNER = 0
"""Place of the upper left cell."""


def play(
    drawing: str,
    config: KrazyConfig = SMALL,
    episodes: int = 2,
    *,
    looking_episodes: int = 0,
    moves: np.ndarray = UNIT_MOVES,
) -> list[float]:
    config = replace(config, size=len(drawing.split()))
    batch = KrazyBatch(config, 1, episode_steps=20, boards={7: parse_board(drawing, moves=moves)})
    goals = np.array([[7.0]], np.float32)
    return play_krazy(batch, goals, config, episodes, looking_episodes=looking_episodes)[0].tolist()


def make_map(*seen: tuple[int, int, int]) -> BoardMap:
    """A map of 5 x 5 cells of which (row, column, kind) were seen."""
    board = BoardMap(SMALL)
    for row, column, kind in seen:
        board.kinds[board.cell(5 * row + column)] = kind
    return board


def test_steps_lead_where_the_rules_say_or_are_refused() -> None:
    first_row = [(0, column, kind) for column, kind in enumerate((NORMAL, ICE, ICE, GOAL))]
    board = make_map(*first_row, (1, 0, DEATH), (2, 0, WALL), (2, 1, NORMAL))
    at = [board.cell(place) for place in range(25)]
    assert board.lead(at[0], RIGHT) == at[3]
    assert board.lead(at[3], LEFT) == at[0]
    assert board.lead(at[0], LEFT) == board.lead(at[0], UP) == at[0]
    assert board.lead(at[0], DOWN) is None
    assert board.lead(at[11], LEFT) == at[11]
    assert board.lead(at[11], RIGHT) is None
    for kind in (LOCK, TELEPORTER):
        board.kinds[at[0]] = kind
        assert board.lead(at[3], LEFT) is None
    board.kinds[at[0]] = NORMAL
    # a slide that ends before a wall ends on the last ice
    board.kinds[at[3]] = WALL
    assert board.lead(at[0], RIGHT) == at[2]
    # and one to what was not seen may end anywhere
    board.kinds[at[3]] = -1
    assert board.lead(at[0], RIGHT) is None


def test_controls_that_do_not_fit_are_ruled_out() -> None:
    board = make_map((0, 0, NORMAL), (0, 1, NORMAL), (1, 0, DEATH))
    here, beside = board.cell(0), board.cell(1)
    assert len(board.controls) == 24
    board.rule_out(here, 2, here)  # up or left, or else it would have moved or died
    assert {control[2] for control in board.controls} == {UP, LEFT, DOWN}
    board = make_map((0, 0, NORMAL), (0, 1, NORMAL), (1, 0, NORMAL))
    board.rule_out(here, 2, beside)
    assert {control[2] for control in board.controls} == {RIGHT}
    assert len(board.controls) == 6
    board = make_map((0, 0, NORMAL), (0, 1, NORMAL), (1, 0, DEATH))
    board.rule_out(here, 1, board.cell(5))
    assert {control[1] for control in board.controls} == {DOWN}


def test_a_goal_stays_on_the_map_and_the_border_is_known() -> None:
    board = make_map()
    assert (board.kinds.reshape(7, 7)[0] == OUTSIDE).all()
    near = np.array([OUTSIDE] * 4 + [NORMAL, GOAL, OUTSIDE, NORMAL, ICE])
    board.look(board.cell(CORNER), near)
    assert board.kinds[board.cell(1)] == GOAL
    board.look(board.cell(CORNER), np.where(near == GOAL, NORMAL, near))
    assert board.kinds[board.cell(1)] == GOAL
    assert np.count_nonzero(board.kinds == -1) == 21


def test_the_tour_takes_the_most_goals_then_the_shortest_way() -> None:
    row = [(2, column, NORMAL) for column in range(5)]
    board = make_map(*row, (2, 0, GOAL), (2, 3, GOAL))
    here = board.cell(12)
    board.controls = [(UP, DOWN, LEFT, RIGHT)]
    for left in (4, 10):
        assert board.aim_at_goals(here, left) == RIGHT  # 1 + 3 steps take both, 2 + 3 the other way round
    assert board.aim_at_goals(here, 1) == RIGHT
    assert board.aim_at_goals(here, 0) is None
    mirrored = make_map(*row, (2, 1, GOAL), (2, 4, GOAL))
    assert mirrored.aim_at_goals(here, 10) == LEFT
    board.taken = {board.cell(13)}
    assert board.aim_at_goals(here, 4) == LEFT


@pytest.mark.parametrize("moves", [UNIT_MOVES, UNIT_MOVES[[2, 0, 3, 1]]])
def test_it_takes_all_goals_that_can_be_reached(moves: np.ndarray) -> None:
    assert play("..... .G... ..S.G ..... G....", moves=moves) == [3.0, 3.0]
    assert play("..G WWW .S.", moves=moves) == [0.0, 0.0]


def test_what_killed_once_does_not_kill_again() -> None:
    # one step of four is safe, and shows the goal
    returns = play("..... ..D.. .DSD. ..... .GG..", episodes=5)
    assert sorted(returns) == returns
    assert returns[-1] == 2.0


def test_looking_first_gives_up_goals_where_time_is_short() -> None:
    short = replace(SMALL, energy=8, max_tour=8)
    board = 3 * ".......... " + "S......... .G........ " + 5 * ".......... "
    at_once = play(board, short, 3)
    looking = play(board, short, 3, looking_episodes=2)
    assert at_once == [1.0] * 3
    assert looking[1] == 0.0
    assert looking[2] == 1.0


def test_on_drawn_boards_it_comes_close_to_all_goals_and_dies_no_more() -> None:
    boards = np.arange(32, dtype=np.float32)[:, None]
    batch = KrazyBatch(SMALL, len(boards), episode_steps=50)
    returns = play_krazy(batch, boards, SMALL, 3)
    assert returns[:, -1].mean() > 2.8
    assert returns[:, 0].mean() < returns[:, -1].mean()
    assert np.count_nonzero(batch.exploration(np.arange(len(boards))).deaths) <= 1
    np.testing.assert_array_equal(returns, play_krazy(batch, boards, SMALL, 3))


def test_what_a_key_opens_or_a_teleporter_does_rules_out_no_controls_that_are_right() -> None:
    config = replace(KRAZY_PRESETS["10x10-all"], shuffle_palette=False, num_teleporters=3, num_locks=3)
    boards = np.arange(16, dtype=np.float32)[:, None]
    batch = KrazyBatch(config, len(boards), episode_steps=50)
    returns = play_krazy(batch, boards, config, 3)
    assert returns[:, -1].mean() > 2.8
    assert returns[:, -1].mean() > returns[:, 0].mean()


def test_boards_that_the_planner_cannot_read_are_refused() -> None:
    for changes in ({"shuffle_palette": True}, {"view": "global"}, {"dynamics": "jumps"}):
        config = replace(SMALL, **changes)  # type: ignore[arg-type]
        assert not can_be_planned(config)
        with pytest.raises(ConfigError, match="planner: expected a local view"):
            play_krazy(KrazyBatch(config, 1), np.zeros((1, 1), np.float32), config, 1)
