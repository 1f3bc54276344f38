"""An append-only log of what the safety layer did, with a chain of checksums, and a latch file that holds a stop.

Every record is one JSON object on a line. It has `sequence` (the number of lines before it), `previous` (the digest of
the record before), `monotonic` (seconds of the monotonic clock, which starts anew at each boot), `event`, and last
`digest`, the sha256 of the line without it. Events: `open` and `close` of a session, `clamps` (counts since the last
such record), `stop`, `rearm`, `codes` (digests of the codes that may re-arm) and `anew` (a simulator starts anew).

A stop is latched in memory first. On the disk it is latched before anything can move: `<log>.latch` says "open" from
the opening on, and "closed", with the digest of the last record, only after a session that ended without a stop. So a
full disk, a kill or a power cut leave a latch that is not "closed", and whatever is not a whole log with the latch that
belongs to it counts as a stop: a damaged, missing, added or unknown record, a damaged or missing latch. A record
`after_damage` holds in `previous` the sha256 of all bytes before it; the chain goes on from there.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RobotFault, make_text
from ..plain_files import MOST_BYTES, read_plain_file, write_durably
from ..strict_json import parse_json

LATCH = ".latch"
"""What the name of the latch file has after that of the log."""
UNFINISHED = "the last session did not end: its process was killed, or the power was cut"
GONE = "the audit log is missing, although an earlier session had one"
_BEGIN = b'{"sequence": '
_EVENT = re.compile(rb'^\{.*"event"')
_SEALED = re.compile(rb'(\{.*), "digest": "([0-9a-f]{64})"\}', re.DOTALL)


@dataclass(slots=True)
class History:
    """What the records of a log say."""

    lines: int = 0
    """Lines, damaged ones included."""
    head: str = ""
    """Digest of the last whole record."""
    stop_reason: str | None = None
    """Why the robot is stopped; None while it is armed."""
    damage: str | None = None
    """The first damage that no later record has taken note of."""
    torn: bool = False
    """Whether that damage is an unfinished last line alone, which a kill may leave."""
    foreign: bool = False
    """Whether no line is an object that names an event: this is no log."""
    running: bool = False
    """Whether the last session was not closed."""
    hardware: bool = False
    """Whether one of the sessions was of a real robot."""
    codes: set[str] = field(default_factory=set)
    """Digests of the codes that may still re-arm."""

    @staticmethod
    def of(content: bytes) -> History:
        """The history in the bytes of a log; damage is found, and never raised."""
        found, before = History(), hashlib.sha256()
        *lines, tail = content.split(b"\n")
        begun = not lines and _BEGIN.startswith(tail[: len(_BEGIN)])  # a kill may leave this of the first record
        found.foreign = not begun and not any(_EVENT.search(line) for line in (*lines, tail))
        for line in lines:
            record = _read_record(line)
            if record is not None and _follows(record, found, before):
                found._take(record)
            elif found.damage is None:
                found.damage = f"record {found.lines} of the audit log is damaged, or none of this log"
            found.lines += 1
            before.update(line + b"\n")
        if tail and found.damage is None:
            found.damage, found.torn = "the last record of the audit log is torn", True
        return found

    def _take(self, record: dict[str, Any]) -> None:
        event = record["event"]
        told = str(record.get("reason")) if event == "stop" else None
        self.stop_reason = self.stop_reason or told or self.damage
        self.head, self.damage = record["digest"], None
        if event == "open":
            self.stop_reason = self.stop_reason or (UNFINISHED if self.running else None)
            self.running = True
            self.hardware |= record.get("simulator") is False
        elif event == "close":
            self.running = False
        elif event == "codes":
            self.codes |= {code for code in record.get("sha256", ()) if isinstance(code, str)}
        elif event == "rearm":
            self.codes.discard(str(record.get("code")))
            self.stop_reason = None
        elif event == "anew":
            self.stop_reason = None
        elif event not in ("stop", "clamps", "limits"):
            self.stop_reason = self.stop_reason or f"the audit log has a record of an unknown event '{event}'"


class LogState(NamedTuple):
    """What a log and its latch say."""

    hardware: bool
    """A real robot may have moved: a session was of one, or damage hides what the sessions were of."""
    stop_reason: str | None
    """Why the robot is stopped; None while it is armed."""


def look_at_log(path: Path) -> LogState | None:
    """What a log and its latch say, for somebody who changes nothing; None where neither is there."""
    latch = path.with_name(path.name + LATCH)
    if not (os.path.lexists(path) or os.path.lexists(latch)):
        return None
    try:
        content = read_plain_file(path, RobotFault, "keep it as evidence", "an audit log")
    except RobotFault as error:
        return LogState(hardware=True, stop_reason=str(error))
    history = History.of(content)
    unknown = history.damage is not None and not history.torn
    return LogState(history.hardware or unknown, _find_stop(history, latch, begun=bool(content)))


def _find_stop(history: History, latch: Path, *, begun: bool) -> str | None:
    """Why a robot is stopped by what its last session has left; None where it is armed."""
    return (
        history.stop_reason
        or history.damage
        or (UNFINISHED if history.running else None)
        or _find_latched(history, latch, begun=begun)
    )


def _find_latched(history: History, latch: Path, *, begun: bool) -> str | None:
    """Why the latch that the last session has left holds; None where it was closed and belongs to the log."""
    if not os.path.lexists(latch):
        return "the latch file of the audit log is missing" if begun else None
    try:
        content = read_plain_file(latch, RobotFault, "keep it as evidence", "a latch file")
        record = _read_record(content.removesuffix(b"\n"))
    except RobotFault:
        record = None
    if record is None:
        return "the latch file of the audit log is damaged"
    if record.get("state") == "stopped":
        return str(record.get("reason"))
    if record.get("state") != "closed":
        return UNFINISHED
    whole = (record.get("head"), record.get("lines")) == (history.head, history.lines)
    return None if whole else "the audit log is not as its last session has left it"


class AuditLog:
    """The log of one robot cell; one process at a time has it open."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Callable[[], float] = time.monotonic,
        *,
        simulator: bool | None = False,
        begun: bool = False,
    ) -> None:
        """Opens or creates the log, and finds out whether a stop is still latched.

        Args:
            path: The log, one JSON object per line; the latch is beside it.
            clock: Monotonic time, seconds.
            simulator: A stop of an earlier session does not hold, since a simulator starts anew and there is nothing to
                inspect. A log in which a real robot moved keeps its stop all the same. None for a person who moves
                nothing.
            begun: Somebody else knows of an earlier session, so that a log that is not there was taken away: a stop.

        Raises:
            RobotFault: The log is no plain file, cannot be written, or another process has it open.
        """
        self._path = Path(path).absolute()  # a driver may change the working directory
        self._latch_path = self._path.with_name(self._path.name + LATCH)
        self._clock = clock
        self._lock = threading.Lock()  # of the files
        self._memory = threading.Lock()  # of the latch in memory; never held while a file is written
        self._stop_reason: str | None = None
        self._stops = 0
        self._torn = self._stop_written = False
        self._file = self._open_alone()
        try:
            self._begin_session(simulator, begun=begun)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def stop_reason(self) -> str | None:
        """Why the robot is stopped; None while it is armed."""
        return self._stop_reason

    def append(self, event: str, **facts: Any) -> None:
        """Appends one record.

        Args:
            event: What happened.
            facts: JSON values; anything else, and a number that is not finite, is written as a text.

        Raises:
            RobotFault: The record is not on the disk.
        """
        with self._lock:
            self._write(event, facts)

    def require_there(self) -> None:
        """Refuses to go on with a log that somebody has deleted or moved: nobody would look for its stop there.

        Raises:
            RobotFault: It is elsewhere, or nowhere; the stop is latched.
        """
        with self._lock:
            if self._file >= 0 and not self._is_there():
                self.latch("the audit log was deleted or moved")
                raise RobotFault(
                    f"{self._path}: expected the audit log where it was, got none; stop, and look who deletes or moves "
                    "it"
                )

    def latch(self, reason: str) -> None:
        """Latches a stop in memory, at once, whatever the disk does; a stop keeps its first reason."""
        with self._memory:
            self._stop_reason = self._stop_reason or reason or "no reason given"
            self._stops += 1

    def stop(self, reason: str, **facts: Any) -> None:
        """Latches a stop, in memory and then on the disk; one that is on the disk already keeps its first reason.

        Args:
            reason: Why, for people.
            facts: JSON values.

        Raises:
            RobotFault: The reason is not on the disk. The stop holds all the same, across restarts too.
        """
        self.latch(reason)
        with self._lock:
            if self._file < 0:
                raise RobotFault(f"{self._path}: expected an open log, got a closed one; the stop holds in memory")
            if self._stop_written:
                return
            try:
                self._write_latch()
            finally:
                self._write("stop", {**facts, "reason": reason}, sync=True)
            self._stop_written = True

    def issue_codes(self, count: int) -> list[str]:
        """Makes codes with which a stop can be ended, each once. The log keeps their sha256 alone: no program has them.

        Args:
            count: How many; > 0.

        Raises:
            RobotFault: The record is not on the disk.
        """
        codes = [base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(count)]
        digests = [_digest(code.encode()) for code in codes]
        with self._lock:
            self._write("codes", {"sha256": digests}, sync=True)
            self._codes.update(digests)
        return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]

    def rearm(self, code: str) -> None:
        """Ends a stop.

        Args:
            code: One of `issue_codes` that was not used yet; the operator has it on paper.

        Raises:
            RobotFault: The code is none of this log or was used before, nothing is stopped, another stop came
                meanwhile, or the re-arm is not on the disk.
        """
        digest = _digest(str(code).replace("-", "").strip().lower().encode("utf-8", "replace"))
        with self._lock:
            with self._memory:
                ended, stops = self._stop_reason, self._stops
            if digest not in self._codes:
                raise RobotFault(
                    "rearm: expected a code that was issued for this log and never used, got another; inspect the "
                    "robot, then take the next code of the operator's list (supple rearm LOG --issue 10 prints one)"
                )
            if ended is None:
                raise RobotFault("rearm: expected a stopped robot, got an armed one; keep the code for a stop")
            self._codes.discard(digest)
            self._write("rearm", {"code": digest, "ended": ended}, sync=True)
            self._end_stop(stops)

    def close(self) -> None:
        """Closes the log, and the latch where nothing is stopped.

        Raises:
            RobotFault: The end of the session is not on the disk: the next one is stopped.
        """
        with self._lock:
            if self._file < 0:
                return
            try:
                self._write("close", {}, sync=True)
                self._write_latch(closed=True)
            finally:
                os.close(self._file)
                self._file = -1

    def _open_alone(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, 0o644)
        except (OSError, ValueError) as error:
            raise RobotFault(
                f"{self._path}: expected an audit log, got '{error}'; choose a folder that can be written"
            ) from error
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
                raise RobotFault(
                    f"{self._path}: expected a plain file of at most {MOST_BYTES} bytes, got another; keep it as "
                    "evidence and start a new log once the robot was inspected"
                )
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise RobotFault(
                f"{self._path}: expected to be alone, got another process with this robot; end that process first"
            ) from error
        except BaseException:
            os.close(file)
            raise
        return file

    def _begin_session(self, simulator: bool | None, *, begun: bool) -> None:
        """Reads what earlier sessions have left, and opens the latch."""
        content = self._read()
        history = History.of(content)
        if history.foreign and not os.path.lexists(self._latch_path):
            raise RobotFault(f"{self._path}: expected an audit log, got another file; name another path")
        self._lines, self._head, self._codes = history.lines, history.head, history.codes
        self._torn = history.damage is not None
        self._stop_reason = _find_stop(history, self._latch_path, begun=bool(content))
        if begun and not content:
            self._stop_reason = self._stop_reason or GONE
        # damage that no kill leaves may have hidden that a real robot moved
        renewed = simulator is True and not history.hardware and (history.damage is None or history.torn)
        if self._stop_reason not in (None, history.stop_reason) and not renewed:
            self._write("stop", {"reason": self._stop_reason}, sync=True)
        if history.running:  # the session that was not closed
            self._write("close", {"reason": UNFINISHED})
        self._write("open", {"unix": time.time(), "pid": os.getpid(), "simulator": simulator})
        if renewed and self._stop_reason is not None:
            self._write("anew", {"ended": self._stop_reason})
            self._stop_reason = None
        self._write_latch()

    def _write_latch(self, *, closed: bool = False) -> None:
        reason = self._stop_reason
        state = "stopped" if reason is not None else "closed" if closed else "open"
        facts = {"state": state, "reason": reason, "head": self._head, "lines": self._lines}
        try:
            write_durably(self._latch_path, _seal(facts)[0])
        except OSError as error:
            raise self._refuse_disk(error) from error

    def _end_stop(self, stops: int) -> None:
        """Ends the stop in memory and in the latch file, unless another has come since there were `stops`."""
        with self._memory:
            self._stop_written = False
            same = stops == self._stops
            held = self._stop_reason
            self._stop_reason = None if same else held
        try:
            self._write_latch()
        except RobotFault:
            with self._memory:
                self._stop_reason = self._stop_reason or held
            raise
        if not same:
            raise RobotFault(f"rearm: expected no stop meanwhile, got '{held}'; inspect the robot, then re-arm again")

    def _read(self) -> bytes:
        """All bytes of the log, by the handle that has the lock."""
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def _write(self, event: str, facts: dict[str, Any], *, sync: bool = False) -> None:
        try:
            prefix = b""
            facts = {**_jsonable(facts), "event": event, "monotonic": _jsonable(self._clock())}
            previous = self._head
            if not self._is_there():
                raise OSError("a log that was deleted or moved")
            if self._torn:
                content = self._read()
                prefix = b"\n" if content and not content.endswith(b"\n") else b""
                self._lines, previous = (content + prefix).count(b"\n"), _digest(content + prefix)
                facts["after_damage"] = True
            line, digest = _seal({"sequence": self._lines, "previous": previous, **facts})
            self._torn = True  # until the whole line is written
            written = os.write(self._file, prefix + line)
            if written != len(prefix + line):
                raise OSError("No space left on device")
            self._torn, self._head, self._lines = False, digest, self._lines + 1
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self.latch("the audit log cannot be written")
            raise self._refuse_disk(error) from error

    def _is_there(self) -> bool:
        """Whether what is written to is what stands at the path."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path, follow_symlinks=False))
        except OSError:
            return False

    def _refuse_disk(self, error: OSError) -> RobotFault:
        return RobotFault(
            f"{self._path}: expected to append a record, got '{error}'; stop, and repair or clear the disk"
        )


def _seal(record: dict[str, Any]) -> tuple[bytes, str]:
    """A record as a line with its digest, and the digest."""
    body = json.dumps(record, allow_nan=False).encode()
    digest = _digest(body)
    return body[:-1] + f', "digest": "{digest}"}}\n'.encode(), digest


def _read_record(line: bytes) -> dict[str, Any] | None:
    """The record on a line; None where it does not have the digest that it names, or is none."""
    sealed = _SEALED.fullmatch(line)
    if sealed is None or _digest(sealed[1] + b"}") != sealed[2].decode():
        return None
    try:
        return parse_json(line, dict, "record", RobotFault, "keep it as evidence")
    except RobotFault:
        return None


def _follows(record: dict[str, Any], found: History, before: Any) -> bool:
    """Whether a record is the next one of a log, or one that takes note of the damage before it."""
    if record.get("sequence") != found.lines or not isinstance(record.get("event"), str):
        return False
    if record.get("after_damage") is True:
        return bool(record.get("previous") == before.hexdigest())
    return found.damage is None and record.get("previous") == found.head


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _jsonable(value: Any) -> Any:
    """`value` as JSON that is read back as it is: what is no JSON, and a number that is not finite, becomes a text."""
    if isinstance(value, dict):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    whole = isinstance(value, bool | None) or (isinstance(value, int) and abs(value) < 2**63)
    if whole or (isinstance(value, float) and math.isfinite(value)):
        return value
    return make_text(value)
