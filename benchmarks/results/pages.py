"""The tables in README.md and docs/ and the plots beside docs/results/*.json, made from the records in those files.

`records.py` says what a record is. From the repository root:

    python -m benchmarks.results.pages
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from supple.errors import SourceError

from ..meta import cell_table
from . import departures
from .evidence import render_faults, render_formats, render_off_policy, render_types
from .figures import make_compute_figure, make_figures
from .labels import name_method
from .learner_tables import FAMILIES, Records, render_overview, select_family
from .records import Place, Record, group, load_records

PAGES = (
    "README.md",
    "docs/maze.md",
    "docs/kitchen.md",
    "docs/images.md",
    "docs/robots.md",
    "docs/robots-measured.md",
    "docs/replay-measured.md",
    "docs/log-to-policy.md",
    "docs/measurements.md",
    "docs/log-replay-measured.md",
    "docs/published-run.md",
    "docs/benchmarks/tables.md",
    "docs/benchmarks.md",
    "docs/learners.md",
    "docs/learners/logs.md",
    "docs/formats.md",
    "docs/bags.md",
    "docs/scale.md",
    *(f"docs/learners/{family}.md" for family in FAMILIES),
)
"""Pages with sections for tables; the section of `<name>.json` stands in one of them, those of `VIEWS` in any."""
SUMMARY = {
    "simpl": "Supple, skills and meta-training (SiMPL)",
    "simpl-published": "the same, published",
    "spirl": "Supple, skills alone (SPiRL)",
    "spirl-published": "the same, published",
}
"""Methods that the summary of the maze shows, and what they are called there."""
FIRST = {
    "simpl-logs": "Supple, meta-training and logs",
    "logs-alone": "Supple, logs without meta-training",
    "simpl": "Supple, meta-training without logs (SiMPL)",
    "simpl-published": "the same, published",
}
"""Methods that the summary of the first episodes shows."""
FIRST_EPISODES = (1, 3, 5, 10, 20)
"""Episodes that it shows."""
ROBOTS_WITH_LOGS = {"ur5e-reach": "UR5e", "jaco-reach": "Jaco", "panda-reach": "Panda", "loaded-arm": "loaded arm"}
"""Benchmarks that the table of robots with their logs shows, and what it calls them."""
ROBOT_EPISODES = (0, 5, 10, 20)
"""Episodes that it shows."""
FROM_LOGS = {"my-arm-from-log": "my-arm"}
"""Benchmarks whose data are a log, and the same with play data straight from the simulator."""
SUMMARY_EPISODES = (21, 40, 100)
"""Episodes that it shows."""
MILESTONES = {"episode": (0, 20, 21, 40, 60, 100, 300), "meta_training_minute": (1, 2, 5, 10, 15, 30, 45)}
"""Points of a long axis that a table shows; the plot shows all."""


def render_tables(records: Sequence[Record]) -> str:
    """Markdown for all records: one table for each benchmark and axis, the commands that made it below."""
    groups = group(records, lambda record: (record.benchmark, record.axis))
    return "\n\n".join(_render_table(benchmark, axis, rows) for (benchmark, axis), rows in groups.items())


def render_summary(
    records: Sequence[Record], methods: Mapping[str, str], axis: str, episodes: Sequence[int], *, count: bool = False
) -> str:
    """Markdown for methods in the published maze with 40 train tasks: success by episode.

    Args:
        records: Of the maze.
        methods: What each is called.
        axis: Of the records.
        episodes: Columns.
        count: Whether the number of cells, goals times seeds, stands in a column of its own.
    """
    head = ["policy", *(["n"] if count else []), *(f"after {n} episode{'s' * (n > 1)}" for n in episodes)]
    lines = [_row(head), _row(["---"] * len(head))]
    shown = [
        record
        for record in records
        if (record.benchmark, record.tasks, record.axis, record.metric)
        == ("maze-20-seed0", "flat-40", axis, "success_stochastic")
    ]
    for method, name in methods.items():
        rows = [record for record in shown if record.method == method]
        cells = {record.place: _cell(record) for record in rows}
        number = [str(max((record.n or 0 for record in rows), default=0))] if count else []
        lines.append(_row([name, *number, *(cells.get(episode, "") for episode in episodes)]))
    return "\n".join(lines)


def render_robots(records: Sequence[Record]) -> str:
    """Markdown for robots of users' files: success before, after inference and in the end, and what the chain took."""
    lines = [
        _row(["command", "before", "after 20 episodes of search", "after fine-tuning", "greedy", "n", "whole chain"]),
        _row(["---"] * 7),
    ]
    for _, rows in group(records, lambda record: record.benchmark).items():
        tried = [r for r in rows if (r.axis, r.metric) == ("episode", "success_stochastic")]
        greedy = [r for r in rows if (r.axis, r.metric) == ("episode", "success_greedy")]
        inferred = next((r for r in rows if (r.place, r.metric) == ("inferred", "success_stochastic")), None)
        if inferred is None:
            continue  # only the first few episodes of it are recorded
        took = next(r for r in rows if r.metric == "chain_wall_s")
        minutes = f"{(took.mean or 0.0) / 60:.0f} min"
        cells = [_cell(tried[0]), _cell(inferred), _cell(tried[-1]), _cell(greedy[-1]), str(tried[-1].n), minutes]
        lines.append(_row([f"`{tried[0].command}`", *cells]))
    return "\n".join(lines)


