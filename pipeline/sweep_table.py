"""What the runs of a sweep came to: one record for each group of seeds, stage and measure, and the same as a table.

A group is what differs in nothing but the seed. All its runs meet the same test tasks, so that seeds and tasks are
crossed, and intervals are over both (`intervals`). Greedy and stochastic policies, and the policies after
inference and after fine-tuning, have records of their own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import RunError
from ..strict_json import load_json, load_json_lines
from .intervals import compute_interval
from .stages.adapt import RECORDS_NAME, RETURNS_NAME, identify_task
from .summary import MEANINGS

METRICS = ("success_stochastic", "success_greedy", "return_stochastic", "return_greedy", "return")
SHOWN = ("before", "inferred", "adapted", "learned")
"""Stages of the table; the records have those between them too."""
REMEDY = "remove the folder and run the sweep again"


class Place(NamedTuple):
    """Where a number was measured."""

    method: str
    """A stage of `MEANINGS`; the learner's name for the return of the episodes themselves."""
    metric: str
    axis: str
    at: int


class Score(NamedTuple):
    """Of one task and seed."""

    mean: float
    n: int
    """Episodes that it is the mean of."""


Scores = dict[Place, dict[tuple[float, ...], Score]]
"""By place, then by the goal of a task."""


def load_scores(folder: Path) -> Scores:
    """What the test tasks of a run came to, at each evaluation; without any, along the episodes or steps of adaptation.

    Args:
        folder: Of the stage `adapt`.

    Raises:
        RunError: a file is missing or damaged.
    """
    records = load_json_lines(folder / RECORDS_NAME, RunError, REMEDY)
    found: dict[Place, dict[tuple[float, ...], list[Score]]] = {}
    try:
        for record in records:
            if record["kind"] == "evaluation":
                for metric in METRICS:
                    if metric in record:
                        place = Place(record["stage"], metric, "episode", record["episode"])
                        tasks = found.setdefault(place, {})
                        tasks.setdefault(identify_task(record), []).append(Score(record[metric], record["n"]))
        return pool(found) if found else load_returns(folder, records)
    except (KeyError, TypeError, IndexError) as error:
        raise RunError(f"{folder}: expected the records of an adaptation, got {error!r}; {REMEDY}") from error


def load_returns(folder: Path, records: Sequence[Mapping[str, Any]]) -> Scores:
    """Returns of the episodes that count, as `returns.json` has them, for each task."""
    first = load_json(folder / RETURNS_NAME, list, RunError, REMEDY)[0]
    (axis,) = first["at"]
    found: dict[Place, dict[tuple[float, ...], list[Score]]] = {}
    for record in records:
        if record["kind"] == "episode" and (axis == "episode" or record["stage"] == "play"):
            tasks = found.setdefault(Place(first["method"], "return", axis, record[axis]), {})
            tasks.setdefault(identify_task(record), []).append(Score(record["return"], 1))
    return pool(found)


def pool(found: Mapping[Place, Mapping[tuple[float, ...], Sequence[Score]]]) -> Scores:
    """One score for each task, which may stand twice in a file of goals; all rows of it have as many episodes."""
    return {
        place: {
            task: Score(float(np.mean([score.mean for score in rows])), sum(score.n for score in rows))
            for task, rows in tasks.items()
        }
        for place, tasks in found.items()
    }


def make_records(scores: Mapping[int, Scores], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One flat record per place that all seeds have reached, in the schema of docs/results.

    Args:
        scores: Of each seed.
        facts: What all records say of the group.

    Raises:
        RunError: the seeds did not meet the same tasks.
    """
    seeds = sorted(scores)
    records = []
    for place in sorted(scores[seeds[0]], key=lambda place: (place.at, METRICS.index(place.metric))):
        if any(place not in scores[seed] for seed in seeds):
            continue
        tasks = list(scores[seeds[0]][place])
        for seed in seeds:
            if set(scores[seed][place]) != set(tasks):
                raise RunError(
                    f"sweep: expected the tasks of seed {seeds[0]} of seed {seed} too, got others; use one preset"
                )
        table = [[scores[seed][place][task] for task in tasks] for seed in seeds]
        values = [[score.mean for score in row] for row in table]
        found = compute_interval(values, shares=place.metric.startswith("success"))
        records.append(
            {
                **facts,
                "method": place.method,
                "metric": place.metric,
                "at": {place.axis: place.at},
                "mean": found.mean,
                "low": found.low,
                "high": found.high,
                "n": sum(score.n for row in table for score in row),
                "seeds": seeds,
                "tasks": len(tasks),
            }
        )
    return records


def make_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The ends of the stages, a line for each group and stage; 95 % intervals over seeds and tasks."""
    rows: list[tuple[str, ...]] = [("", "", "at", "", "stochastic", "greedy", "seeds x tasks")]
    for group in dict.fromkeys(record["benchmark"] for record in records):
        mine = [record for record in records if record["benchmark"] == group]
        told = {record["metric"].partition("_")[0] for record in mine}
        measure = "success" if "success" in told else "return"
        cells = {(record["method"], *record["at"].items(), record["metric"]): record for record in mine}
        ends: dict[str, tuple[str, int]] = {}
        for record in mine:
            if record["method"] in SHOWN or record["metric"] == "return":
                ends[record["method"]] = next(iter(record["at"].items()))
        for method, at in ends.items():
            found = [cells.get((method, at, f"{measure}_{how}")) for how in ("stochastic", "greedy")]
            found[0] = found[0] or cells.get((method, at, "return"))
            count = next(f"{len(one['seeds'])} x {one['tasks']}" for one in found if one is not None)
            shown = [f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" if one else "" for one in found]
            rows.append((group, MEANINGS.get(method, method), f"{at[0]} {at[1]}", measure, *shown, count))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
