"""The card of an episode store: one self-contained HTML page on the data, before anything is learned from them.

It has the frame, style and escaping of the report of a run. Nothing is written but the page, and the same store gives
the same page, byte for byte.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ... import __version__
from ...datasets.store import EpisodeStore, open_store
from ...errors import RunError
from ...plain_files import write_durably
from ...robots.spec import ArraySpec
from ..folder import refuse_place
from .cells import draw_cells, pool
from .curves import SMALL, WIDE, Plot
from .measure import format_count, format_number
from .names import shorten, with_unit
from .page import Tile, render
from .store_survey import MOST_AXES, Plane, Survey, survey_store
from .style import ADAPTED, BEFORE, INK, MUTED, figure_style, make_axes, render_svg
from .tables import NUMBER, Facts, Table, format_seconds, make_axes_table, make_data_facts

TEMPLATE = "card.html.j2"
SECTIONS = ("data", "axes", "episodes", "quality", "coverage", "provenance")
"""Of the page, in order."""
MOST_COLUMNS = 60
"""Of a heat map: more episodes than that are pooled."""
MOST_TEXT = 20_000
"""Characters of a source's record that are shown."""
MOST_PARTS = 200
AXIS = (3.7, 2.0)
ROW = 0.22
"""Height of one row of a heat map, inches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """What is known of one part of the store."""

    name: str
    facts: Facts
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPage:
    """Everything that the template shows."""

    title: str
    subtitle: str
    sections: Sequence[str]
    tiles: list[Tile]
    data_facts: Facts
    findings: tuple[str, ...]
    limits: Table | None
    ranges: Table
    observation: list[Plot]
    action: list[Plot]
    axes_note: str
    lengths: Plot
    motion: Plot
    saturation: Plot | None
    ends: Table | None
    quality: list[Plot]
    coverage: list[Plot]
    parts: list[SourceText]
    notes: dict[str, list[str]]
    footer: str


def make_card(path: Path, out: Path) -> Path:
    """Writes the page and returns where it is; an older one is replaced.

    Args:
        path: A store, or an `ingest` or run folder that holds one.
        out: File to write.

    Raises:
        StoreError: there is no whole store at `path`.
        RunError: the file cannot be written there.
    """
    store = open_store(path)
    refuse_place(out, (store.path,))
    if out.is_dir():
        raise RunError(f"{out}: expected a file to write, got a folder; name a file in it")
    text = render(make_page(store, survey_store(store)), TEMPLATE)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, text.encode())
    return out


def make_page(store: EpisodeStore, survey: Survey) -> CardPage:
    """Collects what the page shows."""
    schema, robot = store.schema, store.schema.robot
    notes: dict[str, list[str]] = {name: [] for name in SECTIONS}
    if robot is None:
        notes["data"].append("Nobody says which robot this is from, so that its limits are unknown.")
    if not survey.quality:
        notes["quality"].append("The source says nothing of rates and gaps. Only bags do.")
    if not survey.planes:
        notes["coverage"].append("Fewer than two axes move, so that there is no plane to show.")
    plain = robot is not None and not robot.choices
    beyond = [name for name in ("observation", "action") if len(schema.feature(name).axes) > MOST_AXES]
    return CardPage(
        title=f"Episode store: {store.path.resolve().name}",
        subtitle=f"{'robot ' + robot.name if robot else 'unknown robot'} · digest {store.digest[:12]}",
        sections=SECTIONS,
        tiles=make_tiles(store, survey),
        data_facts=make_data_facts(store) + make_store_facts(store),
        findings=survey.findings,
        limits=None if robot is None else make_axes_table(robot),
        ranges=make_range_table(survey),
        observation=make_axis_plots(store, survey, "observation"),
        action=make_axis_plots(store, survey, "action"),
        axes_note=f"Only the first {MOST_AXES} axes of {' and '.join(beyond)} are drawn." if beyond else "",
        lengths=make_length_plot(store),
        motion=make_motion_plot(store, survey),
        saturation=make_saturation_plot(store, survey) if plain else None,
        ends=make_end_table(store, survey) if plain else None,
        quality=make_quality_plots(survey),
        coverage=[make_plane_plot(plane, number) for number, plane in enumerate(survey.planes)],
        parts=make_sources(survey),
        notes=notes,
        footer=f"Made by Supple {__version__} from an episode store with digest {store.digest}.",
    )


def make_tiles(store: EpisodeStore, survey: Survey) -> list[Tile]:
    """How much there is, and how even it is."""
    period, episodes = store.schema.control_period, store.episodes
    ends = f"{int(episodes.terminated.sum())} terminated, {int(episodes.truncated.sum())} truncated"
    constant = sum(one.constant for found in survey.ranges.values() for one in found)
    tiles = [
        Tile("episodes", str(len(episodes.start)), ends),
        Tile("low-level steps", format_count(store.rows), "rate unknown" if period is None else f"{1 / period:g} Hz"),
    ]
    if period is not None:
        tiles.append(Tile("time on the robot", format_seconds(store.rows * period), f"a step each {period:g} s"))
    tiles.append(Tile("axes that hardly move", str(constant), "of observation and action"))
    return tiles


def make_store_facts(store: EpisodeStore) -> Facts:
    """What the store is beside its data."""
    others = [name for name in store.schema.names if name not in ("observation", "action")]
    size = sum(entry.bytes for entry in store.manifest.files.values())
    return [
        ("size on the disk", f"{format_count(float(size))}B".replace("  ", " ")),
        ("compression", store.compression),
        ("schema version", str(store.schema_version)),
        ("other arrays", ", ".join(others) or "none"),
    ]


def make_range_table(survey: Survey) -> Table:
    """Range, mean and spread of each axis."""
    groups = {
        name.capitalize(): [
            (
                one.axis,
                one.unit or "unknown",
                *(format_number(value) for value in (one.low, one.mean, one.high, one.std)),
            )
            for one in found
        ]
        for name, found in survey.ranges.items()
    }
    head = ("axis", "unit", *(f"{NUMBER}{name}" for name in ("lowest", "mean", "highest", "spread")))
    return Table(head, groups)


def find_limits(store: EpisodeStore, name: str, axis: int) -> tuple[float, float]:
    """Limits of an axis; infinite where they are unknown."""
    robot = store.schema.robot
    if robot is None:
        return -np.inf, np.inf
    array: ArraySpec = robot.observation if name == "observation" else robot.action
    return float(array.low[axis]), float(array.high[axis])


def make_axis_plots(store: EpisodeStore, survey: Survey, name: str) -> list[Plot]:
    """Each axis through the example episode, and beside it how often each value occurs in all data."""
    episode = store.episode(survey.example)
    array = episode.arrays[name].reshape(episode.length, -1)
    period = store.schema.control_period
    time = np.arange(episode.length) * (1.0 if period is None else period)
    plots = []
    for axis, one in enumerate(survey.ranges[name]):
        counts, edges = survey.histograms[name][axis]
        with figure_style():
            figure = Figure(figsize=AXIS, layout="constrained")
            left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
            left.plot(time, array[:, axis], color=ADAPTED, linewidth=1.2)
            right.stairs(counts, edges, orientation="horizontal", fill=True, color=MUTED, alpha=0.6)
            for limit in find_limits(store, name, axis):
                if edges[0] <= limit <= edges[-1] + 0.1 * (edges[-1] - edges[0]):
                    for panel in (left, right):
                        panel.axhline(limit, color=BEFORE, linewidth=1.0, linestyle="--")
            left.set_xlabel("steps" if period is None else "time (s)")
            right.set_xticks([])
            left.yaxis.set_major_locator(MaxNLocator(4))
            left.xaxis.set_major_locator(MaxNLocator(4))
            left.yaxis.set_major_formatter(FuncFormatter(format_tick))
            left.set_title(with_unit(one.axis, one.unit, 0.8 * AXIS[0]), loc="left")
            alt = (
                f"Axis {one.axis} in one episode and its histogram; from {format_number(one.low)} to "
                f"{format_number(one.high)} {one.unit}."
            )
            plots.append(Plot(render_svg(figure, f"{name}-{axis}", alt), ""))
    return plots


def format_tick(value: float, _: object = None) -> str:
    """A number on an axis, which large ones do not widen."""
    return format_count(value) if abs(value) >= 1000 else f"{value:g}"


def make_length_plot(store: EpisodeStore) -> Plot:
    """Histogram of the lengths of the episodes."""
    length = store.episodes.length
    low, high = int(length.min()), int(length.max())
    edges = np.unique(np.linspace(low - 0.5, high + 0.5, min(30, high - low + 1) + 1).round(3))
    counts, edges = np.histogram(length, edges)
    with figure_style():
        figure, axes = make_axes(*WIDE)
        axes.stairs(counts, edges, fill=True, color=ADAPTED, alpha=0.7)
        axes.set(xlabel="steps of an episode", ylabel="episodes")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(format_count))
        alt = f"Lengths of {len(length)} episodes, from {low} to {high} steps."
        return Plot(render_svg(figure, "lengths", alt), "How long the episodes are.")


def make_map(values: NDArray[Any], rows: Sequence[str], name: str, title: str, unit: str) -> Plot:
    """A heat map of rows by episodes; neighbouring episodes are pooled where there are many."""
    means, edges = pool(values, MOST_COLUMNS)
    finite = means[np.isfinite(means)]
    highest = float(finite.max()) if len(finite) else 0.0
    with figure_style():
        figure, axes = make_axes(WIDE[0], 0.75 + ROW * max(3, len(rows)))
        draw_cells(axes, means[::-1], edges, np.arange(len(rows) + 1, dtype=np.float64), highest)
        axes.set_yticks(np.arange(len(rows)) + 0.5, [shorten(row, 18) for row in rows[::-1]])
        axes.set_xlabel("episode")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.tick_params(length=0, axis="y")
        alt = f"{title} by episode, up to {format_number(highest)} {unit}."
        pooled = "" if values.shape[1] <= MOST_COLUMNS else f" Each column is {format_pool(values.shape[1])} episodes."
        full = f"Full colour: {format_number(highest)} {unit}".rstrip() if highest > 0 else "It is 0 everywhere"
        return Plot(render_svg(figure, name, alt), f"{title}. {full}.{pooled}")


def format_pool(episodes: int) -> str:
    """How many episodes a pooled column stands for."""
    least = episodes // MOST_COLUMNS
    return f"{least}" if episodes % MOST_COLUMNS == 0 else f"{least} or {least + 1}"


def make_motion_plot(store: EpisodeStore, survey: Survey) -> Plot:
    """How much each axis moves in each episode."""
    names = [one.axis for one in survey.ranges["observation"]]
    title = "Spread of each observation axis within an episode, as a share of its spread in all data"
    return make_map(survey.motion, names, "motion", title, "")


def make_saturation_plot(store: EpisodeStore, survey: Survey) -> Plot:
    """How often actions are at a limit in each episode."""
    assert survey.at_low is not None, "the robot is known"
    assert survey.at_high is not None, "the robot is known"
    names = [one.axis for one in survey.ranges["action"]]
    title = "Share of the steps with the action at a limit of the robot"
    return make_map(survey.at_low + survey.at_high, names, "saturation", title, "")


def make_end_table(store: EpisodeStore, survey: Survey) -> Table:
    """Share of all steps in which each action axis is at its limits."""
    assert survey.at_low is not None, "the robot is known"
    assert survey.at_high is not None, "the robot is known"
    weight = store.episodes.length / store.rows
    rows = [
        (one.axis, *(f"{100 * float(share[axis] @ weight):.2g} %" for share in (survey.at_low, survey.at_high)))
        for axis, one in enumerate(survey.ranges["action"])
    ]
    return Table(("action axis", f"{NUMBER}at the lower limit", f"{NUMBER}at the upper limit"), {"": rows})


QUALITY = (
    ("rate", "Rate of each topic", "Hz"),
    ("jitter_p99", "Jitter of each topic, 99 % of the messages", "s"),
    ("dropped", "Share of the messages that are missing", ""),
    ("longest_gap", "Longest gap of each topic", "s"),
)
"""Fields of the record of a topic, title and unit."""


def make_quality_plots(survey: Survey) -> list[Plot]:
    """Heat maps of topics by episodes; topics of different rates are compared with their own highest rate."""
    plots: list[Plot] = []
    for field, title, unit in QUALITY if survey.quality else ():
        values = np.array([[_number(record, field) for record in found] for found in survey.quality.values()])
        if field == "rate":
            top = np.nanmax(np.where(np.isfinite(values), values, 0.0), axis=1, keepdims=True)
            values, title, unit = values / np.where(top > 0, top, 1.0), f"{title}, as a share of its highest", ""
        plots.append(make_map(values, list(survey.quality), f"quality-{len(plots)}", title, unit))
    return plots


def _number(record: dict[str, float] | None, field: str) -> float:
    value = None if record is None else record.get(field)
    return float(value) if type(value) in (int, float) else float("nan")  # type: ignore[arg-type]


def make_plane_plot(plane: Plane, number: int) -> Plot:
    """How often each region of two axes was visited, on a logarithmic scale."""
    with figure_style():
        figure, axes = make_axes(*SMALL)
        counts = np.log1p(plane.counts)
        draw_cells(axes, counts, plane.x_edges, plane.y_edges, float(counts.max()))
        _label(axes, plane)
        visited = float((plane.counts > 0).mean())
        names = f"{plane.x} and {plane.y}"
        alt = f"Visited regions of {names}; {100 * visited:.0f} % of the cells hold data."
        caption = f"{plane.title or 'Two axes'}; {100 * visited:.0f} % of the cells hold data."
        return Plot(render_svg(figure, f"plane-{number}", alt), caption)


def _label(axes: Axes, plane: Plane) -> None:
    axes.set_xlabel(with_unit(plane.x, plane.x_unit, SMALL[0] * 0.8), color=INK)
    axes.set_ylabel(with_unit(plane.y, plane.y_unit, SMALL[1] * 0.8), color=INK)
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(MaxNLocator(4))
        side.set_major_formatter(FuncFormatter(format_tick))


def make_sources(survey: Survey) -> list[SourceText]:
    """What the provenance says of each part."""
    found, first = [], 0
    for part in survey.parts[:MOST_PARTS]:
        stop = first + part.count
        taken = ", ".join(f"{begin} to {end - 1}" for begin, end in part.taken[:20])
        facts: Facts = [("episodes of that source", taken + ", ..." * (len(part.taken) > 20))]
        facts += [(name, str(part.source[name])) for name in ("format", "sha256", "bytes") if name in part.source]
        if part.store is not None:
            facts.append(("store that it was taken from", part.store))
        shown = {name: value for name, value in part.source.items() if name != "quality"}
        text = json.dumps(shown, indent=2, ensure_ascii=False)
        text = text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n..."
        found.append(SourceText(name=f"episodes {first} to {stop - 1}", facts=facts, text=text))
        first = stop
    return found
