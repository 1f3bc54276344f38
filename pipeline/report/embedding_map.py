"""The drawn map of task embeddings, and beside it the goals in the same colours.

Axes: N tasks, G goal.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...robots.task import Task, goals_of
from .curves import Plot
from .embeddings import EmbeddingMap
from .plane import Plane, make_plane_axes
from .style import INK, MUTED, figure_style, make_axes, render_svg

SQUARE = (4.2, 3.9)
"""Inches."""


def compute_goal_colors(goals: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """A colour per goal, shape (N, 3), by its first two axes: hue by direction from the middle, strength by distance.

    Args:
        goals: Shape (N, G).
        others: Goals that share the scale, (M, G).
    """
    both = np.concatenate((goals, others))[:, :2].astype(np.float64)
    low, high = both.min(axis=0), both.max(axis=0)
    half = np.where(high > low, (high - low) / 2, 1.0)
    offset = (goals[:, :2] - (low + high) / 2) / half
    if offset.shape[1] == 1:
        offset = np.concatenate((offset, np.zeros_like(offset)), axis=1)
    hue = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
    strength = np.clip(np.linalg.norm(offset, axis=1) / np.sqrt(2.0), 0.0, 1.0)
    return np.array([colorsys.hsv_to_rgb(h, 0.35 + 0.6 * s, 0.82) for h, s in zip(hue, strength, strict=True)])


def draw_tasks(
    axes: Axes, at: NDArray[np.floating], colors: NDArray[np.float64], found: NDArray[np.bool_], marker: str, label: str
) -> None:
    """Filled where the context holds a success, hollow where it does not."""
    size, edge = (46.0, MUTED) if marker == "o" else (62.0, INK)
    for full in (True, False):
        x, y = at[found == full].T
        own = colors[found == full]
        faces = own if full else "none"
        axes.scatter(x, y, s=size, marker=marker, c=faces, edgecolors=own if marker == "o" else edge, linewidths=1.3)
    axes.scatter([], [], s=size, marker=marker, c=MUTED, edgecolors=edge, label=label)


def make_map_plots(plane: Plane | None, train: Sequence[Task], test: Sequence[Task], found: EmbeddingMap) -> list[Plot]:
    """The embeddings and, where the plane shows goals, the goals."""
    goals = goals_of(train), goals_of(test)
    colors = compute_goal_colors(goals[0], goals[1]), compute_goal_colors(goals[1], goals[0])
    plots = []
    with figure_style():
        figure, axes = make_axes(*SQUARE)
        labels = [
            f"component {index} ({share:.2f} of the variance)" for index, share in enumerate(found.share, start=1)
        ]
        axes.set(xlabel=labels[0], ylabel=labels[1])
        draw_tasks(axes, found.train, colors[0], found.train_found, "o", "train task")
        draw_tasks(axes, found.test, colors[1], found.test_found, "s", "test task")
        figure.legend(loc="outside upper left", ncols=2, fontsize=9.5, labelcolor=INK, borderpad=0, handlelength=1.4)
        caption = "Posterior means of the task embedding (unit: standard deviations of its prior)"
        alt = f"{caption}: {len(train)} train tasks as circles, {len(test)} test tasks as squares."
        plots.append(Plot(render_svg(figure, "embedding-map", alt), caption))
    if plane is None or plane.goal_columns is None:
        return plots
    places = [goal[:, list(plane.goal_columns)] for goal in goals]
    with figure_style():
        figure, axes = make_plane_axes(plane)
        draw_tasks(axes, places[0], colors[0], found.train_found, "o", "train task")
        draw_tasks(axes, places[1], colors[1], found.test_found, "s", "test task")
        caption = "The goals in the same colours"
        alt = f"{caption}: {len(train)} train tasks as circles, {len(test)} test tasks as squares."
        plots.append(Plot(render_svg(figure, "embedding-goals", alt), caption))
    return plots
