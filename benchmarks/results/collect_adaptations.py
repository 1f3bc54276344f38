r"""Folders of `supple adapt` in, records of success after the first few episodes in a new task out.

    python -m benchmarks.results.collect_adaptations runs/a/adapt runs/b/adapt --benchmark maze-20-seed0 \
        --method simpl-logs --tasks flat-40 --command "supple run maze --seed S" --out docs/results/maze.json

`{"few_episodes": k}` is after k episodes: `success_stochastic` and `success_greedy` of extra episodes, and `found`, the
share of tasks of which one of the first k episodes itself paid. Each folder is a seed. Records of the same benchmark,
method and task set on that axis are replaced. With `--explorer CELLS` the reference of `maze_explorer.py` is written
instead, ten draws of it.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from supple.errors import ConfigError, SuppleError
from supple.pipeline.cli_common import parse_verb
from supple.pipeline.intervals import compute_interval
from supple.pipeline.keys import PACKAGE_ROOT, load_record
from supple.robots.maze_family import Maze
from supple.robots.task import goals_of
from supple.strict_json import load_json

from ..policies.maze_explorer import compute_found
from .collect_results import save_rows

AXIS = "few_episodes"
PLACES = (0, 1, 2, 3, 5, 8, 10, 15, 20, 40, 60, 80, 100)
"""Episodes that records are made of, as far as all seeds have come."""
EXPLORED = 20
"""Episodes of the explorer."""
DRAWS = 10
"""Of the explorer, which decides by lot between cells that are equally near."""
METRICS = ("success_stochastic", "success_greedy")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectAdaptations:
    """Arguments of the collector."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of `supple adapt`, one for each seed."""
    benchmark: str
    """What records call the robot."""
    method: str
    """What they call the agent."""
    tasks: str
    """What they call the task set."""
    command: str
    """That made the folders, with S for the seed."""
    out: Path
    """File of records."""
    explorer: int | None = None
    """Cells of an episode of the explorer that knows the map."""
    maze: Maze = field(default_factory=Maze)
    """Its maze and goals."""


def load_adaptation(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Seed and records of one folder.

    Raises:
        SuppleError: It is no whole folder of `adapt`.
    """
    record = load_record(folder)
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return int(record["fields"]["seed"]), [json.loads(line) for line in lines]


def make_rows(folders: Sequence[Path]) -> tuple[list[Row], list[int]]:
    """Means with intervals over seeds and tasks, and the seeds."""
    loaded = [load_adaptation(folder) for folder in folders]
    rows: list[Row] = []
    last = min(max(r["episode"] for r in records if r["kind"] == "episode") for _, records in loaded)
    for place in (place for place in PLACES if place <= last):
        for metric in METRICS:
            table = [
                [r[metric] for r in records if r["kind"] == "evaluation" and r["episode"] == place and metric in r]
                for _, records in loaded
            ]
            if all(table) and len({len(row) for row in table}) == 1:
                rows.append(make_row(metric, place, table))
        if place:
            rows.append(make_row("found", place, [find_paid(records, place) for _, records in loaded]))
    return rows, [seed for seed, _ in loaded]


def find_paid(records: Iterable[Mapping[str, Any]], most: int) -> list[float]:
    """1 for each task of which one of the first `most` episodes was solved, else 0."""
    solved: dict[str, float] = {}
    for record in records:
        if record["kind"] == "episode":
            here = float(record["success"] and record["episode"] <= most)
            solved[record["task"]] = max(solved.get(record["task"], 0.0), here)
    return list(solved.values())


def make_row(metric: str, place: int, table: Sequence[Sequence[float]]) -> Row:
    """One record without what is the same in all."""
    interval = compute_interval(table, shares=True)
    rounded = {name: round(value, 4) for name, value in interval._asdict().items()}
    return {"metric": metric, "at": {AXIS: place}, **rounded, "n": sum(map(len, table))}


def make_explorer_rows(maze: Maze, cells: int) -> list[Row]:
    """The found-rate of the explorer, means over draws and goals; another draw is no other training: no interval."""
    goals = goals_of(maze.tasks().test)
    found = np.stack([compute_found(maze.layout(), goals, EXPLORED, cells, seed) for seed in range(DRAWS)])
    return [
        {"metric": "found", "at": {AXIS: place}, "mean": round(float(found[:, place - 1].mean()), 4), "n": len(goals)}
        for place in PLACES[1:]
        if place <= EXPLORED
    ]


def execute(arguments: CollectAdaptations) -> int:
    """Writes the records; returns how many."""
    seeds: list[int] = []
    if arguments.explorer is not None:
        rows = make_explorer_rows(arguments.maze, arguments.explorer)
    elif arguments.folders:
        rows, seeds = make_rows(arguments.folders)
    else:
        raise ConfigError("collect_adaptations: expected folders of adapt or --explorer, got neither; name one")
    same = {"benchmark": arguments.benchmark, "method": arguments.method}
    commit = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True
    )
    facts = {
        "seeds": seeds,
        "tasks": arguments.tasks,
        "command": arguments.command,
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, 1 threads",
    }
    old = load_json(arguments.out, list, ConfigError, "write it again") if arguments.out.is_file() else []
    mine = {**same, "tasks": arguments.tasks}
    kept = [r for r in old if AXIS not in (r.get("at") or {}) or any(r.get(k) != v for k, v in mine.items())]
    made = [{**same, **row, **facts} for row in rows]
    save_rows(arguments.out, [*kept, *made])
    return len(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the collector; 2 for what it refuses."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        parsed = parse_verb(
            CollectAdaptations,
            "collect_adaptations",
            __doc__ or "",
            given,
            None,
            program="python -m benchmarks.results",
        )
        print(f"{parsed.out}: {execute(parsed)} records")
    except SuppleError as error:
        print(f"collect_adaptations: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
