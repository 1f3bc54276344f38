"""Plots of records: curves along an axis with their intervals, and success against the compute that it took.

A published curve is dashed, in the colour of ours that it belongs beside; the interval of ours is a light band.
`labels.py` says what things are called, `panels.py` which curves share a panel.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Final, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from .labels import LABELS, PUBLISHED, count_train_tasks, name_benchmark, name_method, name_tasks
from .panels import Panel, Series, split_panels
from .records import Place, Record, group

IN_TABLES: Final[Mapping[str, str]] = {
    "return_iqm": "return",
    "return_normalised": "return",
    "success_greedy": "success_stochastic",
    "return_greedy": "return_stochastic",
    "goals": "return",
    "kinds": "kinds_so_far",
}
"""Metrics that only tables show, by the one whose plot theirs would look like, where that is there."""
FEWEST_PLACES: Final = 3
"""What was measured at fewer places than these makes no plot; its table says it all."""
FEWEST_STEPS: Final[Mapping[str, int]] = {"gradient_step": 2, "episode_index": 2}
"""The same on axes of adaptation: before and after one step is what a reader asks for."""
COST: Final = "meta_training_wall_s"
COMPUTE_PLACES: Final[Sequence[tuple[str, Place]]] = (("stage", "inferred"), ("episode", 40), ("episode", 100))
"""Places at which success is drawn against compute."""
FEW_POINTS: Final = 16
"""A curve of no more points than this shows them as markers."""
WIDTH: Final = 7.5
"""Of a figure, inches: the width of a page of the documentation."""
FONT: Final = 9.0
"""Points."""
BAND: Final = 0.12
"""Opacity of an interval."""
COLORS: Final = (
    *(f"C{index}" for index in (0, 1, 2, 3, 4, 5, 6, 8, 9)),
    "black",
    "navy",
    "gold",
    "darkgreen",
    "salmon",
    "tan",
)
RANDOM_COLOR: Final = "0.6"
PUBLISHED_COLOR: Final = "0.35"
"""Of the legend's line for what is published of methods that are drawn themselves."""
LINEAR: Final[Mapping[str, float]] = {"episode": 40.0, "few_episodes": 20.0}
"""Axes whose first places matter most: they are logarithmic beyond this place, where they are much longer."""
TICKS: Final = (0, 10, 20, 30, 40, 100, 200, 400, 1000)
"""Of such an axis."""


def make_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """One figure for each benchmark and numeric axis with enough places, named `<benchmark>-<axis>`."""
    figures = {}
    placed = [r for r in records if r.axis and isinstance(r.place, int | float) and r.mean is not None]
    for benchmark, rows in group(placed, lambda record: record.benchmark).items():
        # the same in all figures of a benchmark
        colors = choose_colors(series for panel in split_panels(map(_whose, rows)) for series in panel.series)
        for axis, along in group(rows, lambda record: record.axis).items():
            metrics = {record.metric for record in along}
            curves = [record for record in along if IN_TABLES.get(record.metric) not in metrics]
            if len({record.place for record in curves}) >= FEWEST_STEPS.get(axis, FEWEST_PLACES):
                figures[f"{benchmark}-{axis}"] = _make_figure(benchmark, axis, curves, colors)
    return figures


def _make_figure(benchmark: str, axis: str, records: Sequence[Record], colors: Mapping[Series, str]) -> Figure:
    """A row for each panel of `split_panels` and a column for each metric; one metric has its panels side by side."""
    metrics = group(records, lambda record: record.metric)
    if "return_training" in metrics:
        # published curves are the return of training episodes, so they belong beside ours too
        tried = [*metrics.get("success_stochastic", []), *metrics.get("return_stochastic", [])]
        published = [r for r in tried if r.method.endswith(PUBLISHED)]
        metrics["return_training"] += [replace(record, metric="return_training") for record in published]
    curves = {metric: group(of_metric, _whose) for metric, of_metric in metrics.items()}
    panels = split_panels(_whose(record) for record in records)
    transposed = len(curves) == 1
    rows, columns = (1, len(panels)) if transposed else (len(panels), len(curves))
    figure = Figure(figsize=(WIDTH, 0.9 + (2.6 if columns > 1 else 3.0) * rows), layout="constrained")
    for row, panel in enumerate(panels):
        for column, (metric, of_metric) in enumerate(curves.items()):
            if any(series in of_metric for series in panel.series if series not in panel.beside):
                index = row if transposed else row * columns + column
                axes = figure.add_subplot(rows, columns, index + 1)
                _draw_panel(axes, panel, of_metric, colors)
                _finish_panel(axes, axis, metric, _find_last(panel, of_metric))
                if transposed or not column:
                    axes.set_title(panel.title, fontsize=FONT + 0.5, loc="left")
                if not transposed or not row:
                    axes.set_ylabel(textwrap.fill(LABELS.get(metric, metric), 26 if columns > 1 else 40), fontsize=FONT)
    beyond = LINEAR.get(axis)
    scale = f" (logarithmic beyond {beyond:g})" if any(axes.get_xscale() == "symlog" for axes in figure.axes) else ""
    figure.supxlabel(LABELS.get(axis, axis) + scale, fontsize=FONT)
    tasks = {record.tasks for record in records}
    where = [name_tasks(name) for name in tasks if len(tasks) == 1 and count_train_tasks(name) is not None]
    _draw_legend(figure, make_legend(records, colors), ", ".join([name_benchmark(benchmark), *where]))
    return figure


