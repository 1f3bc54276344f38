"""Typed errors, and what is told of the errors of others.

Every message of ours reads `<where>: expected <what>, got <value>; <what to do>`.
"""

import os
import sys
from pathlib import Path

LONGEST_TEXT = 1000
"""Characters of a reason; an error text of a driver may be of any length."""


def make_printable(text: str) -> str:
    """The text on one line: a name from a damaged file may hold a line feed or the codes of a terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def make_text(value: object) -> str:
    """A text of at most `LONGEST_TEXT` characters that JSON can hold, of any object."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - whatever a driver's object does, its error is told
        text = f"a {type(value).__name__} that has no text"
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:LONGEST_TEXT]


def describe_error(error: object, most: int = 160) -> str:
    """What somebody else's error says, on one line of at most so many characters; its type where it says nothing."""
    return " ".join(make_text(error).split())[:most] or type(error).__name__


_ROOT = Path(__file__).parent
_OURS = tuple(str(_ROOT / name) + os.sep for name in ("adapt", "datasets", "meta", "pipeline", "robots", "skills"))


def find_foreign(error: BaseException) -> list[tuple[Path, int]]:
    """Files and lines of somebody else that an error came through, the innermost last; none of Python or a package."""
    import traceback  # a robot's program starts without it

    return [
        (Path(frame.filename), frame.lineno or 0)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_absolute()
        and "site-packages" not in Path(frame.filename).parts
        and not frame.filename.startswith((*_OURS, sys.base_prefix))
        and Path(frame.filename).parent != _ROOT
    ]


def describe_foreign(error: BaseException) -> str:
    """What code of somebody else raised, on one line, and where in it.

    That is a file of theirs; without a text, as of a bare `assert`, it may be one of a package.
    """
    import traceback

    said, theirs = " ".join(make_text(error).split())[:300], find_foreign(error)
    if not said and not theirs:
        theirs = [(Path(frame.filename), frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    place = f" (line {theirs[-1][1]} of {theirs[-1][0].name})" if theirs else ""
    return f"{type(error).__name__}{': ' * bool(said)}{said}{place}"


FOREIGN = (Exception, SystemExit)
"""What code of somebody else may raise: one that ends itself does not end the command."""


class SuppleError(Exception):
    """Base class of all errors that Supple raises on purpose; the CLI prints them on one line and exits with 2."""

    def __str__(self) -> str:
        """The message on one line."""
        return make_printable(super().__str__())


class ConfigError(SuppleError, ValueError):
    """A configuration field, preset name or command-line value is not usable."""


class SpecError(SuppleError, ValueError):
    """An array or a spec does not match the contract of a robot, a dataset or a bundle."""


class UntoldReward(SpecError):
    """What a task would pay for an observation is asked of a robot whose observation does not tell it."""


class SourceError(SuppleError, ValueError):
    """A source file (HDF5, CSV, download) is missing, damaged or not in the format that it claims."""


class FormatError(SourceError):
    """A source is of another kind than can be read, or than was asked for; nothing says that it is damaged.

    Args:
        message: The error line.
        found: The kind that it is, such as "a pickle"; of an unknown one, the container.
        known: Whether that is a kind of its own, which is not supported here.
    """

    def __init__(self, message: str, found: str, known: bool) -> None:
        super().__init__(message)
        self.found, self.known = found, known


class StoreError(SuppleError, ValueError):
    """An episode store is damaged, incomplete or of an unknown schema version."""


class BundleError(SuppleError, ValueError):
    """A policy bundle is damaged, incomplete or does not match the robot."""


class RunError(SuppleError, RuntimeError):
    """A run folder cannot be used: it exists already, belongs to another key or lacks an input stage."""


class TrainingFault(SuppleError, RuntimeError):
    """A loss, gradient or weight became non-finite; the last good checkpoint is kept."""


class RobotFault(SuppleError, RuntimeError):
    """A robot reported a non-finite observation, refused a command or was stopped; the stop is latched."""
