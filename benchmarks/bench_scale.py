"""Ingest of many files by one worker and by two, paired: each round does both, one after the other.

Prints a JSON list of records (schema: `benchmarks/results/records.py`): rows per second of the whole command, and the
median of the ratios of the rounds. `low` and `high` bound the middle 95 % of the rounds. The stores of both sides have
one digest, which is checked in each round. Processes begin before the clock does, as their start is a matter of seconds
and not of rows.

    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py
"""

import io
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_bags import MAPPING, MESSAGES, make_payloads, write_bag
from bench_datasets import Record, compare
from mcap.writer import CompressionType
from recording import print_records

from supple.datasets import open_store, write_d4rl
from supple.pipeline.executors import ProcessExecutor
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.progress import PlainProgress
from supple.pipeline.settings.ingest import IngestConfig
from supple.pipeline.stage import Machine, run_stage
from supple.pipeline.stages.ingest import Parts, make_ingest

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_scale.py"
ROUNDS = 5
BAGS, FILES = 8, 8
ROWS = 400_000
"""Of each HDF5 file: 29 axes, as a kitchen has, and 9 of the action; 62 MB."""


def load(path: Path) -> None:
    """A job that loads what an ingest needs."""
    from supple.datasets import source_ingest
    from supple.datasets.bags import reader

    assert source_ingest
    assert reader
    time.sleep(0.5)  # so that each worker gets one


def time_ingest(folder: Path, out: Path, executor: ProcessExecutor) -> tuple[float, str, int]:
    """Seconds of the whole stage, digest and rows of the store."""
    mapping = folder.with_name("map.toml") if folder.name == "bags" else None
    stage = make_ingest([folder], IngestConfig(mapping=mapping), None, Parts(out.with_name("parts"), executor))
    quiet = PlainProgress(io.StringIO(), io.StringIO())
    began = time.perf_counter()
    made = run_stage(replace(stage, folder=out), Machine(tensorboard=False), quiet)
    seconds = time.perf_counter() - began
    store = open_store(made.folder)
    return seconds, store.digest, store.rows


def measure(folder: Path, place: Path, name: str) -> list[Record]:
    """Both sides in turn."""
    times, rows = [], 0
    with closing(ProcessExecutor(1, StopRequest())) as one, closing(ProcessExecutor(2, StopRequest())) as two:
        list(one.run(load, [folder]))
        list(two.run(load, [folder, folder]))
        for number in range(ROUNDS):
            found = {}
            for side in (one, two) if number % 2 else (two, one):
                with tempfile.TemporaryDirectory(dir=place) as out:
                    seconds, digest, rows = time_ingest(folder, Path(out) / "made", side)
                found[side] = (seconds, digest)
            assert found[one][1] == found[two][1]
            times.append((found[two][0], found[one][0]))
    return compare(
        ("2 workers", "1 worker"),
        "rows ingested per second",
        {"files": name},
        np.array(times),
        (rows, rows),
        "1 worker",
    )


def main() -> list[Record]:
    with tempfile.TemporaryDirectory() as temporary:
        place, records = Path(temporary), []
        bags, files = place / "bags", place / "files"
        bags.mkdir()
        files.mkdir()
        (place / "map.toml").write_text(f'action_source = "next_state"\n{MAPPING}')
        payloads = make_payloads(False)
        for number in range(BAGS):
            write_bag(bags / f"log{number}.mcap", payloads, CompressionType.ZSTD)
        records += measure(bags, place, f"{BAGS} bags of {MESSAGES} JointState messages, MCAP with zstd")
        for number in range(FILES):
            rng = np.random.default_rng(number)
            arrays = {
                "observations": rng.normal(size=(ROWS, 29)).astype(np.float32),
                "actions": rng.uniform(-1, 1, (ROWS, 9)).astype(np.float32),
                "rewards": np.zeros(ROWS, np.float32),
                "terminals": np.zeros(ROWS, np.bool_),
                "timeouts": np.arange(ROWS) % 280 == 279,
            }
            write_d4rl(files / f"log{number}.hdf5", arrays)
        records += measure(files, place, f"{FILES} D4RL files of {ROWS} rows, 38 axes")
    return records


if __name__ == "__main__":
    began = time.perf_counter()
    print_records("scale", COMMAND, began, main())
