"""The display while stages run: a live line on a terminal, plain lines elsewhere, or JSON records.

Progress goes to stderr, so that stdout holds only results; with `--json` every event is one JSON record per line of
stdout.
"""

import json
import sys
from collections.abc import Mapping
from time import monotonic
from typing import IO, Any, Literal, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from ..errors import make_printable

PLAIN_PERIOD = 5.0
"""Time between two plain lines, seconds."""
JSON_PERIOD = 1.0
"""Shortest time between two JSON progress records, seconds."""
LIVE_PERIOD = 0.1
"""Shortest time between two updates of the live line, seconds."""


def format_duration(seconds: float) -> str:
    """`3725` as `1:02:05`; unknown as `-:--`."""
    if not 0 <= seconds < 1e8:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_metrics(metrics: Mapping[str, Any], limit: int = 6) -> str:
    """The first few numbers as `name value`, without the step and the clock."""
    shown = [(name, value) for name, value in metrics.items() if name not in {"step", "wall_s", "time"}]
    numbers = [f"{name} {value:.4g}" for name, value in shown if isinstance(value, int | float)]
    return "  ".join(numbers[:limit])


class Rate:
    """Steps per second and the time left, over the last updates (exponential window of about 30 s)."""

    def __init__(self, step: float, total: float | None) -> None:
        self.total = total
        self._step, self._time = step, monotonic()
        self.per_s = 0.0

    def update(self, step: float) -> None:
        """Takes the step reached by now."""
        now = monotonic()
        span = now - self._time
        if span < 0.05:
            return
        latest = (step - self._step) / span
        weight = 1.0 if self.per_s == 0.0 else min(1.0, span / 30.0)
        self.per_s += weight * (latest - self.per_s)
        self._step, self._time = step, now

    def compute_eta(self, step: float) -> float:
        """Seconds left; -1 where unknown."""
        if self.total is None or self.per_s <= 0:
            return -1.0
        return max(0.0, (self.total - step) / self.per_s)


class ProgressView(Protocol):
    """Consumer of what stages report."""

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
        """A stage begins, or goes on, at `step` of `total` units."""

    def update(self, step: float, metrics: Mapping[str, Any]) -> None:
        """The stage reached `step`."""

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None:
        """A stage is published (`made`, `resumed`), was already there (`skipped`) or was taken over (`reused`)."""

    def note(self, text: str) -> None:
        """One line for a person; a record with `event: note` for a machine."""

    def record(self, event: str, facts: Mapping[str, Any], text: str) -> None:
        """A result: `facts` for a machine, `text` for a person (empty: nothing)."""

    def close(self) -> None:
        """Leaves the terminal clean."""


