r"""Finished run folders of several seeds in, records of docs/results and the plots beside them out.

    python -m benchmarks.results.collect_results runs/maze runs/maze-seed1 runs/maze-seed2 \
        --benchmark maze-20-seed0 --method simpl --out docs/results/maze.json

`RUN/adapt` is the method that is named; `RUN/adapt-spirl`, `RUN/adapt-sac` are baselines of those names, and another
`RUN/adapt-<suffix>` of SiMPL's is the method `<method>-<suffix>`. Records of the same benchmark, method and task set in
the file are replaced, all others are kept. In the published maze and kitchen the published numbers are added.

Success, or the return with `--measure return`, is a mean over cells, one cell per test task and seed; `n` is the number
of cells. Its interval is over seeds and over tasks (`supple.pipeline.intervals`). Costs are means over seeds with
Student's t interval, null for one seed.

Places: `{"episode": n}` is after n episodes of each task, `{"stage": "inferred"}` after the exploration episodes and
before any fine-tuning, `{"inference_episodes": k}` the same with an embedding inferred from the first k of them. The
training return at `{"episode": n}` is the mean of episodes n - 9 to n.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from supple.errors import ConfigError, SuppleError
from supple.pipeline.cli_common import Parsed, parse_verb
from supple.pipeline.intervals import compute_interval

from .collect_runs import NEEDED, PREPARATION, Adaptation, FinishedRun, load_finished, require_same
from .labels import DASHED, RANDOM
from .pages import draw_figures, save_figures
from .published import make_published
from .records import load_records

WINDOW = 10
"""Episodes that one point of the training return averages."""
COLUMNS = (
    *("benchmark", "method", "metric", "at", "mean", "low", "high", "n"),
    *("seeds", "tasks", "command", "commit", "wall_s", "machine"),
)
"""The order of a record's fields."""
Measure = Literal["success", "return"]

TRAINED = ("{}_posterior", "{}_last", "{}")
"""What learners call success or the return on train tasks once the task is inferred, the most telling name first."""

Row = dict[str, Any]
Cells = list[tuple[FinishedRun, float]]
"""A value per test task and seed."""


def collect(
    runs: Sequence[FinishedRun], benchmark: str, method: str, command: str = "", measure: Measure = "success"
) -> list[Row]:
    """The records of runs that differ in their seed only.

    Args:
        runs: one per seed.
        benchmark: what the records call the maze.
        method: what they call `RUN/adapt`.
        command: the command that makes them again; empty takes those that the folders name.
        measure: what says how well a policy does.
    """
    rows: list[Row] = []
    for suffix in sorted({suffix for run in runs for suffix in run.adaptations}):
        having = [run for run in runs if suffix in run.adaptations]
        algorithm = having[0].adaptations[suffix].algorithm
        name = name_method(method, suffix, algorithm)
        facts = make_facts(having, suffix, benchmark, name, command)
        pairs = [(run, run.adaptations[suffix]) for run in having]
        found = [*evaluation_rows(pairs, measure), *return_rows(pairs), *fine_tuning_rows(pairs)]
        if not suffix:
            found += [*training_rows(having, measure), *cost_rows(having)]
        rows += [{name: {**facts, **row}[name] for name in COLUMNS} for row in found]
    if runs[0].published:
        rows += make_published(benchmark, runs[0].tasks, measure)
    return rows


def name_method(method: str, suffix: str, algorithm: str) -> str:
    """What the records call the adaptation in `adapt-<suffix>`."""
    if not suffix:
        return method
    return suffix if algorithm != "simpl" and suffix.startswith(algorithm) else f"{method}-{suffix}"


def make_facts(runs: Sequence[FinishedRun], suffix: str, benchmark: str, method: str, command: str) -> Row:
    """What all records of one method say beside their number."""
    needed = NEEDED.get(runs[0].adaptations[suffix].algorithm, PREPARATION)
    commands = [text for run in runs for text in (*run.commands, run.adaptations[suffix].command) if text]
    return {
        "benchmark": benchmark,
        "method": method,
        "seeds": [run.seed for run in runs],
        "tasks": runs[0].tasks,
        "command": command or "; ".join(dict.fromkeys(commands)),
        "commit": ", ".join(dict.fromkeys(run.commit for run in runs)),
        "wall_s": round(float(np.mean([sum(run.wall_s.get(stage, 0.0) for stage in needed) for run in runs])), 1),
        "machine": ", ".join(dict.fromkeys(run.machine for run in runs)),
    }


