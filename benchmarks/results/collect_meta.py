r"""Runs of `python -m benchmarks.meta` in, records of docs/results out.

    python -m benchmarks.results.collect_meta runs/bench-meta --out docs/results/meta.json

Takes every cell and seed that is finished there; records of the same benchmark, method, tasks and axis in the file are
replaced, all others are kept. A cell whose settings have changed since it was run is refused.

A number is the mean over test tasks and seeds, and its interval is over both (`pipeline/crossed_intervals.py`). Places:
`{"gradient_step": k}` is after k steps of adaptation, `{"episode_index": i}` the i-th episode of a trial, from 1 on.
`random` are uniform random choices, or actions drawn from their prior (`random-skill`: skills), and `oracle-exact` is
the best policy that knows the task, on the same test tasks; so are policies in `-reference`, which are made for the
robot and not learned (`benchmarks/meta/references.py`).

Beside the mean `return` stand `return_iqm`, the interquartile mean over tasks and seeds, and, where the oracle is
known, `return_normalised`: 0 is the mean return of random choices, 1 that of the oracle, both over all test tasks and
taken as given. `environment_steps_to_gate` and `wall_s_to_gate` are means over the seeds that reached their gates while
they trained, `n` of them; see `benchmarks/meta/gate_progress.py`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from supple.errors import ConfigError, RunError
from supple.meta.evaluation import normalise_scores
from supple.pipeline.crossed_intervals import Statistic, compute_crossed_interval, interquartile_mean, mean
from supple.pipeline.folder import load_json
from supple.pipeline.keys import compute_plain, load_record
from supple.pipeline.metrics import load_metrics
from supple.pipeline.run_files import RUN_NAME

from ..meta.cell_evaluate import load_scores, make_evaluate
from ..meta.cell_train import Role, make_train, name_random
from ..meta.cells import CELLS, DEMO, Cell, Gate, Reference
from ..meta.gate_progress import Reached, find_reached
from ..meta.references import load_references, make_references
from .collect_results import COLUMNS, Row, add_rows, make_cost_row, run_collector

SEED = "seed"
"""Begin of the name of a seed's folder in a cell's folder."""
REFERENCES = "references"
"""In a cell's folder: the stage that plays reference policies; the seeds share it."""
METRICS = ("return", "return_trial")


class SeedRun(NamedTuple):
    """One seed of a cell, finished."""

    seed: int
    scores: dict[str, Any]
    """What `load_scores` gives."""
    curve: list[tuple[float, float]]
    """Environment steps and mean return of the train tasks, as training went on."""
    environment_steps: float
    wall_s: float
    reached: Reached | None
    """When the training reached the cell's gates."""
    command: str
    code: str
    commit: str
    machine: str


def name_seed(out: Path, name: str, seed: int) -> Path:
    """The folder of a seed of the cell `name`: it holds the stage folders `train` and `evaluate`."""
    return out / name / f"{SEED}{seed}"


def load_seeds(out: Path, name: str, cell: Cell, seeds: Sequence[int] | None = None) -> list[SeedRun]:
    """The finished seeds of a cell, in order; `seeds` takes only these.

    Raises:
        RunError: a folder is damaged, or the cell had other settings when it was run.
    """
    found = []
    for folder in (out / name).glob(f"{SEED}*"):
        number = folder.name.removeprefix(SEED)
        wanted = number.isdecimal() and (seeds is None or int(number) in seeds)
        if wanted and (folder / "evaluate" / "stage.json").is_file():
            found.append(load_seed(folder, int(number), cell))
    return sorted(found, key=lambda run: run.seed)


def load_seed(folder: Path, seed: int, cell: Cell) -> SeedRun:
    """A finished seed; see `load_seeds`."""
    trained, evaluated = load_record(folder / "train"), load_record(folder / "evaluate")
    stages = (make_train(cell.config, seed), trained), (make_evaluate(cell.config, folder / "train", seed), evaluated)
    if any(compute_plain(stage.config, "cell") != record["fields"]["config"] for stage, record in stages):
        raise RunError(
            f"{folder}: expected a run of the cell as it is now, got one with other settings; remove the folder and "
            "run the cell again"
        )
    metrics = load_metrics(folder / "train" / "metrics.jsonl")
    clock = trained["clock"]
    return SeedRun(
        seed=seed,
        scores=load_scores(folder / "evaluate"),
        curve=make_curve(metrics),
        environment_steps=float(metrics[-1]["environment_steps"]) if metrics else 0.0,
        wall_s=float(clock["wall_s"]) + float(evaluated["clock"]["wall_s"]),
        reached=find_reached(cell, metrics),
        command=str(clock.get("command", "")),
        code=str(trained["fields"]["code"]),
        commit=str(load_json(folder / RUN_NAME).get("commit", "unknown")),
        machine=str(clock["machine"]),
    )