def render_robots_with_logs(records: Sequence[Record]) -> str:
    """Markdown for robots of users' files: success after the first episodes with and without the logs."""
    shown = [r for r in records if (r.axis, r.metric) == ("few_episodes", "success_stochastic")]
    lines = [
        _row(["robot", "agent", "before", *(f"after {n}" for n in ROBOT_EPISODES[1:]), "n"]),
        _row(["---"] * (len(ROBOT_EPISODES) + 3)),
    ]
    for (benchmark, method), rows in group(shown, lambda record: (record.benchmark, record.method)).items():
        if benchmark in ROBOTS_WITH_LOGS:
            cells = {record.place: _cell(record) for record in rows}
            places = [cells.get(place, "") for place in ROBOT_EPISODES]
            lines.append(_row([ROBOTS_WITH_LOGS[benchmark], name_method(method), *places, str(rows[0].n)]))
    return "\n".join(lines)


def render_family(records: Records, family: str) -> str:
    """Markdown for the returns of one family of learners."""
    return render_tables(select_family(records["meta"], family))


VIEWS: dict[str, Callable[[Records], str]] = {
    "maze-summary": lambda records: render_summary(records["maze"], SUMMARY, "episode", SUMMARY_EPISODES),
    "maze-first": lambda records: render_summary(records["maze"], FIRST, "few_episodes", FIRST_EPISODES, count=True),
    "robots-summary": lambda records: render_robots([r for r in records["robots"] if r.benchmark not in FROM_LOGS]),
    "robots-with-logs": lambda records: render_robots_with_logs(records["robots"]),
    "log-summary": lambda records: render_robots(
        [r for r in records["robots"] if r.benchmark in {*FROM_LOGS, *FROM_LOGS.values()}]
    ),
    "learners": render_overview,
    "meta-gates": lambda records: cell_table.render_gates(records["meta"]),
    "ope": lambda records: render_off_policy(records["replay"]),
    "formats": lambda records: render_formats(records["speed"], records["reliability"]),
    "mutants": lambda records: render_faults(records["mutants"]),
    "message-types": lambda records: render_types(records["speed"]),
    **{f"meta-{family}": partial(render_family, family=family) for family in FAMILIES},
}
"""Sections that show a part of the records or sums of them, and how each is made from all of them."""


