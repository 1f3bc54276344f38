"""Drawings in the plane of a family's scene: tasks, play data, trips, and fans of skills.

Axes: T steps, N tasks, O observation, G goal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ...errors import SpecError
from ...robots.family import Draws, RobotFamily, Scene
from ...robots.robot import Float
from ...robots.spec import ArraySpec
from ...robots.task import Task, goals_of
from .curves import SMALL, Plot
from .fans import Fans
from .measure import caption_trips
from .names import with_unit
from .style import (
    ADAPTED,
    GOAL,
    INK,
    MUTED,
    STAGES,
    SURFACE,
    WALL,
    figure_style,
    make_axes,
    render_svg,
)
from .trips import TaskTrips

MOST_POINTS = 150
"""Points of one drawn path; longer ones are thinned out."""
SHAPE = (0.45, 1.35)
"""Least and largest height of a drawing, as a share of its width."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A scene and where its axes stand in observations and goals."""

    scene: Scene
    columns: tuple[int, int]
    """Of x and y in an observation."""
    goal_columns: tuple[int, int] | None
    """The same in a goal; None where goals are no places in the plane."""

    def places(self, observation: Float) -> Float:
        """Observations (..., O) in the plane, (..., 2)."""
        return observation[..., list(self.columns)]

    def goals(self, tasks: Sequence[Task]) -> Float | None:
        """Goals in the plane, (N, 2); None where they are no places there."""
        return None if self.goal_columns is None else goals_of(tasks)[:, list(self.goal_columns)]


def find_plane(family: RobotFamily) -> Plane | None:
    """The plane of a family that draws; None where its episodes are time series.

    Raises:
        SpecError: The scene names an axis that the robot does not have.
    """
    scene = family.scene() if isinstance(family, Draws) else None
    if scene is None:
        return None
    spec = family.spec()
    goals = None if scene.goal_axes is None else _find_columns(family, spec.goal, scene.goal_axes)
    return Plane(scene, _find_columns(family, spec.observation, scene.axes), goals)


def _find_columns(family: RobotFamily, spec: ArraySpec, names: tuple[str, str]) -> tuple[int, int]:
    for name in names:
        if name not in spec.names:
            raise SpecError(
                f"scene of '{family.name}': expected {spec.name} axes among {list(spec.names)}, got '{name}'; correct "
                "its scene"
            )
    return spec.names.index(names[0]), spec.names.index(names[1])


