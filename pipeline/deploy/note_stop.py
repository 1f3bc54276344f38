"""A robot that only notes when it was stopped, for the check of the watchdog; it loads next to nothing."""

import time
from pathlib import Path


def note_stop(path: str, reason: str) -> None:
    """Writes the monotonic time at which it was called."""
    Path(path).write_text(repr(time.monotonic()))