def _render_table(benchmark: str, axis: str, records: Sequence[Record]) -> str:
    places = _places(axis, records)
    with_tasks = len({record.tasks for record in records}) > 1
    head = ["method", "metric", *(["tasks"] if with_tasks else []), *(_label(axis, place) for place in places), "n"]
    lines = [f"**{benchmark}**", "", _row(head), _row(["---"] * len(head))]
    for (method, metric, tasks), rows in group(records, lambda r: (r.method, r.metric, r.tasks)).items():
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


def fill_section(text: str, name: str, tables: str) -> str:
    """`text` with everything between the markers `<!-- results:name -->` and `<!-- /results:name -->` replaced.

    Raises:
        SourceError: the text has no such pair of markers.
    """
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise SourceError(f"{name}: expected the markers {start} and {end}, got neither; put both where a table goes")
    return pattern.sub(lambda _: f"{start}\n\n{tables}\n\n{end}", text)


def fill_views(text: str, records: Records) -> str:
    """`text` with every section of `VIEWS` in it filled."""
    for name, render in VIEWS.items():
        if f"<!-- results:{name} -->" in text:
            text = fill_section(text, name, render(records))
    return text


def draw_figures(path: Path) -> dict[Path, Figure]:
    """The plots of one file of records, by the SVG beside it that each belongs in.

    Raises:
        SourceError: the file is not as expected.
    """
    records = load_records(path)
    figures = make_figures(records)
    compute = make_compute_figure(records)
    if compute is not None:
        figures[f"{path.stem}-compute"] = compute
    return {path.with_name(f"{name}.svg"): figure for name, figure in figures.items()}


def save_figures(figures: Mapping[Path, Figure]) -> None:
    """Writes each figure; the same records make the same bytes."""
    with rc_context({"svg.hashsalt": "supple", "svg.fonttype": "none"}):
        for path, figure in figures.items():
            figure.savefig(path, metadata={"Date": None})


def write_results(root: Path) -> list[Path]:
    """Fill the pages' sections and draw the plots from `root`/docs/results/*.json.

    Args:
        root: the repository root.

    Returns:
        The files that were written: the pages that are there, then the plots.

    Raises:
        SourceError: a file of records is not as expected, or no page has a section for it; nothing is written then.
    """
    pages = load_pages(root)
    figures: dict[Path, Figure] = {}
    loaded: dict[str, Sequence[Record]] = {}
    for path in sorted((root / "docs" / "results").glob("*.json")):
        page, records = find_page(pages, path.stem), load_records(path)
        pages[page] = fill_section(pages[page], path.stem, render_tables(records))
        loaded[path.stem] = records
        figures |= draw_figures(path)
    for page, text in pages.items():
        pages[page] = fill_views(text, loaded)
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    save_figures(figures)
    return [*pages, *figures]


def load_pages(root: Path) -> dict[Path, str]:
    """The text of each of `PAGES` that is there."""
    paths = [root / name for name in PAGES]
    return {path: path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def find_page(pages: Mapping[Path, str], name: str) -> Path:
    """The page that has a section for the records `name`.json.

    Raises:
        SourceError: none has.
    """
    for page, text in pages.items():
        if f"<!-- results:{name} -->" in text:
            return page
    raise SourceError(
        f"docs/results/{name}.json: expected the markers <!-- results:{name} --> and <!-- /results:{name} --> in one "
        f"of {', '.join(PAGES)}, got neither; put both where its tables go"
    )


def write_sections(root: Path) -> None:
    """Fill the sections that are made from presets.

    Raises:
        SourceError: a page has no such section; the pages before it are written.
    """
    for page, section, render in (
        (departures.PAGE, departures.SECTION, departures.render_departures),
        (cell_table.PAGE, cell_table.SECTION, cell_table.render_cells),
    ):
        path = root / page
        path.write_text(fill_section(path.read_text(encoding="utf-8"), section, render()), encoding="utf-8")


def main() -> int:
    """Fill README and documentation and draw the plots in the current folder; print what was written."""
    try:
        written = write_results(Path.cwd())
        write_sections(Path.cwd())
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path.relative_to(Path.cwd())) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
