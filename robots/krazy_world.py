"""Krazy World: a grid whose tiles, colours and controls differ from task to task, stepped as rows.

Source: Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever, "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018 (arXiv 1803.01118), Section 4.1, Figure 7 and Appendix A. `krazy_boards.py` says how
boards are drawn.

The rules of the paper: a goal gives +1 once and does not end the episode; ice is slid over in the direction of travel;
death ends the episode; walls block; a lock is passed with its key only; a teleporter leads to another one; an energy
tile gives energy, and an agent without energy can no longer move. Colours and controls may be permuted per task. The
observation is a basis vector per cell, of the 3 x 3 cells around the agent or of the whole board.

Ours, where the paper is silent:
  - Goals, keys and energy tiles turn normal once taken; a lock stays and is open to who holds its key.
  - Each step costs one unit of energy, a blocked one too. Who has none stays put until the time limit: the episode does
    not end, because the paper says "can no longer move" of energy and "end the episode" of death only.
  - Sliding against something that blocks ends on the last ice tile. Tiles that are slid over have no other effect.
  - One arrives on the other teleporter without being sent back; one step off it and on again works it.
  - Around the board nothing can be entered, and such cells show no colour (a vector of zeros), so that the border does
    not give away the colour of walls. The agent's own cell shows the tile under it.
  - The start, the colours and the controls belong to the task, so an episode has nothing random in it.

Axes: R rows, r rows of this call, O observation, A = 1 action, G = 1 goal (the board id), P padded cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SpecError
from .array_robots import ArrayRobots, Index
from .board_bank import BOARD_ID, BoardBank, make_board_tasks
from .family import ONLY_TASKS
from .krazy_boards import (
    DEATH,
    ENERGY,
    GOAL,
    ICE,
    KEY,
    KINDS,
    LOCK,
    NORMAL,
    OUTSIDE,
    TELEPORTER,
    WALL,
    KrazyBoard,
    KrazyConfig,
    draw_board,
    inner_cells,
)
from .robot import Bool, Float, Rows, require_rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet

BUTTONS = ("button_0", "button_1", "button_2", "button_3")
"""The actions; what a button does is part of the task."""
EPISODE_STEPS = 100
CONTROL_PERIOD = 1.0
"""A grid has no clock; one step counts as one second."""
UNLIMITED = 2**40
"""Energy of an agent without a limit."""

_COLOURS = len(KINDS)
_ONE_HOT: Float = np.vstack([np.eye(_COLOURS), np.zeros(_COLOURS)]).astype(np.float32)
_LEFT_BEHIND = np.array([NORMAL if kind in (GOAL, KEY, ENERGY) else kind for kind in range(OUTSIDE + 1)], np.uint8)
_CAN_BE_ENTERED = np.array([kind not in (WALL, OUTSIDE) for kind in range(OUTSIDE + 1)])
_BIT = np.array([1 << kind for kind in range(OUTSIDE)] + [0], np.int16)


class Exploration(NamedTuple):
    """What each row found out, for the three measures of system identification of Figure 7 of Stadie et al."""

    kinds_touched: NDArray[np.int16]
    """Bit k is set if the agent entered, slid over or ran into a tile of kind k. Shape (r,)."""
    kinds_present: NDArray[np.int16]
    """Bit k is set if the board has a tile of kind k. Shape (r,)."""
    deaths: NDArray[np.int64]
    """Times that a death tile was entered. Shape (r,)."""
    goals: NDArray[np.int64]
    """Goal tiles taken. Shape (r,)."""

    @property
    def fraction_of_kinds(self) -> NDArray[np.float64]:
        """Kinds touched / kinds on the board, shape (r,)."""
        touched: NDArray[np.float64] = np.bitwise_count(self.kinds_touched & self.kinds_present).astype(np.float64)
        return touched / np.bitwise_count(self.kinds_present)


def join_episodes(episodes: Sequence[Exploration]) -> Exploration:
    """What each row found out over several episodes on one board: kinds are united, deaths and goals added up.

    Raises:
        SpecError: There are no episodes, or they are not of the same boards.
    """
    if not episodes or any(not np.array_equal(e.kinds_present, episodes[0].kinds_present) for e in episodes):
        raise SpecError(
            f"krazy_world exploration: expected episodes on the same boards, got {len(episodes)} with different ones; "
            "join the episodes of one trial"
        )
    touched = np.bitwise_or.reduce([e.kinds_touched for e in episodes])
    deaths, goals = (np.sum([getattr(e, name) for e in episodes], axis=0) for name in ("deaths", "goals"))
    return Exploration(touched, episodes[0].kinds_present, deaths, goals)


def make_krazy_tasks(num_train: int = 32, num_test: int = 64) -> TaskSet:
    """The numbers of train and test boards of Stadie et al., Appendix C: ids 0 .. 31 and 100 .. 163.

    Raises:
        SpecError: A split is empty.
    """
    return make_board_tasks("krazy-world", num_train, num_test)


def krazy_spec(config: KrazyConfig, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of Krazy World under this config."""
    cells = [(i, j) for i in range(config.size) for j in range(config.size)]
    if config.view == "local":
        seen = [f"near_{i}_{j}" for i in ("up", "at", "down") for j in ("left", "at", "right")]
    else:
        seen = [f"cell_{i}_{j}" for i, j in cells]
    names = [f"{cell}_colour_{colour}" for cell in seen for colour in range(_COLOURS)]
    if config.view == "global" or config.show_position:
        names += [f"agent_{i}_{j}" for i, j in cells]
    return RobotSpec(
        name="krazy_world",
        observation=ArraySpec("observation", tuple(Axis(name, "1", 0.0, 1.0) for name in names)),
        action=make_choice_spec(BUTTONS),
        goal=BOARD_ID,
        control_period=CONTROL_PERIOD,
        episode_steps=episode_steps,
        choices=BUTTONS,
    )


