"""Returns along the adaptation, what the guards did, and how much the robot moved, from the records of `adapt`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..intervals import compute_interval
from ..metrics import METRICS_NAME, load_metrics
from .measure import format_number
from .tables import NUMBER, Facts, Table, format_seconds

BLOCKS = 10
"""Most rows of the table of returns."""


class Guarding(NamedTuple):
    """What the records say."""

    returns: Table | None
    """Mean return of blocks of episodes, with intervals; None where no episode was played."""
    facts: Facts
    """Of the motion and of the updates."""
    events: list[str]
    """What the guards and people did, in words, in their order; canaries that went well are counted only."""


def load_guarding(folder: Path, control_period: float | None) -> Guarding:
    """Reads the metrics in a stage folder, also while the stage is at work.

    Raises:
        RunError: A line is no JSON object.
    """
    path = folder / METRICS_NAME
    records = load_metrics(path) if path.is_file() else []
    played = [record for record in records if record.get("kind") in ("episode", "helped")]
    guarded = [record for record in records if record.get("kind") == "guarded"]
    steps = sum(record["steps"] for record in played)
    facts: Facts = []
    if control_period is not None and played:
        facts.append(("motion of all robots", format_seconds(steps * control_period)))
    if helped := sum(record.get("taken_over", 0) for record in played):
        facts.append(("steps commanded by a person", str(helped)))
    if guarded:
        last = guarded[-1]
        clamped = np.mean([record["clamped"] for record in guarded])
        facts += [
            ("motion with extra episodes", format_seconds(last["robot_seconds"])),
            ("extra episodes", str(last["extra"])),
            ("updates", str(last["updates"])),
            ("roll-backs", str(last["rollbacks"])),
            ("distance from the prior policy", f"{format_number(last['prior_kl'])} nats of a decision"),
            ("clamped commands", f"{100 * clamped:.1f} %"),
        ]
    events = [describe_event(record) for record in records if record.get("kind") == "guard" and is_news(record)]
    return Guarding(make_return_table(played), facts, events)


def is_news(record: Mapping[str, Any]) -> bool:
    """Whether an event of the guards is more than routine."""
    return not (record["event"] == "limited" or (record["event"] == "canary" and record["reason"] == "as before"))


def describe_event(record: Mapping[str, Any]) -> str:
    """One event in words."""
    return f"episode {record['episode']}: {record['event']}: {record['reason']}"


def make_return_table(played: Sequence[Mapping[str, Any]]) -> Table | None:
    """Mean return of each episode over its tasks, then of blocks of episodes; with 95 % intervals over the episodes."""
    by_episode: dict[int, list[float]] = {}
    for record in played:
        by_episode.setdefault(record["episode"], []).append(record["return"])
    if not by_episode:
        return None
    means = [(episode, float(np.mean(by_episode[episode]))) for episode in sorted(by_episode)]
    rows = []
    for block in np.array_split(np.arange(len(means)), min(BLOCKS, len(means))):
        first, last = means[block[0]][0], means[block[-1]][0]
        interval = compute_interval([means[index][1] for index in block])
        ends = f"{format_number(interval.low)} to {format_number(interval.high)}"
        place = str(first) if first == last else f"{first} to {last}"
        rows.append((place, format_number(interval.mean), ends))
    return Table(("episode", NUMBER + "return", NUMBER + "95 % interval"), {"": rows})
