"""Runs every `bench_*.py` of this folder in a process of its own, prints the tables and writes all records to a file.

    python -m benchmarks                          writes runs/bench.json
    python -m benchmarks docs/results/speed.json  what the documentation shows; then: make results

Each benchmark prints a JSON list of records (`benchmarks/results/records.py`) and measures its peer in the same run.
Those of reliability go into `reliability.json` in the same folder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .results.pages import render_tables
from .results.records import load_records, replace_records

FOLDER = Path(__file__).resolve().parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "disable"}
OWN_FILES = dict.fromkeys(
    ("bench_reliability.py", "bench_ingest_faults.py", "bench_safety.py", "bench_links.py"), "reliability.json"
) | {
    "bench_guards.py": "guards.json",
    "bench_novelty.py": "novelty.json",
    "bench_scale.py": "scale.json",
}
"""Files, beside the target, of the benchmarks whose tables have a section of their own."""


def main() -> int:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench.json")
    records: dict[Path, list[dict[str, Any]]] = {}
    for script in sorted(FOLDER.glob("bench_*.py")):
        print(script.name, file=sys.stderr, flush=True)
        # defaults come first, so that a benchmark run by hand with other threads can be repeated here
        run = subprocess.run(
            [sys.executable, str(script)], env=ENVIRONMENT | os.environ, stdout=subprocess.PIPE, text=True, check=False
        )
        if run.returncode != 0:
            print(f"{script.name}: expected exit code 0, got {run.returncode}; its error stands above", file=sys.stderr)
            return 1
        path = target.with_name(OWN_FILES.get(script.name, target.name))
        records.setdefault(path, []).extend(json.loads(run.stdout))
    for path, rows in records.items():
        replace_records(path, rows, ("benchmark",))  # those of `make fuzz` stay
        print(render_tables(load_records(path)), end="\n\n")
        print(f"{len(rows)} records in {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
