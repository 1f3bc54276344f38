"""Intermediate results on disk, one line each, so that a replay that was killed goes on where it was.

A line is the crc32 of a JSON object, a space and the object. A line that a kill cut off, and all behind it, is dropped
when the file is opened again. What was computed now is read back from its line, so that it is the same as in a replay
that never stopped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError, RunError

Made = Callable[[], Mapping[str, Any]]


class Kept:
    """Results of one part of a replay by name, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier process left, and opens the file; its folder is made.

        Args:
            path: `<part>.jsonl`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part = path.stem
        self._found: dict[str, dict[str, Any]] = {}
        whole = 0
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                value = _parse(line)
                if value is None:
                    break
                self._found[value["name"]] = value["result"]
                whole += len(line)
        self._file = path.open("ab", buffering=0)
        os.ftruncate(self._file.fileno(), whole)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def read_or_make(self, name: str, make: Made) -> dict[str, Any]:
        """The result of that name; it is made, and kept, where there is none.

        Args:
            name: Unique in the part.
            make: Computes it: JSON values alone, all numbers finite.

        Raises:
            ConfigError: A number is not finite.
            RunError: The disk is full.
        """
        if name not in self._found:
            result = dict(make())
            try:
                text = json.dumps({"name": name, "result": result}, allow_nan=False)
            except ValueError as error:
                raise ConfigError(
                    f"replay, {self._part}, result '{name}': expected finite numbers, got some that overflow; compare "
                    "the numbers of the log with the robot's units (supple inspect), or leave the part out (--parts)"
                ) from error
            body = text.encode()
            self._write(b"%08x %s\n" % (zlib.crc32(body), body))
            self._found[name] = json.loads(text)["result"]
        return self._found[name]

    def _write(self, line: bytes) -> None:
        """Writes a whole line; a disk that is full may take a part of one, which the next process drops."""
        try:
            written = self._file.write(line)
        except OSError as error:
            raise RunError(
                f"{self._file.name}: expected space for a result, got {error.strerror}; free some, then replay again"
            ) from error
        if written != len(line):
            raise RunError(
                f"{self._file.name}: expected space for a result of {len(line)} bytes, got {written}; free some, then "
                "replay again"
            )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None where the line is not whole."""
    check, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body):
        return None
    value: dict[str, Any] = json.loads(body)
    return value
