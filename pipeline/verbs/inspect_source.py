"""The verb `inspect`: what is in a recording, and what `ingest` would make of it, without writing anything."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from ...datasets.checks import SourceChecks
from ...datasets.containers import find_container
from ...datasets.episode import Reader, ReadOptions, SourceSpec
from ...datasets.formats import FORMATS, find_format, list_sources
from ...datasets.limits import LimitCheck
from ...errors import ConfigError, SourceError, make_printable
from ...robots.spec import RobotSpec
from ..cli_common import FLAT, AboutRobot, Common, Options, Runner
from ..run_files import find_stage
from ..settings.ingest import IngestConfig
from .data import RECOVERED, fetch

_LENGTHS = 1000
"""Episodes whose length is given one by one."""
_SHOWN_AXES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect(AboutRobot):
    """Arguments of `supple inspect`."""

    source: tyro.conf.Positional[str]
    """A file or folder of any format that `supple ingest` reads, or an address, as there."""
    cache: Path = Path("runs") / "downloads"
    """Where downloads are kept."""
    write_mapping: Path | None = None
    """File to write how the topics of a bag become steps, to be looked at and given to --mapping; nothing may be there.
    """
    read: Annotated[ReadOptions, FLAT] = field(default_factory=ReadOptions)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Reads all of it once and prints what is there."""
        from ..stages.ingest import find_source

        path = find_source(find_stage(fetch(self.source, self.cache, runner), "generate"))
        robot = None if self.choice is None else self.choice.spec
        for number, source in enumerate(find_single(path, self.read.format)):
            form = find_format(source, self.read.format)
            reader = form.read(source, self.read, robot)
            if self.write_mapping is not None:
                write_draft(reader, self.write_mapping)
            facts = {"source": str(source), "format": form.name, "title": form.title, **look(reader, str(source))}
            runner.view.record("inspected", facts, "\n" * (number > 0) + format_facts(facts))
            if facts["lost"]:
                runner.exit_code = RECOVERED


def find_single(path: Path, name: str | None) -> list[Path]:
    """The sources at a path that are looked at one at a time: itself, or the files of a folder that is no source.

    Raises:
        FormatError: it is none, or in a folder is something else.
        SourceError: nothing is there, or it cannot be read.
    """
    if find_container(path) != "folder":
        return [path]
    known = any("folder" in row.containers and row.probe(path) for row in FORMATS.values())
    return [path] if known else list_sources(path, name)


def write_draft(reader: Reader, path: Path) -> None:
    """Writes the mapping that a bag is read with.

    Raises:
        ConfigError: the source is no bag, or something is at `path` already.
    """
    from ...datasets.bags.reader import BagReader

    if not isinstance(reader, BagReader):
        raise ConfigError("--write-mapping: expected a bag, got a source of another format; leave it out")
    text = reader.write_mapping()
    try:
        with path.open("x") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise ConfigError(
            f"--write-mapping: expected no file at {path}, got one; remove it, or name another"
        ) from error


def look(reader: Reader, where: str) -> dict[str, Any]:
    """What a reader finds, as JSON values; reads every episode.

    Args:
        reader: Of the source.
        where: The source, for messages.

    Raises:
        SourceError: the structure cannot be read. A flaw of the data is a fact: `refused` says why.
    """
    source, robot = reader.describe(), reader.robot
    checks, limits = SourceChecks(source), _make_limits(robot, source, where)
    try:
        episodes = reader.episodes()
        for _ in checks.passing(episodes if limits is None else limits.counting(episodes)):
            pass
        flaw = None if limits is None else limits.excess
    except SourceError as error:
        flaw = error
    lengths = sorted(checks.lengths)
    period = source.schema.control_period
    return {
        "robot": None if robot is None else robot.name,
        "control_period": period,
        "rate_hz": None if period is None else 1 / period,
        "contents": dict(source.contents),
        "features": _describe_features(source, checks),
        "episodes": {
            "count": source.episodes,
            "seen": len(lengths),
            "rows": source.rows,
            "shortest": lengths[0] if lengths else None,
            "median": median(lengths) if lengths else None,
            "longest": lengths[-1] if lengths else None,
            "terminated": checks.terminated,
            "truncated": checks.truncated,
            "lengths": checks.lengths[:_LENGTHS],
        },
        "ignored": dict(source.ignored),
        "notes": [*source.notes, *checks.findings()],
        "actions_beyond_limits": None if limits is None else limits.clipped,
        "questions": list(source.questions),
        "lost": list(source.losses),
        "refused": None if flaw is None else str(flaw),
    }


