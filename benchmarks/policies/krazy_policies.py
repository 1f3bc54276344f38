"""Krazy World with a map: a planner that collects as it goes, or first looks at the whole board for a few episodes.

What the two return apart is what it is worth to explore first, as E-RL2 may (Stadie et al., "Some Considerations on
Learning to Explore via Meta-Reinforcement Learning", 2018). Ours, with no claim to be optimal: the planner keeps the
cells that it has seen, rules out controls that do not fit to where it came, takes the safest of the steps that help,
and goes to known goals by the shortest tour that its time allows. Where there is none to go to it goes to the nearest
cell that shows new ones.

It is told where it stands, which an agent has to keep count of, and that colours are kinds. It keeps off locks and
teleporters, and does not count on energy tiles.

Axes: R rows, E episodes, n side of the board, P cells of the padded board.
"""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from supple.errors import ConfigError
from supple.robots.krazy_boards import (
    DEATH,
    GOAL,
    ICE,
    KINDS,
    LOCK,
    OUTSIDE,
    TELEPORTER,
    UNIT_MOVES,
    WALL,
    KrazyConfig,
    inner_cells,
)
from supple.robots.krazy_world import KrazyBatch
from supple.robots.robot import Float

_UNSEEN = -1
_BLOCKS = (WALL, OUTSIDE)
_NOT_TO_BE_TRIED = (DEATH, LOCK, TELEPORTER, _UNSEEN)
_CONTROLS = list(permutations(range(len(UNIT_MOVES))))
"""What the buttons may do: direction of each."""


class BoardMap:
    """What one agent knows of its board, over all episodes of a trial."""

    def __init__(self, config: KrazyConfig) -> None:
        self._width = config.size + 2 * config.margin
        self._inner = inner_cells(config.size, config.margin).ravel()
        self._steps = (UNIT_MOVES @ (self._width, 1)).tolist()
        self._window = [self._width * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)]
        self.kinds = np.full(self._width**2, OUTSIDE)
        """Kind of each cell when an episode begins, or -1, shape (P,)."""
        self.kinds[self._inner] = _UNSEEN
        self.taken: set[int] = set()
        """Goals taken in this episode."""
        self.controls = _CONTROLS
        """Those that fit to all that was seen."""

    def cell(self, place: int) -> int:
        """The padded cell of a place of `KrazyBatch.places`."""
        return int(self._inner[place])

    def look(self, cell: int, near: NDArray[np.int64]) -> None:
        """Enters the kinds of the 3 x 3 cells around the agent, shape (9,); a goal stays one once it was seen."""
        for offset, kind in zip(self._window, near.tolist(), strict=True):
            if self.kinds[cell + offset] == _UNSEEN:
                self.kinds[cell + offset] = kind

    def lead(self, cell: int, direction: int) -> int | None:
        """Where a step leads; None where it kills, slides to what was not seen, or meets a lock or a teleporter."""
        step = self._steps[direction]
        last, ahead = cell, cell + step
        while self.kinds[ahead] == ICE:
            last, ahead = ahead, ahead + step
        if self.kinds[ahead] in _NOT_TO_BE_TRIED:
            return None
        return last if self.kinds[ahead] in _BLOCKS else ahead

    def rule_out(self, cell: int, button: int, reached: int) -> None:
        """Forgets controls under which the button would have led elsewhere than to a cell, which may have killed."""
        expected = [(control, self.lead(cell, control[button])) for control in self.controls]
        self.controls = [control for control, lead in expected if lead in (reached, None)]

    def ways(self, cell: int) -> dict[int, tuple[int, int]]:
        """Steps to every cell that can be reached safely, and the direction of the first of them."""
        found, queue = {cell: (0, 0)}, [cell]
        for here in queue:
            for direction in range(len(self._steps)):
                there = self.lead(here, direction)
                if there is not None and there not in found:
                    found[there] = (found[here][0] + 1, direction if here == cell else found[here][1])
                    queue.append(there)
        return found

    def aim_at_goals(self, cell: int, left: int) -> int | None:
        """Where the tour begins that takes the most known goals in the steps left, of those the shortest."""
        ways = self.ways(cell)
        goals = [
            goal for goal in np.flatnonzero(self.kinds == GOAL).tolist() if goal in ways and goal not in self.taken
        ]
        between = {goal: self.ways(goal) for goal in goals}
        best, direction = (0, 0), None
        for count in range(1, len(goals) + 1):
            for tour in permutations(goals, count):
                legs = [between[one].get(other, (left + 1, 0))[0] for one, other in pairwise(tour)]
                length = ways[tour[0]][0] + sum(legs)
                if length <= left and (count, -length) > best:
                    best, direction = (count, -length), ways[tour[0]][1]
        return direction

    def aim_at_news(self, cell: int) -> int | None:
        """The direction of the nearest cell that shows what was not seen, of equally near ones the most of it."""
        found = [
            (steps, -sum(self.kinds[there + offset] == _UNSEEN for offset in self._window), direction)
            for there, (steps, direction) in self.ways(cell).items()
            if steps > 0
        ]
        return min((one for one in found if one[1] < 0), default=(0, 0, None))[2]

    def press(self, cell: int, direction: int | None) -> int:
        """The safest button that may lead there or tells controls apart, of equally safe ones the most probable.

        Without a direction to go in it is the safest of all.
        """

        def value(button: int) -> tuple[bool, int, int]:
            leads = [self.lead(cell, control[button]) for control in self.controls]
            fits = sum(control[button] == direction for control in self.controls)
            return direction is None or fits > 0 or len(set(leads)) > 1, -leads.count(None), fits

        return max(range(len(self._steps)), key=value)


