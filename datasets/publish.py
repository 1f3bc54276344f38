"""Files and folders that appear whole or not at all: written beside their name, synced, renamed.

A rename within one folder is atomic, but only what was synced before it survives a power cut; so files, folders and the
parent are synced in that order.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ..errors import SuppleError
from ..plain_files import sync

_RENAME_EXCHANGE = 2
_HERE = -100
"""Of the system call `renameat2`: change two places, and paths are relative to the working folder."""


def refuse_existing(path: Path, error: type[SuppleError]) -> None:
    """Raises `error` when anything, a dangling link included, is at `path`."""
    if os.path.lexists(path):
        raise error(f"{path}: expected nothing there yet, got an existing entry; remove it or choose another name")


def publish(partial: Path, path: Path, error: type[SuppleError]) -> None:
    """Gives the finished, synced `partial` its name, and syncs the parent.

    Raises:
        SuppleError: of the given class, when somebody else published under that name meanwhile.
    """
    refuse_existing(path, error)
    try:
        os.rename(partial, path)
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise error(
            f"{path}: expected nothing there yet, got an entry made meanwhile; choose another name"
        ) from problem
    sync(path.parent)


@contextmanager
def making_folder(path: Path, error: type[SuppleError], *, replace: bool = False) -> Iterator[Path]:
    """Gives a folder to write into, and its name when the block ends without an error; else nothing is left of it.

    A writer that dies leaves `<name>.partial-<id>`; the next one of that name removes it. The folder's own files and
    folders must be synced by then.

    Args:
        path: The folder that shall appear.
        error: Raised where it cannot.
        replace: Whether `path` is there already, and is replaced at once: a reader sees the old one or the new one.

    Raises:
        SuppleError: of the given class: something is there, or the file system cannot replace a folder at once.
    """
    if not replace:
        refuse_existing(path, error)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    folder = path.with_name(f"{path.name}.partial-{uuid4().hex}")
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        sync(folder)
        if replace:
            _exchange(folder, path, error)
        else:
            publish(folder, path, error)
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Removes the partial folders of `path` whose writer no longer lives: its lock ended with it."""
    for folder in path.parent.glob(f"{path.name}.partial-*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


@contextmanager
def holding_folder(path: Path) -> Iterator[None]:
    """Holds a folder against others who would replace it, and waits for them; for `making_folder` with `replace`.

    Raises:
        OSError: there is no such folder.
    """
    while True:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock), os.stat(path)):  # else it was replaced meanwhile
                yield
                return
        finally:
            os.close(lock)


def _exchange(partial: Path, path: Path, error: type[SuppleError]) -> None:
    """Changes the places of two folders in one step, and syncs the parent."""
    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(partial), os.fsencode(path))
    call = getattr(library, "renameat2", None)
    failed = call is None or call(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE)
    if failed:
        reason = os.strerror(ctypes.get_errno()) if call is not None else "a C library without renameat2"
        raise error(
            f"{path}: expected a file system that replaces a folder in one step, got '{reason}'; nothing was changed: "
            "write into a new folder with --out"
        )
    sync(path.parent)
