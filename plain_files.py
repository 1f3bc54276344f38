"""Files as all packages read, list and write them: plain ones only, and written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

from .errors import SuppleError

MOST_BYTES = 1 << 30
"""Of a file that is read into memory at once."""


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Names in the order of the numbers in them: demo_2 before demo_10."""
    return sorted(
        names, key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
    )


def read_plain_file(path: Path, error: type[SuppleError], remedy: str, what: str = "a file to read") -> bytes:
    """The bytes of a plain file of at most `MOST_BYTES`; a pipe or device in its place is not waited for.

    Args:
        path: The file.
        error: Raised where it is something else.
        remedy: What to do then.
        what: What it should be, for the message.

    Raises:
        SuppleError: Of the given class.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise error(f"{path}: expected {what}, got a folder, pipe or device; {remedy}")
            if found.st_size > MOST_BYTES:
                raise error(f"{path}: expected at most {MOST_BYTES} bytes, got {found.st_size}; {remedy}")
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(handle)
    except SuppleError:
        raise
    except OSError as problem:
        raise error(f"{path}: expected {what}, got {problem.strerror}; {remedy}") from problem
    except ValueError as problem:  # NUL in the path
        raise error(f"{str(path)!r}: expected {what}, got '{problem}'; {remedy}") from problem


def list_plain_files(root: Path, error: type[SuppleError]) -> Iterator[str]:
    """Paths of all files below `root`, relative to it and with `/`.

    Raises:
        SuppleError: Of the given class, for a link or a special file, or a name that is not UTF-8.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if not name.isprintable():
                    raise error(f"{str(root / name)!r}: expected a name of printable UTF-8, got another; remove it")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name
                else:
                    raise error(
                        f"{root / name}: expected a plain file, got a link or special file; copy it with cp -rL"
                    )


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder on its path, is hidden: systems leave such beside files that they copy."""
    return any(part.startswith(".") for part in name.split("/"))


def require_place(path: Path, error: type[SuppleError]) -> None:
    """Refuses the name of a file that cannot be written, before much is done for it.

    Args:
        path: The file; its folder need not be there.
        error: Raised where it is a folder, or lies in one that nothing can be written to.

    Raises:
        SuppleError: Of the given class.
    """
    if path.is_dir():
        raise error(f"{path}: expected the name of a file, got a folder; pass a file in it as --out")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"{path}: expected a place to write to, got {folder}, which takes no files; pass another --out")


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Writes a file so that a reader sees all of it or none, whoever else writes it: beside its name, synced, renamed.

    Raises:
        OSError: It cannot be written, with its name; what was there before is unchanged.
    """
    beside = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with beside.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:  # nobody has heard of the file beside it
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Returns when the bytes of a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
