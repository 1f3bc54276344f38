from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.random_mazes import (
    MOVES,
    RANDOM_MAZE_PRESETS,
    RandomMaze,
    RandomMazeBatch,
    RandomMazeConfig,
    build_maze,
    carve_layout,
    draw_maze,
    make_random_maze_tasks,
    random_maze_spec,
)
from supple.robots.testing import RobotContract

RNG = np.random.default_rng(0)
"""Nothing is drawn from it."""
SMALL = RandomMazeConfig(size=7, max_path=12)


def parse_maze(drawing: str) -> RandomMaze:
    """`#` wall, `S` start, `G` goal."""
    cells = np.array([list(line) for line in drawing.split()])
    (start,), (goal,) = np.argwhere(cells == "S"), np.argwhere(cells == "G")
    return build_maze(cells == "#", (int(start[0]), int(start[1])), (int(goal[0]), int(goal[1])))


BY_HAND = "####### #S#...# #.#.#.# #...#.# ###.#G# #.....# #######"
GOAL_ABOVE = "####### #.G...# #.S...# #.....# #.....# #.....# #######"
SHUT_IN = "####### #S.#..# #..#..# #####.# #....G# #.....# #######"


# the far goal is 36 steps away: along the first row, through the gap and back
NEAR = " ".join(["#" * 21, "#G" + "." * 18 + "#", "#S" + "." * 18 + "#", *["#" + "." * 19 + "#"] * 17, "#" * 21])
FAR = " ".join(["#" * 21, "#S" + "." * 18 + "#", "#" * 19 + ".#", "#G" + "." * 18 + "#", *["#" * 21] * 17])


class TestContract(RobotContract):
    near_goal = (3.0,)
    far_goal = (8.0,)
    rewards_observation = False
    show_position = False

    def make_batch(self, rows: int, episode_steps: int) -> RandomMazeBatch:
        config = RandomMazeConfig(show_position=self.show_position)
        mazes = {3: parse_maze(NEAR), 8: parse_maze(FAR)}
        return RandomMazeBatch(config, rows, episode_steps=episode_steps, mazes=mazes)


class TestContractWithPlace(TestContract):
    show_position = True


def walk(drawing: str, moves: str, **changed: Any) -> tuple[list[tuple[int, int]], list[float], list[bool]]:
    """Places, rewards and ends of an agent with a time limit of 50 steps; `u d l r` are the moves."""
    config = replace(SMALL, show_position=True, **changed)
    batch, row = RandomMazeBatch(config, 1, episode_steps=50, mazes={0: parse_maze(drawing)}), np.zeros(1, np.int64)
    seen = [batch.reset(row, np.zeros((1, 1), np.float32), RNG)[0]]
    steps = [batch.step(row, np.array([["udlr".index(move)]], np.float32)) for move in moves]
    seen += [step.observation[0] for step in steps]
    assert all(picture[9:].sum() == 1.0 for picture in seen)
    places = [divmod(int(picture[9:].argmax()), 5) for picture in seen]  # without the outer walls
    return (
        [(i + 1, j + 1) for i, j in places],
        [float(s.reward[0]) for s in steps],
        [bool(s.terminated[0]) for s in steps],
    )


# Moves and rewards


def test_moves_and_walls_by_hand() -> None:
    places, rewards, ended = walk(BY_HAND, "ddrrdlu")
    assert places == [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (4, 3), (4, 3), (3, 3)]
    # each step costs 1 / 50; (4, 2) is a wall: another 0.001
    assert rewards == pytest.approx([-0.02, -0.02, -0.02, -0.02, -0.02, -0.021, -0.02])
    assert not any(ended)


def test_the_goal_pays_and_ends() -> None:
    places, rewards, ended = walk(GOAL_ABOVE, "lru")
    assert places == [(2, 2), (2, 1), (2, 2), (1, 2)]
    # (1 + 1/50) - 1/50 = 1
    assert rewards == pytest.approx([-0.02, -0.02, 1.0])
    assert ended == [False, False, True]


def test_wall_penalty_is_a_choice() -> None:
    assert walk(BY_HAND, "lu", wall_penalty=0.5)[1] == pytest.approx([-0.52, -0.52])
    assert walk(BY_HAND, "l", wall_penalty=0.0)[1] == pytest.approx([-0.02])


