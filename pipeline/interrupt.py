"""Ctrl-C, SIGTERM and a terminal that goes away as a request: the stage finishes its step, saves a checkpoint, stops.

While a real robot is connected they are no request: they end what runs, and a robot that moves is stopped. A process
that was told to outlive its terminal (`nohup`) does so.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STDERR = 2
PROMISE = "stops as soon as what runs can be left"
"""What the first signal is answered with, where nobody knows better."""


class StopRequest:
    """Whether somebody asked this process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.promise = PROMISE
        """When what runs will stop."""
        self._at_once = False

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the first signal asks, and is answered; a second one stops at once."""
        asked, self.signal = self.signal is not None, number
        if asked or self._at_once:
            raise KeyboardInterrupt
        # a handler may run in the middle of a write to a stream of Python's; it must not fail where nobody reads
        answer = f"supple: {signal.Signals(number).name}: {self.promise}; a second signal stops at once\n"
        with suppress(OSError):
            os.write(STDERR, ("\n" * os.isatty(STDERR) + answer).encode())

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """The first signal stops at once while the block runs: a robot does not move on to the end of its episode.

        SIGQUIT does so, too: whoever presses its keys wants the robot to stop, and it would end the process alone.

        Raises:
            KeyboardInterrupt: Also where somebody has asked before.
        """
        if self:
            raise KeyboardInterrupt
        self._at_once = True
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGQUIT, self.receive) if main else None
        try:
            yield
        finally:
            self._at_once = False
            if main:
                signal.signal(signal.SIGQUIT, before)


class Interrupted(Exception):
    """A stage stopped because it was asked to; what it had is saved. Not an error: the same command goes on."""

    def __init__(self, stage: str, step: float, number: int) -> None:
        super().__init__(f"{stage}: stopped at {step:g}")
        self.exit_code = 128 + number


@contextmanager
def catch_signals(request: StopRequest) -> Iterator[StopRequest]:
    """Routes SIGINT, SIGTERM and SIGHUP to the request while the block runs."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, request.receive) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
