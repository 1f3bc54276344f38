"""A stop stays a stop: through kills, full disks, flipped bits, and whatever stands in place of the log."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supple.adapt.audit import LATCH, UNFINISHED, AuditLog, History, look_at_log
from supple.errors import RobotFault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def latch_of(path: Path) -> Path:
    return path.with_name(path.name + LATCH)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def find_stop(path: Path) -> str | None:
    """Why a session that begins now is stopped."""
    log = AuditLog(path)
    log.close()
    return log.stop_reason


def write_stopped(path: Path) -> bytes:
    log = AuditLog(path)
    log.append("clamps", commands=3)
    log.stop("fire")
    log.close()
    return path.read_bytes()


def test_a_log_that_was_closed_is_armed_again_and_each_record_names_the_one_before(path: Path) -> None:
    for _ in range(3):
        assert find_stop(path) is None
    found = records(path)
    assert [record["event"] for record in found] == ["open", "close"] * 3
    assert [record["sequence"] for record in found] == list(range(6))
    assert [record["previous"] for record in found] == ["", *(record["digest"] for record in found[:-1])]


def test_whatever_is_appended_is_read_back(path: Path) -> None:
    log = AuditLog(path)
    before = path.read_bytes()
    values = [float("inf"), float("nan"), 10**400, "half a pair \ud800 and \0", object, None, True, {"a": (1, 2)}]
    log.append("clamps", values=values)
    assert path.read_bytes().startswith(before)
    read = records(path)[-1]["values"]
    assert read[:2] == ["inf", "nan"]
    assert read[3] == "half a pair ? and ?"
    assert read[5:] == [None, True, {"a": [1, 2]}]
    log.close()
    assert find_stop(path) is None


def test_one_process_at_a_time_has_the_log(path: Path) -> None:
    log = AuditLog(path)
    with pytest.raises(RobotFault, match="another process"):
        AuditLog(path)
    log.close()
    log.close()
    with pytest.raises(RobotFault, match="append a record"):
        log.append("clamps")
    with pytest.raises(RobotFault, match="expected an open log"):
        log.stop("too late")
    assert log.stop_reason is not None
    AuditLog(path).close()


def test_a_session_that_did_not_end_is_a_stop(path: Path) -> None:
    code = f"import os; from supple.adapt.audit import AuditLog; AuditLog({str(path)!r}); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    log = AuditLog(path)
    assert log.stop_reason == UNFINISHED
    (operator,) = log.issue_codes(1)
    log.close()
    log = AuditLog(path)  # a restart ends nothing
    assert log.stop_reason == UNFINISHED
    log.rearm(operator)
    log.close()
    assert find_stop(path) is None


def test_a_simulator_starts_anew_but_not_where_a_real_robot_moved(path: Path) -> None:
    for _ in range(2):
        log = AuditLog(path, simulator=True)
        assert log.stop_reason is None
        log.stop("NaN")
        log.close()
    assert [record["event"] for record in records(path)] == ["open", "stop", "close", "open", "anew", "stop", "close"]
    AuditLog(path).close()
    log = AuditLog(path, simulator=True)
    assert log.stop_reason == "NaN"


@pytest.mark.parametrize(
    "content",
    [b"# notes\n\nof a person\n", b'{\n  "stage": "adapt"\n}\n', b'{"step": 1}\n{"step": 2}\n', b"\x80\x05K.", b"\n"],
)
def test_a_file_that_is_no_log_is_refused_and_not_written_to(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for simulator in (True, False, None):
        with pytest.raises(RobotFault, match="expected an audit log, got another file"):
            AuditLog(path, simulator=simulator)
    assert path.read_bytes() == content
    assert not latch_of(path).exists()


def test_a_first_record_that_a_kill_cut_off_is_a_log(path: Path) -> None:
    whole = write_stopped(path).splitlines()[0]
    for length in range(len(whole)):
        latch_of(path).unlink(missing_ok=True)
        path.write_bytes(whole[:length])
        AuditLog(path, simulator=True).close()


def test_damage_that_hides_a_real_robot_is_not_renewed_by_a_simulator(path: Path) -> None:
    content = bytearray(write_stopped(path))
    content[content.index(b'"open"') + 2] ^= 1
    path.write_bytes(content)
    log = AuditLog(path, simulator=True)
    assert log.stop_reason is not None
    log.close()
    assert find_stop(path) is not None


@pytest.mark.parametrize("which", ["log", "latch"])
def test_no_flipped_bit_arms_a_stopped_robot(path: Path, which: str) -> None:
    """Each bit of the log, judged without the latch; and of the latch, judged without the log."""
    whole = write_stopped(path)
    file = path if which == "log" else latch_of(path)
    content = file.read_bytes()
    armed = 0
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        if which == "log":
            found = History.of(bytes(damaged))
            armed += found.stop_reason is None and found.damage is None and not found.running
        elif at % 37 == 0:  # each opening writes to the disk
            file.write_bytes(damaged)
            path.write_bytes(whole)
            armed += find_stop(path) is None
    assert armed == 0


def test_no_truncation_arms_a_stopped_robot(path: Path) -> None:
    whole, latch = write_stopped(path), latch_of(path).read_bytes()
    for cut in [*range(0, len(whole), 29), whole.index(b"\n") + 1]:
        path.write_bytes(whole[:cut])
        latch_of(path).write_bytes(latch)
        assert find_stop(path) is not None
    path.write_bytes(whole)
    for cut in range(0, len(latch), 7):
        latch_of(path).write_bytes(latch[:cut])
        assert find_stop(path) == "fire"


def test_a_log_of_which_whole_records_were_cut_off_is_a_stop(path: Path) -> None:
    """The stop and the session that had it are gone; only the latch knows that there was more."""
    assert find_stop(path) is None
    short = path.read_bytes()
    assert find_stop(path) is None
    path.write_bytes(short)
    assert find_stop(path) == "the audit log is not as its last session has left it"
    latch_of(path).unlink()
    path.unlink()
    assert find_stop(path) is None
    latch_of(path).unlink()
    assert find_stop(path) == "the latch file of the audit log is missing"


def test_damage_is_a_stop_until_it_is_acknowledged_and_the_chain_goes_on_from_there(path: Path) -> None:
    write_stopped(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (
        lines[:1] + lines[2:],
        lines[::-1],
        [lines[0], b"x" + lines[1], *lines[2:]],
        lines + lines[:1],
        [*lines, b'{"event": "rearm"}\n'],
        [*lines, b"[" * 300_000 + b"\n"],
        [*lines, lines[0][:-9]],
    ):
        path.write_bytes(b"".join(damaged))
        latch_of(path).unlink(missing_ok=True)
        for _ in range(2):  # the second opening reads what the first one wrote
            assert find_stop(path) is not None
        log = AuditLog(path)
        log.rearm(*log.issue_codes(1))
        log.close()
        assert find_stop(path) is None
        assert path.read_bytes().startswith(b"".join(damaged))
        content = bytearray(path.read_bytes())
        content[5] ^= 1  # the damage itself is under a checksum too, from then on
        path.write_bytes(content)
        assert find_stop(path) is not None


def test_an_unknown_event_is_a_stop(path: Path) -> None:
    log = AuditLog(path)
    log.append("resume")  # as a version of tomorrow may write
    log.close()
    assert find_stop(path) == "the audit log has a record of an unknown event 'resume'"


PLACES: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "link": lambda path: path.symlink_to("elsewhere"),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("which", ["log", "latch"])
def test_what_is_no_plain_file_is_refused_at_once(path: Path, place: str, which: str) -> None:
    if which == "log":
        PLACES[place](path)
        with pytest.raises(RobotFault, match=r"audit\.jsonl: expected"):
            AuditLog(path)
        return
    AuditLog(path).close()
    latch_of(path).unlink()
    PLACES[place](latch_of(path))
    if place == "folder":
        with pytest.raises(RobotFault, match="expected to append a record"):
            AuditLog(path)
    else:
        assert find_stop(path) == "the latch file of the audit log is damaged"


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for name in ("absent/audit.jsonl", "a\0b", "x" * 300):
        with pytest.raises(RobotFault, match="expected an audit log"):
            AuditLog(tmp_path / name)


FULL = """
import resource, sys
from supple.adapt.audit import AuditLog
from supple.errors import RobotFault
log = AuditLog(sys.argv[1])
size = __import__("os").path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    log.append("clamps", text="x" * 100)
    log.stop("fire")