def load_policies(out: Path, name: str, cell: Cell) -> Mapping[str, Any]:
    """Scores of the reference policies of a cell; empty where they were not played.

    Raises:
        RunError: the folder is damaged, or the cell was another when they were.
    """
    folder = out / name / REFERENCES
    policies = load_references(folder)
    if policies:
        config = compute_plain(make_references(cell.config).config, "cell")
        if config != load_record(folder)["fields"]["config"]:
            raise RunError(
                f"{folder}: expected references of the cell as it is now, got those of another; remove the folder and "
                "run the cell again"
            )
    return policies


def make_curve(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(environment steps, return) of each iteration; of several returns the last, which is after the most learning.

    Empty without a training.
    """
    if not metrics:
        return []
    names = [name for name in metrics[0] if name.startswith("return")]
    whole = "return_trial" if "return_trial" in names else names[-1]
    return [(float(record["environment_steps"]), float(record[whole])) for record in metrics]


def collect(name: str, cell: Cell, runs: Sequence[SeedRun], policies: Mapping[str, Any] | None = None) -> list[Row]:
    """The records of one cell: the learner's, those of random choices, and the references.

    Args:
        name: of the cell.
        cell: the cell.
        runs: its seeds, at least one.
        policies: what `load_policies` gives.

    Raises:
        RunError: the seeds are of different versions of the code.
    """
    if len({run.code for run in runs}) > 1:
        raise RunError(f"{name}: expected seeds of one version of the code, got several; run the older seeds again")
    first, method = runs[0].scores, cell.config.learner.method
    facts = {
        "benchmark": cell.benchmark,
        "seeds": [run.seed for run in runs],
        "tasks": first["tasks"],
        "command": make_command(name, runs, cell.config.roles),
        "commit": ", ".join(dict.fromkeys(run.commit for run in runs)),
        "wall_s": round(float(np.mean([run.wall_s for run in runs])), 1),
        "machine": ", ".join(dict.fromkeys(run.machine for run in runs)),
    }
    rows = [
        *score_rows([run.scores["agent"] for run in runs], method),
        *summary_rows([run.scores for run in runs], method),
        {"method": method, **make_cost_row("wall_s", [run.wall_s for run in runs])},
        {"method": method, **make_cost_row("environment_steps", [run.environment_steps for run in runs])},
        *gate_rows([run.reached for run in runs], method),
        # random choices depend on no training, so that one seed has all there is
        *({**row, "seeds": [runs[0].seed]} for row in score_rows([first["random"]], name_random(cell.config.space))),
        *(
            {**row, "seeds": []}
            for policy, scores in (policies or {}).items()
            for row in score_rows([scores], f"{policy}-reference")
        ),
        *oracle_rows(first),
        *(row for reference in cell.references for row in reference_rows(reference, first)),
    ]
    return [{column: {**facts, **row}[column] for column in COLUMNS} for row in rows]


def make_command(name: str, runs: Sequence[SeedRun], roles: Sequence[Role] = ()) -> str:
    """The command that makes a cell's runs, wherever they, and what they read, were put."""
    given = "".join(f" --{role} {role.upper()}" for role in roles)
    return f"python -m benchmarks.meta {name} --seeds {' '.join(str(run.seed) for run in runs)}{given}"


def score_rows(scores: Sequence[Mapping[str, Any]], method: str) -> list[Row]:
    """Records of one agent: one set of scores per seed."""
    tables = {metric: [one[metric] for one in scores] for metric in METRICS if metric in scores[0]}
    measures = scores[0].get("measures", {})
    tables |= {metric: [one["measures"][metric] for one in scores] for metric in measures}
    places = {"return_trial": [None]}
    return [
        row
        for metric, table in tables.items()
        for row in table_rows(
            np.array(table), scores[0]["axis"], places.get(metric, scores[0]["places"]), metric, method
        )
    ]


def table_rows(
    table: NDArray[np.float64],
    axis: str,
    places: Sequence[int | None],
    metric: str,
    method: str,
    statistic: Statistic = mean,
) -> list[Row]:
    """One record for each place, None being no place on an axis; `table` is of shape (seeds, tasks, places)."""
    rows = []
    table = table.reshape(*table.shape[:2], -1)
    for index, place in enumerate(places):
        value, low, high = compute_crossed_interval(table[:, :, index], statistic)
        at = {} if place is None else {axis: place}
        numbers = {"mean": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
        rows.append({"method": method, "metric": metric, "at": at, **numbers, "n": table[:, :, index].size})
    return rows


def summary_rows(scores: Sequence[Mapping[str, Any]], method: str) -> list[Row]:
    """The learner's returns once more: their interquartile mean, and on the scale from random choices to the oracle."""
    axis, places = scores[0]["agent"]["axis"], scores[0]["agent"]["places"]
    table = np.array([one["agent"]["return"] for one in scores], np.float64)
    rows = table_rows(table, axis, places, "return_iqm", method, interquartile_mean)
    random, oracle = float(np.mean(scores[0]["random"]["return"])), scores[0]["oracle"]
    if oracle is not None and oracle > random:
        rows += table_rows(normalise_scores(table, random, oracle), axis, places, "return_normalised", method)
    return rows


def gate_rows(reached: Sequence[Reached | None], method: str) -> list[Row]:
    """What the seeds that reached their gates while they trained had taken by then; none where none has."""
    found = [one for one in reached if one is not None]
    if not found:
        return []
    return [
        {"method": method, **make_cost_row(f"{name}_to_gate", [getattr(one, name) for one in found])}
        for name in ("environment_steps", "wall_s")
    ]


def oracle_rows(scores: Mapping[str, Any]) -> list[Row]:
    """Records of the best policy that knows the task, the same in every episode; none where it is not known."""
    if scores["oracle"] is None:
        return []
    axis = scores["agent"]["axis"]
    facts = {
        "method": "oracle-exact",
        "metric": "return",
        "command": "benchmarks/policies/oracles.py on the test tasks",
    }
    return [make_reference_row(facts, {axis: place}, scores["oracle"]) for place in scores["agent"]["places"]]


def reference_rows(reference: Reference, scores: Mapping[str, Any]) -> list[Row]:
    """Records of a reference, along the axis of the cell."""
    facts = {"method": reference.method, "metric": reference.metric, "command": reference.source}
    if reference.metric != "return":
        return [make_reference_row(facts, {}, reference.values[0])]
    axis, places = scores["agent"]["axis"], scores["agent"]["places"]
    values = reference.values
    return [make_reference_row(facts, {axis: place}, value) for place, value in zip(places, values, strict=False)]


def make_reference_row(facts: Mapping[str, Any], at: Mapping[str, Any], value: float) -> Row:
    """A number that was not measured here, without an interval."""
    unmeasured: Row = {"low": None, "high": None, "n": None, "seeds": [], "commit": "", "wall_s": None, "machine": ""}
    return {**facts, "at": dict(at), "mean": round(value, 4), **unmeasured}


class Verdict(NamedTuple):
    """What became of a gate."""

    gate: Gate
    mean: float
    passed: bool


def judge(cell: Cell, rows: Sequence[Row]) -> list[Verdict]:
    """Each of the cell's gates against its records."""
    verdicts = []
    for gate in cell.gates:
        (value,) = (
            row["mean"]
            for row in rows
            if row["method"] == cell.config.learner.method
            and row["metric"] == gate.metric
            and list(row["at"].values()) == ([] if gate.place is None else [gate.place])
        )
        verdicts.append(Verdict(gate, value, value >= gate.at_least))
    return verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectMeta:
    """Arguments of this module."""

    runs: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT")]]
    """What was --out of benchmarks.meta."""
    out: Path = Path("docs/results/meta.json")
    """File of records; those of other cells in it are kept."""


def execute(arguments: CollectMeta) -> list[Path]:
    """Writes the records and the plots beside them; returns the files.

    Raises:
        SuppleError: nothing is finished there, a folder is damaged, or the file is not one of records.
    """
    rows: list[Row] = []
    for name, cell in CELLS.items():
        runs = load_seeds(arguments.runs, name, cell)
        if runs and not name.startswith(DEMO):
            rows += collect(name, cell, runs, load_policies(arguments.runs, name, cell))
    if not rows:
        raise ConfigError(f"{arguments.runs}: expected finished cells, got none; run python -m benchmarks.meta first")
    rows = drop_repeated(rows)
    return add_rows(arguments.out, rows)


def drop_repeated(rows: Sequence[Row]) -> list[Row]:
    """Without what cells of one benchmark share: random choices and references, of which the first stays."""
    kept: dict[str, Row] = {}
    for row in rows:
        key = json.dumps([row[name] for name in ("benchmark", "method", "metric", "at", "tasks")])
        kept.setdefault(key, row)
    return list(kept.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Collects cells of the benchmark; see `run_collector`."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_collector(CollectMeta, "collect_meta", (__doc__ or "").split("\n")[0], execute, words)


if __name__ == "__main__":
    sys.exit(main())
