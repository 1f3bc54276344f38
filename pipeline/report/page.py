"""The report of a run: one self-contained HTML page from a run folder, finished or not.

It tells the run once, in this order: task, data, skills, learning, adaptation, safety, cost. What the run has not come
to is left out, and a sentence says so. Nothing that the stages wrote is changed, and the same artefacts give the same
page, byte for byte.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...datasets.store import EpisodeStore, find_store, open_store
from ...errors import RunError
from ...plain_files import require_place, write_durably
from ...robots.family import SetsState
from ...skills.evaluate import describe_collapse
from ...strict_json import load_json
from ..folder import refuse_place
from ..progress import ProgressView
from ..robots import RobotChoice
from ..run_files import REPORT_NAME
from ..stages.adapt import RETURNS_NAME, identify_task
from ..stages.extract import REPORT_NAME as SKILL_REPORT_NAME
from ..summary import load_success
from .curves import Plot, find_episodes, make_adapt_plot, make_meta_plot, make_skill_plots
from .guarding import Guarding, load_guarding
from .measure import Results, find_results, format_count, format_value
from .names import show
from .run_folder import RunView, StageView, list_digests, load_run
from .run_robot import RunRobot, find_run_robot
from .safety import Safety, load_safety
from .scenes import Scenes, make_scenes
from .skill_change import SkillChange, load_skill_change
from .tables import (
    CostRow,
    Facts,
    Table,
    explain_errors,
    format_seconds,
    make_axes_table,
    make_cost_rows,
    make_data_facts,
    make_data_table,
    make_error_table,
    make_learning_facts,
    make_limit_table,
    make_result_table,
    make_skill_facts,
    make_task_facts,
)

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
FILMS = (".webm", ".mp4", ".gif")
"""Endings of what `supple video` makes."""
SECTIONS = ("task", "data", "skills", "learning", "adaptation", "safety", "cost", "provenance")
"""Of the page, in order."""


class Tile(NamedTuple):
    """One key number."""

    label: str
    value: str
    note: str
    method: str = ""


class StageFacts(NamedTuple):
    """How a stage was made."""

    name: str
    config: str
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    subtitle: str
    sections: Sequence[str]
    tiles: list[Tile]
    scenes: Scenes
    task_facts: Facts
    axes: Table | None
    data_facts: Facts
    data: Table | None
    skill_plots: list[Plot]
    skill_facts: Facts
    errors: Table | None
    skill_note: str
    collapse: str | None
    """Why the skills say nothing; None where they say something."""
    meta_plot: Plot | None
    learning_facts: Facts
    results: Table | None
    results_lead: str
    adapt_plot: Plot | None
    guarding: Guarding | None
    skill_change: SkillChange | None
    video: str | None
    """Path of a film of policies before and after, which `supple video` made in the run folder."""
    safety: Safety | None
    limits: Table | None
    costs: list[CostRow]
    total_time: str
    stages: list[StageFacts]
    versions: str
    footer: str
    notes: dict[str, list[str]]
    """Section -> why parts of it are missing."""


def make_report(
    folder: Path,
    out: Path | None = None,
    *,
    robot: RobotChoice | None = None,
    accept_robot_change: bool = False,
    threads: int = 1,
    view: ProgressView | None = None,
) -> Path:
    """Writes the page and returns where it is.

    Args:
        folder: of `supple run`.
        out: file to write; None puts report.html into the run folder. An older one is replaced.
        robot: that the run is about, where it is a user's own; without it the page has no drawings of it.
        accept_robot_change: take it although its code or settings are not those of the run.
        threads: of the simulator.
        view: is told how many of the page's episodes are played; in a kitchen they take minutes.

    Raises:
        SuppleError: `folder` is no run folder, or an artefact in it is damaged.
    """
    run = load_run(folder)
    found = find_run_robot(run, robot, accept_change=accept_robot_change)
    path = folder / REPORT_NAME if out is None else out
    refuse_place(path)
    require_place(path, RunError)
    scenes = make_scenes(run, found, threads=threads, view=view)
    text = render(make_page(run, found, scenes, find_video(folder, path.parent)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text.encode())
    return path


def render(page: object, template: str = TEMPLATE) -> str:
    """The page as HTML; every text that others chose is escaped, and shows what cannot be seen in it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=show
    )
    return environment.get_template(template).render(page=page)


