"""A sweep over the presets of a file in `benchmarks/` in, records of docs/results and their plots out.

    python -m benchmarks.results.collect_sweep runs/task-distributions
    python -m benchmarks.results.collect_sweep runs/ablations

`task_distributions.py` gives two benchmarks: `maze-train-tasks` is success by the number of train goals, and
`maze-alignment` by where they lie. Each has what the paper's figure 6 shows beside. `ablations.py` gives
`maze-ablations`, in which each preset is a method. Runs that are not finished are left out, and named.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import tyro

from supple.errors import SourceError

from ..ablations import PRESETS as ABLATIONS
from .collect_results import COLUMNS, add_rows, evaluation_rows, make_facts, run_collector
from .collect_runs import load_finished, require_same
from .published import make_published


class Benchmark(NamedTuple):
    """What becomes of some presets of a file."""

    file: str
    """Of presets, in `benchmarks/`."""
    records: str
    """File of records, in `docs/results/`."""
    methods: Mapping[str, str]
    """By preset, what the records call its method."""


_TASKS: Final = ("task_distributions.py", "task-distributions.json")
BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "maze-train-tasks": Benchmark(
        *_TASKS, {"tasks-40": "simpl", "tasks-20": "simpl", "tasks-10": "simpl", "spirl": "spirl"}
    ),
    "maze-alignment": Benchmark(
        *_TASKS, {"top-to-top": "simpl", "top-to-bottom": "simpl", "spirl-top": "spirl", "spirl-bottom": "spirl"}
    ),
    "maze-ablations": Benchmark("ablations.py", "ablations.json", {name: name for name in ABLATIONS}),
}
OTHER_FIGURE: Final = "simpl-published"
"""Of figure 4, by `flat-40`: figure 6a has a curve of its own for each number of tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSweep:
    """Arguments of this module."""

    sweep: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SWEEP_DIR")]]
    """Folder with a run folder for each preset and seed."""
    out: Path = Path("docs/results")
    """Folder with the files of records; those of other methods and task sets in them are kept."""


def collect_sweep(sweep: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of all runs that are finished, by their file; says which are not.

    Raises:
        SourceError: None is finished.
        RunError: Runs of one preset differ in more than their seed, or one is damaged.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, benchmark in BENCHMARKS.items():
        rows = found.setdefault(benchmark.records, [])
        for preset, method in benchmark.methods.items():
            folders = sorted(path for path in sweep.glob(f"{preset}-seed*") if (path / "summary.json").is_file())
            print(f"{name} {preset}: {len(folders)} finished runs", file=sys.stderr)
            if not folders:
                continue
            runs = [load_finished(folder) for folder in folders]
            for warning in require_same(runs):
                print(warning, file=sys.stderr)
            command = f"supple sweep benchmarks/{benchmark.file}:{preset} --seeds {_name_seeds(folders)}"
            facts = make_facts(runs, "", name, method, command)
            made = evaluation_rows([(run, run.adaptations[""]) for run in runs], "success")
            rows += [{name: {**facts, **row}[name] for name in COLUMNS} for row in made]
            published = make_published(name, runs[0].tasks) if benchmark.file == _TASKS[0] else []
            rows += [row for row in published if row["method"] != OTHER_FIGURE or runs[0].tasks.startswith("narrow")]
    if not any(found.values()):
        files = ", ".join(dict.fromkeys(benchmark.file for benchmark in BENCHMARKS.values()))
        raise SourceError(f"{sweep}: expected a finished run of {files}, got none; run the sweep first")
    return {file: [row for row in _once(rows) if "episode" in row["at"]] for file, rows in found.items() if rows}


def _name_seeds(folders: Sequence[Path]) -> str:
    return " ".join(folder.name.rpartition("-seed")[2] for folder in folders)


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Published records come with each method of a task set."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        kept += [] if row in kept else [row]
    return kept


def execute(arguments: CollectSweep) -> list[Path]:
    """Writes the records and the plots beside them; returns the files."""
    return [
        path for file, rows in collect_sweep(arguments.sweep).items() for path in add_rows(arguments.out / file, rows)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Collects a sweep; see `run_collector`."""
    words = sys.argv[1:] if arguments is None else arguments
    what = (__doc__ or "").split("\n")[0]
    return run_collector(CollectSweep, "collect_sweep", what, execute, words)


if __name__ == "__main__":
    sys.exit(main())