def _make_limits(robot: RobotSpec | None, source: SourceSpec, where: str) -> LimitCheck | None:
    usual = IngestConfig().clip_share
    return None if robot is None else LimitCheck(robot, where, clip_share=usual, rows=source.rows)


def _describe_features(source: SourceSpec, checks: SourceChecks) -> list[dict[str, Any]]:
    ranges: dict[str, list[dict[str, Any]]] = {}
    for one in checks.ranges():
        ranges.setdefault(one.feature, []).append(
            {
                "name": one.axis,
                "unit": one.unit,
                "low": one.low,
                "high": one.high,
                "mean": one.mean,
                "std": one.std,
                "constant": one.constant,
            }
        )
    return [
        {
            "name": feature.name,
            "role": feature.role,
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "axes": ranges.get(feature.name)
            or [{"name": axis, "unit": unit} for axis, unit in zip(feature.axes, feature.units, strict=True)],
        }
        for feature in source.schema.features
    ]


def format_facts(facts: dict[str, Any]) -> str:
    """The facts as a person reads them."""
    episodes, period = facts["episodes"], facts["control_period"]
    lines = [
        f"{facts['source']}: {facts['title']}",
        f"robot     {facts['robot'] or 'unknown; name it with --robot'}",
        f"rate      {_format_rate(period)}",
        f"episodes  {_format_episodes(episodes)}",
        "",
        "in the source",
        *_align([(name, what, facts["ignored"].get(name, "")) for name, what in facts["contents"].items()]),
        "",
        "in the store",
    ]
    for feature in facts["features"]:
        lines.append(f"  {feature['name']}  {feature['dtype']}, {feature['role']}")
        if feature["role"] == "image":
            height, width, channels = feature["shape"]
            lines.append(f"    {height} x {width} pixels x {channels} channels")
            continue
        axes = feature["axes"][:_SHOWN_AXES]
        moves = feature["role"] in ("observation", "action")
        lines += ["  " + line for line in _align([_format_axis(axis, moves) for axis in axes])]
        if len(feature["axes"]) > len(axes):
            lines.append(f"    ... and {len(feature['axes']) - len(axes)} more")
    said = [("damaged", loss) for loss in facts["lost"]]
    said += [("note", note) for note in facts["notes"]]
    said += [("left out", f"{name}: {why}") for name, why in facts["ignored"].items() if name not in facts["contents"]]
    if facts["actions_beyond_limits"]:
        said.append(("note", f"the actions of {facts['actions_beyond_limits']} steps are beyond the robot's limits"))
    said += [("needed", question) for question in facts["questions"]]
    if facts["refused"]:
        said.append(("refused", facts["refused"]))
    lines += [*([""] if said else []), *(f"{label}: {text}" for label, text in said)]
    return "\n".join(map(make_printable, lines))


def _format_rate(period: float | None) -> str:
    return "unknown" if period is None else f"{1 / period:g} Hz, a step each {period:g} s"


def _format_episodes(episodes: dict[str, Any]) -> str:
    """Numbers and lengths; where reading stopped, nobody knows how they end."""
    if episodes["seen"] < episodes["count"]:
        return f"{episodes['count']}, {episodes['rows']} steps in all"
    return (
        f"{episodes['count']} of {_format_lengths(episodes)} steps, {episodes['rows']} in all; "
        f"{episodes['terminated']} terminated, {episodes['truncated']} truncated"
    )


def _format_lengths(episodes: dict[str, Any]) -> str:
    if episodes["shortest"] == episodes["longest"]:
        return str(episodes["longest"])
    return f"{episodes['shortest']} .. {episodes['longest']} (median {episodes['median']:g})"


def _format_axis(axis: dict[str, Any], moves: bool) -> tuple[str, ...]:
    if "low" not in axis:
        return (axis["name"], axis["unit"])
    flat = "hardly moves" if axis["constant"] and moves else ""
    return (axis["name"], f"{axis['low']:.4g} .. {axis['high']:.4g} {axis['unit']}".rstrip(), flat)


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, columns under each other."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows if len(row) > i) for i in range(max(map(len, rows)))]
    return ["  " + "  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows]
