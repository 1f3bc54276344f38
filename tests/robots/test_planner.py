import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError
from supple.robots.maze import TIMESTEP
from supple.robots.maze_layout import geodesic_distance, make_layout
from supple.robots.planner import PlannerConfig, PlayChunk, next_cell_table, play

LAYOUT = make_layout(20, 0)
# 23 moves of 20 steps at full speed, with a margin for turns
LONG_ENOUGH = 1000


def play_one(config: PlannerConfig, *, rows: int = 40, seed: int = 0, threads: int = 1) -> PlayChunk:
    return next(play(LAYOUT, config, rows=rows, seed=seed, threads=threads))


@pytest.fixture(scope="module")
def chunk() -> PlayChunk:
    return play_one(PlannerConfig(episode_steps=LONG_ENOUGH))


def same(a: PlayChunk, b: PlayChunk) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.integers(8, 14), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_every_next_cell_is_a_free_neighbour_one_move_nearer(size: int, layout_seed: int, seed: int) -> None:
    layout = make_layout(size, layout_seed)
    cells, following = next_cell_table(layout, np.random.default_rng(seed))
    assert following.shape == (len(cells), len(cells))
    assert not layout[tuple(cells.T)].any()
    for goal in range(len(cells)):
        moves = geodesic_distance(layout, (int(cells[goal, 0]), int(cells[goal, 1])))[tuple(cells.T)]
        step = np.abs(cells[following[:, goal]] - cells).sum(axis=1)
        assert following[goal, goal] == goal
        assert step.tolist() == [int(cell != goal) for cell in range(len(cells))]
        assert np.array_equal(moves[following[:, goal]], np.maximum(moves - 1, 0))


def test_all_reachable_cells_of_the_published_maze_are_planned_for() -> None:
    cells, _ = next_cell_table(LAYOUT, np.random.default_rng(0))
    assert len(cells) == 289


def test_shapes_and_types(chunk: PlayChunk) -> None:
    assert chunk.observation.shape == (40, LONG_ENOUGH, 4)
    assert chunk.action.shape == chunk.goal.shape == (40, LONG_ENOUGH, 2)
    assert chunk.terminal.shape == (40, LONG_ENOUGH)
    assert chunk.observation.dtype == chunk.action.dtype == chunk.goal.dtype == np.float32
    assert np.isfinite(chunk.observation).all()
    assert np.abs(chunk.action).max() == 1.0


def test_every_row_reaches_goals(chunk: PlayChunk) -> None:
    arrivals = chunk.terminal.sum(axis=1)
    assert arrivals.min() >= 1
    assert arrivals.mean() > 1.5  # a random pair takes some 423 steps


def test_terminal_marks_the_arrival_at_the_goal(chunk: PlayChunk) -> None:
    # the waypoint lies in goal - [0, 0.2] on each axis, and the robot within 0.1 of it
    offset = chunk.observation[chunk.terminal][:, :2] - chunk.goal[chunk.terminal]
    assert offset.max() <= 0.1 + 1e-6
    assert offset.min() >= -0.3 - 1e-6
    # the goal changes after an arrival and at no other step (a new goal may be the old one: 1 in 289)
    changed = (np.diff(chunk.goal, axis=1) != 0.0).any(axis=2)
    assert not changed[~chunk.terminal[:, :-1]].any()
    assert changed[chunk.terminal[:, :-1]].mean() > 0.95


def test_paths_lead_through_free_neighbouring_cells(chunk: PlayChunk) -> None:
    cell = np.rint(chunk.observation[..., :2] + 0.2).astype(np.int64)
    assert not LAYOUT[cell[..., 0], cell[..., 1]].any()
    assert np.abs(np.diff(cell, axis=1)).max() <= 1
    distance = geodesic_distance(LAYOUT, (10, 10))
    assert (distance[cell[..., 0], cell[..., 1]] >= 0).all()


def test_paths_are_about_as_short_as_they_can_be(chunk: PlayChunk) -> None:
    for row in range(5):
        ends = np.flatnonzero(chunk.terminal[row])
        for start, end in itertools.pairwise(ends):
            cell = np.rint(chunk.observation[row, start : end + 1, :2] + 0.2).astype(np.int64)
            moves = geodesic_distance(LAYOUT, (int(cell[0, 0]), int(cell[0, 1])))[tuple(cell[-1])]
            visited = len(np.unique(cell, axis=0))
            assert visited <= moves + 1 + 4  # a robot that overshoots a corner may touch the next cell


