"""Pictures of Krazy World: boards with every kind of tile, and where an agent went on them.

A row is a board: its tiles by their kinds, the same as the agent sees them, in the colours and under the buttons of
this task, and how often the agent stood on each cell in each episode of a trial, or after each step of adaptation.

Axes: n side of a board, N tasks, S + 1 rounds, E episodes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from supple.meta.evaluation import Scores
from supple.robots.krazy_boards import (
    DEATH,
    KINDS,
    LETTERS,
    LOCK,
    NORMAL,
    TELEPORTER,
    WALL,
    KrazyBoard,
    KrazyConfig,
    draw_board,
    inner_cells,
)

TILES = ("#f2f0e9", "#f4c430", "#bfe3f5", "#b2182b", "#4d4d4d", "#8c510a", "#fee391", "#7b5ea7", "#5aae61")
"""Colour of each kind where tiles are drawn by their kinds."""
SEEN = tuple(colormaps["Set1"].colors)  # type: ignore[attr-defined]
"""Colours that stand for the basis vectors of what the agent sees: they tell nothing of the kind."""
BOARDS = 4
"""Boards in a figure."""
VISITS = "Oranges"
_ARROWS = {(-1, 0): "↑", (1, 0): "↓", (0, -1): "←", (0, 1): "→"}
_DARK = (DEATH, WALL, LOCK, TELEPORTER)


def tiles_of(board: KrazyBoard, config: KrazyConfig) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Kinds of the cells, shape (n, n), and the start, row and column."""
    inner = inner_cells(config.size, config.margin)
    (row,), (column,) = np.nonzero(inner == board.start)
    return board.tiles[inner], (int(row), int(column))


def draw_tiles(panel: Axes, board: KrazyBoard, config: KrazyConfig) -> None:
    """The board by its kinds, with their letters; `S` is the start."""
    kinds, start = tiles_of(board, config)
    panel.imshow(kinds, cmap=ListedColormap(TILES), vmin=-0.5, vmax=len(TILES) - 0.5)
    _write_letters(panel, kinds, start, np.isin(kinds, _DARK))
    _frame(panel, config.size)


def draw_seen(panel: Axes, board: KrazyBoard, config: KrazyConfig) -> None:
    """The same board in the colours of its task; below it what its four buttons do."""
    kinds, _ = tiles_of(board, config)
    panel.imshow(board.palette[kinds], cmap=ListedColormap(SEEN), vmin=-0.5, vmax=len(SEEN) - 0.5)
    moves = [_ARROWS.get((down, right), f"({down}, {right})") for down, right in board.moves.tolist()]
    panel.set_xlabel("buttons " + " ".join(moves), fontsize="small")
    _frame(panel, config.size)


def draw_visits(panel: Axes, visits: Scores, board: KrazyBoard, config: KrazyConfig, norm: PowerNorm) -> None:
    """How often the agent stood on each cell, shape (n^2,), with the letters of what lies there."""
    kinds, start = tiles_of(board, config)
    table = visits.reshape(config.size, config.size)
    panel.imshow(table, cmap=VISITS, norm=norm)
    _write_letters(panel, kinds, start, table > 0.5 * (norm.vmax or 1.0))
    _frame(panel, config.size)


def _write_letters(panel: Axes, kinds: NDArray[np.uint8], start: tuple[int, int], dark: NDArray[np.bool_]) -> None:
    for (row, column), kind in np.ndenumerate(kinds):
        letter = "S" if (row, column) == start else "" if kind == NORMAL else LETTERS[kind]
        color = "white" if dark[row, column] else "black"
        panel.text(column, row, letter, ha="center", va="center", color=color, fontsize="small")


def _frame(panel: Axes, size: int) -> None:
    panel.set_xticks(np.arange(0.5, size - 1))
    panel.set_yticks(np.arange(0.5, size - 1))
    panel.tick_params(length=0, labelbottom=False, labelleft=False)
    panel.grid(color="white", linewidth=1.0)
    for side in panel.spines.values():
        side.set_edgecolor("#999999")


def make_board_figure(
    config: KrazyConfig, boards: Sequence[int], visits: Scores, title: str = "", places: Sequence[str] = ()
) -> Figure:
    """Boards and where an agent went on them.

    Args:
        config: Of the boards.
        boards: Their ids, of which the first few are drawn.
        visits: Mean number of times that the agent stood on each cell, shape (N, P, n^2), N boards as they stand in
            `boards` and P places on the axis of the evaluation.
        title: Whose visits they are.
        places: What each place is called, P texts.
    """
    drawn = [draw_board(config, board_id) for board_id in boards[:BOARDS]]
    columns = 2 + visits.shape[1]
    figure = Figure(figsize=(1.55 * columns + 0.9, 1.75 * len(drawn) + 0.7), layout="constrained")
    panels = figure.subplots(len(drawn), columns, squeeze=False)
    norm = PowerNorm(0.5, 0.0, float(visits[: len(drawn)].max()))
    for row, board_id, board, on_board in zip(panels, boards, drawn, visits, strict=False):
        draw_tiles(row[0], board, config)
        row[0].set_ylabel(f"board {board_id}", fontsize="small")
        draw_seen(row[1], board, config)
        for panel, one in zip(row[2:], on_board, strict=True):
            draw_visits(panel, one, board, config, norm)
    for panel, head in zip(panels[0], ("tiles", "as seen", *places), strict=False):
        panel.set_title(head, fontsize="small")
    bar = figure.colorbar(ScalarMappable(norm, VISITS), ax=panels, fraction=0.02, pad=0.01)
    bar.set_label(f"visits per episode, {title}" if title else "visits per episode", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    there = np.unique([tiles_of(board, config)[0] for board in drawn]).tolist()
    keys = [Patch(facecolor=TILES[one], edgecolor="#999999", label=f"{LETTERS[one]} {KINDS[one]}") for one in there]
    figure.legend(handles=keys, loc="outside lower left", ncols=len(keys), fontsize="small", frameon=False)
    return figure
