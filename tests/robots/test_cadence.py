import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.robots.cadence import EDGES_MS, Cadence


class Clock:
    """Time that passes where the test says so; a sleep is as late as `late` says."""

    def __init__(self) -> None:
        self.now, self.late = 100.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.now += seconds + self.late


def test_deadlines_are_absolute_and_late_sleeps_do_not_add_up() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock, clock.sleep)
    clock.late = 0.0015
    for tick in range(1, 101):
        clock.now += 0.004  # the work
        assert cadence.wait() == pytest.approx(0.0015)
        assert clock.now == pytest.approx(100.0 + 0.01 * tick + 0.0015)
    report = cadence.report
    assert (report.periods, report.overruns, report.skipped) == (100, 0, 0)
    assert report.rate == pytest.approx(100.0, rel=2e-3)
    assert report.worst_ms == pytest.approx(1.5)
    assert report.lateness == [0, 0, 0, 0, 100, *[0] * (len(EDGES_MS) - 4)]  # 1 to 2 ms
    assert report.to_json()["edges_ms"] == list(EDGES_MS)


def test_work_that_takes_too_long_is_an_overrun_and_is_not_caught_up_with() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock, clock.sleep)
    clock.now += 0.036
    assert cadence.wait() == pytest.approx(0.026)  # two more deadlines have passed
    assert cadence.wait() == pytest.approx(0.0)
    assert clock.now == pytest.approx(100.04)
    assert (cadence.report.periods, cadence.report.overruns, cadence.report.skipped) == (2, 1, 2)


def test_a_pause_is_no_overrun() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock, clock.sleep)
    assert math.isnan(cadence.report.rate)
    assert cadence.report.to_json()["rate"] is None
    cadence.wait()
    clock.now += 60.0
    cadence.start()
    cadence.wait()
    assert (cadence.report.periods, cadence.report.overruns) == (2, 0)
    assert cadence.report.seconds == pytest.approx(0.02)


@given(st.lists(st.floats(0.0, 0.1), min_size=1, max_size=50))
def test_each_wait_ends_at_or_after_a_deadline_that_has_not_been(work: list[float]) -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock, clock.sleep)
    last = 0
    for seconds in work:
        clock.now += seconds
        late = cadence.wait()
        tick = round((clock.now - late - 100.0) / 0.01)
        assert late >= 0.0
        assert tick > last
        last = tick
    assert sum(cadence.report.lateness) == len(work)