def find_video(folder: Path, beside: Path) -> str | None:
    """The film in a run folder, the first by its name, as a path from the page's folder `beside`; None without one."""
    film = min((path for path in folder.iterdir() if path.suffix in FILMS and path.is_file()), default=None)
    return None if film is None else os.path.relpath(film.resolve(), beside.resolve())


def make_page(run: RunView, robot: RunRobot, scenes: Scenes, video: str | None = None) -> Page:
    """Collects what the page shows."""
    adapt, meta, extract = (run.stages.get(name) for name in ("adapt", "meta-train", "extract"))
    store = find_data(run)
    spec, results = robot.spec, find_results(find_records(run))
    report = load_skill_report(extract)
    total = sum(stage.wall_s for stage in run.stages.values())
    meta_plot = make_meta_plot(meta) if meta else None
    skill_plots = make_skill_plots(extract) if extract else []
    safety = load_safety(adapt.folder, spec) if adapt is not None and spec is not None else None
    notes: dict[str, list[str]] = {name: [] for name in SECTIONS}
    for section, note in scenes.notes.items():
        notes[section].append(note)
    for section, missing, sentence in (
        ("task", spec is None, f"No axes: {robot.reason}."),
        ("data", store is None, f"No data: the stage ingest {describe_state(run.stages.get('ingest'))}."),
        ("skills", not skill_plots, f"No skill losses: the stage extract {describe_state(extract)}."),
        ("learning", meta_plot is None, f"No learning curve: the stage meta-train {describe_state(meta)}."),
        ("adaptation", not results.rows, f"No table of results: the stage adapt {describe_state(adapt)}."),
        ("safety", safety is None, f"No audit log: the stage adapt {describe_state(adapt)}."),
    ):
        notes[section] += [sentence] if missing else []
    return Page(
        title=make_title(run),
        subtitle=make_subtitle(run, robot),
        sections=SECTIONS,
        tiles=make_tiles(run, results, total),
        scenes=scenes,
        task_facts=make_task_facts(spec, robot.settings) if spec else [],
        axes=make_axes_table(spec) if spec else None,
        data_facts=make_data_facts(store) if store else [],
        data=make_data_table(store) if store else None,
        skill_plots=skill_plots,
        skill_facts=make_skill_facts(report, find_place_unit(robot)),
        errors=make_error_table(report, find_action_units(robot, store)),
        skill_note=explain_errors(report),
        collapse=describe_collapse(report) if report.get("collapsed") else None,
        meta_plot=meta_plot,
        learning_facts=make_learning_facts(meta) if meta else [],
        results=make_result_table(results) if results.rows else None,
        results_lead=describe_results(results),
        adapt_plot=make_adapt_plot(adapt, results) if adapt else None,
        guarding=load_guarding(adapt.folder, spec.control_period if spec else None) if adapt else None,
        video=video,
        skill_change=load_skill_change(adapt.folder) if adapt else None,
        safety=safety,
        limits=make_limit_table(safety) if safety else None,
        costs=make_cost_rows(run, total, spec.control_period if spec else None),
        total_time=format_seconds(total),
        stages=[make_stage_facts(stage) for stage in run.stages.values()],
        versions=make_versions(run),
        footer=f"Made by Supple {__version__} from {run.folder.resolve().name}/, drawn anew from its artefacts.",
        notes=notes,
    )


def make_title(run: RunView) -> str:
    """The preset, without the folder of a user's file, and the run folder."""
    name = run.folder.resolve().name
    return f"{run.preset.rpartition('/')[2]} run: {name}" if run.preset else f"Run {name}"


def describe_state(stage: StageView | None) -> str:
    """The end of a sentence about a stage that is not there as a whole."""
    if stage is None:
        return "has not begun"
    return "recorded none" if stage.finished else "is not finished"


def find_data(run: RunView) -> EpisodeStore | None:
    """The episode store of the run, once it is whole."""
    ingest = run.find("ingest")
    return None if ingest is None else open_store(find_store(ingest.folder))


