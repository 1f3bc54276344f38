"""Steps back of a clock are told from messages that overtook each other, and are the same for all topics."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets.bags.clock_steps import Line, find_cuts, find_steps
from supple.errors import SourceError

NS = 10**9
MS = 10**6


def count(messages: int, period: int = 10) -> Any:
    """Times of so many messages, ns; the period in ms."""
    return np.arange(messages, dtype=np.int64) * period * MS


def make_line(time: Any, log_time: Any = None, group: Any = None) -> Line:
    log_time = time if log_time is None else log_time
    return Line(time, log_time, np.zeros(len(time), np.int64) if group is None else group, time is not log_time)


@given(size=st.integers(110, 5000), at=st.integers(1, 999), jitter=st.integers(0, 9))
def test_a_step_is_found_where_it_is(size: int, at: int, jitter: int) -> None:
    time = count(1000) + np.random.default_rng(jitter).integers(0, jitter * MS + 1, 1000)
    time[at:] -= size * MS + 20 * MS
    assert find_steps(time) == [at]


@given(late=st.integers(0, 900), rows=st.sets(st.integers(1, 998), max_size=5))
def test_messages_that_were_overtaken_are_no_step(late: int, rows: set[int]) -> None:
    time = count(1000)
    for row in rows:
        if not {row - 1, row + 1} & rows:
            time[row] -= late * MS
    assert find_steps(time) == []


def test_two_publishers_of_different_delay_are_no_step() -> None:
    # one sends at 100 Hz with stamps 0.3 s old, the other at 10 Hz with fresh ones
    time = np.concatenate([count(1000) - 300 * MS, count(100, 100)])
    order = np.argsort(np.concatenate([count(1000), count(100, 100)]), kind="stable")
    assert find_steps(time[order]) == []


def test_a_slow_topic_is_cut_where_a_fast_one_shows_the_step() -> None:
    # 3 s back behind message 500 of the fast topic; the slow one sends at 4.9 s and at 5.1 s + 3 s, and shows no step
    fast = count(1000)
    fast[500:] -= 3 * NS
    group = np.repeat([0, 1], 500)
    slow = np.array([0, 4900, 5100, 8000], np.int64) * MS - np.array([0, 0, 3000, 0]) * MS
    cuts = find_cuts(
        {"fast": make_line(fast, None, group), "slow": make_line(slow, None, np.array([0, 0, 1, 1]))}, "bag"
    )
    assert cuts.rows == {"fast": [500], "slow": [2]}
    assert cuts.sizes == [3 * NS - 10 * MS]


def test_a_file_with_one_topic_behind_the_other_is_cut_by_what_each_shows_or_refused() -> None:
    time = count(1000)
    time[500:] -= 3 * NS
    lines = {name: make_line(time, None, np.repeat([first, first + 1], 500)) for name, first in (("a", 0), ("b", 2))}
    assert find_cuts(lines, "bag").rows == {"a": [500], "b": [500]}
    once_more = time.copy()
    once_more[800:] -= 1 * NS
    lines["a"] = make_line(once_more, None, np.repeat([0, 1, 1, 1], 250))
    with pytest.raises(SourceError, match=r"bag: expected messages in the order in which they came, .* got one topic"):
        find_cuts(lines, "bag")
    # without a step nobody minds
    assert find_cuts(
        {name: line._replace(log_time=count(1000), time=count(1000)) for name, line in lines.items()}, "bag"
    )


def test_stamps_that_were_set_back_beside_a_clock_that_goes_on_are_refused() -> None:
    time = count(1000)
    stamps = time.copy()
    stamps[500:] -= 2 * NS
    lines = {"stamped": make_line(stamps, time), "logged": make_line(time)}
    with pytest.raises(SourceError, match=r"topic stamped by 2 s, and that of logged by 0 s; give both clock = 'log'"):
        find_cuts(lines, "bag")
    also = make_line(stamps[::7].copy(), time[::7].copy())
    assert find_cuts({"stamped": lines["stamped"], "also": also}, "bag").rows == {"stamped": [500], "also": [72]}
