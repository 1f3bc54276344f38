"""The clock of a control loop: absolute deadlines, and how well they were met.

Relative sleeps add up the time that the work takes, so that a loop of 250 Hz runs at 238 Hz. Here every deadline is a
multiple of the period after the start, on the monotonic clock.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

EDGES_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Upper ends of the bins of lateness, ms; the last bin has none."""


@dataclass(slots=True)
class CadenceReport:
    """How well the deadlines of a loop were met."""

    periods: int = 0
    """Deadlines that were waited for."""
    overruns: int = 0
    """... of which the work was not done in time."""
    skipped: int = 0
    """Further deadlines that passed meanwhile."""
    seconds: float = 0.0
    """From the start to the last deadline that was waited for."""
    worst_ms: float = 0.0
    """Largest lateness, ms: from a deadline to the moment at which the loop went on."""
    lateness: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    """Deadlines by lateness, in the bins of `EDGES_MS`."""

    @property
    def rate(self) -> float:
        """Periods per second; NaN before the first one."""
        return self.periods / self.seconds if self.seconds > 0.0 else math.nan

    def to_json(self) -> dict[str, Any]:
        """The report and the edges of its bins."""
        return {**asdict(self), "edges_ms": list(EDGES_MS), "rate": None if math.isnan(self.rate) else self.rate}


class Cadence:
    """Waits for one deadline after the other."""

    def __init__(
        self,
        period: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Starts now.

        Args:
            period: Seconds between two deadlines; > 0.
            clock: Monotonic time, seconds.
            sleep: Sleeps so many seconds, or longer.
        """
        self._period, self._clock, self._sleep = period, clock, sleep
        self.report = CadenceReport()
        self.start()

    def start(self) -> None:
        """The next deadline is one period from now; after a pause, such as a reset."""
        self._begin = self._clock()
        self._told = self.report.seconds
        self._tick = 0

    def wait(self) -> float:
        """Returns at the next deadline, or at once where it has passed.

        Further deadlines that have passed are skipped, so that a late loop does not hurry after them.

        Returns:
            Lateness in seconds, >= 0.
        """
        self._tick += 1
        deadline = self._begin + self._tick * self._period
        now = self._clock()
        late = now > deadline
        while now < deadline:
            self._sleep(deadline - now)
            now = self._clock()
        missed = int((now - deadline) / self._period)
        self._tick += missed
        report = self.report
        report.periods += 1
        report.overruns += late
        report.skipped += missed
        report.seconds = self._told + now - self._begin
        report.worst_ms = max(report.worst_ms, 1e3 * (now - deadline))
        report.lateness[bisect_left(EDGES_MS, 1e3 * (now - deadline))] += 1
        return now - deadline
