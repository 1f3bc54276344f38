"""Learning curves of the report: skill losses, and what episodes gave while meta-training and while adapting.

Axes: P points of a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from ..intervals import compute_interval, compute_wilson
from ..stages.adapt import identify_task
from .measure import Measure, Results, find_measure, format_count, format_value, name_axis
from .run_folder import StageView
from .style import ADAPTED, BEFORE, INFERRED, INK, LINE, MUTED, STAGES, figure_style, make_axes, render_svg

Floats = NDArray[np.float64]
SMALL = (3.7, 2.9)
"""A panel of which three stand side by side, inches."""
WIDE = (4.2, 3.0)
"""A panel of which two stand side by side, inches."""
MOST_POINTS = 60
"""Points of a success curve; more epochs than that are pooled."""
LINEAR = 40
"""Episodes of adaptation that matter most: a much longer axis is logarithmic beyond."""
TICKS = (0, 10, 20, 30, 40, 100, 200, 400, 1000, 2000, 4000, 10000)
"""Of such an axis."""
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


def pool_success(at: Floats, fraction: Floats, trials: int) -> SuccessCurve:
    """Success of `trials` episodes per point; neighbours are pooled where there are more than `MOST_POINTS`."""
    parts = np.array_split(np.arange(len(at)), min(len(at), MOST_POINTS))
    where = np.array([at[part].mean() for part in parts])
    mean = np.array([fraction[part].mean() for part in parts])
    low, high = compute_wilson(mean, np.array([trials * len(part) for part in parts], np.float64), Z95)
    return SuccessCurve(where, mean, low, high)


def draw_band(axes: Axes, curve: SuccessCurve, color: str, label: str, style: str = "-") -> None:
    """A curve with its interval."""
    axes.fill_between(curve.at, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    marker = "o" if len(curve.at) <= 12 else None
    axes.plot(curve.at, curve.mean, style, color=color, label=label, marker=marker, markersize=3.5)


def finish_measure(axes: Axes, measure: Measure, xlabel: str) -> None:
    """The axes of every curve of what episodes are judged by; success goes from 0 to 1."""
    axes.set(xlabel=xlabel, ylabel=name_axis(measure))
    if measure == "success":
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks(np.linspace(0.0, 1.0, 6))


def draw_legend(figure: Figure) -> None:
    """The names of all curves above the axes, where they cover none."""
    figure.legend(
        loc="outside upper left",
        ncols=2,
        fontsize=9.5,
        labelcolor=INK,
        borderpad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )


def column(records: Sequence[dict[str, Any]], name: str) -> Floats:
    """One metric as an array; what was not finite is NaN."""
    return np.array([np.nan if record.get(name) is None else record[name] for record in records], np.float64)


EMBEDDINGS = (("explore", "random embedding", BEFORE), ("posterior", "inferred embedding", INFERRED))
"""SiMPL's two kinds of episodes: the end of their metrics' names, label and colour."""


class MetaCurve(NamedTuple):
    """One curve of meta-training."""

    metric: str
    measure: Measure
    label: str
    color: str
    trials: int
    """Episodes of each point, where their number is known and success is binomial; else 0."""


def find_meta_curves(stage: StageView) -> list[MetaCurve]:
    """Success on the train tasks, or the returns where nobody tells success; none before the first record."""
    last = stage.metrics[-1] if stage.metrics else {}
    episodes = count_episodes(stage)
    if episodes is not None:
        tasks = len(stage.config["tasks"]["train"])
        known: tuple[Measure, Measure] = ("success", "return")
        measure = next((one for one in known if f"{one}_explore" in last), None)
        return [
            MetaCurve(f"{measure}_{name}", measure, label, color, count * tasks if measure == "success" else 0)
            for count, (name, label, color) in zip(episodes, EMBEDDINGS, strict=True)
            if count and measure is not None
        ]
    returns = [name for name in last if name.startswith("return")]
    colors = (ADAPTED, INFERRED, BEFORE)
    return [
        MetaCurve(name, "return", name.replace("_", " "), color, 0)
        for name, color in zip(returns, colors, strict=False)
    ]


def count_episodes(stage: StageView) -> tuple[int, int] | None:
    """SiMPL's episodes per task and epoch, with random and with inferred embeddings; None of another learner."""
    episodes = find_setting(stage.config, "episodes_per_task")
    return (int(episodes[0]), int(episodes[1])) if isinstance(episodes, list) else None


def find_setting(config: Mapping[str, Any], name: str) -> Any:
    """The setting of that name in a config or in a config inside of it; None where there is none."""
    if name in config:
        return config[name]
    inner = (find_setting(value, name) for value in config.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)