def make_plane_axes(plane: Plane) -> tuple[Figure, Axes]:
    """A figure of the plane with its obstacles."""
    scene = plane.scene
    (left, right), (bottom, top) = scene.limits
    width, height = SMALL[0], SMALL[0] * float(np.clip((top - bottom) / (right - left), *SHAPE))
    figure, axes = make_axes(width, height)
    if scene.polygons:  # as one path, so that no seam shows between neighbours
        outlines = [Outline(np.concatenate((polygon, polygon[:1])), closed=True) for polygon in scene.polygons]
        axes.add_patch(PathPatch(Outline.make_compound_path(*outlines), facecolor=WALL, linewidth=0))
    axes.set(
        xlim=(left, right),
        ylim=(bottom, top),
        xlabel=with_unit(scene.axes[0], scene.unit, 0.8 * width),
        ylabel=with_unit(scene.axes[1], scene.unit, 0.8 * height),
        aspect="equal",
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if scene.polygons:
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure, axes


def draw_start(axes: Axes, start: Sequence[float] | None) -> None:
    """Where every episode starts."""
    if start is not None:
        axes.plot(*start, "o", color=SURFACE, markeredgecolor=INK, markeredgewidth=1.4, markersize=6, zorder=5)


def draw_goal(axes: Axes, goal: Sequence[float], radius: float | None) -> None:
    """A goal: the disc within which it counts as reached, or a star where there is none."""
    if radius is None:
        axes.plot(*goal, "*", color=GOAL, markersize=13, zorder=4)
        return
    axes.add_patch(Circle((goal[0], goal[1]), radius, facecolor=GOAL, alpha=0.3, linewidth=0))
    axes.add_patch(Circle((goal[0], goal[1]), radius, facecolor="none", edgecolor=GOAL, linewidth=1.4))


def thin(path: NDArray[np.floating]) -> NDArray[np.floating]:
    """At most about `MOST_POINTS` points of a path (T + 1, 2), its last among them."""
    stride = max(1, len(path) // MOST_POINTS)
    return np.concatenate((path[:-1:stride], path[-1:]))


def make_task_plot(plane: Plane, train: Sequence[Task], test: Sequence[Task]) -> Plot | None:
    """Where the goals are; None where they are no places in the plane."""
    scene, places = plane.scene, (plane.goals(train), plane.goals(test))
    if places[0] is None or places[1] is None:
        return None
    with figure_style():
        figure, axes = make_plane_axes(plane)
        for place, color, marker, label in (
            (places[0], MUTED, "o", "train task"),
            (places[1], GOAL, "s", "test task"),
        ):
            axes.plot(*place.T, marker, color=color, markersize=5, label=label, markeredgewidth=0)
        draw_start(axes, scene.start)
        figure.legend(
            loc="outside upper left",
            ncols=2,
            fontsize=9.5,
            labelcolor=INK,
            borderpad=0,
            handlelength=1.4,
            handletextpad=0.2,
        )
        alt = f"{len(train)} goals of train tasks as dots and {len(test)} of test tasks as squares."
        caption = "Goals of the tasks" + ("; open circle: start" if scene.start is not None else "")
        return Plot(render_svg(figure, "tasks", alt), caption)


def make_play_plot(plane: Plane, episodes: Sequence[Float], name: str, caption: str) -> Plot:
    """Where data went: episodes of observations, each (T, O); `name` begins the ids."""
    with figure_style():
        figure, axes = make_plane_axes(plane)
        for episode in episodes:
            axes.plot(*thin(plane.places(episode)).T, color=ADAPTED, linewidth=0.8, alpha=0.55)
        return Plot(render_svg(figure, name, f"Paths: {caption[0].lower()}{caption[1:]}."), caption)


def make_trip_plots(plane: Plane, found: TaskTrips, name: str) -> list[Plot]:
    """One task's episodes, a drawing for each stage; `name` begins the ids."""
    plots = []
    goals = plane.goals([found.task])
    for stage, trips in found.trips.items():
        with figure_style():
            figure, axes = make_plane_axes(plane)
            if goals is not None:
                draw_goal(axes, goals[0].tolist(), plane.scene.goal_radius)
            for trip in trips:
                path = thin(plane.places(trip.path))
                axes.plot(*path.T, color=STAGES[stage], linewidth=1.2, alpha=0.75)
                marker = "X" if trip.success is False else "o"
                axes.plot(*path[-1], marker, color=STAGES[stage], markeredgecolor=SURFACE, markersize=6, zorder=6)
            draw_start(axes, plane.scene.start)
            caption = caption_trips(stage, trips)
            alt = f"Paths of {len(trips)} episodes. {caption}."
            plots.append(Plot(render_svg(figure, f"{name}-{stage}", alt), caption))
    return plots


def make_fan_plots(plane: Plane, fans: Fans, control_period: float) -> list[Plot]:
    """One skill each from up to two states, and chains of skills."""
    unit, count = plane.scene.unit, len(fans.single)
    lasts = max(len(path) - 1 for path in fans.single) * control_period
    whole = max(len(path) - 1 for path in fans.chains) * control_period
    panels = (
        ("single", fans.single, f"{count} skills of {lasts:.3g} s from the start of an episode"),
        ("moving", fans.moving, f"{count} skills of {lasts:.3g} s from a state in motion"),
        ("chain", fans.chains, f"Skill after skill from the start, {whole:.3g} s in all"),
    )
    plots = []
    for name, full, caption in panels:
        if not full:
            continue
        paths = [plane.places(path) for path in full]
        ends = np.stack([path[-1] for path in paths])
        with figure_style():
            figure, axes = make_plane_axes(plane)
            axes.add_collection(
                LineCollection([thin(path) for path in paths], colors=ADAPTED, linewidths=1.1, alpha=0.6)
            )
            axes.plot(*ends.T, "o", color=ADAPTED, markersize=3, alpha=0.9)
            draw_start(axes, paths[0][0].tolist())
            if name != "chain":
                zoom(axes, np.concatenate(paths))
            far = np.linalg.norm(ends - np.stack([path[0] for path in paths]), axis=1)
            alt = f"{caption}; they end {far.mean():.2g} {unit} away on average, at most {far.max():.2g} {unit}."
            plots.append(Plot(render_svg(figure, f"fan-{name}", alt), caption))
    return plots


def zoom(axes: Axes, places: NDArray[np.floating]) -> None:
    """Limits just around places (N, 2)."""
    centre = (places.max(axis=0) + places.min(axis=0)) / 2
    half = float(np.ptp(places, axis=0).max()) * 0.6 or 1.0
    axes.grid(True)
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
