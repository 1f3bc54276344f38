"""Metrics of a stage: metrics.jsonl, the source of truth, and TensorBoard events beside it.

One JSON record per line. Columns that a clock decides (any name that starts with `wall_` or ends in `_wall_s` or
`_per_s`) stay out of the digest, so that a run that was killed and resumed has the digest of one that never stopped.
"""

import io
import json
import math
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, Self
from uuid import uuid4

from ..errors import RunError
from ..strict_json import load_json_lines
from .evidence import advise_again
from .keys import compute_digest

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_PERIOD = 1.0
"""Shortest time between two TensorBoard records, seconds of the monotonic clock."""


def is_wall_clock(name: str) -> bool:
    """Whether a column is decided by a clock and not by the seed."""
    return name == "time" or name.startswith("wall_") or name.endswith(("_wall_s", "_per_s"))


def load_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, in order.

    Raises:
        RunError: a line is no JSON object.
    """
    return load_json_lines(path, RunError, advise_again(path.parent, "run again"))


def compute_metrics_digest(path: Path) -> str:
    """sha256 over the records without their wall-clock columns."""
    return compute_digest(
        [{name: value for name, value in record.items() if not is_wall_clock(name)} for record in load_metrics(path)]
    )


def make_record(metrics: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    """Metrics as a JSON record: numpy scalars become numbers, non-finite numbers become null."""
    record: dict[str, Any] = {}
    for name, value in metrics.items():
        plain = value.item() if hasattr(value, "item") else value
        record[name] = None if isinstance(plain, float) and not math.isfinite(plain) else plain
    record["wall_s"] = round(wall_s, 3)
    return record


def compute_means(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the numbers in the first record over all records of its kind that have them; truth counts as 1."""
    means, kind = {}, records[0].get("kind")
    alike = [record for record in records if record.get("kind") == kind]
    for name, first in records[0].items():
        if isinstance(first, int | float):
            values = [record[name] for record in alike if isinstance(record.get(name), int | float)]
            means[name] = sum(values) / len(values)
    return means


class EventWriter:
    """A file of TensorBoard events.

    TensorBoard's own writer has a thread, in which a full disk is a traceback that nobody can catch.
    """

    def __init__(self, folder: Path) -> None:
        """Begins a file; `folder` is made."""
        from tensorboard.compat.proto.event_pb2 import Event

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time())}.{socket.gethostname()}.{os.getpid()}.{uuid4().hex[:8]}"
        self._path = folder / name
        self._file = self._path.open("ab", buffering=0)
        self._write(Event(wall_time=time(), file_version="brain.Event:2"))

    def append(self, step: int, numbers: Mapping[str, float]) -> None:
        """One event with a scalar for each number."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write(Event(wall_time=time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        try:
            self._file.write(record.getvalue())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard; can be cut back to a checkpoint.

    Args:
        folder: work folder of the stage.
        keep_bytes: length of metrics.jsonl at the checkpoint from which the stage goes on; later records are cut.
        wall_s: wall-clock time that earlier runs have spent, seconds.
        tensorboard: whether to write events too.

    Raises:
        RunError: metrics.jsonl is shorter than the checkpoint says.
    """

    def __init__(self, folder: Path, keep_bytes: int = 0, wall_s: float = 0.0, tensorboard: bool = True) -> None:
        self.path = folder / METRICS_NAME
        self._file = self.path.open("ab", buffering=0)
        found = self._file.tell()
        if found < keep_bytes:
            self._file.close()
            raise RunError(
                f"{self.path}: expected at least {keep_bytes} bytes at the checkpoint, got {found}; "
                f"{advise_again(folder, 'run again')}"
            )
        self._file.truncate(keep_bytes)
        self._file.seek(keep_bytes)
        self._start = monotonic() - wall_s
        self._events = folder / "tensorboard" if tensorboard else None
        self._writer: EventWriter | None = None
        self._written = -math.inf
        self._newest: dict[str, Any] = {}

    @property
    def wall_s(self) -> float:
        """Wall-clock time spent in this stage by all its runs, seconds."""
        return monotonic() - self._start

    def append(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Writes one record and returns it as written; where the disk refuses, nothing of it."""
        record = make_record(metrics, self.wall_s)
        line, begin = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n"), self._file.tell()
        try:
            while line:  # an unbuffered write may take less than it is given; a buffer would fail again at the exit
                line = line[self._file.write(line) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(begin)
                self._file.seek(begin)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._newest = record
        if monotonic() - self._written >= TENSORBOARD_PERIOD:
            self._append_events()
        return record

    def _append_events(self) -> None:
        if self._events is None or not self._newest:
            return
        numbers = {name: value for name, value in self._newest.items() if isinstance(value, int | float)}
        if self._writer is None:
            self._writer = EventWriter(self._events)
        self._writer.append(int(numbers.pop("step", 0)), numbers)
        self._written = monotonic()
        self._newest = {}

    def sync(self) -> int:
        """Flushes to disk and returns the length of metrics.jsonl in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flushes and closes both files."""
        if not self._file.closed:
            self.sync()
            self._file.close()
        self._append_events()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
