"""An append-only log of what the safety layer did, one JSON object per line, from which a latched stop is read back.

Every record has `sequence` (0, 1, ... without a gap), `monotonic` (seconds of the monotonic clock, which starts anew at
each boot) and `event`: `open`, `clamps` (counts since the last such record), `stop` or `rearm`. A record is one write
to a file opened for appending; `stop` and `rearm` are on the disk before the call returns.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import RobotFault
from ..strict_json import parse_json


class AuditLog:
    """The log of one robot cell; one process at a time has it open."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Opens or creates the log, and finds out whether a stop is still latched.

        Args:
            path: The log, one JSON object per line.
            clock: Monotonic time, seconds.

        Raises:
            RobotFault: The log cannot be written, another process has it open, or a record in it is damaged or missing.
        """
        self._path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._sequence = 0
        self._tokens: set[str] = set()
        self._stop_reason: str | None = None
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RobotFault(
                f"{self._path}: expected an audit log, got '{error}'; choose a folder that can be written"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._replay()
            self.append("open", unix=time.time(), pid=os.getpid())
        except BlockingIOError as error:
            os.close(self._file)
            raise RobotFault(
                f"{self._path}: expected to be alone, got another process with this robot; end that process first"
            ) from error
        except RobotFault:
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
            facts: JSON values; a non-finite number is written as a string.
        """
        with self._lock:
            self._write(event, facts)

    def stop(self, reason: str, **facts: Any) -> None:
        """Latches a stop and puts it on the disk; a stop that is latched already keeps its first reason.

        Args:
            reason: Why, for people.
            facts: JSON values.
        """
        with self._lock:
            self._stop_reason = self._stop_reason or reason
            self._write("stop", {"reason": reason, **facts})
            os.fsync(self._file)

    def rearm(self, token: str) -> None:
        """Ends a stop.

        Args:
            token: A string that was never used before in this log, so that no program re-arms in a loop by chance; the
                log keeps its sha256.

        Raises:
            RobotFault: The token is empty or was used before, or nothing is stopped.
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        with self._lock:
            if not token or digest in self._tokens:
                raise RobotFault("rearm: expected a new token, got a used or empty one; ask the operator for a new one")
            if self._stop_reason is None:
                raise RobotFault("rearm: expected a stopped robot, got an armed one; keep the token for a stop")
            self._write("rearm", {"token_sha256": digest, "ended": self._stop_reason})
            os.fsync(self._file)
            self._tokens.add(digest)
            self._stop_reason = None

    def close(self) -> None:
        """Closes the log; the latch is read back from it next time."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _write(self, event: str, facts: dict[str, Any], prefix: bytes = b"") -> None:
        record = {"sequence": self._sequence, "monotonic": self._clock(), "event": event, **facts}
        line = prefix + (json.dumps(_jsonable(record), allow_nan=False) + "\n").encode()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise RobotFault(
                f"{self._path}: expected to append a record, got '{error}'; stop, and repair the disk"
            ) from error
        if written != len(line):
            raise RobotFault(f"{self._path}: expected room for a record, got a full disk; stop, and free space")
        self._sequence += 1

    def _replay(self) -> None:
        """Reads the records of earlier processes. A torn last record (a kill, a power cut) counts as a stop."""
        content = self._path.read_bytes()
        *lines, tail = content.split(b"\n")
        torn = False
        for number, line in enumerate(lines):
            try:
                record = parse_json(line, dict, self._path, RobotFault, "keep it as evidence")
                event, sequence, ended = record["event"], record["sequence"], record.get("torn", False)
            except (RobotFault, KeyError):
                torn = True
                continue
            if sequence != self._sequence or torn != ended:
                raise RobotFault(
                    f"{self._path}:{number + 1}: expected record {self._sequence} and whole records before it, got "
                    f"record {sequence}; keep the file as evidence and start a new log once the robot was inspected"
                )
            torn = False
            self._sequence += 1
            if event == "stop":
                self._stop_reason = self._stop_reason or str(record.get("reason"))
            elif event == "rearm":
                self._stop_reason = None
                self._tokens.add(str(record.get("token_sha256")))
        if torn or tail:
            self._stop_reason = self._stop_reason or "the last record of the audit log is torn"
            self._write("stop", {"reason": self._stop_reason, "torn": True}, prefix=b" torn\n" if tail else b"")
            os.fsync(self._file)


def _jsonable(value: Any) -> Any:
    """`value` with every non-finite float as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
