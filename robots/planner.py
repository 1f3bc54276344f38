"""Play data in the maze: rows of waypoint followers that wander from goal to goal for ever.

After the maze2d generator of Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020: random
start and goal, a shortest path on the grid, waypoints jittered inside their cell, PD control. We follow exact
breadth-first paths instead of tabular Q-iteration (the same paths up to ties) and hold all next moves of a maze in
one table, so that rows of robots are planned for in one gather.

Axes: R rows, T time, F free cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bounds import Bounded, Count, NonNegative, Positive
from .maze import MazeBatch
from .maze_layout import Layout, geodesic_distance, start_cell

Float = NDArray[np.float32]

MOVES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerConfig(Bounded):
    """How the play data is made; the gains and thresholds are those of D4RL's waypoint controller.

    Raises:
        ConfigError: A field is out of its range.
    """

    proportional_gain: Positive = 10.0
    """Action per cell of distance to the waypoint."""
    derivative_gain: NonNegative = 1.0
    """Action per cell / s of velocity, subtracted."""
    waypoint_radius: Positive = 0.1
    """A waypoint counts as reached within this distance, cells."""
    waypoint_step: Positive = 0.1
    """... and when the last step moved less than this, cells."""
    jitter: NonNegative = 0.2
    """Waypoints lie at cell - U(0, jitter), cells."""
    action_noise: NonNegative = 0.0
    """Standard deviation of the Gaussian noise added to each action before clipping."""
    push: NonNegative = 0.0
    """Standard deviation of a random force that pushes the robot and that no action shows, in units of the action. So
    the data show how to come back to the way: noise is put into what is done, and not into what is recorded (DART;
    Laskey, Lee, Fox, Dragan and Goldberg, "DART: Noise Injection for Robust Imitation Learning", CoRL 2017)."""
    push_steps: Positive = 10.0
    """Time in which the push forgets its direction (of an Ornstein-Uhlenbeck process), low-level steps."""
    episode_steps: Count = 1000
    """Length of one stored episode, low-level steps; the robot is reset to a random cell after it."""


class PlayChunk(NamedTuple):
    """One finished episode per row, all of the same length."""

    observation: Float
    """Shape (R, T, 4): before the action."""
    action: Float
    """Shape (R, T, 2): as commanded, without pushes."""
    goal: Float
    """Shape (R, T, 2): what the planner was heading for when it made the observation."""
    terminal: NDArray[np.bool_]
    """Shape (R, T): this observation is within the waypoint radius of a waypoint in the goal cell, so the planner chose
    another goal; the robot went on."""


def next_cell_table(layout: Layout, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Next cell on a shortest path between all pairs of cells in the start's part of the maze.

    Where several shortest paths exist, one order of the four moves, drawn once, decides.

    Returns:
        Cells, shape (F, 2), and the index of the next cell when at cell f heading for cell g, shape (F, F).
    """
    cells = np.argwhere(geodesic_distance(layout, start_cell(layout)) >= 0)
    index = np.full(layout.shape, -1, np.int64)
    index[tuple(cells.T)] = np.arange(len(cells))
    distance = compute_distances(np.stack([index[tuple((cells + move).T)] for move in MOVES]))
    following = np.tile(np.arange(len(cells)), (len(cells), 1))
    best = distance.T.astype(np.float64)
    for move in MOVES[rng.permutation(4)]:
        neighbour = index[tuple((cells + move).T)]
        candidate = np.where(neighbour[:, None] >= 0, distance.T[neighbour], np.inf)
        better = candidate < best
        following[better] = np.broadcast_to(neighbour[:, None], better.shape)[better]
        best = np.minimum(best, candidate)
    return cells, following


def compute_distances(neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Moves between all pairs of cells, shape (F, F), by a search from all of them at once.

    Args:
        neighbours: Index of the next cell by each of the 4 moves, -1 where a wall is, shape (4, F). All cells are
            connected.
    """
    count = neighbours.shape[1]
    # [f, g]: whether f and g are at most so many moves apart; -1 is the last row, which nothing reaches
    near = np.eye(count + 1, count, dtype=np.bool_)
    distance, moves = np.where(near[:-1], 0, -1), 0
    while not near[:-1].all():
        grown = near[:-1] | near[neighbours].any(axis=0)
        moves += 1
        distance[grown & ~near[:-1]] = moves
        near[:-1] = grown
    return distance


def play(layout: Layout, config: PlannerConfig, *, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
    """Yields episodes of play data without end, `rows` at a time.

    Args:
        layout: The maze.
        config: Gains, noise and episode length.
        rows: Robots that wander side by side.
        seed: Seed of starts, goals, jitter and noise.
        threads: Physics threads; the data does not depend on them.
    """
    rng = np.random.default_rng(seed)
    cells, following = next_cell_table(layout, rng)
    batch = MazeBatch(layout, rows, threads=threads, episode_steps=config.episode_steps, terminate_at_goal=False)
    everyone = np.arange(rows)
    while True:
        at = rng.integers(len(cells), size=rows)
        start = cells[at] - config.jitter * rng.random((rows, 2))
        observation = batch.reset_to(everyone, cells[at].astype(np.float32), start, np.zeros((rows, 2)))
        goal = rng.integers(len(cells), size=rows)
        at = following[at, goal]
        waypoint = cells[at] - config.jitter * rng.random((rows, 2))
        previous = observation[:, :2]
        push, kept = np.zeros((rows, 2)), np.exp(-1.0 / config.push_steps)
        shape = (rows, config.episode_steps)
        chunk = PlayChunk(
            np.empty((*shape, 4), np.float32),
            np.empty((*shape, 2), np.float32),
            np.empty((*shape, 2), np.float32),
            np.zeros(shape, np.bool_),
        )
        for step in range(config.episode_steps):
            position, velocity = observation[:, :2], observation[:, 2:]
            arrived = (np.linalg.norm(position - waypoint, axis=1) < config.waypoint_radius) & (
                np.linalg.norm(position - previous, axis=1) < config.waypoint_step
            )
            chunk.goal[:, step] = cells[goal]
            if arrived.any():
                solved = arrived & (at == goal)
                chunk.terminal[:, step] = solved
                goal[solved] = rng.integers(len(cells), size=np.count_nonzero(solved))
                at[arrived] = following[at[arrived], goal[arrived]]
                waypoint[arrived] = cells[at[arrived]] - config.jitter * rng.random((np.count_nonzero(arrived), 2))
            action = config.proportional_gain * (waypoint - position) - config.derivative_gain * velocity
            if config.action_noise > 0.0:
                action = action + config.action_noise * rng.standard_normal(action.shape)
            commanded = np.clip(action, -1.0, 1.0).astype(np.float32)
            chunk.observation[:, step] = observation
            chunk.action[:, step] = commanded
            previous = position
            if config.push > 0.0:
                push = kept * push + np.sqrt(1.0 - kept**2) * config.push * rng.standard_normal(push.shape)
            applied = np.clip(commanded + push, -1.0, 1.0).astype(np.float32)
            observation = batch.step(everyone, applied).observation
        yield chunk
