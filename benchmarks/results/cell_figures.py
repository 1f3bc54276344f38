"""The plot of one cell of the meta-RL benchmark: test tasks along the cell's axis, and the course of training."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from supple.pipeline.action_spaces import SPACES

from ..meta.cell import Gate
from ..meta.cell_train import name_random
from ..meta.gate_progress import WINDOW
from .labels import DASHED, LABELS
from .records import group

PANELS = ("return", "kinds_so_far", "deaths", "success", "detour")
"""Metrics with a panel, in this order, where a cell has them."""
LIMITS: Mapping[str, Mapping[str, Any]] = {
    "kinds_so_far": {"ylim": (0.0, 1.02)},
    "deaths": {"ylim": (0.0, 1.02)},
    "success": {"ylim": (0.0, 1.02)},
}
"""Of the axes, where numbers have a range."""
RANDOM = tuple(dict.fromkeys(name_random(space) for space in SPACES))
"""Methods that learn nothing."""
RANDOM_COLOR = "0.55"
SHIFT = 0.06
"""Places by which random choices stand to the right of theirs, so that both intervals can be seen."""
Curve = Sequence[tuple[float, float]]
"""(environment steps, return) of each iteration."""


def make_cell_figure(
    name: str, rows: Sequence[Mapping[str, Any]], curves: Mapping[int, Curve], gates: Sequence[Gate] = ()
) -> Figure:
    """Panels of returns, of what the robot measures besides, and of the training.

    Args:
        name: of the cell.
        rows: its records.
        curves: the course of training, by seed; a curve is empty for a learner that is not trained.
        gates: what the returns of the first panel are asked to reach.
    """
    shown = [metric for metric in PANELS if any(row["metric"] == metric for row in rows)]
    figure = Figure(figsize=(4.8 * (len(shown) + 1), 3.8), layout="constrained")
    panels = figure.subplots(1, len(shown) + 1)
    for panel, metric in zip(panels, shown, strict=False):
        of_metric = [row for row in rows if row["metric"] == metric and row["at"]]
        asked = [gate for gate in gates if gate.metric == metric and gate.place is not None]
        draw = _draw_scores if len({json.dumps(row["at"]) for row in of_metric}) > 1 else _draw_ranking
        draw(panel, of_metric, metric, asked)
    panels[0].set_title(name)
    trained = {seed: curve for seed, curve in curves.items() if curve}
    for index, (seed, curve) in enumerate(trained.items()):
        _draw_training(panels[-1], seed, curve, f"C{index % 10}")
    panels[-1].set(title="train tasks", xlabel="environment steps", ylabel=f"return, mean of {WINDOW} iterations")
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[-1].grid(alpha=0.3)
    if trained:
        _place_legend(panels[-1])
    return figure


def _place_legend(panel: Axes) -> None:
    """Below the panel, where it hides nothing."""
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)


def _draw_training(panel: Axes, seed: int, curve: Curve, color: str) -> None:
    """Each iteration, faint, and the mean of the last few."""
    at, value = (np.array(part, np.float64) for part in zip(*curve, strict=True))
    panel.plot(at, value, color=color, linewidth=0.8, alpha=0.3)
    window = min(WINDOW, len(value))
    means = np.convolve(value, np.full(window, 1.0 / window), "valid")
    panel.plot(at[window - 1 :], means, color=color, label=f"seed {seed}", linewidth=1.4)


def _draw_ranking(panel: Axes, rows: Sequence[Mapping[str, Any]], metric: str, gates: Sequence[Gate]) -> None:
    """All methods at their one place, the best on top."""
    ordered = sorted(rows, key=lambda row: float(row["mean"]))
    for height, row in enumerate(ordered):
        compared = row["method"].endswith(DASHED)
        color = RANDOM_COLOR if compared or row["method"] in RANDOM else "C0"
        if row["low"] is not None:
            panel.plot([row["low"], row["high"]], [height, height], color=color, linewidth=1.6)
        panel.plot(row["mean"], height, "o", color=color, markersize=5, markerfacecolor="white" if compared else color)
    for gate in gates:
        panel.axvline(gate.at_least, color="black", linestyle=":", linewidth=1.2, label="gate")
        _place_legend(panel)
    panel.set_yticks(range(len(ordered)), [f"{row['method']}  {row['mean']:.4g}" for row in ordered], fontsize="small")
    panel.set_xlabel(LABELS[metric])
    panel.grid(alpha=0.3)


def _draw_scores(panel: Axes, rows: Sequence[Mapping[str, Any]], metric: str, gates: Sequence[Gate]) -> None:
    """Our methods with their intervals along the axis; what they are compared with as dashed lines."""
    axis = next(iter(rows[0]["at"]))
    for index, (method, of_method) in enumerate(group(rows, lambda row: str(row["method"])).items()):
        at = [row["at"][axis] for row in of_method]
        mean = [row["mean"] for row in of_method]
        color = RANDOM_COLOR if method in RANDOM else f"C{index % 10}"
        if method.endswith(DASHED):
            panel.plot(at, mean, "--o", color=color, label=method, linewidth=1, markersize=4, markerfacecolor="white")
            continue
        below = [row["mean"] - row["low"] for row in of_method]
        above = [row["high"] - row["mean"] for row in of_method]
        # intervals of two methods at one place stand beside each other
        at = [place + SHIFT * (method in RANDOM) for place in at]
        panel.errorbar(at, mean, [below, above], color=color, label=method, marker="o", markersize=4, capsize=3)
    for number, gate in enumerate(gates):
        label = "" if number else "gate"
        panel.plot(gate.place or 0, gate.at_least, "_", color="black", markersize=16, markeredgewidth=2, label=label)
    panel.set(xlabel=LABELS[axis], ylabel=LABELS[metric], **LIMITS.get(metric, {}))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(alpha=0.3)
    _place_legend(panel)
