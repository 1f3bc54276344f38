"""How long the command line takes to answer: help, `info` and a run in which every stage is skipped.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). Each round starts every command once, in a
process of its own; `mean` is the median of the rounds, seconds, and `low` and `high` bound them all. `cpu_seconds` is
the time that the processor worked, which a busy machine changes little.

    OMP_NUM_THREADS=1 python benchmarks/bench_cli.py
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from recording import print_records

from supple.pipeline.testing_kills import TINY

ROUNDS = 5
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_cli.py"


def time_command(words: list[str]) -> tuple[float, float]:
    """Seconds from the start of a Python process to its end, and those that the processor worked for it."""
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = ["run", "demo", "--out", str(Path(folder) / "tiny"), *(word for word in TINY if word != "--no-report")]
        time_command(["-m", "supple", *run])
        commands = {
            "python alone": ["-c", "pass"],
            **{f"supple {verb} --help": ["-m", "supple", verb, "--help"] for verb in ("generate", "ingest", "extract")},
            **{f"supple {verb} --help": ["-m", "supple", verb, "--help"] for verb in ("meta-train", "export", "adapt")},
            "supple run demo --help": ["-m", "supple", "run", "demo", "--help"],
            "supple info": ["-m", "supple", "info"],
            "supple run, all stages skipped": ["-m", "supple", *run],
        }
        rounds = [{name: time_command(words) for name, words in commands.items()} for _ in range(ROUNDS)]
    times = {
        (name, metric): [found[name][place] for found in rounds]
        for name in commands
        for place, metric in enumerate(("seconds", "cpu_seconds"))
    }
    print_records(
        "command-line",
        COMMAND,
        began,
        [
            {
                "method": name,
                "metric": metric,
                "mean": round(median(found), 3),
                "low": round(min(found), 3),
                "high": round(max(found), 3),
                "n": ROUNDS,
            }
            for (name, metric), found in times.items()
        ],
    )


if __name__ == "__main__":
    main()
