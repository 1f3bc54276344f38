"""The figures of the open loop: commands over time, novelty along an episode, computing times.

Axes: T steps, A action, K samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axis import Axis as FigureAxis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ...robots.robot import Float
from ...robots.spec import RobotSpec
from ..report.curves import WIDE, Plot
from ..report.names import shorten, with_unit
from ..report.style import ADAPTED, BEFORE, INK, MUTED, figure_style, make_axes, render_svg
from .latency import end_of

AXIS = (3.7, 2.1)
"""Inches."""
MOST_AXES = 9
MOST_STEPS = 500
"""Steps of an episode that are drawn, the first ones."""


def draw_commands(spec: RobotSpec, period: float, logged: Float, wanted: Float, samples: Float) -> list[Plot]:
    """Each action axis: the log, the policy's mean, and the range of its samples."""
    plots = []
    steps = min(len(logged), MOST_STEPS)
    time = np.arange(steps) * period
    for index, axis in enumerate(spec.action.axes[:MOST_AXES]):
        with figure_style():
            figure, axes = make_axes(*AXIS)
            if len(samples):
                drawn = samples[:, :steps, index]
                axes.fill_between(time, drawn.min(axis=0), drawn.max(axis=0), color=ADAPTED, alpha=0.18, linewidth=0)
            axes.plot(time, logged[:steps, index], color=INK, linewidth=1.0)
            axes.plot(time, wanted[:steps, index], color=ADAPTED, linewidth=1.2)
            axes.set_xlabel("time (s)")
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.01)
            axes.set_title(with_unit(axis.name, axis.unit, 0.8 * AXIS[0]), loc="left")
            alt = f"{axis.name} over time: logged commands and those of the policy on the same observations."
            plots.append(Plot(render_svg(figure, f"open-loop-{index}", alt), shorten(axis.name)))
    return plots


def draw_novelty(scores: NDArray[np.float64], names: tuple[str, ...], period: float, number: int) -> Plot:
    """Scores of one episode, (signals, T), as multiples of their thresholds."""
    time = np.arange(1, scores.shape[1]) * period  # the first step has no motion yet
    with figure_style():
        figure, axes = make_axes(*WIDE)
        axes.axhline(1.0, color=BEFORE, linewidth=1.2, linestyle="--")
        for row, color, name in zip(np.clip(scores[:, 1:], 1e-3, 1e6), (ADAPTED, MUTED), names, strict=False):
            axes.plot(time, row, color=color, linewidth=1.2, label=name)
        axes.set_yscale("log")
        label_decades(axes.yaxis)
        axes.set(xlabel="time (s)", ylabel="score / threshold")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if len(names) > 1:
            axes.legend(loc="best")
        alt = f"How unknown each step of episode {number} is; the threshold is 1."
        caption = f"Episode {number}, the most unknown one. Above the dashed line a step is unknown to the policy."
        return Plot(render_svg(figure, "known-states-score", alt), caption)


def draw_responses(bins: Mapping[int, int], period: float) -> Plot:
    """Histogram of the time from an observation to its command."""
    with figure_style():
        figure, axes = make_axes(*WIDE)
        low, high = min(bins), max(bins)
        width = max(1, (high - low + 1) // 40)
        starts = np.arange(low, high + width, width)
        heights = [sum(bins.get(int(start) + more, 0) for more in range(width)) for start in starts]
        edges = [1000.0 * end_of(int(start) - 1) for start in (*starts, starts[-1] + width)]
        axes.stairs(heights, edges, fill=True, color=ADAPTED, alpha=0.7)
        axes.axvline(1000.0 * period, color=BEFORE, linewidth=1.4, linestyle="--")
        axes.set_xscale("log")
        label_decades(axes.xaxis)
        axes.set(xlabel="from observation to command (ms)", ylabel="steps")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        alt = f"Histogram of response times beside the control period of {1000 * period:g} ms."
        return Plot(render_svg(figure, "latency-responses", alt), "Response times; dashed: the control period.")


def label_decades(axis: FigureAxis) -> None:
    """Numbers at powers of ten on a logarithmic axis, few and plain."""
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
