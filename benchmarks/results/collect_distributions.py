"""A sweep of `benchmarks/task_distributions.py` in, records of docs/results and their plots out.

    python -m benchmarks.results.collect_distributions runs/task-distributions

Two benchmarks: `maze-train-tasks` is success by the number of train goals, and `maze-alignment` by where they lie. Each
has what the paper's figure 6 shows beside. Runs that are not finished are left out, and named.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from supple.errors import SourceError

from .collect_results import COLUMNS, add_rows, evaluation_rows, make_facts, run_collector
from .collect_runs import load_finished, require_same
from .published import make_published

BENCHMARKS: Final[Mapping[str, Mapping[str, str]]] = {
    "maze-train-tasks": {"tasks-40": "simpl", "tasks-20": "simpl", "tasks-10": "simpl", "spirl": "spirl"},
    "maze-alignment": {
        "top-to-top": "simpl",
        "top-to-bottom": "simpl",
        "spirl-top": "spirl",
        "spirl-bottom": "spirl",
    },
}
"""Presets of each benchmark, and what the records call their method."""
OTHER_FIGURE: Final = "simpl-published"
"""Of figure 4, by `flat-40`: figure 6a has a curve of its own for each number of tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectDistributions:
    """Arguments of this module."""

    sweep: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SWEEP_DIR")]]
    """Folder with a run folder for each preset and seed."""
    out: Path = Path("docs/results/task-distributions.json")
    """File of records; those of other methods and task sets in it are kept."""


def collect_sweep(sweep: Path) -> list[dict[str, Any]]:
    """The records of all runs that are finished; says which are not.

    Raises:
        SourceError: None is finished.
        RunError: Runs of one preset differ in more than their seed, or one is damaged.
    """
    rows: list[dict[str, Any]] = []
    for benchmark, presets in BENCHMARKS.items():
        for preset, method in presets.items():
            folders = sorted(path for path in sweep.glob(f"{preset}-seed*") if (path / "summary.json").is_file())
            print(f"{benchmark} {preset}: {len(folders)} finished runs", file=sys.stderr)
            if not folders:
                continue
            runs = [load_finished(folder) for folder in folders]
            for warning in require_same(runs):
                print(warning, file=sys.stderr)
            command = f"supple sweep benchmarks/task_distributions.py:{preset} --seeds {_name_seeds(folders)}"
            facts = make_facts(runs, "", benchmark, method, command)
            found = evaluation_rows([(run, run.adaptations[""]) for run in runs], "success")
            rows += [{name: {**facts, **row}[name] for name in COLUMNS} for row in found if "episode" in row["at"]]
            published = make_published(benchmark, runs[0].tasks)
            rows += [row for row in published if row["method"] != OTHER_FIGURE or runs[0].tasks.startswith("narrow")]
    if not rows:
        raise SourceError(f"{sweep}: expected a finished run of task_distributions, got none; run the sweep first")
    return [row for row in _once(rows) if "episode" in row["at"]]


def _name_seeds(folders: Sequence[Path]) -> str:
    return " ".join(folder.name.rpartition("-seed")[2] for folder in folders)


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Published records come with each method of a task set."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        kept += [] if row in kept else [row]
    return kept


def execute(arguments: CollectDistributions) -> list[Path]:
    """Writes the records and the plots beside them; returns the files."""
    return add_rows(arguments.out, collect_sweep(arguments.sweep))


def main(arguments: Sequence[str] | None = None) -> int:
    """Collects a sweep; see `run_collector`."""
    words = sys.argv[1:] if arguments is None else arguments
    what = (__doc__ or "").split("\n")[0]
    return run_collector(CollectDistributions, "collect_distributions", what, execute, words)


if __name__ == "__main__":
    sys.exit(main())
