"""The files of a source: their digest, whether somebody still writes them, and how much they may unpack to.

A source is a file or a folder that somebody else wrote. It is only read; links and special files in it are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..plain_files import list_plain_files
from .manifest import hash_file

MOST_EXPANSION = 200
"""Largest ratio of decoded bytes to bytes on disk; numbers of robots compress to a third at best, constants further."""
FREE_BYTES = 2**26
"""Decoded bytes beyond that ratio which are always allowed, 64 MiB."""
MOST_EPISODE_BYTES = 2**28
"""Of the arrays of one episode, which is held in memory as a whole, 256 MiB: an hour at 1 kHz with 60 bytes for each
step. Those of bags lie on the disk, see `require_episode`."""
_ZIP_END_BYTES = 22
"""Of the record at the end of a zip file, without its comment."""
_MOST_COUNTED = 2**16 - 1
MOST_AXES = 2**14
"""Largest number of axes of one array, as each has a name and a unit."""


def describe_files(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, or of the names and digests of all files below a folder; for the provenance.

    Raises:
        SourceError: a file cannot be read, is a link or a special file, or another process has it open for writing.
    """
    try:
        names = sorted(list_plain_files(path, SourceError)) if path.is_dir() else [""]
        files = {name: path / name if name else path for name in names}
        for file in files.values():
            require_closed(file)
        digests = {name: hash_file(file) for name, file in files.items()}
        size = sum(file.stat().st_size for file in files.values())
    except OSError as error:
        raise SourceError(f"{path}: expected to read it, got '{error.strerror}'; check its rights") from error
    whole = digests[""] if not path.is_dir() else hashlib.sha256(json.dumps(digests, sort_keys=True).encode())
    return {"bytes": size, "sha256": whole if isinstance(whole, str) else whole.hexdigest()}


def count_bytes(path: Path) -> int:
    """Size of a file, or of all files below a folder; raises as `describe_files`."""
    names: Iterator[str] = list_plain_files(path, SourceError) if path.is_dir() else iter([""])
    return sum((path / name if name else path).stat().st_size for name in names)


def require_closed(path: Path) -> None:
    """Refuses a file that another process has open for writing, as far as the system tells: Linux, local disks.

    Raises:
        SourceError: it is being written.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(PermissionError, AttributeError):
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # only where nobody can write through another handle
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError as error:
        raise refuse_growing(path) from error
    except OSError:
        return  # file systems without leases
    finally:
        os.close(handle)


def refuse_growing(path: Path) -> SourceError:
    """The error for a file that is still being written."""
    return SourceError(
        f"{path}: expected a finished file, got one that another process is writing; wait until the recording has ended"
    )


def require_budget(decoded: int, on_disk: int, where: object) -> None:
    """Refuses data that would unpack to far more than what lies on the disk, before any memory is taken.

    Raises:
        SourceError: with both sizes and the limit.
    """
    most = FREE_BYTES + MOST_EXPANSION * on_disk
    if decoded > most:
        raise SourceError(
            f"{where}: expected at most {most} bytes decoded from {on_disk} bytes on disk ({MOST_EXPANSION} times, and "
            f"{FREE_BYTES}), got {decoded}; write the data again without compression if they are what you recorded"
        )


def require_directory(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses a zip file whose directory lists fewer members than it counts: the library passes over damaged entries.

    Raises:
        SourceError: with both numbers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _ZIP_END_BYTES - len(archive.comment)))
        end = file.read(_ZIP_END_BYTES)
    count = int.from_bytes(end[10:12], "little")
    # an archive with more members than this has its count elsewhere
    if count != _MOST_COUNTED and count != len(archive.infolist()):
        raise SourceError(
            f"{path}: expected {count} members as the end of the archive says, got {len(archive.infolist())} in its "
            "directory; copy or download it again"
        )


def require_episode(steps: int, step_bytes: int, where: object, remedy: str, on_disk: int = 0) -> None:
    """Refuses an episode that is too long to be held as a whole, before memory is taken for it.

    Args:
        steps: T.
        step_bytes: Of all its arrays.
        where: The source, for the message.
        remedy: What a person can do.
        on_disk: Size of a source whose long episodes lie on the disk: they may have up to `MOST_EXPANSION` times that.

    Raises:
        SourceError: with its size, the limit, and the remedy.
    """
    most = max(MOST_EPISODE_BYTES, MOST_EXPANSION * on_disk)
    if steps * step_bytes > most:
        raise SourceError(
            f"{where}: expected an episode of at most {most} bytes, got {steps} steps of {step_bytes} bytes; {remedy}"
        )
