"""Damaged recordings of every format are read or refused in one line: no other exception, no crash, no hang."""

from pathlib import Path

import pytest

from supple.errors import SuppleError
from tests.datasets import fuzz_readers
from tests.datasets.fuzz_readers import CHECKED, LAYOUTS, QUICK, Counts, Job, fuzz
from tests.datasets.mutations import BOMBS

MUTANTS = 300
"""Of each layout."""
MOST_BYTES = 2**30
"""Of resident memory, most of it for the bombs as they are made."""


@pytest.mark.timeout(600)
def test_damaged_recordings_are_read_or_refused(tmp_path: Path) -> None:
    found = dict(fuzz(tmp_path, 0, [Job(layout, 0, MUTANTS) for layout in QUICK]))
    assert list(found) == list(QUICK)
    for layout, counts in found.items():
        assert counts.injected == MUTANTS
        assert (counts.outcomes["crashed"], counts.outcomes["hung"]) == (0, 0), (layout, counts.faults)
        assert counts.outcomes["detected"] > 0.4 * MUTANTS, (layout, counts.outcomes)
        assert counts.peak_bytes < MOST_BYTES, layout
        assert layout not in CHECKED or counts.outcomes["silent"] == 0, (layout, counts.faults)


def test_every_layout_has_a_bomb() -> None:
    assert set(BOMBS) == set(LAYOUTS)


def test_a_late_child_is_ended_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPLE_FUZZ_WAITS_AT", "1")
    monkeypatch.setattr(fuzz_readers, "PATIENCE", 0.05)  # it takes no time of the processor
    counts = dict(fuzz(tmp_path, 0, [Job("ogbench", 0, 2), Job("spirl", 0, 2)], seconds=50.0))
    assert [one.injected for one in counts.values()] == [2, 2]
    assert [[fault["mutant"] for fault in one.faults] for one in counts.values()] == [[1], [1]]
    assert [one.outcomes["hung"] for one in counts.values()] == [1, 1]


def test_a_dead_child_is_a_crash_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPLE_FUZZ_DIES_AT", "1")
    ((_, counts),) = fuzz(tmp_path, 0, [Job("ogbench", 0, 3)])
    assert counts.injected == 3
    assert [fault["mutant"] for fault in counts.faults] == [1]
    assert counts.outcomes["crashed"] == 1
    assert "exit code -6" in counts.faults[0]["reason"]


def test_silent_damage_is_a_fault_where_there_is_a_checksum() -> None:
    counts = Counts()
    counts.add("ogbench", 3, "silent", "")
    counts.add("spirl", 4, "silent", "")
    assert counts.faults == [{"mutant": 3, "outcome": "silent", "reason": ""}]
    assert counts.injected == 2


def test_mutants_do_not_depend_on_where_a_run_begins(tmp_path: Path) -> None:
    def outcomes(first: int, last: int) -> dict[str, int]:
        ((_, counts),) = fuzz(tmp_path / str(first), 1, [Job("ogbench", first, last)])
        return counts.outcomes

    whole, head, tail = outcomes(0, 40), outcomes(0, 15), outcomes(15, 40)
    assert whole == {name: head[name] + tail[name] for name in whole}


def test_an_error_is_one_line_whatever_a_file_calls_itself() -> None:
    assert str(SuppleError("a\nb\x1b[31m: ü")) == "a\\nb\\x1b[31m: ü"
