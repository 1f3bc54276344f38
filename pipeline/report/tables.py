"""The tables of the page, from what the stages recorded: one function for each."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...datasets.store import EpisodeStore
from ...errors import RunError
from ...robots.spec import Axis, RobotSpec
from ...strict_json import load_json
from ..stages.map_logs import REPORT_NAME as MAP_NAME
from .curves import count_episodes, find_episodes, find_meta_curves
from .measure import Results, format_count, format_number, format_value
from .run_folder import MAP, RunView, StageView
from .safety import Safety

NUMBER = ">"
"""What the title of a column of numbers begins with."""


class Table(NamedTuple):
    """A table as text; columns whose title began with `NUMBER` are aligned to the right."""

    head: tuple[str, ...]
    groups: Mapping[str, Sequence[tuple[str, ...]]]
    """Title of a group -> its rows; one group without a title where there is nothing to tell apart."""
    swatches: tuple[str, ...] = ()
    """A colour for each row, by stage of adaptation; or none."""


Facts = list[tuple[str, str]]
"""Names and values."""


def format_rate(axis: Axis) -> str:
    """The rate limit of an axis, per second."""
    return "none" if axis.rate_limit is None else format_number(axis.rate_limit)


def format_seconds(seconds: float) -> str:
    """`3725` as `1 h 2 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def make_axes_table(spec: RobotSpec) -> Table:
    """Every axis that the robot senses, is commanded by, and is asked for."""
    groups = {}
    for title, array in (("Observation", spec.observation), ("Action", spec.action), ("Goal", spec.goal)):
        groups[title] = [
            (axis.name, axis.unit or "none", format_number(axis.low), format_number(axis.high), format_rate(axis))
            for axis in array.axes
        ]
    return Table(("axis", "unit", f"{NUMBER}lowest", f"{NUMBER}highest", f"{NUMBER}rate limit (per s)"), groups)


def make_task_facts(spec: RobotSpec, settings: Mapping[str, object]) -> Facts:
    """How long an episode is, and the settings of the robot's family."""
    episode = format_seconds(spec.episode_steps * spec.control_period)
    facts = [
        ("control period", f"{spec.control_period:g} s"),
        ("episode", f"at most {spec.episode_steps} low-level steps, {episode}"),
    ]
    if spec.choices:
        facts.append(("actions to choose from", ", ".join(spec.choices)))
    plain = [(name, value) for name, value in settings.items() if not isinstance(value, dict | list | tuple)]
    return facts + [(f"setting {name.replace('_', ' ')}", str(value)) for name, value in plain]


def make_data_table(store: EpisodeStore) -> Table:
    """The range of each axis in the data."""
    groups = {}
    for feature in store.schema.features:
        if feature.name in ("observation", "action"):
            low = np.full(feature.shape or (1,), np.inf)
            high, total = -low, np.zeros_like(low)
            for block in store.blocks(feature.name):
                block = block.reshape(len(block), -1)
                low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
                total = total + block.sum(axis=0, dtype=np.float64)
            ends = zip(low, total / max(1, store.rows), high, strict=True)
            groups[feature.name.capitalize()] = [
                (axis, unit or "unknown", *(format_number(float(value)) for value in values))
                for axis, unit, values in zip(feature.axes, feature.units, ends, strict=True)
            ]
    return Table(("axis", "unit", f"{NUMBER}lowest", f"{NUMBER}mean", f"{NUMBER}highest"), groups)


def make_data_facts(store: EpisodeStore) -> Facts:
    """How much data there is."""
    lengths, period = store.episodes.length, store.schema.control_period
    shortest, longest = int(lengths.min()), int(lengths.max())
    span = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
    facts = [
        ("low-level steps", f"{store.rows}"),
        ("episodes", f"{len(lengths)} of {span} steps"),
    ]
    return facts if period is None else [*facts, ("time on the robot", format_seconds(store.rows * period))]


def make_error_table(report: Mapping[str, float], units: Mapping[str, str]) -> Table | None:
    """How far decoded actions are from recorded ones on data held out; None where it was not measured."""
    closed, open_ = ("reconstruction_rmse/", "open_reconstruction_rmse/")
    names = [metric.removeprefix(closed) for metric in report if metric.startswith(closed)]
    rows = [
        (name, units.get(name) or "unknown", *(format_number(report[kind + name]) for kind in (closed, open_)))
        for name in names
        if open_ + name in report
    ]
    if not rows:
        return None
    return Table(("action axis", "unit", f"{NUMBER}closed-loop decoder", f"{NUMBER}open-loop decoder"), {"": rows})


ENDS = {
    "rollout_travelled": "distance from begin to end of a recorded skill",
    "rollout_closed": "end of the skill from the recorded end, closed-loop decoder",
    "rollout_open": "the same, open-loop decoder",
    "rollout_replayed": "the same, recorded actions replayed",
}
"""Metric -> its name for people; all are mean distances on the place axes."""
SKILL_FACTS = {
    "kl_to_prior": ("KL of the encoder to the skill prior", "nats per skill"),
    "kl": ("KL of the encoder to N(0, I)", "nats per skill"),
    "prior_nll": ("negative log likelihood of the skill prior", "nats per skill"),
}
"""Metric -> its name for people and its unit."""


def make_skill_facts(report: Mapping[str, float], place_unit: str) -> Facts:
    """How much a skill says, and where it leads, on data held out."""
    facts: Facts = []
    if "active_dims" in report:
        facts.append(("skill axes in use", f"{report['active_dims']:g} of {report.get('skill_dims', math.nan):g}"))
    for metric, (name, unit) in SKILL_FACTS.items():
        if metric in report:
            facts.append((name, f"{format_number(report[metric])} {unit}"))
    return facts + [
        (name, f"{format_number(report[metric])} {place_unit}".rstrip())
        for metric, name in ENDS.items()
        if metric in report
    ]


def explain_errors(report: Mapping[str, float]) -> str:
    """What it means where the closed-loop decoder is farther from the recording than the open-loop one."""
    closed, open_ = ("reconstruction_rmse/", "open_reconstruction_rmse/")
    names = [metric.removeprefix(closed) for metric in report if metric.startswith(closed)]
    parts = []
    if any(report[closed + name] > report.get(open_ + name, math.inf) for name in names):
        parts.append(
            "The closed-loop decoder, which policies use, has the larger action error: it sees only the current state, "
            "so that it gives the average of the actions recorded there, while the open-loop decoder plans all steps "
            "of a skill at its begin and knows which step is which."
        )
    if report.get("rollout_closed", 0.0) > report.get("rollout_open", math.inf):
        parts.append(
            "In the simulator the closed-loop decoder ends farther from the recorded end: it answers to the states "
            "that it comes to, so that its errors add up, while a plan repeats the recording where nothing disturbs it."
        )
    return " ".join(parts)


def make_learning_facts(meta: StageView) -> Facts:
    """What meta-training did so far."""
    if not meta.metrics:
        return []
    last = meta.metrics[-1]
    facts = [("iterations", f"{int(last['step'])}")]
    episodes = count_episodes(meta)
    if episodes is not None:
        explore, exploit = episodes
        text = f"{explore} with a random task embedding, {exploit} with one inferred from earlier episodes"
        facts.append(("episodes per task and iteration", text))
    for curve in find_meta_curves(meta):
        facts.append((f"{curve.measure} at the end, {curve.label}", format_value(last[curve.metric], curve.measure)))
    return facts


def make_result_table(results: Results) -> Table:
    """One row per evaluation, in the order of adaptation; with the return where it says something else than success."""
    beside = any(row.returned is not None and abs(row.returned - row.mean) > 1e-6 for row in results.rows)
    rows = [
        (
            row.meaning,
            str(row.at),
            format_value(row.mean, results.measure),
            f"{format_value(row.low, results.measure)} to {format_value(row.high, results.measure)}",
            "" if row.greedy is None else format_value(row.greedy, results.measure),
            *(["" if row.returned is None else format_value(row.returned, "return")] if beside else []),
            str(row.n),
        )
        for row in results.rows
    ]
    numbers = (NUMBER + results.unit, NUMBER + results.measure)
    more = [f"{NUMBER}return"] if beside else []
    head = ("policy", *numbers, "95 % interval", f"{NUMBER}greedy", *more, f"{NUMBER}n")
    return Table(head, {"": rows}, tuple(row.method for row in results.rows))


def make_limit_table(safety: Safety) -> Table:
    """The limits of the action axes, and how often they held a command back."""
    rows = [
        (
            limits.axis.name,
            limits.axis.unit or "none",
            f"{format_number(limits.axis.low)} to {format_number(limits.axis.high)}",
            format_rate(limits.axis),
            str(limits.clamped),
            format_number(limits.largest),
        )
        for limits in safety.limits
    ]
    numbers = ("limits", "rate limit (per s)", "commands limited", "most cut off")
    return Table(("action axis", "unit", *(NUMBER + name for name in numbers)), {"": rows})


class CostRow(NamedTuple):
    """What a stage took."""

    name: str
    time: str
    share: float
    """Of the time of all stages, 0 to 1."""
    work: str
    state: str


def make_cost_rows(run: RunView, total: float, period: float | None) -> list[CostRow]:
    """One row per stage that has begun."""
    return [
        CostRow(
            stage.name,
            format_seconds(stage.wall_s),
            stage.wall_s / total if total > 0 else 0.0,
            describe_work(stage, period),
            "finished" if stage.finished else "not finished",
        )
        for stage in run.stages.values()
    ]


def describe_work(stage: StageView, period: float | None) -> str:
    """Steps and episodes of a stage, or its updates."""
    last = stage.metrics[-1] if stage.metrics else {}
    if stage.name == "generate" and "step" in last:
        return join_work(last["step"], last.get("episodes"), period)
    if stage.name in ("ingest", "ingest-explored") and "step" in last:
        return f"{format_count(last['step'])} low-level steps read"
    if stage.name == "explore" and "step" in last:
        # an older version did not count its steps
        played = last.get("environment_steps")
        return f"{format_count(last['step'])} episodes" if played is None else join_work(played, last["step"], period)
    if stage.name == MAP and (stage.folder / MAP_NAME).is_file():
        held = load_json(stage.folder / MAP_NAME, dict, RunError, "map the logs again")
        return ", ".join(
            f"{format_count(held[name])} {name}" for name in ("states", "places", "events") if name in held
        )
    if stage.name == "extract" and "step" in last:
        return f"{format_count(last['step'])} updates"
    if stage.name == "meta-train":
        steps = last.get("environment_steps")
        episodes = count_episodes(stage)
        tasks = len(stage.config["tasks"]["train"])
        played = None if episodes is None else int(last.get("step", 0)) * sum(episodes) * tasks
        return "" if steps is None else join_work(steps, played, period)
    if stage.name == "adapt":
        found = find_episodes(stage)
        return join_work(sum(record["steps"] for record in found), len(found), period) if found else ""
    return ""


def join_work(steps: float, episodes: float | None, period: float | None) -> str:
    """`200 k low-level steps, 200 episodes, 33 min on the robot`."""
    parts = [f"{format_count(steps)} low-level steps"]
    parts += [] if episodes is None else [f"{format_count(episodes)} episodes"]
    parts += [] if period is None else [f"{format_seconds(steps * period)} on the robot"]
    return ", ".join(parts)
