"""What a camera above the point mass shows of the maze: walls white, floor black, the particle in the middle.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, appendix C, and Pertsch, Lee, Lim, "Accelerating
Reinforcement Learning with Learned Skill Priors", CoRL 2020, train on such agent-centred pictures of 32 x 32 pixels.
Theirs are of a camera 5 cells above the particle, which shows 4.1 x 4.1 cells of the floor in perspective and colour.
Ours looks straight down on `VIEW` x `VIEW` cells without perspective, in grey.

All walls are squares on one grid. The share of a pixel that walls cover is then exact: with A the overlap of pixels and
cells along an axis, the picture is A_y L^T A_x^T. That is two small products for each row of robots.
`tests/robots/test_maze_picture.py` compares it with the picture of MuJoCo's camera.

Axes: R rows of robots, P pixels of a side, K cells along a side of what is seen. The first axis of a picture is its
rows, from large y to small y; the second is x, from small to large.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .maze_layout import Layout
from .spec import ImageSpec

PIXELS = 32
"""Of a side."""
VIEW = 4.0
"""Cells that a side shows."""
IMAGE = ImageSpec(PIXELS, PIXELS, 1)
CENTRE = -0.2
"""Centre of cell 0 in the robot's coordinates, cells."""
_CELLS = int(VIEW) + 2
"""Cells that may be in sight along an axis, K."""
_PIXEL = VIEW / PIXELS
_PADDING = 4
"""Free cells around the layout: there is floor behind the outer walls, as in the model."""


class MazeCamera:
    """Draws what is around points of one maze.

    Args:
        layout: Walls, shape (W, W).
    """

    def __init__(self, layout: Layout) -> None:
        padded = np.pad(layout, _PADDING).astype(np.float32)
        # [i, j] is the K x K block of walls whose first cell is (i, j)
        self._blocks = np.lib.stride_tricks.sliding_window_view(padded, (_CELLS, _CELLS))

    def draw(self, position: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Pictures of shape (R, P, P, 1) around positions x, y of shape (R, 2), cells."""
        # in grid units: cell i of the padded layout covers [i, i + 1)
        low = np.asarray(position, np.float64) - (CENTRE - 0.5) + _PADDING - 0.5 * VIEW
        first = np.clip(np.floor(low).astype(np.int64), 0, np.array(self._blocks.shape[:2]) - 1)
        edges = (low - first)[..., None] + _PIXEL * np.arange(PIXELS + 1)
        # clip(edge - k, 0, 1) is how much of cell k lies before an edge
        before = np.clip(edges[..., None] - np.arange(_CELLS), 0.0, 1.0)
        overlap = (np.diff(before, axis=2) / _PIXEL).astype(np.float32)
        blocks = self._blocks[first[:, 0], first[:, 1]]
        share = overlap[:, 1, ::-1] @ blocks.transpose(0, 2, 1) @ overlap[:, 0].transpose(0, 2, 1)
        return np.rint(255.0 * share).astype(np.uint8)[..., None]
