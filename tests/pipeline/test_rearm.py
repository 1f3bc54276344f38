"""A person, and no program, ends a stop."""

import json
from pathlib import Path
from typing import Any

import pytest

from supple.adapt.audit import AuditLog
from supple.pipeline.cli import main


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    folder = tmp_path / "adapt.partial"
    folder.mkdir()
    log = AuditLog(folder / "audit.jsonl")
    log.stop("smoke")
    log.close()
    return folder / "audit.jsonl"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["rearm", *arguments, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_a_code_of_the_list_ends_the_stop_once(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run([str(stopped)], capsys)
    assert (shown["stop_reason"], shown["armed"], shown["codes"]) == ("smoke", False, [])
    first, second = run([str(stopped.parent), "--issue", "2"], capsys)["codes"]
    assert len({first, second}) == 2
    assert run([str(stopped.parents[1] / "adapt"), "--code", first], capsys)["armed"]
    log = AuditLog(stopped)
    assert log.stop_reason is None
    log.stop("fire")
    log.close()
    assert main(["rearm", str(stopped), "--code", first]) == 2
    assert "expected a code that was issued for this log and never used" in capsys.readouterr().err
    assert run([str(stopped), "--code", second], capsys)["armed"]


def test_codes_are_printed_for_people(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rearm", str(stopped), "--issue", "1"]) == 0
    printed = "".join(capsys.readouterr())
    assert "stopped: smoke" in printed
    assert "1 codes, each for one stop" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected an audit log, or a folder with audit.jsonl, got none"),
        (["--issue", "-1"], "issue: expected"),
        (["--issue", "1000"], "issue: expected"),
    ],
)
def test_what_is_no_log_is_refused(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rearm", str(tmp_path / "nothing"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_log_of_a_finished_stage_is_left_alone(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tiny_run / "adapt" / "audit.jsonl").read_bytes()
    assert main(["rearm", str(tiny_run / "adapt"), "--issue", "1"]) == 2
    assert "got that of a finished stage; nothing is stopped" in capsys.readouterr().err
    assert (tiny_run / "adapt" / "audit.jsonl").read_bytes() == before


def test_a_person_who_looks_at_the_log_of_a_simulator_does_not_make_it_a_real_robot(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, simulator=True)
    log.stop("NaN")
    log.close()
    assert main(["rearm", str(path)]) == 0
    assert AuditLog(path, simulator=True).stop_reason is None