def choose_colors(series: Iterable[Series]) -> dict[Series, str]:
    """A colour for each series: grey for random choices, its owner's for what is published of it."""
    ordered = sorted(dict.fromkeys(series), key=lambda one: not one.ours)  # what is ours has the first colours
    fresh = cycle(COLORS)
    colors: dict[Series, str] = {}
    for one in ordered:
        if one.owner not in colors:
            colors[one.owner] = RANDOM_COLOR if one.random else next(fresh)
        colors[one] = colors[one.owner]
    return colors


def _draw_panel(
    axes: Axes, panel: Panel, curves: Mapping[Series, Sequence[Record]], colors: Mapping[Series, str]
) -> None:
    last = _find_last(panel, curves)
    for series in panel.series:
        curve = sorted((record for record in curves.get(series, []) if _at(record) <= last), key=_at)
        if curve:
            _draw_curve(axes, curve, colors[series])


def _draw_curve(axes: Axes, curve: Sequence[Record], color: str) -> None:
    at = [_at(record) for record in curve]
    mean = [_or_nan(record.mean) for record in curve]
    marker = "o" if len(curve) <= FEW_POINTS else None
    series = _whose(curve[0])
    if not series.ours and not series.random:
        (line,) = axes.plot(
            at, mean, "--", color=color, label=series.method, marker=marker, linewidth=1.0, markersize=3.0
        )
        line.set_markerfacecolor("white")
        return
    axes.plot(at, mean, color=color, label=series.method, marker=marker, markersize=3.0, linewidth=1.7)
    if any(record.low is not None for record in curve):
        low, high = [_or_nan(record.low) for record in curve], [_or_nan(record.high) for record in curve]
        axes.fill_between(at, low, high, color=color, alpha=BAND, linewidth=0)


def _find_last(panel: Panel, curves: Mapping[Series, Sequence[Record]]) -> float:
    """Where the panel's own curves end; those that another panel shows to their end are cut there."""
    own = [series for series in panel.series if series not in panel.beside]
    return max(_at(record) for series in own for record in curves.get(series, []))


def _finish_panel(axes: Axes, axis: str, metric: str, last: float) -> None:
    if metric.startswith("success") or (metric == "return_training" and axes.dataLim.y1 <= 1.0):  # as good as one
        axes.set_ylim(-0.02, 1.02)
    elif metric.startswith("return_"):
        axes.set_ylim(bottom=0.0 if axes.dataLim.y0 >= 0.0 else None)
    if axis in LINEAR and last > 2 * LINEAR[axis]:
        widen_start(axes, LINEAR[axis], last)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=(1, 2, 5, 10)))
    axes.tick_params(labelsize=FONT - 0.5)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def widen_start(axes: Axes, linear: float, last: float) -> None:
    """Makes the first `linear` places of an axis that ends at `last` about half of it; the rest is logarithmic."""
    axes.set_xscale("symlog", linthresh=linear)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick <= last]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlim(-1.5, 1.06 * last)


