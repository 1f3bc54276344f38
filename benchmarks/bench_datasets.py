"""How fast data moves: windows from the sampler against a loop, and D4RL HDF5 to a store against a file copy.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). A round times both sides one after the other,
so that a busy machine slows both; `low` and `high` bound the middle 95 % of the rounds, a ratio is the median of their
ratios. Both sides of the ingest sync their files to the disk; ours also hashes source and store, and checks every
value.

    OMP_NUM_THREADS=1 python benchmarks/bench_datasets.py
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.datasets import D4RLReader, WindowSampler, write_d4rl, write_store

ROWS, EPISODE_ROWS = 1_000_000, 200
WINDOW, OBSERVATION, ACTION = 10, 4, 2
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_datasets.py"
Record = dict[str, Any]


def time_of(action: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def cpu_time_of(action: Callable[[], object]) -> float:
    """Seconds of the processor that one call takes: what else runs on the machine does not count."""
    start = time.process_time()
    action()
    return time.process_time() - start


def summarise(rates: NDArray[np.float64], digits: int) -> Record:
    """Median and the middle 95 % of the rounds."""
    low, middle, high = (round(float(value), digits) for value in np.percentile(rates, [2.5, 50, 97.5]))
    return {"mean": middle, "low": low, "high": high, "n": len(rates)}


def compare(
    names: tuple[str, str], metric: str, at: Record, times: NDArray[np.float64], amounts: tuple[float, float], peer: str
) -> list[Record]:
    """Three records from the seconds of each round, shape (rounds, 2): both rates and the ratio of ours to theirs."""
    rates = np.array(amounts) / times
    digits = 0 if rates.min() > 1000 else 1
    common = {"at": at, "metric": metric}
    records = [common | {"method": name} | summarise(rates[:, side], digits) for side, name in enumerate(names)]
    ratio = round(float(np.median(rates[:, 0] / rates[:, 1])), 2)
    records.append(
        common | {"method": names[0], "metric": f"{metric} against {names[1]}", "ratio": ratio, "peer": peer}
    )
    return records


def measure_sampler(batch: int, rounds: int) -> list[Record]:
    """Windows per second of one thread, against a Python loop that cuts and stacks windows."""
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((ROWS, OBSERVATION)).astype(np.float32)
    action = rng.standard_normal((ROWS, ACTION)).astype(np.float32)
    start = np.arange(0, ROWS, EPISODE_ROWS)
    sampler = WindowSampler(observation, action, start, np.full(len(start), EPISODE_ROWS), WINDOW)
    batches, loops = 500_000 // batch, 20_000 // batch

    def ours() -> None:
        for _ in range(batches):
            sampler.sample(batch, rng)

    def loop() -> None:
        for _ in range(loops):
            rows = [
                int(start[rng.integers(len(start))] + rng.integers(EPISODE_ROWS - WINDOW + 1)) for _ in range(batch)
            ]
            np.stack([observation[row : row + WINDOW] for row in rows])
            np.stack([action[row : row + WINDOW] for row in rows])

    ours(), loop()
    times = np.array([(time_of(ours), time_of(loop)) for _ in range(rounds)])
    peer = "a Python loop that draws, cuts and stacks one window at a time"
    at = {"batch": batch}
    return compare(("sampler", "loop"), "windows_per_s", at, times, (batches * batch, loops * batch), peer)


def measure_ingest(folder: Path, observation_dim: int, rounds: int) -> list[Record]:
    """Megabytes of HDF5 per second until the store is published, against copying and syncing the file."""
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((ROWS, observation_dim)).astype(np.float32)
    row = np.arange(ROWS)
    arrays = {
        "observations": observation,
        "actions": observation[:, :2],
        "rewards": np.zeros(ROWS),
        "terminals": np.zeros(ROWS),
        "timeouts": row % EPISODE_ROWS == EPISODE_ROWS - 1,
        "infos/goal": observation[:, :2],
    }
    source = write_d4rl(folder / "play.hdf5", arrays)

    def ingest() -> None:
        reader = D4RLReader(source)
        spec = reader.describe()
        write_store(folder / "store", reader.episodes(), spec.schema, spec.provenance, rows=spec.rows)

    def copy() -> None:
        shutil.copyfile(source, folder / "copy")
        descriptor = os.open(folder / "copy", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    times = []
    for _ in range(rounds + 1):
        times.append((time_of(ingest), time_of(copy)))
        shutil.rmtree(folder / "store")
        (folder / "copy").unlink()
    megabytes = source.stat().st_size / 1e6
    source.unlink()
    peer = "copying the HDF5 file, synced, not checked"
    at = {"observation_dim": observation_dim}
    names = ("hdf5_to_zarr", "file_copy")
    return compare(names, "mb_per_s", at, np.array(times[1:]), (megabytes, megabytes), peer)


def main() -> None:
    """Measures everything and prints the records."""
    began = time.perf_counter()
    records = [record for batch in (128, 1024) for record in measure_sampler(batch, rounds=7)]
    with tempfile.TemporaryDirectory() as folder:
        for observation_dim, rounds in ((4, 7), (60, 5)):
            records += measure_ingest(Path(folder), observation_dim, rounds)
    print_records("datasets", COMMAND, began, records)


if __name__ == "__main__":
    main()
