"""Ctrl-C and SIGTERM as a request: the stage finishes its step, saves a checkpoint, then stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody asked this process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the first signal asks, a second one stops at once."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


class Interrupted(Exception):
    """A stage stopped because it was asked to; what it had is saved. Not an error: the same command goes on."""

    def __init__(self, stage: str, step: float, number: int) -> None:
        super().__init__(f"{stage}: stopped at {step:g}")
        self.exit_code = 128 + number


@contextmanager
def catch_signals(request: StopRequest) -> Iterator[StopRequest]:
    """Routes SIGINT and SIGTERM to the request while the block runs."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request.receive) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
