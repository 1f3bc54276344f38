"""Learning curves of the report: skill losses, success while meta-training, success while adapting.

Axes: P points of a curve.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from ..intervals import compute_interval
from ..results.figures import LINEAR, widen_start
from .run_folder import StageView
from .style import ADAPTED, BEFORE, INFERRED, INK, LINE, MUTED, figure_style, make_axes, render_svg

Floats = NDArray[np.float64]
SMALL = (3.7, 2.9)
"""A panel of which three stand side by side, inches."""
WIDE = (5.0, 3.3)
"""A panel of which two stand side by side, inches."""
MOST_POINTS = 60
"""Points of a success curve; more epochs than that are pooled."""
Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


class Plot(NamedTuple):
    """A drawn figure and the line below it."""

    svg: Markup
    caption: str


class SuccessCurve(NamedTuple):
    """Success with its 95 % interval, each of shape (P,)."""

    at: Floats
    mean: Floats
    low: Floats
    high: Floats


def compute_wilson(fraction: Floats, trials: Floats) -> tuple[Floats, Floats]:
    """95 % score interval of a binomial proportion, (p + z^2/2n -+ z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA, 1927.
    """
    square = Z95**2 / trials
    centre = (fraction + square / 2) / (1 + square)
    half = Z95 * np.sqrt(fraction * (1 - fraction) / trials + square / (4 * trials)) / (1 + square)
    return centre - half, centre + half


def pool_success(at: Floats, fraction: Floats, trials: int) -> SuccessCurve:
    """Success of `trials` episodes per point; neighbours are pooled where there are more than `MOST_POINTS`."""
    parts = np.array_split(np.arange(len(at)), min(len(at), MOST_POINTS))
    where = np.array([at[part].mean() for part in parts])
    mean = np.array([fraction[part].mean() for part in parts])
    low, high = compute_wilson(mean, np.array([trials * len(part) for part in parts], np.float64))
    return SuccessCurve(where, mean, low, high)


def format_count(value: float, _: object = None) -> str:
    """`1500000` as `1.5 M`."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def draw_band(axes: Axes, curve: SuccessCurve, color: str, label: str, style: str = "-") -> None:
    """A curve with its interval."""
    axes.fill_between(curve.at, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    marker = "o" if len(curve.at) <= 12 else None
    axes.plot(curve.at, curve.mean, style, color=color, label=label, marker=marker, markersize=3.5)


def finish_success(axes: Axes, xlabel: str) -> None:
    """The axes of every success curve: 0 to 100 %."""
    axes.set(xlabel=xlabel, ylabel="success (% of episodes)", ylim=(-0.02, 1.02))
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))


def draw_legend(figure: Figure) -> None:
    """The names of all curves above the axes, where they cover none."""
    figure.legend(loc="outside upper left", ncols=2, fontsize=9, labelcolor=INK, borderpad=0, columnspacing=1.2)


def column(records: Sequence[dict[str, Any]], name: str) -> Floats:
    """One metric as an array; what was not finite is NaN."""
    return np.array([np.nan if record.get(name) is None else record[name] for record in records], np.float64)


def make_meta_plots(stage: StageView) -> list[Plot]:
    """Success of the train tasks against epochs, low-level steps and time; empty before the first epoch."""
    records = [record for record in stage.metrics if "success_explore" in record]
    if not records:
        return []
    config = stage.config
    explore, exploit = config["meta_train"]["simpl"]["episodes_per_task"]
    tasks = len(config["tasks"]["train"])
    curves = [("success_explore", BEFORE, "random embedding", explore * tasks)]
    if exploit:
        curves.append(("success_posterior", INFERRED, "inferred embedding", exploit * tasks))
    seconds = column(records, "wall_s")
    unit, factor = ("min", 60.0) if seconds[-1] > 180 else ("s", 1.0)
    axes_of = {
        "epochs": ("epoch", column(records, "step")),
        "low-level steps": ("low-level steps", column(records, "environment_steps")),
        "wall-clock time": (f"wall-clock time ({unit})", seconds / factor),
    }
    plots: list[Plot] = []
    for name, (label, at) in axes_of.items():
        with figure_style():
            figure, axes = make_axes(*SMALL)
            for metric, color, title, trials in curves:
                draw_band(axes, pool_success(at, column(records, metric), trials), color, title)
            finish_success(axes, label)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=name == "epochs"))
            axes.xaxis.set_major_formatter(FuncFormatter(format_count))
            draw_legend(figure)
            final = ", ".join(f"{title} {records[-1][metric]:.0%}" for metric, _, title, _ in curves)
            alt = f"Success on {tasks} train tasks against {label}; last epoch: {final}."
            svg = render_svg(figure, f"meta-{len(plots)}", alt)
            plots.append(Plot(svg, f"Success on the train tasks by {name}"))
    return plots


