"""A command in a forked process that dies, or gets an error of the system, at one of its file operations.

Operations are writes, fsyncs, renames, and new files and folders: whatever changes the disk. They are counted inside
the process, where Python hands them to the system, in all its threads.
"""

import builtins
import io
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_tell = os.write
KINDS = {"o": "open", "w": "write", "s": "fsync", "r": "rename", "d": "mkdir"}
"""Operations by the letter that a child tells its parent before each."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at operation number `at`, counted from 0."""

    at: int
    error: int | None = None
    """Of `errno`, raised instead of the operation and of all later ones of its kind; None kills the process."""
    torn: bool = False
    """Whether a write is done by half before."""


class _File(io.FileIO):
    """A file whose writes are counted."""

    counter: "_Counter"

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        torn = self.counter.count("w", str(self.name))
        if torn:
            super().write(view[: len(view) // 2])
            self.counter.act()
        return super().write(view) or 0


class _Counter:
    """Counts operations below a folder, and acts at one."""

    def __init__(self, folder: Path, fault: Fault | None, pipe: int) -> None:
        self._folder, self._fault, self._pipe = str(folder), fault, pipe
        self._done = 0
        self._failing = ""

    def count(self, kind: str, path: str) -> bool:
        """Counts one; True where the caller shall do half of it and then `act`."""
        if not path.startswith(self._folder):
            return False
        number, fault = self._done, self._fault
        self._done += 1
        _tell(self._pipe, kind.encode())
        if fault is None or (number != fault.at and self._failing != kind):
            return False
        if fault.torn and kind == "w":
            return True
        self._failing = kind
        self.act()
        return False

    def act(self) -> None:
        """Dies, or raises."""
        assert self._fault is not None
        if self._fault.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self._fault.error, os.strerror(self._fault.error))

    def install(self) -> None:
        """Puts itself between this process and the system."""
        _File.counter = self
        plain_open, descriptor_paths = io.open, Path("/proc/self/fd")

        def open_file(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **named: Any) -> Any:
            kinds = {"w", "a", "x", "+"}
            if isinstance(file, int) or not kinds & set(mode):
                return plain_open(file, mode, buffering, *args, **named)
            if not os.path.exists(file):
                self.count("o", os.fspath(file))
            raw = _File(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **named)

        builtins.open = io.open = open_file

        def wrap(name: str, kind: str, where: Callable[..., str]) -> None:
            plain = getattr(os, name)

            def call(*args: Any, **named: Any) -> Any:
                self.count(kind, where(*args))
                return plain(*args, **named)

            setattr(os, name, call)

        wrap("fsync", "s", lambda handle: os.readlink(descriptor_paths / str(handle)))
        for name in ("rename", "replace"):
            wrap(name, "r", lambda source, target: os.fspath(target))
        wrap("mkdir", "d", lambda path, *_: os.fspath(path))


def run_command(
    arguments: Sequence[str],
    folder: Path,
    log: Path,
    fault: Fault | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Runs `supple` with these arguments in a forked process.

    Args:
        arguments: Of the command line.
        folder: Operations below it count.
        log: Gets what is printed.
        fault: What happens; None for nothing.
        prepare: Called in the child before it begins.

    Returns:
        The exit code, negative for a signal, and the operations as letters, see `KINDS`.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            from supple.pipeline import cli

            with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
                try:
                    prepare()
                    _Counter(folder, fault, writer).install()
                    code = cli.main(arguments)
                except BaseException:
                    traceback.print_exc()
                    raise
        finally:
            os._exit(code)
    os.close(writer)
    told = b""
    while block := os.read(reader, 65536):
        told += block
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.decode()
