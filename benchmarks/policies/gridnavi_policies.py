"""GridNavi with the exact posterior over goals: posterior sampling and the Bayes-optimal search, step by step.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020, section
5.1 and Figure 3, which compares both. The posterior is uniform over the candidates that were not visited, or certain
once a cell has paid. Posterior sampling draws a goal from it when an episode begins, goes there by a shortest way
(uniform among them) and stays until the episode ends. The Bayes-optimal agent follows `gridnavi_search_plan`. Both stay
where it pays, and go there in later episodes.

Axes: R rows, E episodes, T steps of an episode, C = 25 cells, cell (x, y) at 5 x + y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supple.robots import gridnavi
from supple.robots.robot import Float, RobotBatch

from .oracles import Double, gridnavi_search_plan

Cells = NDArray[np.int64]
PRIOR: Double = np.zeros(gridnavi.CELLS**2)
"""Probability of each cell to be the goal before the first step, shape (C,)."""
PRIOR[[gridnavi.CELLS * x + y for x, y in gridnavi.CANDIDATES]] = 1.0 / len(gridnavi.CANDIDATES)


class Search(NamedTuple):
    """What happened in a trial of some episodes."""

    cell: Cells
    """Where the agent was before the first and after each step, shape (E, T + 1, R)."""
    belief: Double
    """Posterior probability of each cell to be the goal, at the same times, shape (E, T + 1, R, C)."""
    reward: Double
    """Shape (E, T, R)."""


Aim = Callable[[Double, int, np.random.Generator], Cells]
"""Cells to go to, each by a shortest way, at each step of an episode, shape (T, R), from the belief, shape (R, C), at
its begin, the index of the episode, and a source of draws."""


def update_belief(belief: Double, cell: Cells, paid: NDArray[np.bool_]) -> Double:
    """Bayes' rule for having stood on a cell that paid or did not, shape (R, C)."""
    here = np.arange(belief.shape[1]) == cell[:, None]
    after = belief * (here == paid[:, None])
    posterior: Double = after / after.sum(axis=1, keepdims=True)
    return posterior


def trace_belief(cell: Cells, goal: tuple[int, int]) -> Double:
    """The posterior of an agent of any kind, from where it was and what paid, shape (E, T + 1, C).

    Args:
        cell: Where it was before the first and after each step of its episodes, shape (E, T + 1).
        goal: Cell (x, y) that paid.
    """
    belief = PRIOR[None]
    found = np.zeros((*cell.shape, len(PRIOR)))
    for episode, way in enumerate(cell):
        found[episode, 0] = belief[0]
        for step, here in enumerate(way[1:], start=1):
            belief = update_belief(belief, here[None], here[None] == gridnavi.CELLS * goal[0] + goal[1])
            found[episode, step] = belief[0]
    return found


def aim_by_posterior_sampling(belief: Double, episode: int, rng: np.random.Generator) -> Cells:
    """One draw from the posterior for the whole episode."""
    drawn = (rng.random((len(belief), 1)) >= np.cumsum(belief, axis=1)).sum(axis=1)
    return np.tile(np.minimum(drawn, belief.shape[1] - 1), (gridnavi.EPISODE_STEPS, 1))


def aim_bayes_optimally(belief: Double, episode: int, rng: np.random.Generator) -> Cells:
    """The search plan, in its second half until the goal is known."""
    way = [gridnavi.CELLS * x + y for x, y in gridnavi_search_plan()[min(episode, 1)]]
    steps = np.minimum(np.arange(gridnavi.EPISODE_STEPS), len(way) - 1)
    return np.tile(np.array(way)[steps][:, None], (1, len(belief)))


def play_gridnavi(batch: RobotBatch, goals: Float, aim: Aim, episodes: int, rng: np.random.Generator) -> Search:
    """Plays a trial in every row.

    Args:
        batch: GridNavi of its usual length.
        goals: Cells, shape (R, 2).
        aim: The policy.
        episodes: E.
        rng: Source of the draws.
    """
    rows, limit = np.arange(batch.rows), batch.spec.episode_steps
    belief = np.tile(PRIOR, (len(rows), 1))
    cells = np.zeros((episodes, limit + 1, len(rows)), np.int64)
    beliefs = np.zeros((*cells.shape, len(PRIOR)))
    rewards = np.zeros((episodes, limit, len(rows)))
    for episode in range(episodes):
        position = batch.reset(rows, goals, rng)
        beliefs[episode, 0] = belief
        aims = aim(belief, episode, rng)
        for step in range(limit):
            known = belief.max(axis=1) == 1.0
            there = np.where(known, belief.argmax(axis=1), aims[step])
            result = batch.step(rows, _move_towards(position, there, rng)[:, None].astype(np.float32))
            position, rewards[episode, step] = result.observation, result.reward
            cell = (position @ (gridnavi.CELLS, 1)).astype(np.int64)
            belief = update_belief(belief, cell, result.reward == gridnavi.GOAL_REWARD)
            cells[episode, step + 1], beliefs[episode, step + 1] = cell, belief
    return Search(cells, beliefs, rewards)


def _move_towards(position: Float, there: Cells, rng: np.random.Generator) -> Cells:
    """The next move of a shortest way, drawn uniformly among all of them, or to stay; shape (R,)."""
    apart = np.stack(np.divmod(there, gridnavi.CELLS), axis=1) - position
    # as many ways begin along an axis as it has moves left, up to a factor that both axes share
    along_x = rng.random(len(apart)) * np.abs(apart).sum(axis=1) < np.abs(apart[:, 0])
    move = np.sign(np.where(along_x[:, None], apart * (1.0, 0.0), apart * (0.0, 1.0)))
    choice: Cells = (move[:, None, :] == gridnavi.MOVES).all(axis=2).argmax(axis=1)
    return choice
