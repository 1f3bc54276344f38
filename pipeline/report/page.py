"""The report of a run: one self-contained HTML page from a run folder, finished or not.

What the run has not come to is left out, and a sentence says so. Nothing that the stages wrote is changed, and the same
artefacts give the same page, byte for byte.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...plain_files import write_durably
from ..folder import load_json, refuse_place
from ..results.summary import MEANINGS, load_success
from ..robots import RobotChoice
from ..stages.extract import REPORT_NAME as SKILL_REPORT_NAME
from .curves import Plot, format_count, make_adapt_plot, make_meta_plots, make_skill_plots
from .run_folder import RunView, StageView, list_digests, load_run
from .scenes import Scenes, make_scenes

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
REPORT_NAME = "report.html"
SECTIONS = ("success", "trips", "skills", "meta", "tasks")
"""Of the page, where something may be missing."""


class Tile(NamedTuple):
    """One key number."""

    label: str
    value: str
    note: str
    method: str = ""


class SuccessRow(NamedTuple):
    """One line of the table of success."""

    method: str
    meaning: str
    episode: int
    mean: str
    interval: str
    greedy: str
    n: int


class TimeRow(NamedTuple):
    """How long a stage took."""

    name: str
    time: str
    percent: float
    state: str


class StageFacts(NamedTuple):
    """How a stage was made."""

    name: str
    config: str
    facts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    subtitle: str
    tiles: list[Tile]
    success: list[SuccessRow]
    adapt_plot: Plot | None
    scenes: Scenes
    skill_plots: list[Plot]
    skill_facts: list[tuple[str, str, str]]
    meta_plots: list[Plot]
    meta_lead: str
    times: list[TimeRow]
    total_time: str
    stages: list[StageFacts]
    versions: str
    footer: str
    notes: dict[str, str]
    """Section -> why a part of it is missing, or nothing."""


def make_report(folder: Path, out: Path | None = None, *, robot: RobotChoice | None = None, threads: int = 1) -> Path:
    """Writes the page and returns where it is.

    Args:
        folder: of `supple run`.
        robot: that the run is about, where it is a user's own.
        out: file to write; None puts report.html into the run folder. An older one is replaced.
        threads: of the simulator.

    Raises:
        SuppleError: `folder` is no run folder, or an artefact in it is damaged.
    """
    run = load_run(folder)
    path = folder / REPORT_NAME if out is None else out
    text = render(make_page(run, make_scenes(run, robot=robot, threads=threads)))
    refuse_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text.encode())
    return path


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(TEMPLATE).render(page=page)


def make_page(run: RunView, scenes: Scenes) -> Page:
    """Collects what the page shows."""
    success = find_success(run)
    adapt, meta, extract = (run.stages.get(name) for name in ("adapt", "meta-train", "extract"))
    total = sum(stage.wall_s for stage in run.stages.values())
    meta_plots = make_meta_plots(meta) if meta else []
    adapt_plot = make_adapt_plot(adapt, success) if adapt else None
    skill_plots = make_skill_plots(extract) if extract else []
    notes = dict.fromkeys(SECTIONS, "") | scenes.notes
    if not success:
        notes["success"] = f"No table of success: the stage adapt {describe_state(adapt)}."
    if not meta_plots:
        notes["meta"] = f"No learning curves: the stage meta-train {describe_state(meta)}."
    if not skill_plots:
        notes["skills"] += f" No skill losses: the stage extract {describe_state(extract)}."
    return Page(
        title=f"{run.preset} run: {run.folder.resolve().name}" if run.preset else f"Run {run.folder.resolve().name}",
        subtitle=make_subtitle(run),
        tiles=make_tiles(run, success, total),
        success=make_success_rows(success),
        adapt_plot=adapt_plot,
        scenes=scenes,
        skill_plots=skill_plots,
        skill_facts=make_skill_facts(run.find("extract")),
        meta_plots=meta_plots,
        meta_lead=make_meta_lead(meta),
        times=make_times(run, total),
        total_time=format_seconds(total),
        stages=[make_stage_facts(stage) for stage in run.stages.values()],
        versions=make_versions(run),
        footer=f"Made by Supple {__version__} from {run.folder.resolve().name}/, drawn anew from its artefacts.",
        notes=notes,
    )


def describe_state(stage: StageView | None) -> str:
    """The end of a sentence about a stage that is not there as a whole."""
    if stage is None:
        return "has not begun"
    return "recorded none" if stage.finished else "is not finished"


def find_success(run: RunView) -> list[dict[str, Any]]:
    """Success records of the summary, else those of `adapt`."""
    records = [record for record in run.summary if str(record.get("metric", "")).startswith("success_")]
    adapt = run.find("adapt")
    if not records and adapt is not None:
        records = load_success(adapt.folder)
    return [record for record in records if "episode" in record.get("at", {})]


def format_seconds(seconds: float) -> str:
    """`3725` as `1 h 2 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def make_subtitle(run: RunView) -> str:
    """Seed, maze, tasks and state on one line."""
    parts = []
    meta = run.stages.get("meta-train")
    if meta is not None:
        robot, tasks = meta.config["robot"], meta.config["tasks"]
        parts.append(f"robot {robot['family']}")
        parts.append(f"{len(tasks['train'])} train and {len(tasks['test'])} test tasks ({tasks['name']})")
    seeds = {int(stage.fields["seed"]) for stage in run.stages.values() if stage.name not in ("ingest", "export")}
    parts += [f"seed {seed}" for seed in sorted(seeds)]
    parts.append("all stages finished" if not run.missing else f"not finished: {', '.join(run.missing)}")
    return " · ".join(parts)


def make_tiles(run: RunView, success: Sequence[dict[str, Any]], total: float) -> list[Tile]:
    """Success at each stage of adaptation, then what it cost."""
    tiles = []
    for method in ("before", "inferred", "adapted"):
        for record in success:
            if record["method"] == method and record["metric"] == "success_stochastic":
                episodes = record["at"]["episode"]
                note = f"{100 * record['low']:.0f} to {100 * record['high']:.0f} %, after {episodes} episodes"
                tiles.append(Tile(MEANINGS[method], f"{100 * record['mean']:.0f} %", note, method))
    meta, generate = run.stages.get("meta-train"), run.stages.get("generate")
    if generate is not None:
        steps = generate.config["generate"]["steps"]
        tiles.append(Tile("play data", format_count(steps), "low-level steps, unlabeled"))
    if meta is not None and meta.metrics:
        last = meta.metrics[-1]
        note = f"low-level steps, {int(last['step'])} epochs"
        tiles.append(Tile("meta-training", format_count(last.get("environment_steps", 0)), note))
    tiles.append(Tile("all stages", format_seconds(total), "wall-clock time"))
    return tiles


def make_success_rows(success: Sequence[dict[str, Any]]) -> list[SuccessRow]:
    """One row per evaluation, in the order of episodes."""
    greedy = {record["at"]["episode"]: record["mean"] for record in success if record["metric"] == "success_greedy"}
    rows = []
    for record in success:
        if record["metric"] == "success_stochastic":
            episode = int(record["at"]["episode"])
            interval = f"{record['low']:.2f} to {record['high']:.2f}"
            other = f"{greedy[episode]:.2f}" if episode in greedy else ""
            method = record["method"]
            meaning = MEANINGS.get(method, method)
            rows.append(SuccessRow(method, meaning, episode, f"{record['mean']:.2f}", interval, other, record["n"]))
    return sorted(rows, key=lambda row: row.episode)


SKILL_FACTS = {
    "reconstruction_rmse/": ("action error, closed-loop decoder,", "RMSE"),
    "open_reconstruction_rmse/": ("action error, open-loop decoder,", "RMSE"),
    "kl_to_prior": ("KL of the encoder to the skill prior", "nats per skill"),
    "kl": ("KL of the encoder to N(0, I)", "nats per skill"),
    "prior_nll": ("negative log likelihood of the skill prior", "nats per skill"),
    "active_dims": ("active skill axes", ""),
    "skill_dims": ("skill axes", ""),
    "rollout_closed": ("end of a skill in the simulator, closed-loop decoder", "cells off"),
    "rollout_open": ("end of a skill in the simulator, open-loop decoder", "cells off"),
    "rollout_replayed": ("end of a skill in the simulator, recorded actions replayed", "cells off"),
    "rollout_travelled": ("way travelled in one skill", "cells"),
}
"""Metric, or its beginning -> its name for people and its unit."""


def make_skill_facts(extract: StageView | None) -> list[tuple[str, str, str]]:
    """How good the skills are on data held out: (name, value, unit)."""
    if extract is None or not (extract.folder / SKILL_REPORT_NAME).is_file():
        return []
    facts = []
    for metric, value in load_json(extract.folder / SKILL_REPORT_NAME).items():
        head, slash, axis = metric.partition("/")
        name, unit = SKILL_FACTS.get(head + slash, (metric.replace("_", " "), ""))
        facts.append((f"{name} {axis}".strip(), f"{value:.3g}", unit))
    return facts


def make_meta_lead(meta: StageView | None) -> str:
    """What the curves of meta-training show."""
    if meta is None:
        return ""
    explore, exploit = meta.config["meta_train"]["simpl"]["episodes_per_task"]
    tasks = len(meta.config["tasks"]["train"])
    return (
        f"On {tasks} train tasks; episodes per task and epoch: {explore} with an embedding drawn from N(0, I), "
        f"{exploit} with one inferred from earlier episodes. Bands: 95 % Wilson interval over the episodes of a point."
    )


def make_times(run: RunView, total: float) -> list[TimeRow]:
    """One row per stage that has begun."""
    return [
        TimeRow(
            stage.name,
            format_seconds(stage.wall_s),
            round(100 * stage.wall_s / total, 1) if total > 0 else 0.0,
            "finished" if stage.finished else "not finished",
        )
        for stage in run.stages.values()
    ]


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