@final
class KrazyBatch(ArrayRobots):
    """Rows of agents, each on a board of its own; see `RobotBatch` for the contract.

    Args:
        config: The boards and the view.
        rows: Number of agents, R.
        episode_steps: Time limit, steps.
        boards: Boards to use for some ids in place of the drawn ones.

    Boards are drawn when they are first asked for (milliseconds) and kept (some kB each) as long as the batch.

    Raises:
        ConfigError: There are no rows, a given board does not have the size and margin of the config, or none can be
            drawn.
        SpecError: `episode_steps` is below 1.
    """

    def __init__(
        self,
        config: KrazyConfig,
        rows: int,
        *,
        episode_steps: int = EPISODE_STEPS,
        boards: Mapping[int, KrazyBoard] | None = None,
    ) -> None:
        super().__init__(krazy_spec(config, episode_steps), rows)
        self._config = config
        width = config.size + 2 * config.margin
        self._cells = width * width
        given = dict(boards or {})
        for board_id, board in given.items():
            if board.tiles.shape != (self._cells,):
                raise ConfigError(
                    f"krazy world board {board_id}: expected {self._cells} cells with the margin, got "
                    f"{len(board.tiles)}; use a board of the config's size"
                )
        self._bank = BoardBank(
            lambda one: given[one] if one in given else draw_board(config, one), next(iter(given), 0)
        )
        self._inner = inner_cells(config.size, config.margin).ravel()
        self._place = np.zeros(self._cells, np.int64)  # of a padded cell among the cells of the board
        self._place[self._inner] = np.arange(len(self._inner))
        self._window = (width * np.arange(-1, 2)[:, None] + np.arange(-1, 2)).ravel()
        self._gain = np.where(np.arange(OUTSIDE + 1) == ENERGY, config.replenish, 0)
        self._origin = self._cells * np.arange(rows)
        self._tiles = np.full((rows, self._cells), OUTSIDE, np.uint8)
        self._flat_tiles = self._tiles.reshape(-1)
        self._slot = np.zeros(rows, np.int64)
        self._picture = np.zeros((rows, *self._spec.observation.shape), np.float32)  # for the global view only
        self._cell = np.full(rows, self._inner[0])
        self._keys = np.zeros(rows, np.int16)
        self._energy = np.zeros(rows, np.int64)
        self._touched = np.zeros(rows, np.int16)
        self._dead = np.zeros(rows, np.bool_)
        self._goals_taken = np.zeros(rows, np.int64)

    def _check_goals(self, goals: Float, where: str) -> None:
        self._bank.slots(goals, where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        slot = self._bank.slots(goals, "krazy_world reset")
        self._slot[index] = slot
        self._tiles[index] = self._bank.arrays.tiles[slot]
        self._cell[index] = self._bank.arrays.start[slot]
        self._keys[index] = 0
        self._energy[index] = UNLIMITED if self._config.energy is None else self._config.energy
        self._touched[index] = _BIT[NORMAL]
        self._dead[index] = False
        self._goals_taken[index] = 0
        rows = np.arange(self.rows)[index]
        if self._config.view == "global":
            self._paint(rows)
        return self._observe(rows, index)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        cell, keys, energy = self._cell[rows], self._keys[index], self._energy[index]
        # flat indices are several times faster than one index array per axis
        boards, board = self._bank.arrays, self._slot[index] * self._cells
        at = 4 * board + action * self._cells + cell
        target, stop = boards.target.take(at), boards.stop.take(at)
        place = self._origin[index] + target
        kind, link = self._flat_tiles.take(place), boards.link.take(board + target)

        moves = energy > 0
        opens = _CAN_BE_ENTERED.take(kind)
        opens &= (kind != LOCK) | (keys & link != 0)
        entered = np.where(opens & moves, kind, NORMAL)
        goal, died = entered == GOAL, entered == DEATH
        ahead = np.where(opens, np.where(kind == TELEPORTER, link, target), stop)
        touched = np.where(stop == cell, 0, _BIT[ICE]) | _BIT.take(kind)

        self._flat_tiles[place] = np.where(moves, _LEFT_BEHIND.take(kind), kind)
        self._cell[index] = np.where(moves, ahead, cell)
        self._keys[index] = keys | np.where(entered == KEY, link, 0)
        self._energy[index] = np.where(died, 0, energy + self._gain.take(entered) - moves)
        self._touched[index] |= np.where(moves, touched, 0)
        self._goals_taken[index] += goal
        self._dead[index] |= died
        if self._config.view == "global":
            self._repaint(rows, cell, target, entered)
        return self._observe(rows, index), goal.astype(np.float32), self._dead[rows]

    def exploration(self, rows: Rows) -> Exploration:
        """What `rows` found out since they were last reset; read it before the next reset.

        Raises:
            SpecError: The rows are not increasing or not there.
        """
        rows = require_rows(rows, self.rows, "krazy_world exploration")
        present = self._bank.arrays.kinds_present[self._slot[rows]]
        return Exploration(self._touched[rows], present, self._dead[rows].astype(np.int64), self._goals_taken[rows])

    def places(self, rows: Rows) -> NDArray[np.int64]:
        """Where the agents of `rows` stand: cells of the board in reading order, shape (r,).

        Raises:
            SpecError: The rows are not increasing or not there.
        """
        rows = require_rows(rows, self.rows, "krazy_world places")
        places: NDArray[np.int64] = self._place[self._cell[rows]]
        return places

    def _observe(self, rows: Rows, index: Index) -> Float:
        if self._config.view == "global":
            return self._picture.take(rows, axis=0)
        cell = self._cell[index]
        kinds = self._flat_tiles.take((self._origin[index] + cell)[:, None] + self._window)
        tiles = self._one_hot(kinds, self._slot[index])
        if not self._config.show_position:
            return tiles
        agent = np.zeros((len(cell), len(self._inner)), np.float32)
        agent[np.arange(len(cell)), self._place.take(cell)] = 1.0
        return np.concatenate([tiles, agent], axis=1)

    def _one_hot(self, kinds: NDArray[np.uint8], slot: NDArray[np.int64]) -> Float:
        """Basis vectors of the colours of some tiles, shape (r, tiles) -> (r, tiles K)."""
        colours = self._bank.arrays.palette.take((OUTSIDE + 1) * slot[:, None] + kinds)
        return _ONE_HOT.take(colours, axis=0).reshape(len(kinds), kinds.shape[1] * _COLOURS)

    def _paint(self, rows: Rows) -> None:
        """Draws the whole picture of the global view."""
        tiles = self._one_hot(self._tiles[rows][:, self._inner], self._slot[rows])
        self._picture[rows] = 0.0
        self._picture[rows, : tiles.shape[1]] = tiles
        self._picture[rows, tiles.shape[1] + self._place[self._cell[rows]]] = 1.0

    def _repaint(
        self, rows: Rows, before: NDArray[np.int64], target: NDArray[np.int16], kind: NDArray[np.uint8]
    ) -> None:
        """Moves the agent in the picture from the cells `before`, and clears the tile at `target` if it was taken."""
        agents = self._picture[:, len(self._inner) * _COLOURS :]
        agents[rows, self._place.take(before)] = 0.0
        agents[rows, self._place.take(self._cell[rows])] = 1.0
        taken = np.flatnonzero(_LEFT_BEHIND.take(kind) != kind)
        row = rows[taken]
        first, palette = _COLOURS * self._place[target[taken]], self._bank.arrays.palette[self._slot[row]]
        self._picture[row, first + palette[np.arange(len(row)), kind[taken]]] = 0.0
        self._picture[row, first + palette[:, NORMAL]] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KrazyWorld:
    """Boards of Krazy World, 32 to train on and 64 others to test on, as Stadie et al."""

    board: KrazyConfig = field(default_factory=KrazyConfig)
    episode_steps: int = 50
    """Time limit; no less than `board.max_tour`, in which every board can be solved."""
    num_train: int = field(default=32, metadata=ONLY_TASKS)
    num_test: int = field(default=64, metadata=ONLY_TASKS)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        colours = "" if self.board.shuffle_palette else "-fixed-colours"
        return f"krazy-{self.board.size}x{self.board.size}{colours}"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return krazy_spec(self.board, self.episode_steps)

    def make(self, rows: int, threads: int = 1) -> KrazyBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return KrazyBatch(self.board, rows, episode_steps=self.episode_steps)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        return make_krazy_tasks(self.num_train, self.num_test)