def make_meta_plot(stage: StageView) -> Plot | None:
    """What the train tasks gave against low-level steps; None before the first record."""
    curves = find_meta_curves(stage)
    if not curves:
        return None
    records = [record for record in stage.metrics if record.get(curves[0].metric) is not None]
    measure = curves[0].measure
    at = column(records, "environment_steps")
    with figure_style():
        figure, axes = make_axes(*WIDE)
        for curve in curves:
            values = column(records, curve.metric)
            if curve.trials:
                draw_band(axes, pool_success(at, values, curve.trials), curve.color, curve.label)
            else:
                axes.plot(at, values, color=curve.color, label=curve.label)
        finish_measure(axes, measure, "low-level steps on the train tasks")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(format_count))
        draw_legend(figure)
        last = ", ".join(f"{curve.label} {format_value(records[-1][curve.metric], measure)}" for curve in curves)
        caption = "Bands: 95 % Wilson interval over the episodes of a point." if curves[0].trials else ""
        alt = f"{name_axis(measure).capitalize()} on the train tasks against steps; at the end: {last}."
        return Plot(render_svg(figure, "meta", alt), caption)


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


def compute_adaptation(
    records: Sequence[Mapping[str, Any]], measure: Measure = "success", points: int = 20
) -> SuccessCurve:
    """What the loop's own episodes gave, by episode, with the interval over tasks.

    Args:
        records: kind "episode", at least one.
        measure: a column of theirs.
        points: neighbouring episodes are averaged into at most so many points.
    """
    last = max(record["episode"] for record in records)
    parts = np.array_split(np.arange(1, last + 1), min(last, points))
    values: dict[tuple[int, tuple[Any, ...]], list[float]] = {}
    part_of = {int(episode): index for index, part in enumerate(parts) for episode in part}
    for record in records:
        values.setdefault((part_of[record["episode"]], identify_task(record)), []).append(float(record[measure]))
    intervals = [
        compute_interval(
            [float(np.mean(found)) for (at, _), found in values.items() if at == index], shares=measure == "success"
        )
        for index in range(len(parts))
    ]
    where = np.array([part.mean() for part in parts])
    low, high = (np.array([getattr(interval, name) for interval in intervals]) for name in ("low", "high"))
    return SuccessCurve(where, np.array([interval.mean for interval in intervals]), low, high)


def find_episodes(stage: StageView) -> list[dict[str, Any]]:
    """The records of the loop's own episodes, so far."""
    return [record for record in stage.metrics if record.get("kind") == "episode"]


def make_adapt_plot(stage: StageView, results: Results) -> Plot | None:
    """The loop's episodes with its phases, and the evaluations in between; None before the first episode."""
    records = find_episodes(stage)
    if not records:
        return None
    measure = find_measure(records)
    last = max(record["episode"] for record in records)
    exploring = [record["episode"] for record in records if record.get("stage") == "explore"]
    explored = max(exploring, default=0)
    tasks = len({identify_task(record) for record in records})
    curve = compute_adaptation(records, measure)
    with figure_style():
        figure, axes = make_axes(*WIDE)
        if explored:
            axes.axvspan(0, min(explored, last), color=LINE, alpha=0.45, linewidth=0)
        draw_band(axes, curve, MUTED, "episodes of the loop")
        points = [row for row in results.rows if row.axis == "episode"] if results.measure == measure else []
        for index, row in enumerate(points):
            bars = [[max(0.0, row.mean - row.low)], [max(0.0, row.high - row.mean)]]
            label = "evaluation, policy frozen" if index == len(points) - 1 else None
            color = STAGES.get(row.method, ADAPTED)
            axes.errorbar(
                [row.at], [row.mean], bars, fmt="s", color=color, capsize=3, markersize=5, zorder=4, label=label
            )
        finish_measure(axes, measure, "episode on a test task")
        axes.set_xlim(-0.02 * last, last * 1.02)
        middle = (explored + last) / 2
        if last > 2 * LINEAR:
            widen_start(axes, last)
            axes.set_xlabel(f"episode on a test task (logarithmic beyond {LINEAR})")
            middle = max(middle, LINEAR) ** 0.5 * LINEAR**0.5
        top = axes.get_xaxis_transform()
        if explored:
            axes.text(min(explored, last) / 2, 1.02, "explore", transform=top, ha="center", va="bottom", color=MUTED)
        if explored and last > explored:
            axes.text(middle, 1.02, "fine-tune", transform=top, ha="center", va="bottom", color=MUTED)
        draw_legend(figure)
        first, final = (format_value(float(value), measure) for value in (curve.mean[0], curve.mean[-1]))
        alt = (
            f"{measure.capitalize()} by episode over {tasks} test tasks; {first} in the first episodes, {final} in the "
            "last ones."
        )
        caption = f"{tasks} test tasks side by side; band and bars: 95 % interval over tasks."
        if explored:
            caption += f" Shaded: the first {explored} episodes, which explore."
        return Plot(render_svg(figure, "adapt", alt), caption)


def widen_start(axes: Axes, last: float) -> None:
    """Makes the first `LINEAR` episodes of an axis that ends at `last` about half of it; the rest is logarithmic."""
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick <= last]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlim(-1.5, 1.06 * last)
