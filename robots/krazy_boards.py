"""Boards of Krazy World: what a task may hold, how it is drawn from its id, and the proof that it can be solved.

Source: Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever, "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018 (arXiv 1803.01118), Section 4.1 and Appendix A. Sizes, shares and energy are those
of the public environment that its authors named for the paper; its own boards were never published.

Ours, where the paper is silent:
  - A board is kept only if all goals can be collected in one episode without dying, within `KrazyConfig.max_tour` steps
    and the starting energy. The search knows the board and takes no credit for energy tiles; boards that fail are drawn
    again. So the best possible return of every task is the number of its goals.
  - Shares of the board are rounded down to whole tiles; the start is always a normal tile.
  - A lock has one key, and stays passable once that key is held. Teleporters come in pairs.
  - A jump ("movement more akin to that of chess pieces") is the sum of `jump_moves` random unit moves, and touches none
    of the tiles between. The four jumps of a task differ and none is zero.

Axes: n side of the board, W = n + 2 margin side of the padded board, P = W^2 padded cells in reading order, K kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bounds import Range, Share, require_bounds
from ..errors import ConfigError

KINDS = ("normal", "goal", "ice", "death", "wall", "lock", "key", "teleporter", "energy")
"""Kinds of tiles; a kind is its index here."""
NORMAL, GOAL, ICE, DEATH, WALL, LOCK, KEY, TELEPORTER, ENERGY = range(len(KINDS))
OUTSIDE = len(KINDS)
"""What lies around the board: it cannot be entered and shows no colour."""
LETTERS = ".GIDWLKTE"
"""The letter of each kind in a drawing; `S` is the start."""
UNIT_MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Change of (row, column) by the actions of plain dynamics: up, down, left, right."""
MAX_SIZE = 100
_ATTEMPTS = 500
_PALETTE_STREAM, _MOVES_STREAM, _TILES_STREAM = range(3)

Cells = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class KrazyConfig:
    """One distribution of boards and one way to see them.

    Raises:
        ConfigError: A field is out of its range, or the tiles do not fit on the board.
    """

    size: Annotated[int, Range(2, MAX_SIZE)] = 10
    """Cells per side, n; 2 .. 100."""
    num_goals: Annotated[int, Range(1, 6)] = 3
    """Goal tiles, +1 each; 1 .. 6."""
    min_goal_distance: Annotated[int, Range(1, 2 * MAX_SIZE)] = 2
    """Smallest distance of a goal from the start, rows + columns; >= 1."""
    death_fraction: Share = 0.08
    """Share of the cells that kill; 0 .. 1, as the three below."""
    wall_fraction: Share = 0.05
    """Share of the cells that are walls."""
    ice_fraction: Share = 0.05
    """Share of the cells that are ice."""
    energy_fraction: Share = 0.05
    """Share of the cells that hold energy."""
    num_teleporters: Annotated[int, Range(0, MAX_SIZE**2)] = 1
    """Pairs of teleporters; >= 0."""
    num_locks: Annotated[int, Range(0, 3)] = 1
    """Locks, each with its key; 0 .. 3."""
    energy: Annotated[int, Range(1, 10**6)] | None = 50
    """Steps that the agent can take without energy tiles, > 0; None for no limit."""
    replenish: Annotated[int, Range(1, 10**6)] = 8
    """Steps that an energy tile gives; > 0."""
    max_tour: Annotated[int, Range(1, 10**6)] = 50
    """Every board can be solved in this many steps; > 0. Choose it below the time limit."""
    shuffle_palette: bool = True
    """Each task permutes the colours of the kinds; otherwise a kind's colour is its index."""
    dynamics: Literal["plain", "permuted", "jumps"] = "permuted"
    """What the four actions do: up, down, left, right; these permuted per task; or four jumps per task."""
    jump_moves: Annotated[int, Range(2, 3)] = 2
    """Unit moves that make up a jump; 2 or 3. For `jumps` only."""
    view: Literal["local", "global"] = "local"
    """See the 3 x 3 cells around the agent, or the whole board and the agent's place on it."""
    show_position: bool = False
    """Add the agent's place, one-hot over the cells, to the local view; the global view always has it."""

    def __post_init__(self) -> None:
        require_bounds(self)
        tiles = 1 + sum(count for _, count in self.counts)
        if tiles > self.size**2:
            raise ConfigError(
                f"krazy world: expected at most {self.size**2} tiles on {self.size} x {self.size} cells, got {tiles} "
                "with the start; use a larger board or fewer tiles"
            )

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """(kind, number of tiles) of every kind but the normal one, in the order in which they are placed."""
        shares = (
            (DEATH, self.death_fraction),
            (WALL, self.wall_fraction),
            (ICE, self.ice_fraction),
            (ENERGY, self.energy_fraction),
        )
        # 100 x 0.29 is 28.999...: the small number keeps it 29
        whole = tuple((kind, int(self.size**2 * share + 1e-9)) for kind, share in shares)
        pairs = ((TELEPORTER, 2 * self.num_teleporters), (LOCK, self.num_locks), (KEY, self.num_locks))
        return ((GOAL, self.num_goals), *pairs, *whole)

    @property
    def margin(self) -> int:
        """Cells around the board, so that no move leaves the padded board."""
        return self.jump_moves if self.dynamics == "jumps" else 1

    @property
    def max_steps(self) -> int:
        """Steps in which every board can be solved without energy tiles."""
        return self.max_tour if self.energy is None else min(self.max_tour, self.energy)