def find_records(run: RunView) -> list[dict[str, Any]]:
    """Result records of `adapt`: of its evaluations, else of its own episodes; none until it has finished.

    A `summary.json` in the folder has the same of the last adaptation that finished, which may be an older one.
    """
    adapt = run.find("adapt")
    if adapt is None:
        return []
    return load_success(adapt.folder) or load_json(adapt.folder / RETURNS_NAME, list, RunError, "adapt again")


def find_place_unit(robot: RunRobot) -> str:
    """The unit of the axes that say where the robot is; empty where nobody says."""
    family = robot.family
    if family is None or not isinstance(family, SetsState):
        return ""
    units = {axis.unit for axis in family.spec().observation.axes if axis.name in family.place_axes}
    return units.pop() if len(units) == 1 else ""


def find_action_units(robot: RunRobot, store: EpisodeStore | None) -> dict[str, str]:
    """The unit of each action axis: the robot's, else that of the data."""
    if robot.spec is not None:
        return {axis.name: axis.unit for axis in robot.spec.action.axes}
    if store is None:
        return {}
    feature = store.schema.feature("action")
    return dict(zip(feature.axes, feature.units, strict=True))


def load_skill_report(extract: StageView | None) -> dict[str, float]:
    """How good the skills are on data held out; numbers alone."""
    if extract is None or not (extract.folder / SKILL_REPORT_NAME).is_file():
        return {}
    report = load_json(extract.folder / SKILL_REPORT_NAME, dict, RunError, "extract again")
    return {name: float(value) for name, value in report.items() if type(value) in (int, float)}


def make_subtitle(run: RunView, robot: RunRobot) -> str:
    """Robot, tasks, seed and state on one line."""
    parts = [f"robot {robot.reference}"] if robot.reference else []
    if robot.train:
        parts.append(f"{len(robot.train)} train and {len(robot.test)} test tasks")
    seeds = {
        int(stage.fields["seed"]) for name, stage in run.stages.items() if "ingest" not in name and name != "export"
    }
    parts += [f"seed {seed}" for seed in sorted(seeds)]
    parts.append("all stages finished" if not run.missing else f"not finished: {', '.join(run.missing)}")
    return " · ".join(parts)


def make_tiles(run: RunView, results: Results, total: float) -> list[Tile]:
    """Success or return at each stage of adaptation, then what it cost."""
    tiles, methods = [], ("before", "inferred", "adapted", "learned")
    shown = [row for row in results.rows if row.method in methods] or results.rows[-1:]
    for row in shown:
        low, high = (format_value(value, results.measure) for value in (row.low, row.high))
        note = f"{low} to {high}, after {row.at} {results.unit}s"
        label = f"{results.measure} {row.meaning}"
        tiles.append(Tile(label, format_value(row.mean, results.measure), note, row.method))
    adapt = run.stages.get("adapt")
    if adapt is not None and (found := find_episodes(adapt)):
        tasks = len({identify_task(record) for record in found})
        steps = sum(record["steps"] for record in found)
        tiles.append(Tile("adaptation", format_count(steps / tasks), "low-level steps for each test task"))
    tiles.append(Tile("all stages", format_seconds(total), "wall-clock time"))
    return tiles


def describe_results(results: Results) -> str:
    """What the table of results shows."""
    what = "fraction of episodes that succeeded" if results.measure == "success" else "mean return of an episode"
    return (
        f"On the test tasks: {what}, of the policies as they stood after so many {results.unit}s. They act with their "
        "own randomness; greedy: without it. Intervals are 95 %, over tasks."
    )


def make_stage_facts(stage: StageView) -> StageFacts:
    """Config, digests and circumstances of a stage."""
    clock: dict[str, Any] = stage.record.get("clock", {})
    facts = [("seed", str(stage.fields["seed"])), ("device", str(stage.fields["device"]))]
    facts += [(name, str(clock[name])) for name in ("machine", "threads", "started", "finished") if name in clock]
    facts += list(list_digests(stage).items())
    if clock.get("command"):
        facts.append(("command", str(clock["command"])))
    return StageFacts(stage.name, json.dumps(stage.config, indent=2, ensure_ascii=False), facts)


def make_versions(run: RunView) -> str:
    """Versions of Python and of the libraries that the stages ran with."""
    found: dict[str, dict[str, None]] = {}
    for stage in run.stages.values():
        for name, version in stage.fields.get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
    return ", ".join(f"{name} {' / '.join(versions)}" for name, versions in found.items())
