"""The screen of `supple adapt --live`: one panel that is renewed in place, readable at 80 columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..adapt.guards import Signals
from .intervals import compute_interval
from .progress import describe_end, format_duration

PERIOD = 0.1
"""Shortest time between two updates, seconds."""
SHOWN = 40
"""Newest episodes in the line of returns."""
RECENT = 10
"""Newest episodes of the mean return and its interval."""
EVENTS = 4
"""Newest things that the guards or a person did."""
_BARS = "▁▂▃▄▅▆▇█"


class AdaptView:
    """A `ProgressView` of one adaptation."""

    def __init__(self, results: IO[str], console: Console | None = None) -> None:
        """Shows on stderr, and prints results to `results`."""
        self._console = console or Console(stderr=True)
        self._results = results
        self._live: Live | None = None
        self._total: float | None = None
        self._began = self._shown = 0.0
        self._episode = 0
        self._returns: list[float] = []
        self._success: list[float] = []
        self._guard: dict[str, Any] = {}
        self._signals = Signals()
        self._interventions = 0
        self._robot_seconds = 0.0
        self._latencies: deque[float] = deque(maxlen=10_000)
        self._events: deque[str] = deque(maxlen=EVENTS)

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
        """See ProgressView."""
        self._total, self._began, self._episode = total, monotonic(), int(step)
        self._live = Live(self.render(), console=self._console, auto_refresh=False)
        self._live.start()

    def update(self, step: float, metrics: Mapping[str, Any]) -> None:
        """See ProgressView."""
        self._episode = int(step)
        self.refresh(force=True)

    def record(self, event: str, facts: Mapping[str, Any], text: str) -> None:
        """See ProgressView; takes in what belongs to the adaptation."""
        if event == "episode":
            self._take_episode(facts)
        elif event == "guarded":
            self._guard = dict(facts)
        elif event == "guard":
            self._events.append(f"{facts['episode']}  {facts['event']}: {facts['reason']}")
        elif event == "helped":
            self._events.append(f"{facts['episode']}  {facts['taken_over']} steps by a person; played again")
        elif text:
            self._stop()
            print(text, file=self._results, flush=True)

    def _take_episode(self, facts: Mapping[str, Any]) -> None:
        if facts["episode"] > len(self._returns) or not self._returns:
            self._returns += [float("nan")] * (facts["episode"] - len(self._returns))
            self._success += [float("nan")] * (facts["episode"] - len(self._success))
            self._rows: list[float] = []
            self._solved: list[float] = []
        self._rows.append(facts["return"])
        self._returns[-1] = float(np.mean(self._rows))
        if "success" in facts:
            self._solved.append(float(facts["success"]))
            self._success[-1] = float(np.mean(self._solved))

    def show(self, signals: Signals, latencies: Sequence[float], robot_seconds: float) -> None:
        """Takes in what was seen of the last episode.

        Args:
            signals: Of the commands.
            latencies: Seconds from an observation to the next command.
            robot_seconds: Motion since the last call.
        """
        self._signals = signals
        self._interventions += signals.taken_over
        self._robot_seconds += robot_seconds
        self._latencies.extend(value for value in latencies if np.isfinite(value))
        if signals.taken_over:
            self._events.append(f"{self._episode + 1}  {signals.taken_over} steps by a person")

    def refresh(self, *, force: bool = False) -> None:
        """Draws anew, at most every `PERIOD`."""
        if self._live is not None and (force or monotonic() - self._shown >= PERIOD):
            self._shown = monotonic()
            self._live.update(self.render(), refresh=True)

    def render(self) -> Panel:
        """The panel as it stands."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, min_width=13)
        table.add_column(overflow="ellipsis", no_wrap=True)
        total = f" of {self._total:g}" if self._total else ""
        seconds = max(self._robot_seconds, self._guard.get("robot_seconds", 0.0))
        elapsed = format_duration(monotonic() - self._began)
        table.add_row("episode", f"{self._episode}{total}   robot {format_duration(seconds)}   in all {elapsed}")
        table.add_row("return", _describe(self._returns))
        table.add_row("", Text(_draw(self._returns[-SHOWN:]), style="green"))
        if np.isfinite(self._success).any():
            table.add_row("success", _describe(self._success))
        guard = self._guard
        if guard:
            table.add_row("policy moved", f"{guard['step_kl']:.3g} nats, {guard['prior_kl']:.3g} from the prior policy")
            fallen = "   THE PRIOR POLICY ACTS" if guard["fallen"] else ""
            table.add_row("updates", f"{guard['updates']}   rolled back {guard['rollbacks']}{fallen}")
        unknown = "" if np.isnan(self._signals.unknown) else f"   unknown states {self._signals.unknown:.2f}"
        clamped = f"{100 * self._signals.clamped:.1f} % of commands"
        table.add_row("clamped", f"{clamped}{unknown}")
        if self._interventions:
            table.add_row("by a person", f"{self._interventions} steps")
        if self._latencies:
            middle, late = 1e3 * np.quantile(list(self._latencies), (0.5, 0.99))
            table.add_row("act", f"{middle:.2f} ms, 1 of 100 above {late:.2f} ms")
        for index, event in enumerate(self._events):
            table.add_row("" if index else "last", Text(event, overflow="ellipsis", no_wrap=True))
        return Panel(table, title="adapt", title_align="left", width=min(80, self._console.width))

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None:
        """See ProgressView."""
        self._stop()
        self.note(describe_end(stage, status, folder, wall_s))

    def note(self, text: str) -> None:
        """See ProgressView; above the panel while there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            if not self._console.is_terminal:  # rich ends its last line on a terminal alone
                self._console.line()

    def close(self) -> None:
        """See ProgressView."""
        self._stop()


def _describe(values: Sequence[float]) -> str:
    """`0.72   last 10: 0.65 [0.50, 0.81]`."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-"
    recent = known[-RECENT:]
    interval = compute_interval(recent)
    return f"{known[-1]:.4g}   last {len(recent)}: {interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _draw(values: Sequence[float]) -> str:
    """Values as a line of bars."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    top = len(_BARS) - 1
    bars = (_BARS[round(top * (value - low) / span) if span else 0] if np.isfinite(value) else " " for value in values)
    return "".join(bars)