KRAZY_PRESETS: dict[str, KrazyConfig] = {
    "5x5": KrazyConfig(
        size=5, death_fraction=0.15, ice_fraction=0.1, wall_fraction=0.0, energy_fraction=0.0, num_teleporters=0,
        num_locks=0, energy=None,
    ),
    "7x7": KrazyConfig(
        size=7, death_fraction=0.1, ice_fraction=0.1, wall_fraction=0.0, num_locks=0, energy=30,
    ),
    "10x10": KrazyConfig(wall_fraction=0.0, num_locks=0),
    "10x10-all": KrazyConfig(),
}  # fmt: skip
"""Boards without walls and locks, as in the public environment, and 10 x 10 cells with every kind of tile."""


class KrazyBoard(NamedTuple):
    """One task. Cells are indices into the padded board."""

    tiles: NDArray[np.uint8]
    """Kind of each cell, shape (P,); `OUTSIDE` around the board."""
    target: NDArray[np.int16]
    """Where an action leads from a cell, past all ice, shape (4, P); it may be a cell that cannot be entered."""
    stop: NDArray[np.int16]
    """The last cell before the target, where the agent stays if the target cannot be entered, shape (4, P)."""
    link: NDArray[np.int16]
    """The other end of a teleporter; the bit of a key or lock; 0 elsewhere. Shape (P,)."""
    palette: NDArray[np.uint8]
    """Colour of each kind and of `OUTSIDE`, shape (K + 1,)."""
    moves: Cells
    """Change of (row, column) by each action, shape (4, 2)."""
    start: Cells
    """Where the agent starts, shape ()."""
    kinds_present: NDArray[np.int16]
    """Bit k is set if the board has a tile of kind k, shape ()."""


def inner_cells(size: int, margin: int) -> Cells:
    """Cells of the board within the padded board, shape (n, n)."""
    width = size + 2 * margin
    return np.arange(width * width).reshape(width, width)[margin : margin + size, margin : margin + size]


