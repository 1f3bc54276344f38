"""How much memory an ingest takes: recordings of several sizes, from the disk to a verified store.

Prints a JSON list of records: peak resident memory of `supple ingest` in MiB, and megabytes of source per second of the
processor. The MCAP logs hold joint states at 500 Hz, one of them with pictures as a robot's log has; pictures are
checked, and not decoded. Each is one episode. The other sources are one episode each 1000 rows. With `--gigabytes` the
largest size is given; all lie in a temporary folder.

    OMP_NUM_THREADS=1 python benchmarks/bench_memory.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_bags import JOINTS, KIND, TYPES, make_payloads
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from recording import print_records

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_memory.py"
PICTURE_BYTES = 100_000
PICTURES_PER_JOINTS = 15
"""One picture behind so many joint states: 33 Hz."""
ROWS = 1000
"""Of an episode."""
DIM = 30


def write_bag(path: Path, most_bytes: float, *, pictures: bool = True) -> list[str]:
    """An MCAP log of about so many bytes; returns arguments of `supple ingest`."""
    payloads, picture = make_payloads(False)[:10_000], np.random.default_rng(0).bytes(PICTURE_BYTES)
    with path.with_suffix(".mcap").open("wb") as stream:
        writer = McapWriter(stream, compression=CompressionType.NONE)
        writer.start("ros2", "benchmark")
        text = TYPES.generate_msgdef(KIND, ros_version=2)[0]
        joints = writer.register_channel("/joint_states", "cdr", writer.register_schema(KIND, "ros2msg", text.encode()))
        camera = writer.register_channel(
            "/camera", "cdr", writer.register_schema("robot/msg/Picture", "ros2msg", b"uint8[] data")
        )
        index = 0
        while stream.tell() < most_bytes:
            when = 1_700_000_000 * 10**9 + index * 2_000_000
            # the stamps repeat every 20 s, so the recorder's clock counts
            writer.add_message(joints, when, payloads[index % len(payloads)], when)
            if pictures and index % PICTURES_PER_JOINTS == 0:
                writer.add_message(camera, when, picture, when)
            index += 1
        writer.finish()
    mapping = path.with_suffix(".toml")
    mapping.write_text(_write_mapping())
    return [str(path.with_suffix(".mcap")), "--mapping", str(mapping)]


def _write_mapping() -> str:
    axes = ", ".join(f'"{name}"' for name in JOINTS)
    units = ", ".join('"rad"' for _ in JOINTS)
    signal = f'topic = "/joint_states"\nfield = "position"\naxes = [{axes}]\nunits = [{units}]\n'
    return (
        'period = 0.002\naction_source = "next_state"\n[[topic]]\nname = "/joint_states"\nclock = "log"\n'
        f'[[signal]]\nfeature = "observation"\n{signal}[[signal]]\nfeature = "action"\n{signal}'
    )


def write_hdf5(path: Path, most_bytes: float) -> list[str]:
    """A D4RL file."""
    rows = int(most_bytes / (4 * (2 * DIM + 3))) // ROWS * ROWS
    block = np.random.default_rng(0).standard_normal((ROWS * 50, DIM)).astype(np.float32)
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for name in ("observations", "actions"):
            data = file.create_dataset(name, (rows, DIM), np.float32)
            for start in range(0, rows, len(block)):
                data[start : start + len(block)] = block[: min(len(block), rows - start)]
        file["rewards"] = np.zeros(rows, np.float32)
        file["terminals"] = np.zeros(rows, np.bool_)
        file["timeouts"] = np.arange(rows) % ROWS == ROWS - 1
    return [str(path.with_suffix(".hdf5"))]


def write_parquet(path: Path, most_bytes: float) -> list[str]:
    """A LeRobotDataset of version 3 in files of about 100 MB."""
    per_file = 400_000 // ROWS * ROWS
    block = np.random.default_rng(0).standard_normal((per_file, DIM)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), DIM)
    (path / "data/chunk-000").mkdir(parents=True)
    (path / "meta").mkdir()
    written = files = 0
    while written < most_bytes:
        row = files * per_file + np.arange(per_file)
        table = pa.table(
            {
                "observation.state": column,
                "action": column,
                "timestamp": (row % ROWS / 50).astype(np.float32),
                "frame_index": row % ROWS,
                "episode_index": row // ROWS,
                "index": row,
                "task_index": np.zeros(per_file, np.int64),
            }
        )
        file = path / f"data/chunk-000/file-{files:03d}.parquet"
        pq.write_table(table, file, compression="none", use_dictionary=False)
        written, files = written + file.stat().st_size, files + 1
    features = {name: {"dtype": "float32", "shape": [DIM], "names": None} for name in ("observation.state", "action")}
    info = {"codebase_version": "v3.0", "robot_type": "arm", "fps": 50, "features": features}
    facts = {"total_episodes": files * per_file // ROWS, "total_frames": files * per_file}
    (path / "meta/info.json").write_text(json.dumps(info | facts))
    return [str(path), "--observation-units", "rad", "--action-units", "rad"]


SOURCES: dict[str, Callable[[Path, float], list[str]]] = {
    "MCAP with pictures": write_bag,
    "MCAP of joint states": partial(write_bag, pictures=False),
    "D4RL HDF5": write_hdf5,
    "LeRobot Parquet": write_parquet,
}


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
"""
"""What a small process does: a peak counts from the fork on, and this process holds the source that it has written."""


def measure(arguments: list[str], out: Path) -> tuple[float, float]:
    """Peak resident memory of an ingest, MiB, and its seconds of the processor."""
    command = [sys.executable, "-m", "supple", "ingest", *arguments, "--out", str(out)]
    told = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
    peak, seconds = map(float, told.stdout.split())
    return peak, seconds


def count_megabytes(path: Path) -> float:
    """Of a file or folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Measures every source in a quarter of the largest size and in that size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the largest source")
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), help="names of sources")
    options = parser.parse_args()
    began = time.perf_counter()
    records: list[dict[str, Any]] = []
    for name in options.sources:
        for gigabytes in (options.gigabytes / 4, options.gigabytes):
            with tempfile.TemporaryDirectory() as place:
                arguments = SOURCES[name](Path(place) / "source", gigabytes * 1e9)
                megabytes = count_megabytes(Path(arguments[0]))
                peak, seconds = measure(arguments, Path(place) / "out")
            at = {"gigabytes": round(megabytes / 1000, 2)}
            records.append(
                {"method": name, "metric": "peak resident memory, MiB", "at": at, "mean": round(peak), "n": 1}
            )
            rate = round(megabytes / seconds, 1)
            records.append(
                {"method": name, "metric": "MB of source per second of the processor", "at": at, "mean": rate, "n": 1}
            )
            print(records[-2:], file=sys.stderr, flush=True)
    command = COMMAND if options.gigabytes == 1.0 else f"{COMMAND} --gigabytes {options.gigabytes:g}"
    print_records("memory", command, began, records)


if __name__ == "__main__":
    main()
