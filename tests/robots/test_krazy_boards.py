from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supple.errors import ConfigError
from supple.robots.krazy_boards import (
    DEATH,
    ENERGY,
    GOAL,
    ICE,
    KEY,
    KINDS,
    KRAZY_PRESETS,
    LETTERS,
    LOCK,
    NORMAL,
    OUTSIDE,
    TELEPORTER,
    UNIT_MOVES,
    WALL,
    KrazyBoard,
    KrazyConfig,
    build_board,
    draw_board,
    inner_cells,
    parse_board,
    shortest_tour,
)

JUMPS = KrazyConfig(size=6, dynamics="jumps", wall_fraction=0.1)
PAIRS = KrazyConfig(num_locks=3, num_teleporters=2)
UP, DOWN, LEFT, RIGHT = range(4)


def tiles_of(board: KrazyBoard, config: KrazyConfig) -> np.ndarray:
    """Kinds on the board without the padding, shape (n, n)."""
    return board.tiles[inner_cells(config.size, config.margin)]


def drawing_of(board: KrazyBoard, config: KrazyConfig) -> str:
    letters = np.array(list(LETTERS + "?"))[board.tiles]
    letters[int(board.start)] = "S"
    return "\n".join("".join(row) for row in letters[inner_cells(config.size, config.margin)])


def place_of(cell: int, size: int, margin: int = 1) -> tuple[int, int]:
    """Row and column on the board of a padded cell."""
    row, column = divmod(int(cell), size + 2 * margin)
    return row - margin, column - margin


# What a drawing means


def test_kinds_and_letters_go_together() -> None:
    assert tuple(range(10)) == (NORMAL, GOAL, ICE, DEATH, WALL, LOCK, KEY, TELEPORTER, ENERGY, OUTSIDE)
    assert KINDS == ("normal", "goal", "ice", "death", "wall", "lock", "key", "teleporter", "energy")
    board = parse_board("SGID WLKT ETTT ....")
    assert board.tiles[inner_cells(4, 1)].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 7, 7, 7], [0, 0, 0, 0]]
    assert (board.tiles[[0, 1, 6, 35]] == OUTSIDE).all()
    assert place_of(int(board.start), 4) == (0, 0)
    assert board.kinds_present == 0b111111111
    assert parse_board("SG ..").kinds_present == 0b11


def test_links_of_a_drawing_follow_reading_order() -> None:
    board = parse_board(".TLT KTLT K..S ....")
    inner = inner_cells(4, 1)
    link = board.link[inner]
    # teleporters at (0,1) (0,3) | (1,1) (1,3); locks at (0,2) (1,2); keys at (1,0) (2,0)
    assert link[0, 1] == inner[0, 3]
    assert link[0, 3] == inner[0, 1]
    assert link[1, 1] == inner[1, 3]
    assert link[1, 3] == inner[1, 1]
    assert link[[0, 1], [2, 2]].tolist() == link[[1, 2], [0, 0]].tolist() == [1, 2]
    assert np.count_nonzero(board.link) == 8


def test_targets_lie_past_the_ice() -> None:
    board = parse_board("SII. .... .W.. .I..")
    at = inner_cells(4, 1)
    assert place_of(board.target[RIGHT, at[0, 0]], 4) == (0, 3)  # over both tiles of ice
    assert place_of(board.stop[RIGHT, at[0, 0]], 4) == (0, 2)
    assert place_of(board.target[LEFT, at[0, 2]], 4) == (0, 0)  # and from one of them
    assert place_of(board.target[UP, at[1, 1]], 4) == (-1, 1)  # out of the board, so it ends on the ice
    assert place_of(board.stop[UP, at[1, 1]], 4) == (0, 1)
    assert place_of(board.target[UP, at[3, 1]], 4) == (2, 1)  # a wall stops, whatever is under the agent
    assert place_of(board.stop[UP, at[3, 1]], 4) == (3, 1)
    assert place_of(board.target[DOWN, at[1, 0]], 4) == (2, 0)
    assert board.stop[DOWN, at[1, 0]] == at[1, 0]


def test_jumps_slide_by_jumps() -> None:
    jumps = np.array([(1, 2), (-1, -2), (0, 2), (2, 0)])
    board = parse_board("S.... ..I.. ..... ..... .....", moves=jumps, margin=2)
    at = inner_cells(5, 2)
    assert place_of(board.target[0, at[0, 0]], 5, 2) == (2, 4)  # (1, 2) is ice, so once more
    assert place_of(board.stop[0, at[0, 0]], 5, 2) == (1, 2)
    assert place_of(board.target[2, at[0, 1]], 5, 2) == (0, 3)  # jumps over (0, 2)
    assert place_of(board.target[1, at[0, 0]], 5, 2) == (-1, -2)


