"""The plot of one cell of the meta-RL benchmark: test tasks along the cell's axis, and the course of training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .result_figures import DASHED, LABELS
from .result_records import group

Curve = Sequence[tuple[float, float]]
"""(environment steps, return) of each iteration."""


def make_cell_figure(name: str, rows: Sequence[Mapping[str, Any]], curves: Mapping[int, Curve]) -> Figure:
    """Two panels.

    Args:
        name: of the cell.
        rows: its records.
        curves: the course of training, by seed.
    """
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_scores(left, [row for row in rows if row["metric"] == "return" and row["at"]])
    left.set(title=name, ylabel=LABELS["return"])
    for seed, curve in curves.items():
        right.plot([at for at, _ in curve], [value for _, value in curve], label=f"seed {seed}", linewidth=1.2)
    right.set(title="train tasks", xlabel="environment steps", ylabel="return")
    right.grid(alpha=0.3)
    right.legend(fontsize="small")
    return figure


def _draw_scores(panel: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Our methods with their intervals; references as dashed lines."""
    axis = next(iter(rows[0]["at"]))
    for index, (method, of_method) in enumerate(group(rows, lambda row: str(row["method"])).items()):
        at = [row["at"][axis] for row in of_method]
        mean = [row["mean"] for row in of_method]
        color = f"C{index % 10}"
        if method.endswith(DASHED) and len(at) == 1:
            panel.axhline(mean[0], linestyle="--", color=color, label=method, linewidth=1)
            continue
        if method.endswith(DASHED):
            panel.plot(at, mean, "--o", color=color, label=method, linewidth=1, markersize=4, markerfacecolor="none")
            continue
        below = [row["mean"] - row["low"] for row in of_method]
        above = [row["high"] - row["mean"] for row in of_method]
        panel.errorbar(at, mean, [below, above], color=color, label=method, marker="o", markersize=4, capsize=3)
    panel.set_xlabel(LABELS[axis])
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
