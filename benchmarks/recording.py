"""How every benchmark prints what it measured: the records' own fields, and those that all records of a run share."""

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def make_records(
    benchmark: str, command: str, began: float, records: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Whole records; the schema is that of `benchmarks/results/records.py`.

    Args:
        benchmark: name of the table that they belong to.
        command: what makes them again, from the repository root.
        began: `time.perf_counter()` when the measurement began.
        records: method, metric, place and value of each; what a record says itself goes before what all share.
    """
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, check=False, capture_output=True, text=True
    )
    common = {
        "benchmark": benchmark,
        "command": command,
        "commit": commit.stdout.strip(),
        "wall_s": round(time.perf_counter() - began, 1),
        "machine": f"{os.cpu_count()} cores",
    }
    return [common | dict(record) for record in records]


def print_records(benchmark: str, command: str, began: float, records: Iterable[Mapping[str, Any]]) -> None:
    """Prints a JSON list of records; arguments as of `make_records`."""
    print(json.dumps(make_records(benchmark, command, began, records), indent=1))
