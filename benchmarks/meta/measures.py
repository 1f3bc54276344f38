"""What an evaluation measures beside returns, where a robot has more to tell.

Krazy World: the measures of exploration of Figure 7 of Stadie et al., "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018: `kinds` is the fraction of the board's kinds of tiles that an episode touched,
`kinds_so_far` that of the trial up to it, `deaths` and `goals` are counts. Random mazes: `success`, and `detour`, the
steps of an episode over those of the shortest way; an episode without success counts with its time limit, so that
`detour` is then a lower bound.

Axes: N tasks, M trials, S + 1 rounds, E episodes, B rollouts, n side of a board.
"""

from typing import NamedTuple

import numpy as np

from supple.meta.evaluation import Evaluation, Scores
from supple.robots.family import RobotFamily
from supple.robots.krazy_world import KrazyBatch, KrazyWorld
from supple.robots.random_mazes import RandomMazes
from supple.robots.robot import Float, RobotBatch

from ..policies.krazy_exploration import KrazyRecorder
from .rows import make_rows


class Measures(NamedTuple):
    """Measures of an evaluation."""

    scores: dict[str, Scores]
    """Each of shape (N, M, S + 1, E, B)."""
    visits: Scores | None = None
    """How often an agent stood on each cell of its board, mean over trials and rollouts, shape (N, S + 1, E, n^2)."""


def watch(robot: RobotFamily, rows: int) -> RobotBatch:
    """The robots of an evaluation, made so that `measure` can tell more about the episodes run in them."""
    batch = make_rows(robot, rows)
    if isinstance(robot, KrazyWorld):
        assert isinstance(batch, KrazyBatch)
        return KrazyRecorder(batch, robot.board.size)
    return batch


def measure(robot: RobotFamily, batch: RobotBatch, found: Evaluation, goals: Float) -> Measures:
    """What `batch`, made by `watch`, has to tell about the evaluation that was run in it, and no other was.

    Args:
        robot: The family.
        batch: As it is after the evaluation.
        found: The evaluation.
        goals: Its tasks, shape (N, G).
    """
    if isinstance(batch, KrazyRecorder):
        explored = batch.explored()
        names = ("kinds", "kinds_so_far", "deaths", "goals")
        visits = _by_task(explored.visits.astype(np.float64), found).mean(axis=(1, 4))
        return Measures({name: _by_task(getattr(explored, name), found) for name in names}, visits)
    if isinstance(robot, RandomMazes):
        shortest = robot.make(1).shortest_steps(goals)
        detour = found.steps / shortest.reshape(-1, 1, 1, 1, 1)
        return Measures({"success": found.terminated.astype(np.float64), "detour": detour})
    return Measures({})


def _by_task(values: Scores, found: Evaluation) -> Scores:
    """Values of (episode in the order run, row, ...) on the axes of an evaluation, (N, M, S + 1, E, B, ...)."""
    tasks, trials, rounds, episodes, rollouts = found.returns.shape
    apart = values.reshape(rounds, episodes, tasks, trials, rollouts, *values.shape[2:])
    return np.moveaxis(apart, (2, 3, 0, 1, 4), range(5)).astype(np.float64)