SKILL_LOSSES = {
    "reconstruction": (
        "Reconstruction of actions",
        "nats per action axis",
        (("reconstruction", "closed-loop decoder", ADAPTED), ("open_reconstruction", "open-loop decoder", MUTED)),
    ),
    "kl": ("Information in a skill, KL(q || N(0, I))", "nats per skill axis", (("kl", "", ADAPTED),)),
    "prior": ("Skill prior, negative log likelihood", "nats per skill", (("prior", "", ADAPTED),)),
}
"""Panels: title, unit, and (metric, label, colour) of each curve."""


def make_skill_plots(stage: StageView) -> list[Plot]:
    """The losses of the skill model against updates; empty before the first record."""
    plots = []
    at = column(stage.metrics, "step")
    for name, (title, unit, curves) in SKILL_LOSSES.items():
        found = [(metric, label, color) for metric, label, color in curves if metric in (stage.metrics or [{}])[0]]
        if not found:
            continue
        with figure_style():
            figure, axes = make_axes(*SMALL)
            for metric, label, color in found:
                axes.plot(at, column(stage.metrics, metric), color=color, label=label)
            axes.set(xlabel="updates", ylabel=unit)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(format_count))
            if len(found) > 1:
                draw_legend(figure)
            last = stage.metrics[-1][found[0][0]]
            alt = f"{title} in {unit} against updates; {last:.3g} after update {format_count(at[-1])}."
            plots.append(Plot(render_svg(figure, f"skill-{name}", alt), title))
    return plots


def compute_adaptation(records: Sequence[dict[str, Any]], points: int = 20) -> SuccessCurve:
    """Success of the loop's own episodes by episode; the interval is a bootstrap over tasks.

    Args:
        records: kind "episode", at least one.
        points: neighbouring episodes are averaged into at most so many points.
    """
    last = max(record["episode"] for record in records)
    parts = np.array_split(np.arange(1, last + 1), min(last, points))
    values: dict[tuple[int, str], list[float]] = {}
    part_of = {int(episode): index for index, part in enumerate(parts) for episode in part}
    for record in records:
        values.setdefault((part_of[record["episode"]], record["task"]), []).append(float(record["success"]))
    intervals = [
        compute_interval([float(np.mean(found)) for (at, _), found in values.items() if at == index])
        for index in range(len(parts))
    ]
    where = np.array([part.mean() for part in parts])
    low, high = (np.array([getattr(interval, name) for interval in intervals]) for name in ("low", "high"))
    return SuccessCurve(where, np.array([interval.mean for interval in intervals]), low, high)


def make_adapt_plot(stage: StageView, success: Sequence[dict[str, Any]]) -> Plot | None:
    """Success by episode with both phases, and the evaluations in between; None before the first episode."""
    records = [record for record in stage.metrics if record.get("kind") == "episode"]
    if not records:
        return None
    loop = stage.config["adapt"]["loop"]
    explored, last = loop["exploration_episodes"], max(record["episode"] for record in records)
    tasks = len({record["task"] for record in records})
    curve = compute_adaptation(records)
    with figure_style():
        figure, axes = make_axes(*WIDE)
        axes.axvspan(0, min(explored, last), color=LINE, alpha=0.45, linewidth=0)
        draw_band(axes, curve, MUTED, "episodes of the loop")
        colors = {"before": BEFORE, "explore": MUTED, "inferred": INFERRED}
        points = [record for record in success if record["metric"] == "success_stochastic"]
        for index, record in enumerate(points):
            mean, at = record["mean"], record["at"]["episode"]
            bars = [[max(0.0, mean - record["low"])], [max(0.0, record["high"] - mean)]]
            color = colors.get(record["method"], ADAPTED)
            label = "evaluation, policy frozen" if index == len(points) - 1 else None
            axes.errorbar([at], [mean], bars, fmt="s", color=color, capsize=3, markersize=5, zorder=4, label=label)
        finish_success(axes, "episode on a test task")
        axes.set_xlim(-0.02 * last, last * 1.02)
        middle = (explored + last) / 2
        if last > 2 * LINEAR["episode"]:
            widen_start(axes, LINEAR["episode"], last)
            axes.set_xlabel(f"episode on a test task (logarithmic beyond {LINEAR['episode']:g})")
            middle = max(middle, LINEAR["episode"]) ** 0.5 * LINEAR["episode"] ** 0.5
        top = axes.get_xaxis_transform()
        axes.text(min(explored, last) / 2, 1.02, "explore", transform=top, ha="center", va="bottom", color=MUTED)
        if last > explored:
            axes.text(middle, 1.02, "fine-tune", transform=top, ha="center", va="bottom", color=MUTED)
        draw_legend(figure)
        alt = (
            f"Success by episode over {tasks} test tasks; {curve.mean[0]:.0%} in the first episodes, "
            f"{curve.mean[-1]:.0%} in the last ones."
        )
        caption = (
            f"{tasks} test tasks side by side; band and bars: 95 % bootstrap interval over tasks. Shaded: the first "
            f"{explored} episodes, which explore."
        )
        return Plot(render_svg(figure, "adapt", alt), caption)
