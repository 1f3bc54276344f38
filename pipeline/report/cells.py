"""Grids of coloured cells: heat maps of episodes, and how often each region of a plane was visited.

A cell is as opaque as its value is high, in eight levels. All cells of a level are one path: a page stays small.
Axes: R rows, C columns of cells.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from .style import ADAPTED

Floats = NDArray[np.float64]
LEVELS = 8


def draw_cells(axes: Axes, values: Floats, x: Floats, y: Floats, highest: float) -> None:
    """Draws cells (R, C) between edges x, (C + 1,), and y, (R + 1,); NaN and 0 stay empty, `highest` is opaque."""
    share = np.nan_to_num(values) / highest if highest > 0 else np.zeros_like(values)
    levels = np.ceil(np.clip(share, 0.0, 1.0) * LEVELS - 1e-9).astype(np.int64)
    for level in range(1, LEVELS + 1):
        rows, columns = np.nonzero(levels == level)
        if not len(rows):
            continue
        left, right, low, high = x[columns], x[columns + 1], y[rows], y[rows + 1]
        corners = np.stack([[left, low], [right, low], [right, high], [left, high], [left, low]]).transpose(2, 0, 1)
        codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(rows))
        outline = Outline(corners.reshape(-1, 2), codes)
        patch = PathPatch(outline, facecolor=ADAPTED, alpha=level / LEVELS, linewidth=0, antialiased=False)
        axes.add_patch(patch)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.grid(visible=False)


def pool(values: NDArray[Any], most: int) -> tuple[Floats, Floats]:
    """Means over neighbouring columns of (R, C), so that there are at most `most`; and the edges of the new columns."""
    count = values.shape[1]
    parts = np.array_split(np.arange(count), min(count, most))
    edges = np.array([*(part[0] for part in parts), count], np.float64)
    with np.errstate(invalid="ignore"):
        filled = np.isfinite(values)
        sums = np.stack([np.where(filled, values, 0.0)[:, part].sum(1) for part in parts], axis=1)
        counts = np.stack([filled[:, part].sum(1) for part in parts], axis=1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means, edges
