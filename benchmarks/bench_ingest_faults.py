"""Whether an ingest survives kills and errors of the system: a whole store or none, and the same one from a rerun.

Prints a JSON list of records. A small ingest is killed at every file operation (write, fsync, rename, new file or
folder), once before it and once behind half of it, and gets "no space left" and "too many open files" from every
operation on. A larger one is killed at random moments. `tests/pipeline/file_operations.py` says how. The counts:

    injected   kills that ended the process, or errors
    detected   of the kills of the larger one: those that landed while it was at work; else all that did no harm:
               killed, or refused in one line, or only what lies beside the result was hurt
    silent     stores that are neither whole nor absent, or that differ from that of an uninterrupted run in the end
    crashed    tracebacks, and commands that failed when they were given again
    hung       starts that showed no sign of life

    python benchmarks/bench_ingest_faults.py
"""

import argparse
import errno
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from recording import print_records

from supple.datasets import write_d4rl
from supple.pipeline.testing_kills import Kills, kill_stage, run_whole

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.pipeline.file_operations import Fault
from tests.pipeline.ingest_faults import Outcomes, SmallIngest

COMMAND = "python benchmarks/bench_ingest_faults.py"
FILES, ROWS, AXES = 3, 400_000, 24
KILLS, SEED = 200, 0
ROUND = 10
"""Kills behind which the counts are kept."""
METRIC = "a fault, then the same command again"


def measure_small(folder: Path) -> list[Mapping[str, Any]]:
    """Every operation of a small ingest."""
    ingest = SmallIngest(folder)
    places = range(len(ingest.operations))
    kinds = {
        "ingest, SIGKILL at every write, fsync, rename, new file and folder": [Fault(at) for at in places],
        "ingest, SIGKILL behind half of every write": [
            Fault(at, torn=True) for at in places if ingest.operations[at] == "w"
        ],
        "ingest, no space left, from every operation on": [Fault(at, errno.ENOSPC, torn=True) for at in places],
        "ingest, too many open files, from every operation on": [Fault(at, errno.EMFILE) for at in places],
    }
    records = []
    for method, faults in kinds.items():
        outcomes = Outcomes()
        for _ in ingest.inject(faults, outcomes):
            pass
        records.append({"method": method, "metric": METRIC} | asdict(outcomes))
        print(records[-1], file=sys.stderr, flush=True)
    return records


def measure_large(folder: Path, kills: int, progress: Path) -> Mapping[str, Any]:
    """Random moments of a larger ingest: reading, writing parts, joining them, publishing.

    Args:
        folder: For sources and stores.
        kills: That have to land.
        progress: File with the counts so far, from which a later run goes on.
    """
    counts = Kills(**json.loads(progress.read_text())) if progress.is_file() else Kills()
    rng = np.random.default_rng([SEED, counts.detected])
    (folder / "logs").mkdir(parents=True)
    for number in range(FILES):
        observation = rng.standard_normal((ROWS, AXES)).astype(np.float32)
        arrays = {
            "observations": observation,
            "actions": observation[:, :8],
            "rewards": np.zeros(ROWS),
            "terminals": np.arange(ROWS) % 200 == 199,
        }
        write_d4rl(folder / "logs" / f"play{number}.hdf5", arrays)
    commands = [
        ["ingest", str(folder / "logs"), "--out", str(folder / name / "ingest")] for name in ("whole", "killed")
    ]
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    pace = run_whole(commands[0], folder / "whole" / "ingest", 600.0)
    store = folder / "whole" / "ingest" / "store"
    megabytes = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) // 10**6
    while counts.detected < kills:
        found = kill_stage(commands[1], "ingest", folder, pace, min(ROUND, kills - counts.detected), rng, 600.0)
        shutil.rmtree(folder / "killed" / "ingest", ignore_errors=True)
        counts = Kills(**{name: value + getattr(found, name) for name, value in asdict(counts).items()})
        progress.parent.mkdir(parents=True, exist_ok=True)
        progress.write_text(json.dumps(asdict(counts)) + "\n")
        print(counts, file=sys.stderr, flush=True)
    method = f"ingest of {FILES} files into a store of {megabytes} MB, SIGKILL at random moments"
    return {"method": method, "metric": METRIC, "seeds": [SEED]} | asdict(counts)


def main() -> None:
    """Measures both, or one of them, and prints the records."""
    parser = argparse.ArgumentParser(description="Kills and errors of the system during an ingest.")
    parser.add_argument("sizes", nargs="*", default=["small", "large"], choices=["small", "large"])
    parser.add_argument("--kills", type=int, default=KILLS, help="of the larger ingest, that have to land")
    progress = Path("runs/ingest-kills.json")
    parser.add_argument("--progress", type=Path, default=progress, help="file from which its kills go on")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = measure_small(Path(place) / "small") if "small" in options.sizes else []
        if "large" in options.sizes:
            found.append(measure_large(Path(place) / "large", options.kills, options.progress))
    print_records("ingest-faults", " ".join([COMMAND, *sys.argv[1:]]), began, found)


if __name__ == "__main__":
    main()
