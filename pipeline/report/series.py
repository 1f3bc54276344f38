"""Drawings of robots without a plane: each observation axis over time, with its unit, in a panel of its own.

Axes: T steps, O observation, G goal.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...robots.family import HasParts
from ...robots.robot import Float
from ...robots.spec import Axis, RobotSpec
from ...robots.task import Task
from .curves import Plot
from .fans import Fans
from .measure import MEANINGS, caption_trips
from .names import shorten, shorten_unit
from .style import ADAPTED, GOAL, STAGES, SURFACE, figure_style, make_axes, render_svg
from .trips import TaskTrips

PANEL = (3.7, 2.1)
"""Of one axis, inches."""
MOST_AXES = 12
"""Panels of one group; axes that goals are given in come first, then the others in the robot's order."""


def find_goal(spec: RobotSpec, axis: Axis, task: Task) -> float | None:
    """The value that the task asks of an observation axis: of the goal axis `<name>` or `goal_<name>` of its unit."""
    for goal, value in zip(spec.goal.axes, task.goal, strict=True):
        if goal.name in (axis.name, f"goal_{axis.name}") and goal.unit == axis.unit:
            return value
    return None


def choose_axes(spec: RobotSpec) -> list[int]:
    """Which observation axes are drawn."""
    nothing = Task("", (0.0,) * len(spec.goal.axes))
    found = [find_goal(spec, axis, nothing) is not None for axis in spec.observation.axes]
    return sorted(range(len(found)), key=lambda index: not found[index])[:MOST_AXES]


def describe_axes(spec: RobotSpec) -> str:
    """A sentence about axes that are not drawn; empty where all are."""
    count = len(spec.observation.axes)
    return f" Drawn: {MOST_AXES} of {count} observation axes." if count > MOST_AXES else ""


def draw_path(axes: Axes, values: Float, control_period: float, color: str) -> float:
    """One axis of a path, (T + 1,); returns when it ends, seconds."""
    time = np.arange(len(values)) * control_period
    axes.plot(time, values, color=color, linewidth=1.1, alpha=0.75)
    return float(time[-1])


def finish(axes: Axes, axis: Axis) -> None:
    """Labels and ticks."""
    axes.set(xlabel="time (s)", ylabel=shorten_unit(axis.unit))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.02)


def make_trip_series(spec: RobotSpec, found: TaskTrips, name: str) -> list[Plot]:
    """One task's episodes of all stages, a panel for each axis; `name` begins the ids."""
    captions = "; ".join(caption_trips(stage, trips) for stage, trips in found.trips.items())
    plots = []
    for index in choose_axes(spec):
        axis = spec.observation.axes[index]
        goal = find_goal(spec, axis, found.task)
        with figure_style():
            figure, axes = make_axes(*PANEL)
            if goal is not None:
                axes.axhline(goal, color=GOAL, linewidth=1.6, linestyle="--")
            for stage, trips in found.trips.items():
                color = STAGES[stage]
                for trip in trips:
                    end = draw_path(axes, trip.path[:, index], spec.control_period, color)
                    if trip.success is not None:
                        marker = "o" if trip.success else "X"
                        last = float(trip.path[-1, index])
                        axes.plot(end, last, marker, color=color, markeredgecolor=SURFACE, markersize=6, zorder=6)
            finish(axes, axis)
            caption = shorten(axis.name) + ("" if goal is None else f", goal {format_place(goal, axis)}")
            plots.append(
                Plot(render_svg(figure, f"{name}-axis{index}", f"{axis.name} over time. {captions}."), caption)
            )
    return plots


def make_part_series(family: HasParts, spec: RobotSpec, found: TaskTrips, name: str) -> list[Plot]:
    """One task's episodes of all stages, a panel for each part of the task: how far it is from complete over time.

    A dot is where the part was paid. `name` begins the ids.
    """
    captions = "; ".join(caption_trips(stage, trips) for stage, trips in found.trips.items())
    goal = np.array(found.task.goal, np.float32)
    went = {stage: [family.compute_parts(trip.path, goal) for trip in trips] for stage, trips in found.trips.items()}
    names, radius = next((one.names, one.radius) for parts in went.values() for one in parts)
    plots = []
    for index, part in enumerate(names):
        with figure_style():
            figure, axes = make_axes(*PANEL)
            axes.axhline(radius, color=GOAL, linewidth=1.6, linestyle="--")
            counts = []
            for stage, parts in went.items():
                color, credited = STAGES[stage], 0
                for one in parts:
                    draw_path(axes, one.away[:, index], spec.control_period, color)
                    if one.credited[-1, index]:
                        credited += 1
                        first = int(one.credited[:, index].argmax())
                        place = (first * spec.control_period, float(one.away[first, index]))
                        axes.plot(*place, "o", color=color, markeredgecolor=SURFACE, markersize=6, zorder=6)
                counts.append(f"{credited} of {len(parts)} {MEANINGS[stage]}")
            axes.set(xlabel="time (s)", ylabel="distance")
            axes.set_ylim(bottom=0.0)
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.02)
            caption = f"{index + 1}. {part}: paid in {', '.join(counts)}"
            alt = f"Distance of {part} from complete over time. {captions}."
            plots.append(Plot(render_svg(figure, f"{name}-part{index}", alt), caption))
    return plots


def make_fan_series(spec: RobotSpec, fans: Fans) -> list[Plot]:
    """Skills over time, a panel for each axis."""
    plots = []
    for index in choose_axes(spec):
        axis = spec.observation.axes[index]
        with figure_style():
            figure, axes = make_axes(*PANEL)
            for path in fans.single:
                draw_path(axes, path[:, index], spec.control_period, ADAPTED)
            finish(axes, axis)
            caption = shorten(axis.name)
            alt = f"{axis.name} over time along {len(fans.single)} skills."
            plots.append(Plot(render_svg(figure, f"fan-axis{index}", alt), caption))
    return plots


def name_goal(spec: RobotSpec, task: Task) -> str:
    """`x 12 cell, y 7 cell`."""
    pairs = zip(spec.goal.axes, task.goal, strict=True)
    return ", ".join(f"{shorten(axis.name)} {format_place(value, axis)}" for axis, value in pairs)


def format_place(value: float, axis: Axis) -> str:
    """`0.25 m`."""
    return f"{value + 0.0:.3g} {shorten_unit(axis.unit)}".rstrip()