def evaluation_rows(pairs: Sequence[tuple[FinishedRun, Adaptation]], measure: Measure) -> Iterable[Row]:
    """Success or return of each evaluation: by episode, by episodes of inference, and after inference."""
    exploration = pairs[0][1].exploration_episodes
    for metric in (f"{measure}_stochastic", f"{measure}_greedy"):
        cells = gather(pairs, "evaluation", metric, lambda episode: episode)
        for episode, table in cells.items():
            yield make_row(metric, {"episode": episode}, table)
        for episode, table in cells.items():
            if 1 <= episode <= exploration:
                yield make_row(metric, {"inference_episodes": episode}, table)
        if exploration in cells and exploration > 0:
            yield make_row(metric, {"stage": "inferred"}, cells[exploration])


def return_rows(pairs: Sequence[tuple[FinishedRun, Adaptation]]) -> Iterable[Row]:
    """Mean return of the training episodes, in whole windows."""
    last = min(max(int(record["episode"]) for record in adaptation.records) for _, adaptation in pairs)
    cells = gather(pairs, "episode", "return", lambda episode: -(-episode // WINDOW) * WINDOW)
    for end, table in cells.items():
        if end <= last:
            yield make_row("return_training", {"episode": end}, table)


def gather(
    pairs: Sequence[tuple[FinishedRun, Adaptation]], kind: str, field: str, place: Callable[[int], int]
) -> dict[int, NDArray[np.float64]]:
    """The mean of a field of records of one kind, for each place of their episode a table (seeds, tasks).

    Places are in order; one that some seed has not reached is left out.
    """
    values: dict[int, dict[tuple[int, str], list[float]]] = {}
    for index, (_, adaptation) in enumerate(pairs):
        for record in adaptation.records:
            if record["kind"] == kind:
                cells = values.setdefault(place(int(record["episode"])), {})
                cells.setdefault((index, str(record["task"])), []).append(float(record[field]))
    most = max(map(len, values.values()), default=0)
    whole = {at: values[at] for at in sorted(values) if len(values[at]) == most}
    tasks = dict.fromkeys(task for cells in whole.values() for _, task in cells)
    return {
        at: np.array([[np.mean(cells[index, task]) for task in tasks] for index in range(len(pairs))])
        for at, cells in whole.items()
    }


def training_rows(runs: Sequence[FinishedRun], measure: Measure) -> Iterable[Row]:
    """Success or return on train tasks once the task is inferred, by minutes of meta-training that all reached.

    Learners call it differently, see `TRAINED`; those that measure neither have no rows.
    """
    names = [name for name in (kind.format(measure) for kind in TRAINED) if any(name in e for e in runs[0].epochs)]
    if not names:
        return
    minutes = min((int(run.epochs[-1]["wall_s"] // 60) for run in runs if run.epochs), default=0)
    for minute in range(1, minutes + 1):
        values = []
        for run in runs:
            here = [e[names[0]] for e in run.epochs if names[0] in e and minute - 1 < e["wall_s"] / 60 <= minute]
            values += [float(np.mean(here))] if here else []
        if len(values) == len(runs):
            yield make_cost_row(f"{measure}_train", values, {"meta_training_minute": minute})


def cost_rows(runs: Sequence[FinishedRun]) -> Iterable[Row]:
    """Wall-clock seconds of each stage and of the chain before adaptation, and robot steps of meta-training."""
    for stage in runs[0].wall_s:
        name = "meta_training_wall_s" if stage == "meta-train" else f"{stage}_wall_s"
        yield make_cost_row(name, [run.wall_s[stage] for run in runs])
    yield make_cost_row("chain_wall_s", [sum(run.wall_s.values()) for run in runs])
    yield make_cost_row("low_level_steps", [run.low_level_steps for run in runs])


def fine_tuning_rows(pairs: Sequence[tuple[FinishedRun, Adaptation]]) -> Iterable[Row]:
    """Wall-clock seconds of one fine-tuning episode of one task, its rollout included."""
    seconds = [float(np.mean(adaptation.seconds)) for _, adaptation in pairs if len(adaptation.seconds)]
    if seconds:
        yield make_cost_row("finetune_episode_wall_s", seconds)


def make_row(metric: str, at: Mapping[str, Any], table: NDArray[np.float64]) -> Row:
    """The mean of a table (seeds, tasks) with its interval over both."""
    interval = compute_interval(table, shares=metric.startswith("success"))
    value, low, high = (round(number, 4) for number in interval)
    return {"metric": metric, "at": dict(at), "mean": value, "low": low, "high": high, "n": table.size}


def make_cost_row(metric: str, values: Sequence[float], at: Mapping[str, Any] | None = None) -> Row:
    """A mean over seeds of what cannot be negative, with Student's t interval."""
    average, n = float(np.mean(values)), len(values)
    _, low, high = compute_interval(values)
    ends = (None, None) if n == 1 else (round(max(low, 0.0), 4), round(high, 4))
    return {"metric": metric, "at": dict(at or {}), "mean": round(average, 4), "low": ends[0], "high": ends[1], "n": n}


def identify(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a new record must share with an old one to take its place.

    The axis is part of it: random choices of one benchmark have a record for each episode, and one for each gradient
    step, which cells of different learners bring.
    """
    return row["benchmark"], row["method"], row.get("tasks", ""), *row.get("at", {})


def merge(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """New records where the first of those stood that they replace; the others as they were.

    What learners are compared with belongs to many cells: where one of fewer steps brings it again, its other places
    stay.
    """
    replaced, places = {identify(row) for row in new}, {_place(row) for row in new}

    def goes(row: Row) -> bool:
        return identify(row) in replaced and (_place(row) in places or not _is_compared_with(row["method"]))

    kept_after = next((index for index, row in enumerate(old) if goes(row)), len(old))
    before, after = old[:kept_after], [row for row in old[kept_after:] if not goes(row)]
    return [*before, *new, *after]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return *identify(row), row.get("metric"), *row.get("at", {}).values()


def _is_compared_with(method: str) -> bool:
    return method.startswith(RANDOM) or method.endswith(DASHED)


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes one record per line; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n", "utf-8")
    load_records(temporary)
    os.replace(temporary, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectResults:
    """Arguments of this module."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN_DIR...")]]
    """Finished run folders, one per seed."""
    benchmark: str
    """Name of the maze in the records."""
    method: str = "simpl"
    """Name of `RUN/adapt` in the records."""
    measure: Measure = "success"
    """What says how well a policy does: the return for tasks that pay for their parts, such as the kitchen's."""
    out: Path = Path("docs/results/maze.json")
    """File of records; those of other methods in it are kept."""
    command: str = ""
    """The command that makes all of it; without it, the commands that the folders name."""
    unfinished: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also take adaptations that are under way or were cut off, up to where all seeds have come."""


def execute(arguments: CollectResults) -> list[Path]:
    """Writes the records and the plots beside them; returns the files.

    Raises:
        SuppleError: a run is not finished, runs do not belong together, or the file is not one of records.
    """
    if not arguments.runs:
        raise ConfigError("collect_results: expected at least one run folder, got none; name one per seed")
    runs = [load_finished(folder, unfinished=arguments.unfinished) for folder in arguments.runs]
    for warning in require_same(runs):
        print(warning, file=sys.stderr)
    rows = collect(runs, arguments.benchmark, arguments.method, arguments.command, arguments.measure)
    return add_rows(arguments.out, rows)


def add_rows(path: Path, rows: Sequence[Row]) -> list[Path]:
    """Merges records into a file of them and draws the plots beside it; returns the files.

    Raises:
        SourceError: the file is there and is not one of records.
    """
    old: list[Row] = []
    if path.is_file():
        load_records(path)
        old = json.loads(path.read_bytes())
    save_rows(path, merge(old, rows))
    figures = draw_figures(path)
    save_figures(figures)
    return [path, *figures]


def run_collector(
    kind: type[Parsed], name: str, what: str, execute: Callable[[Parsed], list[Path]], words: Sequence[str]
) -> int:
    """Parses the words, collects, and prints the files that were written; 2 where it cannot."""
    try:
        written = execute(parse_verb(kind, name, what, words, None, program=f"python -m benchmarks.results.{name}"))
    except SuppleError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in written))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Collects runs of the chain; see `run_collector`."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_collector(CollectResults, "collect_results", (__doc__ or "").split("\n")[0], execute, words)


if __name__ == "__main__":
    sys.exit(main())