def build_board(kinds: Cells, pairs: Cells, start: int, moves: Cells, palette: Cells, margin: int) -> KrazyBoard:
    """Works out what the rules need from what a board shows.

    Args:
        kinds: Kind of each cell, shape (n, n).
        pairs: Which teleporter, key or lock belongs to which: the same number at both, shape (n, n).
        start: Cell of the board, in reading order without the padding.
        moves: Change of (row, column) by each action, none larger than `margin`, shape (4, 2).
        palette: Colour of each kind, shape (K,).
        margin: Cells around the board.
    """
    size = len(kinds)
    tiles = np.pad(kinds.astype(np.uint8), margin, constant_values=OUTSIDE).ravel()
    inner = inner_cells(size, margin)
    steps = moves @ (size + 2 * margin, 1)
    stop = np.zeros((4, len(tiles)), np.int16)
    target = np.zeros((4, len(tiles)), np.int16)
    for action, step in enumerate(steps):
        last = inner.ravel().copy()
        ahead = last + step
        while (slides := tiles[ahead] == ICE).any():
            last[slides] = ahead[slides]
            ahead[slides] += step
        stop[action, inner.ravel()] = last
        target[action, inner.ravel()] = ahead
    link = np.zeros(len(tiles), np.int16)
    for kind in (LOCK, KEY):
        link[inner[kinds == kind]] = 1 << pairs[kinds == kind]
    doors = np.flatnonzero(kinds == TELEPORTER)
    for one in doors:
        (other,) = (door for door in doors if door != one and pairs.flat[door] == pairs.flat[one])
        link[inner.flat[one]] = inner.flat[other]
    colours = np.append(palette, OUTSIDE).astype(np.uint8)
    present = np.array(sum(1 << kind for kind in np.unique(kinds).tolist()), np.int16)
    board = KrazyBoard(tiles, target, stop, link, colours, moves.astype(np.int64), inner.ravel()[start].copy(), present)
    for array in board:
        array.setflags(write=False)
    return board


def draw_board(config: KrazyConfig, board_id: int) -> KrazyBoard:
    """The board of an id: the same config and id give the same board.

    The palette, the view and, between plain and permuted dynamics, the actions do not change where the tiles are.

    Raises:
        ConfigError: Several hundred draws in a row cannot be solved.
    """
    palette_rng, moves_rng, tiles_rng = (
        np.random.default_rng([board_id, stream]) for stream in (_PALETTE_STREAM, _MOVES_STREAM, _TILES_STREAM)
    )
    palette = palette_rng.permutation(len(KINDS)) if config.shuffle_palette else np.arange(len(KINDS))
    for _ in range(_ATTEMPTS):
        moves = _draw_moves(config, moves_rng)
        drawn = _draw_tiles(config, tiles_rng)
        if drawn is None:
            continue
        board = build_board(*drawn, moves, palette, config.margin)
        if shortest_tour(board, config.max_steps) is not None:
            return board
    raise ConfigError(
        f"krazy world board {board_id}: expected a board that can be solved in {config.max_steps} steps, got none in "
        f"{_ATTEMPTS} draws; use fewer obstacles or goals, or allow a longer tour and more energy"
    )


def _draw_moves(config: KrazyConfig, rng: np.random.Generator) -> Cells:
    """Change of (row, column) by each action, shape (4, 2)."""
    if config.dynamics == "plain":
        return UNIT_MOVES.copy()
    if config.dynamics == "permuted":
        return rng.permutation(UNIT_MOVES)
    while True:
        jumps: Cells = UNIT_MOVES[rng.integers(4, size=(4, config.jump_moves))].sum(axis=1)
        if jumps.any(axis=1).all() and len(np.unique(jumps, axis=0)) == len(jumps):
            return jumps


def _draw_tiles(config: KrazyConfig, rng: np.random.Generator) -> tuple[Cells, Cells, int] | None:
    """Kinds, pairs, both of shape (n, n), and the start; None where too few cells are far enough for the goals."""
    start, *free = rng.permutation(config.size**2).tolist()
    far = [cell for cell in free if _distance(config.size, start, cell) >= config.min_goal_distance]
    if len(far) < config.num_goals:
        return None
    goals = far[: config.num_goals]
    cells = iter(goals + [cell for cell in free if cell not in goals])
    kinds = np.full(config.size**2, NORMAL)
    pairs = np.zeros(config.size**2, np.int64)
    for kind, count in config.counts:
        for index in range(count):
            cell = next(cells)
            kinds[cell] = kind
            pairs[cell] = index // 2 if kind == TELEPORTER else index
    shape = (config.size, config.size)
    return kinds.reshape(shape), pairs.reshape(shape), start