def test_velocity_stays_within_the_limit(chunk: PlayChunk) -> None:
    velocity = chunk.observation[..., 2:]
    # clipped to 5, then one step of at most 100 N on 4.19 kg: 5 + 0.01 x (100 - 5) / 4.199
    assert np.abs(velocity).max() <= 5.0 + TIMESTEP * 95.0 / 4.198 + 1e-5
    moved = np.abs(np.diff(chunk.observation[..., :2], axis=1))
    assert moved.max() <= 0.0524


def test_actions_are_those_that_moved_the_robot(chunk: PlayChunk) -> None:
    # free motion by hand: v' = v + h (100 a - v) / (m + h), m = 4.18879; contacts are the exception
    velocity, action = chunk.observation[..., 2:].astype(np.float64), chunk.action.astype(np.float64)
    clipped = np.clip(velocity[:, :-1], -5.0, 5.0)
    expected = clipped + TIMESTEP * (100.0 * action[:, :-1] - clipped) / (4.18879 + TIMESTEP)
    assert np.isclose(velocity[:, 1:], expected, atol=1e-4).all(axis=-1).mean() > 0.8


def test_same_seed_same_data() -> None:
    config = PlannerConfig(episode_steps=60, action_noise=0.1)
    assert same(play_one(config, seed=3), play_one(config, seed=3))
    assert not same(play_one(config, seed=3), play_one(config, seed=4))


def test_data_does_not_depend_on_threads() -> None:
    config = PlannerConfig(episode_steps=300, action_noise=0.1)
    assert same(play_one(config, rows=16, threads=1), play_one(config, rows=16, threads=2))


def test_chunks_go_on_with_new_starts() -> None:
    chunks = list(itertools.islice(play(LAYOUT, PlannerConfig(episode_steps=5), rows=64, seed=0), 2))
    assert (chunks[0].observation[:, 0] != chunks[1].observation[:, 0]).any(axis=1).mean() > 0.95
    for chunk in chunks:
        assert not chunk.observation[:, 0, 2:].any()  # every episode starts at rest
    start = chunks[0].observation[:, 0, :2]
    jitter = np.ceil(start) - start
    assert jitter.max() <= 0.2 + 1e-6


def test_noise_is_on_the_action_and_clipped() -> None:
    quiet, noisy = (play_one(PlannerConfig(episode_steps=2, action_noise=noise)) for noise in (0.0, 0.5))
    assert np.array_equal(quiet.observation[:, 0], noisy.observation[:, 0])
    assert (quiet.action[:, 0] != noisy.action[:, 0]).any()
    assert np.abs(noisy.action).max() <= 1.0


@pytest.mark.parametrize("field", ["proportional_gain", "waypoint_radius", "waypoint_step", "episode_steps"])
def test_options_that_must_be_positive(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"PlannerConfig.{field}: expected .* got 0;"):
        PlannerConfig(**{field: 0})


@pytest.mark.parametrize("field", ["derivative_gain", "jitter", "action_noise"])
def test_options_that_may_be_zero(field: str) -> None:
    PlannerConfig(**{field: 0.0})
    with pytest.raises(ConfigError, match=rf"PlannerConfig.{field}: expected a number from 0 .* got -1\.0;"):
        PlannerConfig(**{field: -1.0})
    with pytest.raises(ConfigError, match=rf"PlannerConfig.{field}: expected a number from 0 .* got nan;"):
        PlannerConfig(**{field: np.nan})


def test_a_push_moves_the_robot_and_no_action_shows_it() -> None:
    lazy = PlannerConfig(proportional_gain=1e-6, derivative_gain=0.0, episode_steps=30)
    ways = []
    for push, push_steps in ((0.0, 10.0), (0.5, 0.1), (0.5, 50.0)):
        chunk = play_one(replace(lazy, push=push, push_steps=push_steps))
        assert np.abs(chunk.action).max() < 1e-4
        ways.append(np.linalg.norm(chunk.observation[:, -1, :2] - chunk.observation[:, 0, :2], axis=1).mean())
    assert ways[0] < 0.01 < ways[1] < 0.7 * ways[2]  # cells: one that keeps its direction goes further


def test_who_is_pushed_comes_back_to_its_way() -> None:
    chunk = play_one(PlannerConfig(episode_steps=LONG_ENOUGH, push=0.5))
    assert chunk.terminal.any(axis=1).mean() > 0.9
