"""The report's drawings in the maze: trips, fans of skills, and the map of task embeddings."""

import colorsys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from ...robots.maze import BODY_OFFSET, GOAL_RADIUS, WALL_OFFSET
from ...robots.maze_layout import Layout
from ...robots.task import Task
from ..results.summary import MEANINGS
from .curves import SMALL, Plot
from .rollouts import SPEED, EmbeddingMap, Fans, TaskTrips
from .style import (
    ADAPTED,
    BEFORE,
    GOAL,
    INFERRED,
    INK,
    MUTED,
    SURFACE,
    WALL,
    figure_style,
    make_axes,
    render_svg,
)

CENTRE = WALL_OFFSET - BODY_OFFSET
"""The centre of cell c is at c + CENTRE in the robot's coordinates."""
SQUARE = (SMALL[0], SMALL[0])
STRIDE = 4
"""Low-level steps between two points of a drawn trip."""
COLORS = {"before": BEFORE, "inferred": INFERRED, "adapted": ADAPTED}


def compute_wall_outline(layout: Layout) -> Outline:
    """All walls as one outline: a rectangle per run of wall cells along y, in the robot's coordinates."""
    vertices: list[tuple[float, float]] = []
    for i, row in enumerate(layout):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        for low, high in edges.reshape(-1, 2):
            left, bottom, top = i + CENTRE - 0.5, low + CENTRE - 0.5, high + CENTRE - 0.5
            vertices += [(left, bottom), (left + 1, bottom), (left + 1, top), (left, top), (left, bottom)]
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    return Outline(vertices, codes * (len(vertices) // 5))


def draw_maze(axes: Axes, layout: Layout) -> None:
    """Walls, and axes in cells."""
    axes.add_patch(PathPatch(compute_wall_outline(layout), facecolor=WALL, linewidth=0))
    width, height = layout.shape
    axes.set(
        xlim=(CENTRE - 0.5, width + CENTRE - 0.5),
        ylim=(CENTRE - 0.5, height + CENTRE - 0.5),
        xlabel="x (cells)",
        ylabel="y (cells)",
        aspect="equal",
    )
    axes.xaxis.set_major_locator(MultipleLocator(5))
    axes.yaxis.set_major_locator(MultipleLocator(5))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def draw_start(axes: Axes, start: tuple[float, float]) -> None:
    """Where every episode starts."""
    axes.plot(*start, "o", color=SURFACE, markeredgecolor=INK, markeredgewidth=1.4, markersize=6, zorder=5)


def name_goal(task: Task) -> str:
    """`Goal at (12, 7)`."""
    return f"Goal at ({', '.join(f'{value:g}' for value in task.goal)})"


def make_trip_plot(layout: Layout, start: tuple[float, float], found: TaskTrips, stage: str) -> Plot:
    """One task's episodes at one stage."""
    trips = found.trips[stage]
    goal = (found.task.goal[0], found.task.goal[1])
    reached = sum(trip.reached for trip in trips)
    with figure_style():
        figure, axes = make_axes(*SQUARE)
        draw_maze(axes, layout)
        axes.add_patch(Circle(goal, GOAL_RADIUS, facecolor=GOAL, alpha=0.3, linewidth=0))
        axes.add_patch(Circle(goal, GOAL_RADIUS, facecolor="none", edgecolor=GOAL, linewidth=1.4))
        for trip in trips:
            path = np.concatenate((trip.path[:-1:STRIDE], trip.path[-1:]))
            axes.plot(path[:, 0], path[:, 1], color=COLORS[stage], linewidth=1.2, alpha=0.75)
            marker = "o" if trip.reached else "X"
            axes.plot(*path[-1], marker, color=COLORS[stage], markeredgecolor=SURFACE, markersize=6, zorder=6)
        draw_start(axes, start)
        caption = f"{MEANINGS[stage].capitalize()}: {reached} of {len(trips)} reached"
        alt = f"Maze with {len(trips)} episodes from the start. {name_goal(found.task)}. {caption}."
        return Plot(render_svg(figure, f"trip-{found.task.name}-{stage}", alt), caption)


def make_fan_plots(layout: Layout, fans: Fans, control_period: float) -> list[Plot]:
    """One skill each from two states, and chains of skills."""
    lasts = (fans.at_rest.shape[1] - 1) * control_period
    count = len(fans.at_rest)
    chain_lasts = (fans.chains.shape[1] - 1) * control_period
    panels = (
        ("rest", fans.at_rest, f"{count} skills of {lasts:g} s from the start at rest"),
        ("moving", fans.moving, f"The same start at {SPEED:g} cells/s along x"),
        ("chain", fans.chains, f"Skill after skill from the start, {chain_lasts:g} s in all"),
    )
    plots = []
    for name, paths, caption in panels:
        start = (float(paths[0, 0, 0]), float(paths[0, 0, 1]))
        with figure_style():
            figure, axes = make_axes(*SQUARE)
            draw_maze(axes, layout)
            lines = paths if name != "chain" else np.concatenate((paths[:, :-1:STRIDE], paths[:, -1:]), axis=1)
            axes.add_collection(LineCollection(list(lines), colors=ADAPTED, linewidths=1.1, alpha=0.6))
            axes.plot(*paths[:, -1].T, "o", color=ADAPTED, markersize=3, alpha=0.9)
            draw_start(axes, start)
            if name != "chain":
                middle = paths.reshape(-1, 2)
                centre = (middle.max(axis=0) + middle.min(axis=0)) / 2
                half = float(np.ptp(middle, axis=0).max()) * 0.6 + 0.02
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.grid(True)
                axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
            far = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1)
            alt = f"{caption}; they end {far.mean():.2f} cells from the start on average, at most {far.max():.2f}."
            plots.append(Plot(render_svg(figure, f"fan-{name}", alt), caption))
    return plots


def compute_goal_colors(tasks: Sequence[Task], layout: Layout) -> NDArray[np.float64]:
    """A colour per goal, shape (N, 3): hue by its direction from the middle of the maze, strength by its distance."""
    middle = (np.array(layout.shape) - 1) / 2 + CENTRE
    offset = np.array([task.goal for task in tasks], np.float64) - middle
    hue = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
    strength = np.clip(np.linalg.norm(offset, axis=1) / np.linalg.norm(middle), 0.0, 1.0)
    return np.array([colorsys.hsv_to_rgb(h, 0.35 + 0.6 * s, 0.82) for h, s in zip(hue, strength, strict=True)])


def draw_tasks(
    axes: Axes, at: NDArray[np.float64], colors: NDArray[np.float64], found: NDArray[np.bool_], marker: str, label: str
) -> None:
    """Filled where the context holds a success, hollow where it does not."""
    size, edge = (46.0, MUTED) if marker == "o" else (62.0, INK)
    for full in (True, False):
        x, y = at[found == full].T
        own = colors[found == full]
        faces = own if full else "none"
        axes.scatter(x, y, s=size, marker=marker, c=faces, edgecolors=own if marker == "o" else edge, linewidths=1.3)
    axes.scatter([], [], s=size, marker=marker, c=MUTED, edgecolors=edge, label=label)


def make_map_plots(layout: Layout, train: Sequence[Task], test: Sequence[Task], found: EmbeddingMap) -> list[Plot]:
    """The embeddings, and beside them the goals in the same colours."""
    colors = compute_goal_colors(train, layout), compute_goal_colors(test, layout)
    plots = []
    for name in ("map", "goals"):
        with figure_style():
            figure, axes = make_axes(4.6, 4.6)
            if name == "map":
                places = found.train, found.test
                labels = [
                    f"component {index + 1} ({100 * share:.0f} % of the variance)"
                    for index, share in enumerate(found.share)
                ]
                axes.set(xlabel=labels[0], ylabel=labels[1])
                caption = "Posterior means of the task embedding (unit: standard deviations of its prior)"
            else:
                places = np.array([task.goal for task in train]), np.array([task.goal for task in test])
                draw_maze(axes, layout)
                caption = "The goals in the same colours"
            draw_tasks(axes, places[0], colors[0], found.train_found, "o", "train task")
            draw_tasks(axes, places[1], colors[1], found.test_found, "s", "test task")
            if name == "map":
                axes.legend(loc="best", fontsize=9)
            alt = f"{caption}: {len(train)} train tasks as circles, {len(test)} test tasks as squares."
            plots.append(Plot(render_svg(figure, f"embedding-{name}", alt), caption))
    return plots