def can_be_planned(config: KrazyConfig) -> bool:
    """Whether colours are kinds, and steps go to a neighbour that the view shows."""
    return config.view == "local" and not config.shuffle_palette and config.dynamics != "jumps"


def play_krazy(
    batch: KrazyBatch, goals: Float, config: KrazyConfig, episodes: int, *, looking_episodes: int = 0
) -> NDArray[np.float64]:
    """Returns of each row and episode, shape (R, E). Nothing is drawn: one board always gives the same.

    Args:
        batch: At least R rows.
        goals: Ids of boards, shape (R, 1).
        config: That of the batch.
        episodes: E.
        looking_episodes: In so many first episodes what was not seen comes before goals, even known ones.

    Raises:
        ConfigError: `can_be_planned` is False.
    """
    if not can_be_planned(config):
        raise ConfigError(
            f"krazy world planner: expected a local view, colours that are kinds and no jumps, got {config}; play "
            "another board"
        )
    rows = np.arange(len(goals))
    maps = [BoardMap(config) for _ in rows]
    returns = np.zeros((len(rows), episodes))
    limit = min(batch.spec.episode_steps, config.energy or batch.spec.episode_steps)
    for episode in range(episodes):
        observation = batch.reset(rows, goals, np.random.default_rng(0))
        for each in maps:
            each.taken = set()
        live = rows
        for step in range(limit):
            if len(live) == 0:
                break
            cells = [maps[row].cell(place) for row, place in zip(live, batch.places(live), strict=True)]
            buttons = []
            for row, cell, kinds in zip(live, cells, _near(observation), strict=True):
                own = maps[row]
                own.look(cell, kinds)
                buttons.append(_choose(own, cell, limit - step, looking=episode < looking_episodes))
            result = batch.step(live, np.array(buttons, np.float32)[:, None])
            returns[live, episode] += result.reward
            for row, cell, button, place in zip(live, cells, buttons, batch.places(live), strict=True):
                own = maps[row]
                reached = own.cell(place)
                own.rule_out(cell, button, reached)
                if own.kinds[reached] == GOAL:
                    own.taken.add(reached)
            live, observation = live[~result.terminated], result.observation[~result.terminated]
    return returns


def _near(observation: Float) -> NDArray[np.int64]:
    """Kinds of the cells around, shape (r, 9); what shows no colour lies outside."""
    colours = observation[:, : 9 * len(KINDS)].reshape(len(observation), 9, len(KINDS))
    kinds: NDArray[np.int64] = np.where(colours.any(axis=2), colours.argmax(axis=2), OUTSIDE)
    return kinds


def _choose(own: BoardMap, cell: int, left: int, *, looking: bool) -> int:
    direction = own.aim_at_news(cell) if looking else own.aim_at_goals(cell, left)
    if direction is None:
        direction = own.aim_at_goals(cell, left) if looking else own.aim_at_news(cell)
    return own.press(cell, direction)
