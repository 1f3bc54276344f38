"""Plots of records: curves along an axis with their intervals, and success against the compute that it took.

A method whose name ends in `-published` is a published number without an interval, one in `-exact` was computed, one in
`-reference` was made for the robot, not learned: a dashed line with open markers.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter

from .records import Place, Record, group

PUBLISHED: Final = "-published"
"""End of the names of published methods."""
EXACT: Final = "-exact"
"""End of the names of what was computed, not measured."""
REFERENCE: Final = "-reference"
"""End of the names of policies that were made for a robot, not learned."""
DASHED: Final = (PUBLISHED, EXACT, REFERENCE)
"""Ends of the names of methods that are there to compare with."""
SHOWN_BY_RETURN: Final = ("return_iqm", "return_normalised")
"""Metrics in tables only: their plots would look like that of the return."""
LABELS: Final[Mapping[str, str]] = {
    "episode": "episodes per task",
    "inference_episodes": "episodes that the task embedding is inferred from",
    "meta_training_minute": "meta-training (min of wall-clock time)",
    "success_stochastic": "success, stochastic policy",
    "success_greedy": "success, greedy policy",
    "success_train": "success on train tasks while meta-training",
    "gradient_step": "steps of adaptation",
    "episode_index": "episode of the trial",
    "return": "return of an episode on test tasks",
    "kinds": "kinds of tiles touched / on the board",
    "kinds_so_far": "kinds of tiles touched so far / on the board",
    "deaths": "deaths per episode",
    "goals": "goals per episode",
    "success": "episodes that reach the goal",
    "detour": "steps / steps of the shortest way",
    "return_training": "return while training, mean of 10 episodes",
}
"""What axes and metrics are called in a plot."""
COST: Final = "meta_training_wall_s"
COMPUTE_PLACES: Final[Sequence[tuple[str, Place]]] = (("stage", "inferred"), ("episode", 40), ("episode", 100))
"""Places at which success is drawn against compute."""
FEW_POINTS: Final = 16
"""A curve of no more points than this shows them as markers."""


def make_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """One figure for each benchmark and numeric axis with at least two places, named `<benchmark>-<axis>`."""
    figures = {}
    for (benchmark, axis), rows in group(records, lambda record: (record.benchmark, record.axis)).items():
        curves = [
            record
            for record in rows
            if record.mean is not None
            and isinstance(record.place, int | float)
            and record.metric not in SHOWN_BY_RETURN
        ]
        if axis and len({record.place for record in curves}) > 1:
            figures[f"{benchmark}-{axis}"] = _make_figure(benchmark, axis, curves)
    return figures


def _make_figure(benchmark: str, axis: str, records: Sequence[Record]) -> Figure:
    metrics = group(records, lambda record: record.metric)
    if "return_training" in metrics:
        # published success is the return of training episodes, so it belongs beside ours too
        published = [r for r in metrics.get("success_stochastic", []) if r.method.endswith(PUBLISHED)]
        metrics["return_training"] += [replace(record, metric="return_training") for record in published]
    # one colour for a method in all panels, also for what was published of it
    names = list(dict.fromkeys((record.method.removesuffix(PUBLISHED), record.tasks) for record in records))
    color = {name: f"C{index % 10}" for index, name in enumerate(names)}
    figure = Figure(figsize=(6.4, 3.6 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), squeeze=False)[:, 0]
    for panel, (metric, of_metric) in zip(panels, metrics.items(), strict=True):
        several = len({record.tasks for record in of_metric}) > 1
        for (method, tasks), curve in group(of_metric, lambda record: (record.method, record.tasks)).items():
            label = f"{method}, {tasks}" if several and tasks else method
            _draw_curve(panel, sorted(curve, key=_at), label, color[method.removesuffix(PUBLISHED), tasks])
        panel.set(xlabel=LABELS.get(axis, axis), ylabel=LABELS.get(metric, metric), title=benchmark)
        if metric.startswith("success") or metric == "return_training":  # a success, or as good as one
            panel.set_ylim(0, 1.02)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure


def _draw_curve(panel: Axes, curve: Sequence[Record], label: str, color: str) -> None:
    at = [_at(record) for record in curve]
    mean = [_or_nan(record.mean) for record in curve]
    if curve[0].method.endswith(DASHED):
        panel.plot(at, mean, "--o", color=color, label=label, linewidth=1, markersize=4, markerfacecolor="none")
        return
    marker = "o" if len(curve) <= FEW_POINTS else None
    panel.plot(at, mean, color=color, label=label, marker=marker, markersize=3.5)
    if any(record.low is not None for record in curve):
        low, high = [_or_nan(record.low) for record in curve], [_or_nan(record.high) for record in curve]
        panel.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)


def make_compute_figure(records: Sequence[Record]) -> Figure | None:
    """Success against minutes of meta-training; None where no task set was meta-trained with two budgets.

    A line joins the methods of one benchmark and task set, each of them one budget.
    """

    def whose(record: Record) -> tuple[str, str, str]:
        return record.benchmark, record.method, record.tasks

    cost = {whose(record): record.mean / 60.0 for record in records if record.metric == COST and record.mean}
    budgets = Counter((benchmark, tasks) for benchmark, _, tasks in cost)
    cost = {key: minutes for key, minutes in cost.items() if budgets[key[0], key[2]] > 1}
    if not cost:
        return None
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    panel = figure.subplots()
    for axis, place in COMPUTE_PLACES:
        here = [
            record
            for record in records
            if (record.metric, record.axis, record.place) == ("success_stochastic", axis, place)
            and whose(record) in cost
            and record.mean is not None
        ]
        for (benchmark, _), points in group(here, lambda record: (record.benchmark, record.tasks)).items():
            points.sort(key=lambda record: cost[whose(record)])
            at, mean = [cost[whose(record)] for record in points], [_or_nan(record.mean) for record in points]
            what = "by inference alone" if axis == "stage" else f"after {place} episodes"
            error = [
                [_or_nan(record.mean) - _or_nan(record.low) for record in points],
                [_or_nan(record.high) - _or_nan(record.mean) for record in points],
            ]
            panel.errorbar(at, mean, error, marker="o", markersize=4, capsize=2, label=f"{benchmark}, {what}")
    for key, minutes in cost.items():
        panel.annotate(key[1], (minutes, 0.02), rotation=90, fontsize="x-small", ha="center", va="bottom")
    panel.set(xlabel="meta-training (min of wall-clock time, one seed)", ylabel=LABELS["success_stochastic"])
    panel.set(xscale="log", ylim=(0, 1.02))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return figure


def _at(record: Record) -> float:
    return float(record.place)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