except RobotFault:
    assert log.stop_reason is not None
assert log.stop_reason is not None
try:
    log.close()
except RobotFault:
    pass
print("done")
"""


@pytest.mark.parametrize("room", [0, 1, 150, 300, 400, 600])
def test_a_disk_that_is_full_at_any_byte_loses_no_stop(path: Path, room: int) -> None:
    command = [sys.executable, "-c", FULL, str(path), str(room)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "done\n"
    assert find_stop(path) is not None


def test_a_disk_that_has_room_again_is_written_on_from_the_damage(path: Path) -> None:
    log = AuditLog(path)
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
    try:
        with pytest.raises(RobotFault, match="expected to append a record"):
            log.append("clamps")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.stop_reason == "the audit log cannot be written"
    log.stop("fire")
    log.close()
    assert find_stop(path) is not None
    log = AuditLog(path)
    log.rearm(*log.issue_codes(1))
    log.close()
    assert find_stop(path) is None


class Sessions(RuleBasedStateMachine):
    """Sessions, kills, stops, re-arms and damage in any order: armed only if every stop and all damage was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.path = self.folder / "audit.jsonl"
        self.log: AuditLog | None = None
        self.codes: list[str] = []
        self.stopped = self.damaged = False

    def teardown(self) -> None:
        self.kill()
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()

    @precondition(lambda self: self.log is None)
    @rule()
    def begin(self) -> None:
        self.log, self.damaged = AuditLog(self.path), False

    @precondition(lambda self: self.log is not None)
    @rule()
    def end(self) -> None:
        assert self.log is not None
        self.log.close()
        self.log = None

    @precondition(lambda self: self.log is not None)
    @rule()
    def kill(self) -> None:
        if self.log is not None:
            os.close(self.log._file)  # as a kill does it
            self.log, self.stopped = None, True

    @precondition(lambda self: self.log is not None)
    @rule(reason=st.text(max_size=20))
    def stop(self, reason: str) -> None:
        assert self.log is not None
        self.log.stop(reason)
        self.stopped = True

    @precondition(lambda self: self.log is not None)
    @rule()
    def issue(self) -> None:
        assert self.log is not None
        self.codes += self.log.issue_codes(1)

    @precondition(lambda self: self.log is not None)
    @rule(guess=st.text(max_size=20))
    def guess(self, guess: str) -> None:
        assert self.log is not None
        with pytest.raises(RobotFault):
            self.log.rearm(guess)

    @precondition(lambda self: self.log is not None and self.codes)
    @rule()
    def rearm(self) -> None:
        assert self.log is not None
        if self.stopped:
            code = self.codes.pop()
            self.log.rearm(code)
            self.stopped = False
            with pytest.raises(RobotFault):
                self.log.rearm(code)
        else:
            with pytest.raises(RobotFault, match="expected a stopped robot"):
                self.log.rearm(self.codes[-1])

    @precondition(lambda self: self.log is None and self.path.exists() and not self.damaged)
    @rule(latch=st.booleans(), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
    def damage(self, latch: bool, where: float, bit: int, cut: bool) -> None:
        file = latch_of(self.path) if latch else self.path
        content = bytearray(file.read_bytes())
        at = int(where * len(content))
        if cut:
            del content[at:]
        else:
            content[at] ^= 1 << bit
        file.write_bytes(content)
        self.stopped = self.damaged = True
        self.codes.clear()  # the record that has them may be gone

    @invariant()
    def armed_only_if_nothing_holds(self) -> None:
        if self.log is not None:
            assert (self.log.stop_reason is not None) == self.stopped


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_a_log_that_somebody_knows_of_and_that_is_not_there_is_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).close()
    for place in (path, path.with_name("audit.jsonl.latch")):
        place.unlink()
    log = AuditLog(path, begun=True)
    assert log.stop_reason == "the audit log is missing, although an earlier session had one"
    log.close()
    log = AuditLog(path)
    log.rearm(log.issue_codes(1)[0])
    log.close()
    log = AuditLog(path, begun=True)
    assert log.stop_reason is None
    log.close()


def test_whoever_looks_at_a_log_sees_its_stop_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    latch = path.with_name("audit.jsonl.latch")
    assert look_at_log(path) is None
    log = AuditLog(path, simulator=True)
    assert look_at_log(path) == (False, UNFINISHED)
    log.close()
    assert look_at_log(path) == (False, None)
    log = AuditLog(path)
    log.stop("fire")
    log.close()
    before = (path.read_bytes(), latch.read_bytes())
    assert look_at_log(path) == (True, "fire")
    assert (path.read_bytes(), latch.read_bytes()) == before
    path.write_bytes(before[0].replace(b"fire", b"ice!"))
    assert look_at_log(path).hardware  # type: ignore[union-attr] # nobody knows what it was
    path.unlink()
    state = look_at_log(path)
    assert state is not None
    assert (state.hardware, "expected an audit log" in str(state.stop_reason)) == (True, True)