def test_boards_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        parse_board("SG ..").tiles[0] = 0


@pytest.mark.parametrize("drawing", ["SG. ...", "SG .S", ".G ..", "SG .X"])
def test_drawings_that_are_none_are_refused(drawing: str) -> None:
    with pytest.raises(ConfigError, match=r"^krazy world board: expected a square of .* got \["):
        parse_board(drawing)


@pytest.mark.parametrize("drawing", ["ST ..", "SL ..", "SK .."])
def test_drawings_with_half_a_pair_are_refused(drawing: str) -> None:
    with pytest.raises(ConfigError, match="pairs of teleporters and a key for each lock"):
        parse_board(drawing)


# Tours


@pytest.mark.parametrize(
    ("drawing", "steps"),
    [
        ("S.G ... ...", 2),
        ("S.G .WW ...", 2),
        ("SWG .W. ...", 6),  # down 2, right 2, up 2
        ("SDG .D. ...", 6),  # the same around death
        ("SDG WD. ...", None),
        ("GSG ... ...", 3),  # one way, then the other
        ("SIG ... ...", 1),
        ("SII ... G..", 2),
        ("TSW WWW T.G", 3),  # left onto the teleporter, arrives at (2, 0), then right 2
        ("KSLG WWWW .... ....", 4),  # back for the key first
        ("SKLLG K.WWW WWWWW WWWWW WWWWW", 6),  # down, right, up with both keys, then right 3
        ("SLG WWW WWK", None),
        ("S.W ..W WWG", None),
    ],
)
def test_tours_by_hand(drawing: str, steps: int | None) -> None:
    assert shortest_tour(parse_board(drawing), 50) == steps


def test_a_tour_takes_no_more_than_it_may() -> None:
    board = parse_board("SWG .W. ...")
    assert shortest_tour(board, 6) == 6
    assert shortest_tour(board, 5) is None


def test_each_lock_has_its_own_key() -> None:
    # S K L G with another lock and key out of reach below
    kinds = np.full((4, 4), WALL)
    kinds[0], kinds[3, 2:] = (NORMAL, KEY, LOCK, GOAL), (LOCK, KEY)
    pairs = np.zeros((4, 4), np.int64)
    pairs[3, 3] = 1
    for first, steps in ((0, 3), (1, None)):
        pairs[0, 2], pairs[3, 2] = first, 1 - first
        assert shortest_tour(build_board(kinds, pairs, 0, UNIT_MOVES, np.arange(9), 1), 50) == steps


# Drawing by id


@pytest.mark.parametrize("config", [*KRAZY_PRESETS.values(), PAIRS, JUMPS, replace(JUMPS, jump_moves=3, max_tour=30)])
def test_boards_have_what_the_config_says(config: KrazyConfig) -> None:
    for board_id in range(10):
        board = draw_board(config, board_id)
        tiles = tiles_of(board, config)
        counts = dict(config.counts)
        assert tiles.shape == (config.size, config.size)
        assert all(np.count_nonzero(tiles == kind) == counts.get(kind, 0) for kind in range(1, len(KINDS)))
        assert board.tiles[board.start] == NORMAL
        start = np.array(place_of(board.start, config.size, config.margin))
        assert (np.abs(np.argwhere(tiles == GOAL) - start).sum(axis=1) >= config.min_goal_distance).all()
        assert sorted(board.palette.tolist()) == list(range(len(KINDS) + 1))
        assert board.palette[OUTSIDE] == OUTSIDE
        doors = np.flatnonzero(board.tiles == TELEPORTER)
        assert (board.link[board.link[doors]] == doors).all()
        assert (board.link[doors] != doors).all()
        for kind in (LOCK, KEY):
            assert sorted(board.link[board.tiles == kind]) == [1, 2, 4][: config.num_locks]
        tour = shortest_tour(board, 10**4)
        assert tour is not None
        assert tour <= config.max_steps


def test_counts_are_shares_of_the_board_rounded_down() -> None:
    config = KrazyConfig(death_fraction=0.29, ice_fraction=0.099, energy_fraction=0.0, num_teleporters=2)
    assert dict(config.counts) == {GOAL: 3, TELEPORTER: 4, LOCK: 1, KEY: 1, DEATH: 29, WALL: 5, ICE: 9, ENERGY: 0}
    # the public environment's boards
    small = KRAZY_PRESETS["5x5"]
    assert (dict(small.counts)[DEATH], dict(small.counts)[ICE], small.energy) == (3, 2, None)
    ten = KRAZY_PRESETS["10x10"]
    assert (dict(ten.counts)[DEATH], dict(ten.counts)[ENERGY], dict(ten.counts)[ICE]) == (8, 5, 5)
    assert (ten.energy, ten.replenish, ten.num_goals, ten.num_teleporters) == (50, 8, 3, 1)


