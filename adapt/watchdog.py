"""A second process that stops the robot when the heartbeats of the controlling process cease.

A process that was killed, that hangs or that is held by a debugger leaves a robot that follows its last command. The
watchdog has a connection of its own to the robot, and needs nothing of the process that it watches. It starts as
`python -m supple.adapt.watchdog`, loads neither numpy nor the policy, and does not hear a Ctrl-C. A controlling process
that hangs in its driver does not hear of the stop either: it is interrupted, as by a Ctrl-C. A process that a shell
started in the background ignores that signal; it listens while its robot has a watchdog.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import ConfigError, RobotFault

BEAT, REST, STOP, READY, FIRED, HEARD = b"beat", b"rest", b"stop ", b"ready", b"fired", b"heard"
LONGEST = 1024
"""Bytes of a message; a longer reason of a stop is cut."""
START_TIMEOUT = 30.0
"""Seconds for the second process to start; a loaded machine takes some."""
PATIENCE = 2.0
"""Seconds after a stop in which the controlling process has to hear of it; then it is interrupted, as by a Ctrl-C."""
RETRY_PERIOD = 0.02
"""Seconds between two attempts to stop a robot that does not answer."""


class Watchdog:
    """Heartbeats to a second process, which stops the robot where they cease while it moves."""

    def __init__(self, stop: Callable[..., None], timeout: float, arguments: Sequence[str] = ()) -> None:
        """Starts the second process and waits until it listens.

        Args:
            stop: A function of a module or of a file, called in the second process as `stop(*arguments, reason)`: opens
                a connection of its own to the robot and stops it. It is called again where it raises.
            timeout: Seconds without a heartbeat after which a robot that moves is stopped; some control periods.
            arguments: Texts, such as the robot's address.

        Raises:
            ConfigError: The function cannot be found again by its name.
            RobotFault: The second process does not start.
        """
        function = _find_name(stop)
        self._timeout = timeout
        self._fired: str | None = None
        self._deaf = False
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [
                sys.executable,
                "-m",
                __name__,
                str(theirs.fileno()),
                *function,
                repr(timeout),
                *arguments,
            ]
            # the folder of a user's file is on this process's path, and its function has to be found there as well
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        self._link.settimeout(START_TIMEOUT)
        try:
            answer = self._link.recv(64)
        except OSError as error:
            answer = str(error).encode()
        self._link.setblocking(False)
        if answer != READY:
            self.close()
            raise RobotFault(
                f"watchdog: expected a second process that listens, got '{answer.decode() or 'its end'}'; check that "
                f"{stop.__module__}.{stop.__qualname__} can be imported by itself"
            )
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._deaf = True

    @property
    def pid(self) -> int:
        """Of the second process."""
        return self._process.pid

    @property
    def fired(self) -> str | None:
        """Why the second process has stopped the robot; None where it has not."""
        try:
            answer = self._link.recv(LONGEST)
            self._fired = self._fired or answer.decode("utf-8", "replace") or "it has gone"
            self._link.send(HEARD)
        except BlockingIOError:
            pass  # it has nothing to say
        except OSError:
            self._fired = self._fired or "it has gone"
        return self._fired

    def beat(self) -> None:
        """The robot may move for another `timeout`.

        Raises:
            RobotFault: The second process has stopped the robot, has gone, or does not listen.
        """
        self._tell(BEAT)

    def rest(self) -> None:
        """The robot stands still: no heartbeat is needed until the next one.

        Raises:
            RobotFault: See `beat`.
        """
        self._tell(REST)

    def stop(self, reason: str) -> None:
        """Has the robot stopped now, however long ago the last heartbeat was, and without waiting for it.

        Where it was stopped before, that is enough.

        Args:
            reason: Why, for people.

        Raises:
            RobotFault: The second process has gone, so that nobody hears it.
        """
        if (fired := self.fired) is None:
            self._send((STOP + reason.encode("utf-8", "replace"))[:LONGEST])
        elif not fired.startswith(FIRED.decode()):
            raise RobotFault(f"watchdog: expected a second process that listens, got none: {fired}; cut the power")

    def close(self) -> None:
        """Ends the second process; where the last word was a heartbeat, it stops the robot first."""
        if self._deaf and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._deaf = False
        self._link.close()
        try:
            self._process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, message: bytes) -> None:
        if (reason := self.fired) is not None:
            raise RobotFault(f"watchdog: expected heartbeats within {self._timeout} s, got a stop: {reason}")
        self._send(message)

    def _send(self, message: bytes) -> None:
        try:
            self._link.send(message)
        except OSError as error:
            raise RobotFault(f"watchdog: expected a second process that listens, got '{error}'; stop") from error


def _find_name(function: Callable[..., None]) -> tuple[str, str]:
    """Module or file of a function, and its name there.

    Raises:
        ConfigError: It is a part of something else, or its module has no file.
    """
    module, name = sys.modules.get(getattr(function, "__module__", "")), getattr(function, "__qualname__", "")
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    if not file or not name.isidentifier():
        raise ConfigError(
            f"watchdog stop: expected a function of a module or a file, got {name or function!r}; write `def` at the "
            "outermost level, so that another process can find it"
        )
    if module is not None and module.__name__ != "__main__":
        with suppress(ImportError, ValueError):
            found = importlib.util.find_spec(module.__name__)
            if found is not None and found.origin == getattr(module, "__file__", None):
                return f"module:{module.__name__}", name
    return f"file:{file}", name


def _load(where: str, name: str) -> Callable[..., None]:
    kind, _, place = where.partition(":")
    names: dict[str, Any] = runpy.run_path(place) if kind == "file" else vars(importlib.import_module(place))
    function: Callable[..., None] = names[name]
    return function


def watch(
    link: socket.socket, stop: Callable[[str], None], timeout: float, interrupt: Callable[[], None] = lambda: None
) -> None:
    """Reads heartbeats until the other side has gone; what the second process does.

    Only a heartbeat moves the deadline on, and only the word that the robot rests takes it away. Told to stop,
    it stops the robot at once.

    Args:
        link: To the controlling process.
        stop: Stops the robot, with the reason.
        timeout: Seconds.
        interrupt: Wakes the controlling process where it does not hear of the stop within `PATIENCE`: its driver hangs.
    """
    deadline: float | None = None
    reason, told = "", False
    while not reason:
        try:
            link.settimeout(None if deadline is None else max(1e-6, deadline - time.monotonic()))
            message = link.recv(LONGEST)
        except TimeoutError:
            reason = f"no heartbeat for {timeout} s: the controlling process hangs"
            break
        except OSError:
            message = b""
        if not message:
            if deadline is None:
                return
            reason = "the controlling process has gone"
        elif message == BEAT:
            deadline = time.monotonic() + timeout
        elif message == REST:
            deadline = None
        elif told := message.startswith(STOP):
            reason = message.removeprefix(STOP).decode("utf-8", "replace") or "no reason given"
        # anything else is no heartbeat, and no word that the robot rests: the deadline stands
        if deadline is not None and time.monotonic() > deadline:
            reason = reason or f"no heartbeat for {timeout} s: the controlling process hangs"
    while True:
        try:
            stop(reason)
            break
        except BaseException as error:  # noqa: BLE001 - a robot that does not answer is told again, whatever it raises
            with suppress(Exception):  # the terminal may be gone, and an error may have no text
                print(f"watchdog: the robot could not be stopped: {error!r}", file=sys.stderr, flush=True)
            time.sleep(RETRY_PERIOD)
    with suppress(OSError):
        link.send((FIRED + b" " + reason.encode())[:LONGEST])
        deadline = time.monotonic() + (math.inf if told else PATIENCE)  # who told it needs no waking
        while (left := deadline - time.monotonic()) > 0.0:
            link.settimeout(None if told else left)
            try:
                if (message := link.recv(64)) in (b"", HEARD):
                    break
            except TimeoutError:
                continue
        else:
            interrupt()
            message = HEARD
        link.settimeout(None)
        while message and (message := link.recv(64)):
            pass


def main(arguments: Sequence[str]) -> None:
    """What runs as `python -m supple.adapt.watchdog`; started by `Watchdog` alone."""
    handle, where, name, timeout, *rest = arguments
    with socket.socket(fileno=int(handle)) as link:
        stop, controller = _load(where, name), os.getppid()

        def interrupt() -> None:
            if os.getppid() == controller:
                os.kill(controller, signal.SIGINT)

        link.send(READY)
        watch(link, partial(stop, *rest), float(timeout), interrupt)


if __name__ == "__main__":
    main(sys.argv[1:])
