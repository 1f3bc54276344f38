from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.krazy_boards import (
    DEATH,
    ENERGY,
    GOAL,
    ICE,
    KEY,
    KINDS,
    KRAZY_PRESETS,
    LOCK,
    NORMAL,
    OUTSIDE,
    TELEPORTER,
    WALL,
    KrazyBoard,
    KrazyConfig,
    draw_board,
    inner_cells,
    parse_board,
    shortest_tour,
)
from supple.robots.krazy_world import BUTTONS, Exploration, KrazyBatch, join_episodes, krazy_spec, make_krazy_tasks
from supple.robots.testing import RobotContract

RNG = np.random.default_rng(0)
"""Nothing is drawn from it."""
OPEN = KrazyConfig(num_goals=1, min_goal_distance=1, death_fraction=0.0, num_teleporters=0, num_locks=0, size=5)
"""For drawings of 5 x 5 cells in true colours, with the place shown."""
SEEN = replace(OPEN, shuffle_palette=False, show_position=True, energy=None)
FULL = replace(
    KrazyConfig(size=6), num_locks=2, num_teleporters=2, ice_fraction=0.12, energy_fraction=0.06, energy=20, max_tour=25
)
JUMPS = replace(KrazyConfig(size=6, dynamics="jumps", wall_fraction=0.1, ice_fraction=0.1), energy=None)
SHUT_IN = "..W.. .SW.. WWW.. ....G ....."
GOALS_ALL_AROUND = "GGGGG GGGGG GGSGG GGGGG GGGGG"


