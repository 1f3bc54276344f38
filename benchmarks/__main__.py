"""Runs every `bench_*.py` of this folder in a process of its own, prints the tables and writes all records to one file.

    python benchmarks                          writes runs/bench.json
    python benchmarks docs/results/speed.json  what the README shows; then: python -m supple.pipeline.results

Each benchmark prints a JSON list of records (`pipeline/result_records.py`) and measures its peer in the same run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from supple.pipeline.result_records import load_records
from supple.pipeline.results import render_tables

FOLDER = Path(__file__).resolve().parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "disable"}


def main() -> int:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench.json")
    records = []
    for script in sorted(FOLDER.glob("bench_*.py")):
        print(script.name, file=sys.stderr, flush=True)
        # defaults come first, so that a benchmark run by hand with other threads can be repeated here
        run = subprocess.run(
            [sys.executable, str(script)], env=ENVIRONMENT | os.environ, stdout=subprocess.PIPE, text=True, check=False
        )
        if run.returncode != 0:
            print(f"{script.name}: expected exit code 0, got {run.returncode}; its error stands above", file=sys.stderr)
            return 1
        records += json.loads(run.stdout)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(records, indent=1) + "\n")
    print(render_tables(load_records(target)))
    print(f"\n{len(records)} records in {target}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