def test_the_same_id_gives_the_same_board_and_another_id_another() -> None:
    config = KrazyConfig()
    boards = [draw_board(config, board_id) for board_id in range(20)]
    for board_id in reversed(range(20)):
        again = draw_board(config, board_id)
        assert all(np.array_equal(a, b) for a, b in zip(boards[board_id], again, strict=True))
    assert len({drawing_of(board, config) for board in boards}) == 20
    assert len({board.palette.tobytes() for board in boards}) == 20
    assert len({board.moves.tobytes() for board in boards}) > 10  # of 24 permutations


def test_a_board_that_must_not_change() -> None:
    # the results of a training run name boards by their ids, so a new draw would silently make them other tasks
    config = KRAZY_PRESETS["5x5"]
    board = draw_board(config, 100)
    assert drawing_of(board, config).split() == [".....", "D.D.G", "DG.G.", "I...I", "..S.."]
    assert board.palette.tolist() == [2, 5, 1, 7, 0, 6, 4, 3, 8, 9]
    assert board.moves.tolist() == [[-1, 0], [1, 0], [0, 1], [0, -1]]


@pytest.mark.parametrize(
    "changed",
    [{"shuffle_palette": False}, {"dynamics": "plain"}, {"view": "global"}, {"show_position": True}, {"replenish": 3}],
)
def test_looks_and_controls_leave_the_tiles_where_they_are(changed: dict[str, Any]) -> None:
    config = KrazyConfig()
    for board_id in range(5):
        board, other = draw_board(config, board_id), draw_board(replace(config, **changed), board_id)
        assert np.array_equal(board.tiles, other.tiles)
        assert np.array_equal(board.link, other.link)
        assert board.start == other.start
        assert np.array_equal(board.palette, other.palette) != ("shuffle_palette" in changed)
        assert other.moves.tolist() == (UNIT_MOVES if "dynamics" in changed else board.moves).tolist()


def test_plain_is_up_down_left_right_in_true_colours() -> None:
    board = draw_board(KrazyConfig(dynamics="plain", shuffle_palette=False), 0)
    assert board.moves.tolist() == [[-1, 0], [1, 0], [0, -1], [0, 1]]
    assert board.palette.tolist() == list(range(10))


def test_permuted_controls_are_a_permutation() -> None:
    for board_id in range(20):
        assert sorted(draw_board(KRAZY_PRESETS["5x5"], board_id).moves.tolist()) == sorted(UNIT_MOVES.tolist())


@pytest.mark.parametrize("units", [2, 3])
def test_jumps_are_sums_of_unit_moves(units: int) -> None:
    config = replace(JUMPS, jump_moves=units, max_tour=30)
    seen = set()
    for board_id in range(10):
        moves = draw_board(config, board_id).moves
        length = np.abs(moves).sum(axis=1)
        assert ((length <= units) & (length % 2 == units % 2) & (length > 0)).all()
        assert len(np.unique(moves, axis=0)) == 4
        seen |= {tuple(move) for move in moves.tolist()}
    assert len(seen) > 6


def test_boards_that_cannot_be_solved_are_given_up() -> None:
    # the goal is at least 4 steps away and energy lasts for 3
    config = KrazyConfig(
        size=3, num_goals=1, min_goal_distance=4, energy=3, death_fraction=0.0, num_teleporters=0, num_locks=0,
        ice_fraction=0.0,
    )  # fmt: skip
    assert config.max_steps == 3
    with pytest.raises(ConfigError, match=r"board 5: expected a board that can be solved in 3 steps, got none in"):
        draw_board(config, 5)
    assert shortest_tour(draw_board(replace(config, energy=None), 5), 4) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 1),
        ("size", 101),
        ("num_goals", 0),
        ("num_goals", 7),
        ("min_goal_distance", 0),
        ("num_locks", 4),
        ("num_teleporters", -1),
        ("replenish", 0),
        ("max_tour", 0),
        ("jump_moves", 1),
        ("death_fraction", -0.1),
        ("wall_fraction", 1.5),
        ("energy", 0),
        ("dynamics", "chess"),
        ("view", "far"),
    ],
)
def test_fields_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^KrazyConfig\.{field}: expected .* got '?{value}"):
        KrazyConfig(**{field: value})


def test_too_many_tiles_are_refused() -> None:
    # 1 start + 3 goals + 2 teleporters + lock + key = 8; int(9 x .08) = int(9 x .05) = 0, int(9 x .2) = 1
    KrazyConfig(size=3, wall_fraction=0.2)
    with pytest.raises(ConfigError, match=r"at most 9 tiles on 3 x 3 cells, got 10 with the start"):
        KrazyConfig(size=3, wall_fraction=0.3)
