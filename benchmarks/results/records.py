"""The records of docs/results/*.json: one measured number each, with its interval and the command that made it.

    {"benchmark": "maze", "method": "simpl", "metric": "success_stochastic", "at": {"episode": 40},
     "mean": 0.81, "low": 0.76, "high": 0.86, "n": 30, "seeds": [0, 1, 2], "tasks": "flat_test",
     "command": "supple run maze", "commit": "abc1234", "wall_s": 5120, "machine": "2 cores"}

`at` says where the number stands on its axis. `low` and `high` bound the 95 % interval over tasks and seeds. A speed
record has "ratio" and "peer" instead of a mean. A reliability record counts "injected", "detected", "silent", "crashed"
and "hung".
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from supple.errors import SourceError

COUNTS = ("injected", "detected", "silent", "crashed", "hung")

Key = TypeVar("Key")
Item = TypeVar("Item")

Place = str | float
"""A place on an axis: a stage's name or a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measured number; see the module docstring for the fields."""

    benchmark: str
    method: str
    metric: str
    axis: str = ""
    """The key of `at`, e.g. "episode"; empty for a number that stands on no axis."""
    place: Place = ""
    """The value of `at`."""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    seeds: int = 0
    """How many."""
    tasks: str = ""
    command: str = ""
    ratio: float | None = None
    peer: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def load_records(path: Path) -> tuple[Record, ...]:
    """The records of one file, in its order.

    Raises:
        SourceError: the file is not a JSON list of records, or a record lacks a field or has a non-finite number.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: expected a JSON list of records, got {error}; write it again") from error
    if not isinstance(rows, list):
        raise SourceError(f"{path}: expected a JSON list of records, got {type(rows).__name__}; write it again")
    return tuple(_parse(row, f"{path}[{index}]") for index, row in enumerate(rows))


def replace_records(path: Path, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Writes raw records into a file; those in it that have the same values of `keys` as a new one go.

    Args:
        path: A JSON list of records, or nothing yet.
        rows: The new ones.
        keys: Fields such as "benchmark".
    """
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    new = {tuple(row.get(key) for key in keys) for row in rows}
    kept = [row for row in old if tuple(row.get(key) for key in keys) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*kept, *rows], indent=1) + "\n", encoding="utf-8")


def _parse(row: object, where: str) -> Record:
    if not isinstance(row, dict):
        raise SourceError(f"{where}: expected a record, got {type(row).__name__}; see benchmarks/results/records.py")
    missing = [key for key in ("benchmark", "method", "metric", "command", "commit", "machine") if key not in row]
    if not missing and not ({"mean", "ratio"} & row.keys() or set(COUNTS) <= row.keys()):
        missing = ["mean, ratio or the five counts"]
    if missing:
        raise SourceError(f"{where}: expected the field {missing[0]}, got {sorted(row)}; see records.py")
    numbers = {key: _number(row[key], f"{where}.{key}") for key in ("mean", "low", "high", "ratio") if key in row}
    at = row.get("at") or {}
    if not isinstance(at, dict) or len(at) > 1:
        raise SourceError(f"{where}.at: expected one axis and its value, got {at!r}; write one record for each place")
    axis, place = next(iter(at.items()), ("", ""))
    return Record(
        benchmark=row["benchmark"],
        method=row["method"],
        metric=row["metric"],
        axis=axis,
        place=place,
        n=row.get("n"),
        seeds=len(row.get("seeds", ())),
        tasks=row.get("tasks", ""),
        command=row["command"],
        peer=row.get("peer", ""),
        counts={key: row[key] for key in COUNTS if key in row},
        **numbers,
    )


def _number(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SourceError(f"{where}: expected a finite number or null, got {value!r}; measure it again")
    return float(value)


def group(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by key, both in the order of their first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
