"""The tables in README.md and the plots beside docs/results/*.json, both made from the records in those files.

A record is one measured number with its interval, where it stands on its axis, and the command that made it:

    {"benchmark": "maze", "method": "simpl", "metric": "success_stochastic", "at": {"episode": 40},
     "mean": 0.81, "low": 0.76, "high": 0.86, "n": 30, "seeds": [0, 1, 2], "tasks": "flat_test",
     "command": "supple run maze", "commit": "abc1234", "wall_s": 5120, "machine": "2 cores"}

`low` and `high` bound the 95 % interval over tasks and seeds. A speed record has "ratio" and "peer" instead of a mean.
A reliability record counts "injected", "detected", "silent", "crashed" and "hung". From the repository root:

    python -m supple.pipeline.results
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure

from ..errors import SourceError

MILESTONES = {"episode": (21, 40, 60, 100, 300)}
"""Points of a long axis that a table shows; the plot shows all."""

COUNTS = ("injected", "detected", "silent", "crashed", "hung")

Key = TypeVar("Key")
Item = TypeVar("Item")

Place = str | float
"""A place on an axis: a stage's name or a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measured number; see the module docstring for the fields."""

    benchmark: str
    method: str
    metric: str
    axis: str = ""
    """The key of `at`, e.g. "episode"; empty for a number that stands on no axis."""
    place: Place = ""
    """The value of `at`."""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    tasks: str = ""
    command: str = ""
    ratio: float | None = None
    peer: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def load_records(path: Path) -> tuple[Record, ...]:
    """The records of one file, in its order.

    Raises:
        SourceError: the file is not a JSON list of records, or a record lacks a field or has a non-finite number.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: expected a JSON list of records, got {error}; write it again") from error
    if not isinstance(rows, list):
        raise SourceError(f"{path}: expected a JSON list of records, got {type(rows).__name__}; write it again")
    return tuple(_parse(row, f"{path}[{index}]") for index, row in enumerate(rows))


def _parse(row: object, where: str) -> Record:
    if not isinstance(row, dict):
        raise SourceError(f"{where}: expected a record, got {type(row).__name__}; see pipeline/results.py")
    missing = [key for key in ("benchmark", "method", "metric", "command", "commit", "machine") if key not in row]
    if not missing and not ({"mean", "ratio"} & row.keys() or set(COUNTS) <= row.keys()):
        missing = ["mean, ratio or the five counts"]
    if missing:
        raise SourceError(f"{where}: expected the field {missing[0]}, got {sorted(row)}; see pipeline/results.py")
    numbers = {key: _number(row[key], f"{where}.{key}") for key in ("mean", "low", "high", "ratio") if key in row}
    at = row.get("at") or {}
    if not isinstance(at, dict) or len(at) > 1:
        raise SourceError(f"{where}.at: expected one axis and its value, got {at!r}; write one record for each place")
    axis, place = next(iter(at.items()), ("", ""))
    return Record(
        benchmark=row["benchmark"],
        method=row["method"],
        metric=row["metric"],
        axis=axis,
        place=place,
        n=row.get("n"),
        tasks=row.get("tasks", ""),
        command=row["command"],
        peer=row.get("peer", ""),
        counts={key: row[key] for key in COUNTS if key in row},
        **numbers,
    )


def _number(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SourceError(f"{where}: expected a finite number or null, got {value!r}; measure it again")
    return float(value)


def render_tables(records: Sequence[Record]) -> str:
    """Markdown for all records: one table for each benchmark and axis, the commands that made it below."""
    groups = _group(records, lambda record: (record.benchmark, record.axis))
    return "\n\n".join(_render_table(benchmark, axis, rows) for (benchmark, axis), rows in groups.items())


def _render_table(benchmark: str, axis: str, records: Sequence[Record]) -> str:
    places = _places(axis, records)
    with_tasks = len({record.tasks for record in records}) > 1
    head = ["method", "metric", *(["tasks"] if with_tasks else []), *(_label(axis, place) for place in places), "n"]
    lines = [f"**{benchmark}**", "", _row(head), _row(["---"] * len(head))]
    for (method, metric, tasks), rows in _group(records, lambda r: (r.method, r.metric, r.tasks)).items():
        cells = {record.place: _cell(record) for record in rows}
        shown = [record for record in rows if record.place in places]
        if shown:
            counts = sorted({record.n for record in shown if record.n is not None})
            n = "-".join(str(count) for count in dict.fromkeys((*counts[:1], *counts[-1:])))
            values = [cells.get(place, "") for place in places]
            lines.append(_row([method, metric, *([tasks] if with_tasks else []), *values, n]))
    commands = dict.fromkeys(record.command for record in records if record.command)
    return "\n".join([*lines, "", "Made by " + ", ".join(f"`{command}`" for command in commands) + "."])


def _places(axis: str, records: Sequence[Record]) -> list[Place]:
    places = list(dict.fromkeys(record.place for record in records))
    if all(isinstance(place, int | float) for place in places):
        places.sort(key=float)
        return [place for place in places if place in MILESTONES[axis]] if axis in MILESTONES else places
    return places


def _label(axis: str, place: Place) -> str:
    return (f"{axis} {place:g}" if isinstance(place, int | float) else str(place)) or "value"


def _cell(record: Record) -> str:
    if record.counts:
        return ", ".join(f"{count} {name}" for name, count in record.counts.items())
    parts = []
    if record.mean is not None:
        interval = record.low is not None and record.high is not None
        parts.append(_figure(record.mean) + (f" [{_figure(record.low)}, {_figure(record.high)}]" if interval else ""))
    if record.ratio is not None:
        parts.append(f"{record.ratio:.3g} x {record.peer}".rstrip())
    return ", ".join(parts)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _group(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def fill_section(text: str, name: str, tables: str) -> str:
    """`text` with everything between the markers `<!-- results:name -->` and `<!-- /results:name -->` replaced.

    Raises:
        SourceError: the text has no such pair of markers.
    """
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise SourceError(f"README: expected the markers {start} and {end}, got neither; put both where a table goes")
    return pattern.sub(lambda _: f"{start}\n\n{tables}\n\n{end}", text)


def make_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """One figure for each benchmark and numeric axis with at least two places, named `<benchmark>-<axis>`."""
    figures = {}
    for (benchmark, axis), rows in _group(records, lambda record: (record.benchmark, record.axis)).items():
        curves = [record for record in rows if record.mean is not None and isinstance(record.place, int | float)]
        if axis and len({record.place for record in curves}) > 1:
            figures[f"{benchmark}-{axis}"] = _make_figure(benchmark, axis, curves)
    return figures


def _make_figure(benchmark: str, axis: str, records: Sequence[Record]) -> Figure:
    metrics = _group(records, lambda record: record.metric)
    figure = Figure(figsize=(6.4, 3.6 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), squeeze=False)[:, 0]
    for panel, (metric, of_metric) in zip(panels, metrics.items(), strict=True):
        for (method, tasks), curve in _group(of_metric, lambda record: (record.method, record.tasks)).items():
            curve.sort(key=lambda record: float(record.place))
            at = [float(record.place) for record in curve]
            mean = [_or_nan(record.mean) for record in curve]
            line = panel.plot(at, mean, label=f"{method}, {tasks}" if tasks else method)[0]
            low, high = [_or_nan(record.low) for record in curve], [_or_nan(record.high) for record in curve]
            panel.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        panel.set(xlabel=axis, ylabel=metric, title=benchmark)
        if metric.startswith("success"):
            panel.set_ylim(0, 1.02)
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def write_results(root: Path) -> list[Path]:
    """Fill the README's sections and draw the plots from `root`/docs/results/*.json.

    Args:
        root: the repository root.

    Returns:
        The files that were written: README.md, then one SVG for each benchmark and axis.

    Raises:
        SourceError: a file of records or the README is not as expected; nothing is written then.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    figures: dict[Path, Figure] = {}
    for path in sorted((root / "docs" / "results").glob("*.json")):
        records = load_records(path)
        text = fill_section(text, path.stem, render_tables(records))
        figures |= {path.with_name(f"{name}.svg"): figure for name, figure in make_figures(records).items()}
    readme.write_text(text, encoding="utf-8")
    # a fixed salt and no date: the same records make the same bytes
    with rc_context({"svg.hashsalt": "supple", "svg.fonttype": "none"}):
        for path, figure in figures.items():
            figure.savefig(path, metadata={"Date": None})
    return [readme, *figures]


def main() -> int:
    """Fill the README and draw the plots in the current folder; print what was written."""
    try:
        written = write_results(Path.cwd())
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path.relative_to(Path.cwd())) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