def _distance(size: int, one: int, other: int) -> int:
    return abs(one // size - other // size) + abs(one % size - other % size)


def parse_board(
    drawing: str, *, moves: Cells = UNIT_MOVES, palette: Cells | None = None, margin: int = 1
) -> KrazyBoard:
    """The board of a drawing, one line per row and one letter of `LETTERS`, or `S`, per cell; for tests and demos.

    Teleporters form pairs in reading order; the first key in reading order opens the first lock, and so on.

    Raises:
        ConfigError: The drawing is not square, has an unknown letter, not exactly one start, an odd number of
            teleporters or not as many keys as locks.
    """
    lines = drawing.split()
    letters = "".join(lines)
    if any(len(line) != len(lines) for line in lines) or letters.count("S") != 1 or set(letters) - set(LETTERS + "S"):
        raise ConfigError(f"krazy world board: expected a square of '{LETTERS}' and one 'S', got {lines}; redraw it")
    if letters.count("T") % 2 or letters.count("L") != letters.count("K"):
        raise ConfigError(
            f"krazy world board: expected pairs of teleporters and a key for each lock, got {lines}; redraw it"
        )
    kinds = np.array([max(LETTERS.find(letter), NORMAL) for letter in letters])
    pairs = np.zeros(len(kinds), np.int64)
    for kind, per_pair in ((TELEPORTER, 2), (LOCK, 1), (KEY, 1)):
        pairs[kinds == kind] = np.arange(np.count_nonzero(kinds == kind)) // per_pair
    shape = (len(lines), len(lines))
    palette = np.arange(len(KINDS)) if palette is None else palette
    return build_board(kinds.reshape(shape), pairs.reshape(shape), letters.index("S"), moves, palette, margin)


def shortest_tour(board: KrazyBoard, max_steps: int) -> int | None:
    """The fewest steps in which all goals can be collected, or None if that takes more than `max_steps`.

    Breadth-first search over (goals taken, keys held, cell) with the starting energy taken as unlimited.
    """
    successor, start, solved = _successors(board)
    seen = np.zeros(len(successor) + 1, np.bool_)
    seen[[start, -1]] = True  # the last one stands for death
    frontier = np.array([start])
    for step in range(1, max_steps + 1):
        reached = successor[frontier].ravel()
        frontier = np.unique(reached[~seen[reached]])
        if len(frontier) == 0:
            return None
        if frontier[-1] >= solved:
            return step
        seen[frontier] = True
    return None


def _successors(board: KrazyBoard) -> tuple[Cells, int, int]:
    """The state that each action leads to, shape (states, 4), the first state, and the first of the solved ones.

    A state is the number (goals taken, keys held, cell) in mixed radix; the number of states stands for death.
    """
    cells = len(board.tiles)
    goals, locks = np.flatnonzero(board.tiles == GOAL), np.flatnonzero(board.tiles == LOCK)
    goal_bit, key_bit = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    goal_bit[goals] = 1 << np.arange(len(goals))
    key_bit[board.tiles == KEY] = board.link[board.tiles == KEY]
    kind = board.tiles[board.target]
    taken = np.arange(1 << len(goals))[:, None, None, None]
    held = np.arange(1 << len(locks))[:, None, None]
    shut = (kind == WALL) | (kind == OUTSIDE) | ((kind == LOCK) & (held & board.link[board.target] == 0))
    cell = np.where(shut, board.stop, np.where(kind == TELEPORTER, board.link[board.target], board.target))
    entered = np.where(shut, 0, board.target)
    state = ((taken | goal_bit[entered]) * held.size + (held | key_bit[entered])) * cells + cell
    total = taken.size * held.size * cells
    state = np.where((kind == DEATH) & ~shut, total, state)
    return np.moveaxis(state, 2, 3).reshape(total, 4), int(board.start), (taken.size - 1) * held.size * cells
