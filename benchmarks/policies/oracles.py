"""Exact references for the array robots: the best that any policy can do, with or without knowing the task.

An oracle that knows the task bounds what a meta-learner reaches after adaptation; a Bayes-optimal value bounds what it
reaches from the first step on. All are computed, none is estimated by running anything.

Sources: backward induction over the beliefs of a Bernoulli bandit is Bellman, "A Problem in the Sequential Design of
Experiments", Sankhya 16, 1956; over the states of a known MDP, Puterman, "Markov Decision Processes", Wiley, 1994. The
Bayes-optimal search of GridNavi is the reference of Zintgraf et al., "VariBAD", ICLR 2020; how we prove ours optimal
stands at `gridnavi_search_plan`.

Axes: N tasks, S states, A actions, T steps.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supple.errors import ConfigError
from supple.robots import gridnavi, movement_bandits, navigation
from supple.robots.robot import Float
from supple.robots.tabular import Tables

Double = NDArray[np.float64]
Cell = tuple[int, int]

# Bernoulli bandits


def bernoulli_bayes_return(arms: int, pulls: int) -> float:
    """Largest expected sum of rewards of any policy, for success probabilities from U[0, 1].

    Backward induction over the successes and failures of each arm, V = max_k [p_k (1 + V') + (1 - p_k) V''] with the
    posterior mean p_k = (s_k + 1) / (s_k + f_k + 2). Arms that have seen the same are the same, so that the counts are
    kept sorted: 5 arms and 10 pulls take less than a second, 100 pulls are out of reach.

    Args:
        arms: Number of arms, at least 1.
        pulls: Number of pulls, at least 1; the recursion is as deep.

    Raises:
        ConfigError: There are no arms or no pulls.
    """
    if arms < 1 or pulls < 1:
        raise ConfigError(f"bandit: expected at least 1 arm and 1 pull, got {arms} and {pulls}; ask for more")
    return bernoulli_bayes_choice(((0, 0),) * arms, pulls).value


class BanditChoice(NamedTuple):
    """What to do in a bandit."""

    value: float
    """Largest expected sum of the rewards left."""
    arm: int
    """First pull that has it, an index into the counts."""


@cache
def bernoulli_bayes_choice(counts: tuple[Cell, ...], left: int) -> BanditChoice:
    """The Bayes-optimal pull; see `bernoulli_bayes_return`.

    Args:
        counts: (successes, failures) of each arm, in ascending order.
        left: Pulls left, 0 or more.
    """
    best = BanditChoice(0.0, 0)
    if left == 0:
        return best
    for arm, (successes, failures) in enumerate(counts):
        if arm and counts[arm] == counts[arm - 1]:
            continue
        rest = counts[:arm] + counts[arm + 1 :]
        mean = (successes + 1) / (successes + failures + 2)
        won = bernoulli_bayes_choice(tuple(sorted((*rest, (successes + 1, failures)))), left - 1).value
        lost = bernoulli_bayes_choice(tuple(sorted((*rest, (successes, failures + 1)))), left - 1).value
        best = max(best, BanditChoice(mean * (1.0 + won) + (1.0 - mean) * lost, arm), key=lambda choice: choice.value)
    return best


# Tabular MDPs


def solve_tabular(tables: Tables | tuple[Double, Double], steps: int) -> tuple[Double, NDArray[np.int64]]:
    """Backward induction in known MDPs: V_t = max_a [r + P V_{t+1}], V_T = 0.

    Args:
        tables: The MDPs, or their transition probabilities and mean rewards in double precision.
        steps: Steps of an episode, T; at least 1.

    Returns:
        V_0, shape (N, S), and the best actions, shape (N, T, S).
    """
    transition, reward = (np.asarray(table, np.float64) for table in tables)
    value = np.zeros(reward.shape[:2])
    actions = np.zeros((len(reward), steps, reward.shape[1]), np.int64)
    for step in reversed(range(steps)):
        quality = reward + np.einsum("nsak,nk->nsa", transition, value)
        actions[:, step] = quality.argmax(axis=-1)
        value = quality.max(axis=-1)
    return value, actions


# GridNavi


def gridnavi_known_goal_return(goals: Float) -> Double:
    """Return of an episode of the shortest way to a known goal, shape (N,); goals of shape (N, 2), cells.

    The goal pays from the step that enters it on, and from the first step where it is the start.
    """
    distance = np.abs(np.asarray(goals, np.float64)).sum(axis=1)
    return _search_return(np.maximum(distance, 1.0))


def _search_return(found_at: Double) -> Double:
    """Return of an episode that enters the goal at step `found_at`, 1 .. 16 (never), and stays there."""
    before = found_at - 1.0
    return gridnavi.STEP_REWARD * before + gridnavi.GOAL_REWARD * (gridnavi.EPISODE_STEPS - before)


@cache
def gridnavi_search_plan() -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """Cells to visit in the first and in the second episode while the goal is not found: a Bayes-optimal search.

    Proof that no policy does better in any episode. No candidate is next to the start, so the first step finds nothing
    and each later step can visit one new candidate at most: the plan's first episode visits a new one at each of the
    steps 2 .. 15. The candidates that are left lie along one shortest way, so that the second episode comes to each of
    them as early as a policy that knows the goal: it and all later ones earn the return of the known goal. Both bounds
    are reached together.
    """
    first = _cover((0, 0), frozenset(), gridnavi.EPISODE_STEPS)
    assert first is not None, "the search goes through all ways"
    left = frozenset(gridnavi.CANDIDATES) - frozenset(first)
    return first, _staircase(left)


def _cover(cell: Cell, visited: frozenset[Cell], left: int) -> tuple[Cell, ...] | None:
    """A way of `left` steps on which each step but the first enters a new candidate and whose rest is a staircase."""
    if left == 0:
        return () if _staircase(frozenset(gridnavi.CANDIDATES) - visited) else None
    for dx, dy in gridnavi.MOVES[1:].astype(int).tolist():
        entered = (cell[0] + dx, cell[1] + dy)
        inside = min(entered) >= 0 and max(entered) < gridnavi.CELLS
        if not inside or entered in visited or (entered not in gridnavi.CANDIDATES and left < gridnavi.EPISODE_STEPS):
            continue
        rest = _cover(entered, visited | {entered}, left - 1)
        if rest is not None:
            return (entered, *rest)
    return None


def _staircase(cells: frozenset[Cell]) -> tuple[Cell, ...]:
    """A shortest way from the start that ends with these cells in order, or nothing where there is none."""
    ordered = sorted(cells, key=sum)
    way: list[Cell] = []
    at = (0, 0)
    for cell in ordered:
        if cell[0] < at[0] or cell[1] < at[1]:
            return ()
        while at != cell:
            at = (at[0] + 1, at[1]) if at[0] < cell[0] else (at[0], at[1] + 1)
            way.append(at)
    return tuple(way)


def gridnavi_bayes_returns(episodes: int) -> Double:
    """Expected return of each episode of a trial under the Bayes-optimal search, shape (episodes,).

    4.00 in the first episode and 11.07 in each later one.
    """
    first, _ = gridnavi_search_plan()
    found = {cell: step for step, cell in enumerate(first, start=1)}
    late = gridnavi.EPISODE_STEPS + 1
    found_at = np.array([found.get(cell, late) for cell in gridnavi.CANDIDATES], np.float64)
    returns = np.full(episodes, gridnavi_known_goal_return(np.array(gridnavi.CANDIDATES, np.float32)).mean())
    returns[:1] = _search_return(found_at).mean()
    return returns


# Navigation


def navigation_optimal_returns(variant: navigation.Navigation, starts: Float, goals: Float) -> Double:
    """Largest return of an episode with a known goal, shape (N,).

    The limits of the action hold for each axis alone, so that going straight to the goal on both axes makes both
    distances as small as they can be at every step at once; each variant's reward falls with the distance, and where
    the episode ends at the goal all rewards before are negative.

    Args:
        variant: The task.
        starts: Shape (N, 2).
        goals: Shape (N, 2).
    """
    apart = np.abs(np.asarray(goals, np.float64) - np.asarray(starts, np.float64))
    total = np.zeros(len(apart))
    running = np.ones(len(apart), np.bool_)
    for step in range(1, variant.episode_steps + 1):
        offset = np.maximum(apart - navigation.STEP * step, 0.0)
        distance = np.linalg.norm(offset, axis=1)
        if variant.reward_radius is None:
            reward = -distance
        else:
            reward = np.where(distance <= variant.reward_radius, 1.0 - distance, 0.0)
        total += running * reward
        running &= ~(offset.max(axis=1) < variant.end_extent)
    return total


# MovementBandits


def movement_bandit_optimal_returns(points: Float) -> Double:
    """Largest return of an episode with a known correct point, shape (N,).

    The number of moves to the nearest of the places that the agent can stand on and that pays; it then stays. The
    reward comes after the move, so that a place k moves away pays at 50 - k + 1 of the 50 steps, or at all where k = 0.

    Args:
        points: Correct points, shape (N, 2), pixels.
    """
    reach = int(movement_bandits.FIELD // movement_bandits.STEP)
    moves = np.arange(-reach, reach + 1)
    offset = np.asarray(points, np.float64) - movement_bandits.START
    squared = [(offset[:, axis, None] - movement_bandits.STEP * moves) ** 2 for axis in range(2)]
    pays = squared[0][:, :, None] + squared[1][:, None, :] < movement_bandits.RADIUS**2
    count = np.abs(moves)[:, None] + np.abs(moves)[None, :]
    needed = np.where(pays, count, np.iinfo(np.int64).max).min(axis=(1, 2))
    wait = np.maximum(needed - 1, 0)
    returns: Double = np.maximum(movement_bandits.EPISODE_STEPS - wait, 0).astype(np.float64)
    return returns
