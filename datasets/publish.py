"""Files and folders that appear whole or not at all: written beside their name, synced, renamed.

A rename within one folder is atomic, but only what was synced before it survives a power cut; so files, folders and the
parent are synced in that order.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import SuppleError
from ..plain_files import sync


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