def test_the_walls_around_the_agent_are_seen_and_the_goal_is_not() -> None:
    batch, row = RandomMazeBatch(SMALL, 1, mazes={0: parse_maze(GOAL_ABOVE), 1: parse_maze(BY_HAND)}), np.zeros(1, int)
    assert batch.spec.observation.names[1] == "wall_up_at"
    assert batch.spec.observation.names[3] == "wall_at_left"
    assert batch.reset(row, np.zeros((1, 1), np.float32), RNG).tolist() == [[0.0] * 9]
    observation = batch.reset(row, np.ones((1, 1), np.float32), RNG)
    assert observation.tolist() == [[1, 1, 1, 1, 0, 1, 1, 0, 1]]
    observation = batch.step(row, np.ones((1, 1), np.float32)).observation  # down
    assert observation.tolist() == [[1, 0, 1, 1, 0, 1, 1, 0, 0]]


def test_each_row_walks_in_its_own_maze() -> None:
    config = RANDOM_MAZE_PRESETS["7"]
    batch, rows = RandomMazeBatch(config, 12), np.arange(12)
    goals = (rows % 6)[:, None].astype(np.float32)
    alone = [RandomMazeBatch(config, 1) for _ in rows]
    seen = batch.reset(rows, goals, RNG)
    for row, one in enumerate(alone):
        assert np.array_equal(one.reset(np.zeros(1, int), goals[row : row + 1], RNG)[0], seen[row])
    assert not np.array_equal(seen[:6], np.tile(seen[:1], (6, 1)))
    for action in np.random.default_rng(0).integers(4, size=(20, 12, 1)).astype(np.float32):
        step = batch.step(rows, action)
        for row, one in enumerate(alone):
            own = one.step(np.zeros(1, int), action[row : row + 1])
            assert np.array_equal(own.observation[0], step.observation[row])
            assert (own.reward[0], own.terminated[0]) == (step.reward[row], step.terminated[row])


# Drawing by id


def search(layout: np.ndarray, start: tuple[int, int]) -> dict[tuple[int, int], list[int]]:
    """Shortest sequences of moves to every cell that can be reached."""
    paths: dict[tuple[int, int], list[int]] = {start: []}
    queue = deque([start])
    while queue:
        i, j = queue.popleft()
        for move, cell in enumerate(((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))):
            if not layout[cell] and cell not in paths:
                paths[cell] = [*paths[(i, j)], move]
                queue.append(cell)
    return paths


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 7, 11, 21]))
@settings(deadline=None, max_examples=30)
def test_a_maze_without_braid_has_one_path_between_any_two_cells(seed: int, size: int) -> None:
    layout = carve_layout(RandomMazeConfig(size=size), np.random.default_rng(seed))
    assert layout.shape == (size, size)
    border = np.ones_like(layout)
    border[1:-1, 1:-1] = False
    assert layout[border].all()
    assert not layout[1::2, 1::2].any()  # the rooms
    assert layout[2:-1:2, 2:-1:2].all()  # the pillars
    free = np.argwhere(~layout)
    assert len(search(layout, (1, 1))) == len(free)
    # connected with one edge less than cells: a tree
    edges = np.count_nonzero(~layout[1:] & ~layout[:-1]) + np.count_nonzero(~layout[:, 1:] & ~layout[:, :-1])
    assert edges == len(free) - 1


def count_dead_ends(layout: np.ndarray) -> int:
    free = ~layout
    doors = free[:-2, 1:-1].astype(int) + free[2:, 1:-1] + free[1:-1, :-2] + free[1:-1, 2:]
    return int(np.count_nonzero(free[1:-1, 1:-1] & (doors == 1)))


def test_braid_opens_dead_ends() -> None:
    ends = {}
    for braid in (0.0, 0.5, 1.0):
        config = RandomMazeConfig(braid=braid)
        ends[braid] = sum(count_dead_ends(carve_layout(config, np.random.default_rng(seed))) for seed in range(20))
    assert ends[1.0] == 0
    # opening one dead end may open a second, so a half leaves no more than half of them
    assert 0.25 * ends[0.0] < ends[0.5] < 0.55 * ends[0.0]