class TestLocalContract(RobotContract):
    near_goal = (3.0,)
    far_goal = (8.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> KrazyBatch:
        boards = {3: parse_board(GOALS_ALL_AROUND), 8: parse_board(SHUT_IN)}
        return KrazyBatch(OPEN, rows, episode_steps=episode_steps, boards=boards)


class TestGlobalContract(RobotContract):
    near_goal = (3.0,)
    far_goal = (8.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> KrazyBatch:
        boards = {3: parse_board(GOALS_ALL_AROUND), 8: parse_board(SHUT_IN)}
        return KrazyBatch(replace(OPEN, view="global"), rows, episode_steps=episode_steps, boards=boards)


class TestDrawnBoardsContract(RobotContract):
    near_goal = (0.0,)
    far_goal = (100.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> KrazyBatch:
        config = replace(FULL, death_fraction=0.0, num_goals=6, show_position=True)
        return KrazyBatch(config, rows, episode_steps=episode_steps)


# The rules once more, cell by cell, as plainly as they can be said


class PlainWorld:
    """One agent on one board, from the drawing and the rules alone."""

    def __init__(self, board: KrazyBoard, config: KrazyConfig) -> None:
        self.config, self.size = config, config.size
        inner = inner_cells(config.size, config.margin)
        self.place_of = {int(cell): (int(i), int(j)) for (i, j), cell in np.ndenumerate(inner)}
        self.kind = {self.place_of[int(cell)]: int(board.tiles[cell]) for cell in inner.ravel()}
        self.link = {self.place_of[int(cell)]: int(board.link[cell]) for cell in inner.ravel()}
        self.moves = [tuple(move) for move in board.moves.tolist()]
        self.palette = board.palette.tolist()
        self.place = self.place_of[int(board.start)]
        self.energy = 10**9 if config.energy is None else config.energy
        self.keys: set[int] = set()
        self.dead = False
        self.touched, self.goals = {NORMAL}, 0

    def press(self, button: int) -> float:
        if self.energy <= 0 or self.dead:
            return 0.0
        self.energy -= 1
        ahead = self.ahead(button)
        while self.kind.get(ahead) == ICE:
            self.touched.add(ICE)
            self.place = ahead
            ahead = self.ahead(button)
        kind = self.kind.get(ahead, OUTSIDE)
        self.touched.add(kind)
        if kind in (WALL, OUTSIDE) or (kind == LOCK and self.link[ahead] not in self.keys):
            return 0.0
        self.place = ahead
        if kind == DEATH:
            self.dead = True
        if kind == TELEPORTER:
            self.place = self.place_of[self.link[ahead]]
        if kind == KEY:
            self.keys.add(self.link[ahead])
        if kind == ENERGY:
            self.energy += self.config.replenish
        if kind in (GOAL, KEY, ENERGY):
            self.kind[ahead] = NORMAL
        self.goals += kind == GOAL
        return float(kind == GOAL)

    def ahead(self, button: int) -> tuple[int, int]:
        return self.place[0] + self.moves[button][0], self.place[1] + self.moves[button][1]

    def observe(self) -> list[float]:
        i, j = self.place
        cells = [(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
        if self.config.view == "global":
            cells = list(self.kind)
        colours = [self.palette[self.kind.get(cell, OUTSIDE)] for cell in cells]
        picture = [float(colour == own) for own in colours for colour in range(len(KINDS))]
        if self.config.view == "global" or self.config.show_position:
            picture += [float(cell == self.place) for cell in self.kind]
        return picture

    def bits(self) -> int:
        return sum(1 << kind for kind in self.touched - {OUTSIDE})


CONFIGS = {
    "5x5": KRAZY_PRESETS["5x5"],
    "full": FULL,
    "full-global": replace(FULL, view="global"),
    "full-place": replace(FULL, show_position=True, shuffle_palette=False, dynamics="plain"),
    "jumps": JUMPS,
    "jumps-global": replace(JUMPS, view="global", jump_moves=3, energy=12),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_agrees_with_the_plain_rules(name: str) -> None:
    config, rows = CONFIGS[name], 24
    batch = KrazyBatch(config, rows, episode_steps=50)
    ids = np.arange(rows) % 16
    rng = np.random.default_rng(5)
    touched, deaths = 0, 0
    for _ in range(2):
        worlds = [PlainWorld(draw_board(config, int(one)), config) for one in ids]
        got = batch.reset(np.arange(rows), ids[:, None].astype(np.float32), rng)
        assert got.tolist() == [world.observe() for world in worlds]
        for step in range(50):
            some = np.flatnonzero(rng.random(rows) < 0.8) if step % 2 else np.arange(rows)
            some = np.array([row for row in some if batch._elapsed[row] < 50])
            buttons = rng.integers(4, size=len(some))
            result = batch.step(some, buttons[:, None].astype(np.float32))
            reward = [worlds[row].press(button) for row, button in zip(some, buttons, strict=True)]
            assert result.reward.tolist() == reward
            assert result.terminated.tolist() == [worlds[row].dead for row in some]
            if step % 5 == 0 or step > 45:
                assert result.observation.tolist() == [worlds[row].observe() for row in some]
        found = batch.exploration(np.arange(rows))
        assert found.kinds_touched.tolist() == [world.bits() for world in worlds]
        assert found.deaths.tolist() == [int(world.dead) for world in worlds]
        assert found.goals.tolist() == [world.goals for world in worlds]
        touched |= int(np.bitwise_or.reduce(found.kinds_touched))
        deaths += int(found.deaths.sum())
    assert touched == int(np.bitwise_or.reduce(found.kinds_present))  # nothing on these boards went untried
    assert deaths > 0


# Tile by tile, by hand


class Walk:
    """What an agent lived through on a drawing of 5 x 5 cells; `u d l r` are the buttons."""

    def __init__(self, drawing: str, buttons: str, **changed: Any) -> None:
        config = replace(SEEN, **changed)
        board = parse_board(drawing, palette=changed.get("palette"))
        self.batch = KrazyBatch(config, 1, boards={0: board})
        row = np.zeros(1, np.int64)
        self.pictures = [self.batch.reset(row, np.zeros((1, 1), np.float32), RNG)[0]]
        self.rewards: list[float] = []
        self.terminated: list[bool] = []
        for button in buttons:
            step = self.batch.step(row, np.array([["udlr".index(button)]], np.float32))
            self.pictures.append(step.observation[0])
            self.rewards.append(float(step.reward[0]))
            self.terminated.append(bool(step.terminated[0]))
            assert not step.truncated[0]
        self.places = [divmod(int(picture[-25:].argmax()), 5) for picture in self.pictures]
        self.energy = int(self.batch._energy[0])

    def near(self, step: int) -> str:
        """Kinds around the agent after some steps, as letters; `#` around the board."""
        window = self.pictures[step][:81].reshape(9, 9)
        assert window.sum(axis=1).max() <= 1.0
        return "".join(".GIDWLKTE"[cell.argmax()] if cell.any() else "#" for cell in window)


def test_a_goal_pays_once_and_does_not_end_the_episode() -> None:
    walk = Walk("S.... G.... ..... .....  .....", "dudd")
    assert walk.rewards == [1.0, 0.0, 0.0, 0.0]
    assert not any(walk.terminated)
    assert walk.places == [(0, 0), (1, 0), (0, 0), (1, 0), (2, 0)]
    assert walk.near(0) == "####..#G."
    assert walk.near(1) == "#..#..#.."  # the tile under the agent turned normal
    assert walk.near(2) == "####..#.."


def test_ice_is_slid_over() -> None:
    walk = Walk("SII.. ..... ..... ..... .....", "rlrl")
    assert walk.places == [(0, 0), (0, 3), (0, 0), (0, 3), (0, 0)]
    assert walk.near(1) == "###I....."


def test_a_slide_that_is_blocked_ends_on_the_ice() -> None:
    walk = Walk("SIIW. ..... ..... ..... .....", "rrdu")
    assert walk.places == [(0, 0), (0, 2), (0, 2), (1, 2), (0, 2)]  # from (1, 2) up onto the ice, against the border
    assert Walk("..... ..... S.II. ....I ....I", "rr").places[-1] == (2, 4)
    assert Walk("....S ....I ....I ....I ....I", "dd").places == [(0, 4), (4, 4), (4, 4)]


def test_what_lies_behind_the_ice_counts() -> None:
    assert Walk("SIG.. ..... ..... ..... .....", "r").rewards == [1.0]
    assert Walk("SID.. ..... ..... ..... .....", "r").terminated == [True]
    assert Walk("SIT.. ..... ..... ..... T....", "r").places[-1] == (4, 0)
    # the lock is shut; then the key is fetched
    walk = Walk("SIL.. K.... ..... ..... .....", "rldur")
    assert walk.places == [(0, 0), (0, 1), (0, 0), (1, 0), (0, 0), (0, 2)]


def test_death_ends_the_episode() -> None:
    walk = Walk("SD... G.... ..... ..... .....", "rl")
    assert walk.terminated == [True, True]  # the dead stay where they are
    assert walk.places == [(0, 0), (0, 1), (0, 1)]
    assert walk.rewards == [0.0, 0.0]
    assert walk.near(1) == "###.D.G.."


def test_death_at_the_time_limit_is_death() -> None:
    batch = KrazyBatch(SEEN, 2, episode_steps=1, boards={0: parse_board("SD... G.... ..... ..... .....")})
    batch.reset(np.arange(2), np.zeros((2, 1), np.float32), RNG)
    step = batch.step(np.arange(2), np.array([[3.0], [1.0]], np.float32))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]
    assert step.reward.tolist() == [0.0, 1.0]


def test_walls_and_the_border_block() -> None:
    walk = Walk("SW... ..... ..... ..... .....", "ruldr")
    assert walk.places == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (1, 1)]
    assert walk.near(0) == "####.W#.."
    assert walk.near(5) == ".W......."


def test_a_lock_is_passed_with_its_key_only() -> None:
    # the first key (0, 4) belongs to the lock (1, 1), the second (2, 0) to the lock (4, 0)
    drawing = "S...K WLWWW K.... ..... L...."
    walk = Walk(drawing, "rd")
    assert walk.places[-1] == (0, 1)
    walk = Walk(drawing, "rrrr" + "lll" + "dd" + "lddd")
    assert walk.near(4) == "###..#WW#"  # the key is gone
    assert walk.places[-6:] == [(1, 1), (2, 1), (2, 0), (3, 0), (4, 0), (4, 0)]
    assert walk.near(8) == "...WLWK.."  # the lock stays
    assert Walk(drawing.replace("K...K", "....K").replace("K....", "....K"), "rrrrlllddldd").places[-1] == (3, 0)


def test_a_reset_takes_the_keys_and_gives_everything_back() -> None:
    walk = Walk("SKG.. WWL.. E.... ..... .....", "rrd")
    assert (walk.places[-1], walk.rewards) == ((1, 2), [0.0, 1.0, 0.0])
    row = np.zeros(1, np.int64)
    again = walk.batch.reset(row, np.zeros((1, 1), np.float32), RNG)[0]
    assert np.array_equal(again, walk.pictures[0])
    for button, reward in ((3, 0.0), (3, 1.0)):
        assert walk.batch.step(row, np.array([[button]], np.float32)).reward[0] == reward
    walk.batch.reset(row, np.zeros((1, 1), np.float32), RNG)
    assert walk.batch._keys[0] == 0


def test_teleporters_lead_to_each_other() -> None:
    walk = Walk("ST... ..... ..... ...T. .....", "rlrllr")
    # onto (0, 1) -> (3, 3); left, and right onto (3, 3) -> (0, 1); left to the start, left into the border, right
    assert walk.places == [(0, 0), (3, 3), (3, 2), (0, 1), (0, 0), (0, 0), (3, 3)]
    assert walk.near(1) == "....T...."
    pairs = Walk("ST... T.... ..... T..T. .....", "r")  # reading order: (0, 1) with (1, 0), (3, 0) with (3, 3)
    assert pairs.places[-1] == (1, 0)
    assert Walk("T.... T.... ST... ..T.. .....", "u").places[-1] == (0, 0)
    assert Walk("T.... T.... ST... ..T.. .....", "r").places[-1] == (3, 2)


def test_energy_runs_out_and_the_agent_stays() -> None:
    walk = Walk("S.... G.... ..... ..... .....", "urrd", energy=2)
    assert walk.places == [(0, 0), (0, 0), (0, 1), (0, 1), (0, 1)]  # running into the border cost one
    assert not any(walk.terminated)
    assert walk.energy == 0


def test_energy_tiles_give_energy_once() -> None:
    walk = Walk("SE... ..... ..... ..... .....", "rlrlrl", energy=1, replenish=3)
    # 1 - 1 + 3 = 3 left on the tile, then three more steps
    assert walk.places == [(0, 0), (0, 1), (0, 0), (0, 1), (0, 0), (0, 0), (0, 0)]
    assert walk.near(1) == "###......"
    assert Walk("SE... ..... ..... ..... .....", "r", energy=10, replenish=4).energy == 13


def test_an_episode_without_energy_lasts_until_the_time_limit() -> None:
    batch = KrazyBatch(replace(SEEN, energy=1), 1, episode_steps=3, boards={0: parse_board(SHUT_IN)})
    batch.reset(np.zeros(1, np.int64), np.zeros((1, 1), np.float32), RNG)
    steps = [batch.step(np.zeros(1, np.int64), np.zeros((1, 1), np.float32)) for _ in range(3)]
    assert [bool(step.truncated[0]) for step in steps] == [False, False, True]
    assert not any(step.terminated[0] for step in steps)


# What is seen


def test_local_view_by_hand() -> None:
    palette = np.array([3, 0, 5, 1, 2, 8, 7, 6, 4])
    board = parse_board("SW... GI... ..... ..... .....", palette=palette)
    batch = KrazyBatch(OPEN, 1, boards={0: board})
    assert batch.spec.observation.names[:2] == ("near_up_left_colour_0", "near_up_left_colour_1")
    assert batch.spec.observation.names[-1] == "near_down_right_colour_8"
    window = batch.reset(np.zeros(1, np.int64), np.zeros((1, 1), np.float32), RNG).reshape(9, 9)
    expected = np.zeros((9, 9))
    # normal shows colour 3, walls 2, goals 0, ice 5; nothing is shown outside
    expected[4, 3] = expected[5, 2] = expected[7, 0] = expected[8, 5] = 1.0
    assert np.array_equal(window, expected)


def test_global_view_by_hand() -> None:
    config = replace(OPEN, size=2, view="global", ice_fraction=0.0, energy_fraction=0.0)
    board = parse_board("SG .W", palette=np.array([1, 0, 2, 3, 5, 4, 6, 7, 8]))
    batch, row = KrazyBatch(config, 1, boards={0: board}), np.zeros(1, np.int64)
    assert batch.spec.observation.names[-5:] == (
        "cell_1_1_colour_8",
        "agent_0_0",
        "agent_0_1",
        "agent_1_0",
        "agent_1_1",
    )
    picture = batch.reset(row, np.zeros((1, 1), np.float32), RNG)[0]
    assert np.flatnonzero(picture).tolist() == [0 + 1, 9 + 0, 18 + 1, 27 + 5, 36]
    picture = batch.step(row, np.array([[3.0]], np.float32)).observation[0]
    assert np.flatnonzero(picture).tolist() == [0 + 1, 9 + 1, 18 + 1, 27 + 5, 37]


@pytest.mark.parametrize("view", ["local", "global"])
def test_a_permuted_palette_shows_the_same_game_in_other_colours(view: Any) -> None:
    plain, shuffled = replace(FULL, view=view, shuffle_palette=False), replace(FULL, view=view)
    rows = np.arange(20)
    one, other = KrazyBatch(plain, 20), KrazyBatch(shuffled, 20)
    palettes = np.array([draw_board(shuffled, row).palette[: len(KINDS)] for row in rows])
    assert len(np.unique(palettes, axis=0)) > 15

    def true_colours(seen: np.ndarray) -> np.ndarray:
        """What is seen, with the colour of each kind put in the place of the kind."""
        cells = 9 if view == "local" else FULL.size**2
        tiles = seen[:, : 9 * cells].reshape(20, cells, 9)
        kinds = np.take_along_axis(tiles, palettes[:, None, :].astype(np.int64), axis=2)
        return np.concatenate([kinds.reshape(20, 9 * cells), seen[:, 9 * cells :]], axis=1)

    goals = rows[:, None].astype(np.float32)
    assert np.array_equal(one.reset(rows, goals, RNG), true_colours(other.reset(rows, goals, RNG)))
    for action in np.random.default_rng(1).integers(4, size=(40, 20, 1)).astype(np.float32):
        expected, got = one.step(rows, action), other.step(rows, action)
        assert np.array_equal(expected.observation, true_colours(got.observation))
        assert all(np.array_equal(a, b) for a, b in zip(expected[1:], got[1:], strict=True))


def test_permuted_controls_are_the_same_game_with_other_buttons() -> None:
    plain, permuted = replace(FULL, dynamics="plain"), FULL
    rows = np.arange(20)
    one, other = KrazyBatch(plain, 20), KrazyBatch(permuted, 20)
    moves = [draw_board(permuted, row).moves.tolist() for row in rows]
    assert len({str(move) for move in moves}) > 8
    # the button of a permuted world that does what button 0 .. 3 do in the plain one
    button = np.array([[move.index(step) for step in ([-1, 0], [1, 0], [0, -1], [0, 1])] for move in moves])
    goals = rows[:, None].astype(np.float32)
    assert np.array_equal(one.reset(rows, goals, RNG), other.reset(rows, goals, RNG))
    for action in np.random.default_rng(1).integers(4, size=(40, 20, 1)):
        expected = one.step(rows, action.astype(np.float32))
        got = other.step(rows, np.take_along_axis(button, action, axis=1).astype(np.float32))
        assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))


# Solvable


def search_tour(board: KrazyBoard, config: KrazyConfig) -> list[int] | None:
    """Buttons of a shortest tour of all goals, by breadth-first search over the plain rules."""
    first = PlainWorld(board, replace(config, energy=None))
    total = sum(kind == GOAL for kind in first.kind.values())

    def state(world: PlainWorld) -> tuple[Any, ...]:
        left = tuple(place for place, kind in world.kind.items() if kind == GOAL)
        return world.place, left, frozenset(world.keys)

    seen, queue = {state(first)}, deque([(first, list[int]())])
    while queue:
        world, tour = queue.popleft()
        for button in range(4):
            after = object.__new__(PlainWorld)
            after.__dict__ = world.__dict__ | {
                "kind": dict(world.kind), "keys": set(world.keys), "touched": set()
            }  # fmt: skip
            after.press(button)
            if after.goals == total:
                return [*tour, button]
            if not after.dead and state(after) not in seen:
                seen.add(state(after))
                queue.append((after, [*tour, button]))
    return None


@pytest.mark.parametrize("name", ["5x5", "full", "jumps"])
@pytest.mark.parametrize("ids", [range(12), range(100, 112)])
def test_every_board_is_solved_by_a_search_of_its_own(name: str, ids: range) -> None:
    config = CONFIGS[name]
    batch = KrazyBatch(config, 1)
    row = np.zeros(1, np.int64)
    for board_id in ids:
        board = draw_board(config, board_id)
        tour = search_tour(board, config)
        assert tour is not None
        assert len(tour) == shortest_tour(board, 10**4)
        assert len(tour) <= config.max_steps
        batch.reset(row, np.array([[board_id]], np.float32), RNG)
        steps = [batch.step(row, np.array([[button]], np.float32)) for button in tour]
        assert sum(float(step.reward[0]) for step in steps) == config.num_goals
        assert not any(step.terminated[0] for step in steps)


@given(st.text("....IDWTKLE", min_size=24, max_size=24), st.integers(0, 23))
@settings(deadline=None, max_examples=40)
def test_the_shortest_tour_is_the_shortest(tiles: str, goal: int) -> None:
    for letter, other in (("T", None), ("L", "K")):
        while (tiles.count(letter) % 2) if other is None else (tiles.count(letter) != tiles.count(other)):
            extra = letter if other is None or tiles.count(letter) > tiles.count(other) else other
            tiles = tiles.replace(extra, ".", 1)
    while tiles.count("L") > 3:
        tiles = tiles.replace("L", ".", 1).replace("K", ".", 1)
    letters = "S" + tiles[:goal] + "G" + tiles[goal + 1 :]
    if letters.count("T") % 2 or letters.count("L") != letters.count("K"):
        return
    board = parse_board(" ".join(letters[i : i + 5] for i in range(0, 25, 5)))
    tour = search_tour(board, SEEN)
    assert shortest_tour(board, 10**4) == (None if tour is None else len(tour))


# Measures of exploration


def bits(*kinds: int) -> int:
    return sum(1 << kind for kind in kinds)


def explore(drawing: str, buttons: str, **changed: Any) -> Exploration:
    return Walk(drawing, buttons, **changed).batch.exploration(np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("buttons", "kinds", "deaths", "goals"),
    [
        ("", (NORMAL,), 0, 0),
        ("u", (NORMAL,), 0, 0),  # the border is no tile
        ("r", (NORMAL, ICE), 0, 0),
        ("rr", (NORMAL, ICE, WALL), 0, 0),  # running into a wall tells what it is
        ("d", (NORMAL, GOAL), 0, 1),
        ("dudu", (NORMAL, GOAL), 0, 1),
        ("dd", (NORMAL, GOAL, LOCK), 0, 1),
        ("dr", (NORMAL, GOAL, DEATH), 1, 1),
        ("drr", (NORMAL, GOAL, DEATH), 1, 1),  # the dead touch nothing and die once
    ],
)
def test_exploration_by_hand(buttons: str, kinds: Sequence[int], deaths: int, goals: int) -> None:
    found = explore("SI.W. GD... L.... K.... .....", buttons)
    assert found.kinds_touched.tolist() == [bits(*kinds)]
    assert found.kinds_present.tolist() == [bits(NORMAL, GOAL, ICE, DEATH, WALL, LOCK, KEY)]
    assert (found.deaths.tolist(), found.goals.tolist()) == ([deaths], [goals])
    assert found.fraction_of_kinds.tolist() == [len(kinds) / 7]


def test_an_agent_without_energy_touches_nothing() -> None:
    assert explore("SW... G.... ..... ..... .....", "drr", energy=1).kinds_touched.tolist() == [bits(NORMAL, GOAL)]


def test_episodes_of_a_trial_are_joined() -> None:
    drawing = "SI.W. GD... L.... K.... ....."
    joined = join_episodes([explore(drawing, buttons) for buttons in ("dr", "rr", "dr", "d")])
    assert joined.kinds_touched.tolist() == [bits(NORMAL, GOAL, ICE, DEATH, WALL)]
    assert joined.fraction_of_kinds.tolist() == [5 / 7]
    assert joined.deaths.tolist() == [2]
    assert joined.goals.tolist() == [3]


def test_episodes_of_several_boards_are_not_joined() -> None:
    with pytest.raises(SpecError, match="episodes on the same boards, got 2 "):
        join_episodes([explore("SG... ..... ..... ..... .....", ""), explore("SGI.. ..... ..... ..... .....", "")])
    with pytest.raises(SpecError, match="episodes on the same boards, got 0 "):
        join_episodes([])


def test_exploration_belongs_to_the_episode_and_the_row() -> None:
    batch = KrazyBatch(SEEN, 3, boards={0: parse_board("SG... I.... ..... ..... .....")})
    rows = np.arange(3)
    batch.reset(rows, np.zeros((3, 1), np.float32), RNG)
    batch.step(rows, np.array([[3.0], [1.0], [0.0]], np.float32))
    found = batch.exploration(rows)
    assert found.goals.tolist() == [1, 0, 0]
    assert found.kinds_touched.tolist() == [bits(NORMAL, GOAL), bits(NORMAL, ICE), bits(NORMAL)]
    batch.reset(np.array([0]), np.zeros((1, 1), np.float32), RNG)
    again = batch.exploration(np.array([0, 1]))
    assert again.goals.tolist() == [0, 0]
    assert again.kinds_touched.tolist() == [bits(NORMAL), bits(NORMAL, ICE)]
    assert found.goals.tolist() == [1, 0, 0]  # the caller's to keep


# Edges


def test_spec() -> None:
    spec = krazy_spec(KrazyConfig())
    assert spec.choices == BUTTONS
    assert (len(spec.observation.axes), spec.episode_steps, spec.goal.names) == (81, 100, ("board",))
    assert len(krazy_spec(KrazyConfig(show_position=True)).observation.axes) == 81 + 100
    assert len(krazy_spec(replace(KRAZY_PRESETS["5x5"], view="global")).observation.axes) == 10 * 25


def test_tasks_are_the_published_numbers() -> None:
    tasks = make_krazy_tasks()
    assert tasks.name == "krazy-world-32-64"
    assert (len(tasks.train), tasks.train[-1].goal) == (32, (31.0,))
    assert (len(tasks.test), tasks.test[0].goal, tasks.test[-1].goal) == (64, (100.0,), (163.0,))


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows: expected at least 1, got 0;"):
        KrazyBatch(OPEN, 0)
    with pytest.raises(SpecError, match=r"at least 1 episode step, got 0;"):
        KrazyBatch(OPEN, 1, episode_steps=0)
    with pytest.raises(ConfigError, match=r"board 4: expected 49 cells with the margin, got 16;"):
        KrazyBatch(OPEN, 1, boards={4: parse_board("SG ..")})


def test_half_a_board_is_refused_and_moves_nothing() -> None:
    batch = KrazyBatch(SEEN, 2, boards={0: parse_board("SG... ..... ..... ..... .....")})
    rows = np.arange(2)
    batch.reset(rows, np.zeros((2, 1), np.float32), RNG)
    before = batch.step(rows, np.full((2, 1), 1.0, np.float32)).observation
    with pytest.raises(SpecError, match=r"whole numbers, got 0.5;"):
        batch.reset(rows, np.array([[0.0], [0.5]], np.float32), RNG)
    assert np.array_equal(batch.step(rows, np.full((2, 1), 2.0, np.float32)).observation, before)  # against the border