class JsonProgress:
    """One JSON record per line, for machines."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._stage, self._unit = "", "step"
        self._rate = Rate(0, None)
        self._shown = 0.0

    def _write(self, facts: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(facts, allow_nan=False) + "\n")
        self._stream.flush()

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
        """See ProgressView."""
        self._stage, self._unit, self._rate, self._shown = stage, unit, Rate(step, total), monotonic()
        self._write({"event": "start", "stage": stage, "step": step, "total": total, "unit": unit})

    def update(self, step: float, metrics: Mapping[str, Any]) -> None:
        """See ProgressView; at most one record per second."""
        self._rate.update(step)
        if monotonic() - self._shown < JSON_PERIOD:
            return
        self._shown = monotonic()
        eta = self._rate.compute_eta(step)
        facts = {"event": "progress", "stage": self._stage, "step": step, "total": self._rate.total, "unit": self._unit}
        facts |= {"per_s": round(self._rate.per_s, 3), "eta_s": round(eta, 1) if eta >= 0 else None}
        self._write({**facts, "metrics": dict(metrics)})

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None:
        """See ProgressView."""
        self._write({"event": "finish", "stage": stage, "status": status, "folder": folder, "wall_s": round(wall_s, 3)})

    def note(self, text: str) -> None:
        """See ProgressView."""
        self._write({"event": "note", "text": text})

    def record(self, event: str, facts: Mapping[str, Any], text: str) -> None:
        """See ProgressView."""
        self._write({"event": event, **facts})

    def close(self) -> None:
        """See ProgressView."""
        self._stream.flush()


class PlainProgress:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, stream: IO[str], results: IO[str], period: float = PLAIN_PERIOD) -> None:
        self._stream, self._results, self._period = stream, results, period
        self._stage, self._unit = "", "step"
        self._rate = Rate(0, None)
        self._shown = 0.0

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
        """See ProgressView."""
        self._stage, self._unit, self._rate, self._shown = stage, unit, Rate(step, total), monotonic()
        begin = f"goes on at {step:g}" if step else "starts"
        self.note(f"{stage}: {begin}" + (f", {total:g} {unit}s" if total else ""))

    def update(self, step: float, metrics: Mapping[str, Any]) -> None:
        """See ProgressView."""
        self._rate.update(step)
        if monotonic() - self._shown >= self._period:
            self._shown = monotonic()
            self.note(f"{self._stage}: {describe(step, self._rate, self._unit)}  {format_metrics(metrics)}")

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None:
        """See ProgressView."""
        self.note(describe_end(stage, status, folder, wall_s))

    def note(self, text: str) -> None:
        """See ProgressView."""
        print(escape(text.rstrip()), file=self._stream, flush=True)

    def record(self, event: str, facts: Mapping[str, Any], text: str) -> None:
        """See ProgressView."""
        if text:
            print(escape(text), file=self._results, flush=True)

    def close(self) -> None:
        """See ProgressView."""
        self._stream.flush()


def escape(text: str) -> str:
    """Lines of text for a terminal, in which names from files have no codes of a terminal left."""
    return "\n".join(map(make_printable, text.split("\n")))


def describe(step: float, rate: Rate, unit: str) -> str:
    """`1200/5000 updates  96.1 updates/s  0:40 left`."""
    place, *left = describe_place(step, rate, unit).split("  ")
    return "  ".join([place, f"{rate.per_s:.1f} {unit}s/s", *left])


def describe_place(step: float, rate: Rate, unit: str) -> str:
    """`1200/5000 updates  0:40 left`."""
    total = f"/{rate.total:.0f}" if rate.total else ""
    left = f"  {format_duration(rate.compute_eta(step))} left" if rate.total else ""
    return f"{step:.0f}{total} {unit}s{left}"


def describe_end(stage: str, status: str, folder: str, wall_s: float) -> str:
    """`extract: made in 2:31, runs/demo/extract`."""
    if status in ("skipped", "reused"):
        return f"{stage}: {status}, {folder} (made in {format_duration(wall_s)})"
    return f"{stage}: {status} in {format_duration(wall_s)}, {folder}"


class LiveProgress:
    """Two live lines on a terminal: a bar with the time left, and the rate with the newest metrics, cut at the edge."""

    def __init__(self, results: IO[str]) -> None:
        short = Column(no_wrap=True, overflow="ellipsis")
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=short),
            BarColumn(None, table_column=Column(ratio=1, min_width=6, max_width=24)),
            TextColumn("{task.fields[text]}", table_column=short),
            auto_refresh=False,
            expand=True,
        )
        self._line = Text(no_wrap=True, overflow="ellipsis", style="dim")
        self._console = Console(stderr=True)
        self._live = self._make_live()
        self._results = results
        self._task: TaskID | None = None
        self._unit = "step"
        self._rate = Rate(0, None)
        self._shown = 0.0

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
        """See ProgressView."""
        self._rate, self._unit = Rate(step, total), unit
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(stage, total=total, completed=int(step), text="")
        self._line.plain = ""
        self._live.start()

    def _make_live(self) -> Live:
        """New lines below all that was printed; lines that were stopped would overwrite it when they start again."""
        return Live(Group(self._bar, self._line), console=self._console, transient=True)

    def update(self, step: float, metrics: Mapping[str, Any]) -> None:
        """See ProgressView."""
        self._rate.update(step)
        if self._task is None or monotonic() - self._shown < LIVE_PERIOD:
            return
        self._shown = monotonic()
        self._bar.update(self._task, completed=step, text=describe_place(step, self._rate, self._unit))
        numbers = format_metrics(metrics, 8).replace("_", " ")
        self._line.plain = f"  {self._rate.per_s:.1f} {self._unit}s/s  {numbers}"

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None:
        """See ProgressView."""
        self._stop()
        self.note(describe_end(stage, status, folder, wall_s))

    def note(self, text: str) -> None:
        """See ProgressView."""
        self._console.print(escape(text), highlight=False, markup=False, soft_wrap=True)

    def record(self, event: str, facts: Mapping[str, Any], text: str) -> None:
        """See ProgressView; a result that shares the terminal does not run into the live lines."""
        if text:
            self._stop_live()
            print(escape(text), file=self._results, flush=True)
            if self._task is not None:
                self._live.start()

    def _stop(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._stop_live()

    def _stop_live(self) -> None:
        self._live.stop()
        self._live = self._make_live()

    def close(self) -> None:
        """See ProgressView."""
        self._stop()


def make_progress(mode: Literal["auto", "json"]) -> ProgressView:
    """JSON records on stdout where asked for; else a live line on a terminal and plain lines elsewhere."""
    if mode == "json":
        return JsonProgress(sys.stdout)
    return LiveProgress(sys.stdout) if sys.stderr.isatty() else PlainProgress(sys.stderr, sys.stdout)