@pytest.mark.parametrize("config", [*RANDOM_MAZE_PRESETS.values(), RandomMazeConfig(size=11, braid=0.5, max_path=9)])
def test_every_maze_is_solved_by_a_search_of_its_own(config: RandomMazeConfig) -> None:
    batch, row = RandomMazeBatch(config, 1), np.zeros(1, np.int64)
    lengths = []
    for maze_id in [*range(20), *range(100, 120)]:
        maze = draw_maze(config, maze_id)
        layout = carve_layout(config, np.random.default_rng([maze_id, 0]))
        start, goal = (divmod(int(cell), config.size) for cell in (maze.start, maze.goal))
        path = search(layout, start)[goal]
        assert len(path) == int(maze.shortest)
        assert 1 <= len(path) <= config.max_path
        goals = np.array([[maze_id]], np.float32)
        assert batch.shortest_steps(goals).tolist() == [len(path)]
        batch.reset(row, goals, RNG)
        steps = [batch.step(row, np.array([[move]], np.float32)) for move in path]
        assert [bool(step.terminated[0]) for step in steps] == [False] * (len(path) - 1) + [True]
        pace = 1.0 / (4 * config.max_path)
        assert sum(float(step.reward[0]) for step in steps) == pytest.approx(1.0 - (len(path) - 1) * pace, abs=1e-6)
        lengths.append(len(path))
    assert len(set(lengths)) > 5


def test_the_same_id_gives_the_same_maze_and_another_id_another() -> None:
    config = RANDOM_MAZE_PRESETS["21"]
    mazes = [draw_maze(config, one) for one in range(20)]
    for one in reversed(range(20)):
        assert all(np.array_equal(a, b) for a, b in zip(mazes[one], draw_maze(config, one), strict=True))
    assert len({maze.target.tobytes() for maze in mazes}) == 20
    assert len({int(maze.start) for maze in mazes}) > 10
    assert len({int(maze.goal) for maze in mazes}) > 10


def test_a_maze_that_must_not_change() -> None:
    # the results of a training run name mazes by their ids, so a new draw would silently make them other tasks
    config = RANDOM_MAZE_PRESETS["7"]
    layout = carve_layout(config, np.random.default_rng([100, 0]))
    assert ["".join(".#"[int(wall)] for wall in line) for line in layout] == [
        "#######",
        "#.....#",
        "#.#.###",
        "#.#...#",
        "#.###.#",
        "#...#.#",
        "#######",
    ]
    maze = draw_maze(config, 100)
    assert (divmod(int(maze.start), 7), divmod(int(maze.goal), 7), int(maze.shortest)) == ((3, 1), (1, 5), 6)


# Edges


def test_spec() -> None:
    spec = random_maze_spec(RandomMazeConfig())
    assert (spec.choices, spec.episode_steps, len(spec.observation.axes)) == (MOVES, 160, 9)
    assert len(random_maze_spec(replace(SMALL, show_position=True)).observation.axes) == 9 + 25
    assert random_maze_spec(SMALL, 7).episode_steps == 7


def test_tasks_are_the_published_numbers() -> None:
    tasks = make_random_maze_tasks()
    assert tasks.name == "random-mazes-32-64"
    assert (len(tasks.train), len(tasks.test), tasks.test[-1].goal) == (32, 64, (163.0,))


def test_goals_behind_walls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected a path from \(1, 1\) to \(4, 5\), got none"):
        parse_maze(SHUT_IN)
    layout = np.ones((5, 5), np.bool_)
    layout[1:4, 1:4] = False
    with pytest.raises(ConfigError, match=r"expected a path from \(1, 1\) to \(1, 1\), got none"):
        build_maze(layout, (1, 1), (1, 1))
    layout[0, 1] = False
    with pytest.raises(ConfigError, match=r"walls all around"):
        build_maze(layout, (1, 1), (1, 2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 20),
        ("size", 3),
        ("size", 103),
        ("braid", 1.5),
        ("braid", -0.1),
        ("max_path", 0),
        ("wall_penalty", -1.0),
    ],
)
def test_fields_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^RandomMazeConfig\.{field}: expected .* got {value}"):
        RandomMazeConfig(**{field: value})


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows: expected at least 1, got 0;"):
        RandomMazeBatch(SMALL, 0)
    with pytest.raises(SpecError, match=r"at least 1 episode step, got 0;"):
        RandomMazeBatch(SMALL, 1, episode_steps=0)
    with pytest.raises(ConfigError, match=r"random maze 4: expected 121 cells, got 49;"):
        RandomMazeBatch(RANDOM_MAZE_PRESETS["11"], 1, mazes={4: parse_maze(BY_HAND)})


def test_paths_of_what_is_no_maze_are_refused() -> None:
    batch = RandomMazeBatch(SMALL, 1)
    with pytest.raises(SpecError, match=r"random_maze shortest_steps: expected board ids as whole numbers, got 0.5;"):
        batch.shortest_steps(np.array([[0.5]], np.float32))
    with pytest.raises(SpecError, match=r"'board' within 0"):
        batch.shortest_steps(np.array([[-1.0]], np.float32))