def make_legend(records: Sequence[Record], colors: Mapping[Series, str]) -> list[Artist]:
    """One entry for each colour, and one each for what dashes and bands are, where they are not named by themselves.

    Args:
        records: that are drawn.
        colors: of their series, in the order of the entries.
    """
    drawn = {_whose(record) for record in records}
    entries: list[Artist] = []
    for one in (one for one in colors if one in drawn and (one.owner == one or one.owner not in drawn)):
        several = len({other.tasks for other in drawn if other.owner.method == one.owner.method}) > 1
        label = ", ".join([name_method(one.method), *([name_tasks(one.tasks)] if several and one.tasks else [])])
        style: Literal["-", "--"] = "-" if one.ours or one.random else "--"
        entries.append(Line2D([], [], color=colors[one], linestyle=style, linewidth=1.7, label=label))
    if any(one.owner != one and one.owner in drawn for one in drawn):
        line = Line2D([], [], color=PUBLISHED_COLOR, linestyle="--", linewidth=1.0, marker="o", markersize=3.0)
        line.set(markerfacecolor="white", label="published, same colour")
        entries.append(line)
    if any(record.low is not None for record in records):
        entries.append(Patch(color=PUBLISHED_COLOR, alpha=2 * BAND, linewidth=0, label="95 % interval"))
    return entries


def _draw_legend(figure: Figure, entries: Sequence[Artist], title: str = "") -> None:
    """Above the panels, in as many columns as the width of the longest entry allows."""
    longest = max((len(str(entry.get_label())) for entry in entries), default=0)
    columns = max(1, int(WIDTH / (0.55 + 0.0068 * FONT * longest)))
    rows = math.ceil(len(entries) / columns)
    figure.legend(
        handles=list(entries),
        loc="outside upper center",
        ncols=math.ceil(len(entries) / rows) if rows else 1,
        title=title,
        title_fontsize=FONT + 2,
        fontsize=FONT,
        frameon=False,
    )


OTHER_CODE = ("-before", "-logs")
"""Ends of methods that differ by more than the budget of meta-training."""


def make_compute_figure(records: Sequence[Record]) -> Figure | None:
    """Success against minutes of meta-training; None where no task set was meta-trained with two budgets.

    A line joins the methods of one benchmark and task set, each of them one budget; a place that only one budget has
    come to is left to the tables.
    """

    def whose(record: Record) -> tuple[str, str, str]:
        return record.benchmark, record.method, record.tasks

    known = {
        whose(record)
        for record in records
        if record.metric == "success_stochastic" and not record.method.endswith(OTHER_CODE)
    }
    cost = {
        whose(record): record.mean / 60.0
        for record in records
        if record.metric == COST and record.mean and whose(record) in known
    }
    budgets = Counter((benchmark, tasks) for benchmark, _, tasks in cost)
    cost = {key: minutes for key, minutes in cost.items() if budgets[key[0], key[2]] > 1}
    if not cost:
        return None
    several = len({(benchmark, tasks) for benchmark, _, tasks in cost}) > 1
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    colors = cycle(COLORS)
    for axis, place in COMPUTE_PLACES:
        here = [
            record
            for record in records
            if (record.metric, record.axis, record.place) == ("success_stochastic", axis, place)
            and whose(record) in cost
            and record.mean is not None
        ]
        for (benchmark, tasks), points in group(here, lambda record: (record.benchmark, record.tasks)).items():
            if len(points) < 2:
                continue
            points.sort(key=lambda record: cost[whose(record)])
            at, mean = [cost[whose(record)] for record in points], [_or_nan(record.mean) for record in points]
            what = "by inference alone" if axis == "stage" else f"after {place} episodes"
            where = f"{name_benchmark(benchmark)}, {name_tasks(tasks)}, " if several else ""
            color = next(colors)
            axes.plot(at, mean, marker="o", markersize=4, color=color, label=where + what)
            low, high = [_or_nan(record.low) for record in points], [_or_nan(record.high) for record in points]
            axes.fill_between(at, low, high, color=color, alpha=BAND, linewidth=0)
    for key, minutes in cost.items():
        side = "left" if minutes == min(cost.values()) else "right" if minutes == max(cost.values()) else "center"
        axes.annotate(name_method(key[1]), (minutes, 0.03), fontsize=FONT - 0.5, ha=side, color="0.3")
    axes.set(xscale="log", ylim=(-0.02, 1.02))
    axes.set_xlabel("meta-training (min of wall-clock time, one seed)", fontsize=FONT)
    axes.set_ylabel(LABELS["success_stochastic"], fontsize=FONT)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.tick_params(which="both", labelsize=FONT - 0.5)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    _draw_legend(figure, [*lines, Patch(color=PUBLISHED_COLOR, alpha=2 * BAND, linewidth=0, label="95 % interval")])
    return figure


def _whose(record: Record) -> Series:
    return Series(record.method, record.tasks)


def _at(record: Record) -> float:
    return float(record.place)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
