"""Damages recordings of every format many thousand times and reads each: what became of them, as reliability records.

    make fuzz                                     20,000 mutants of every layout; goes on where the last run stopped
    make fuzz MUTANTS=2000 LAYOUTS="d4rl zarr"

`tests/datasets/fuzz_readers.py` says what is done to a mutant and what the counts mean; `tests/datasets/mutations.py`
how recordings are damaged. Progress lies in `runs/fuzz/<layout>.json`, the records go into
docs/results/reliability.json. `silent` counts damage that reached the episodes unnoticed.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.datasets.fuzz_readers import CHECKED, LAYOUTS, OUTCOMES, Counts, Job, fuzz

from .recording import make_records
from .results.records import replace_records

BATCH = 1000
"""Mutants after which progress is saved; each batch has a child of its own."""
BENCHMARK = "fuzz"
RECORDS = Path("docs/results/reliability.json")


def main() -> int:
    """Runs what is left to do; 1 where a reader crashed or hung, or was silent in spite of a checksum."""
    parser = argparse.ArgumentParser(description="Damages recordings of every format and reads each.")
    parser.add_argument("layouts", nargs="*", default=LAYOUTS, help="layouts of recordings; all by default")
    parser.add_argument("--mutants", type=int, default=20_000, help="of each layout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=Path, default=Path("runs/fuzz"), help="folder that a later run goes on from")
    parser.add_argument("--records", type=Path, default=RECORDS, help="JSON file that gets the records")
    options = parser.parse_args()
    unknown = sorted({*options.layouts} - {*LAYOUTS})
    if unknown:
        parser.error(f"expected layouts among {', '.join(LAYOUTS)}, got {', '.join(unknown)}")
    options.progress.mkdir(parents=True, exist_ok=True)
    bad = 0
    for layout in options.layouts:
        began = time.perf_counter()
        counts = fuzz_layout(layout, options.seed, options.mutants, options.progress)
        bad += counts.outcomes["crashed"] + counts.outcomes["hung"]
        bad += counts.outcomes["silent"] * (layout in CHECKED)
        record = {"method": layout, "metric": "mutants read", "seeds": [options.seed]} | summarise(layout, counts)
        command = f"python -m benchmarks.fuzz {layout} --mutants {counts.injected} --seed {options.seed}"
        replace_records(options.records, make_records(BENCHMARK, command, began, [record]), ("benchmark", "method"))
    print(f"{bad} faults", file=sys.stderr)
    return int(bad > 0)


def fuzz_layout(layout: str, seed: int, mutants: int, folder: Path) -> Counts:
    """Counts of mutants 0 to `mutants` - 1 of a layout; those of an earlier run are taken from its file."""
    file = folder / f"{layout}-{seed}.json"
    counts = Counts(**json.loads(file.read_text())) if file.is_file() else Counts()
    while counts.injected < mutants:
        first = counts.injected
        with TemporaryDirectory() as place:
            job = Job(layout, first, min(mutants, first + BATCH))
            ((_, more),) = fuzz(Path(place) / "in", seed, [job])
        counts.merge(more)
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(asdict(counts), indent=1) + "\n")
        beside.replace(file)
        print(f"\r{layout}: {counts.injected} of {mutants} {counts.outcomes}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return counts


def summarise(layout: str, counts: Counts) -> dict[str, object]:
    """The fields of a reliability record; `harmless` mutants were read as the whole recording."""
    outcomes = {name: counts.outcomes[name] for name in OUTCOMES if name != "same"}
    return {
        "injected": counts.injected,
        **outcomes,
        "harmless": counts.outcomes["same"],
        "checksums": layout in CHECKED,
        "peak_mb": counts.peak_bytes >> 20,
    }


if __name__ == "__main__":
    sys.exit(main())
