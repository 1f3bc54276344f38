"""Names that others chose (of tasks, axes, robots, presets, folders) as text that a page can show.

Escaping for HTML is the template's; here is what escaping leaves: characters that are not seen but change what is.
"""

import re
from typing import Any, Final

from markupsafe import Markup

_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters but tab and line feed, marks that change the direction of text, and halves of characters."""
LONGEST: Final = 24
"""Characters of a name in a figure or title; the table of axes has all of it."""
CHARACTER: Final = 0.09
"""Width of a character in a figure, inches."""


def show(value: Any) -> Any:
    """`value` as the template prints it: what cannot be seen in a text is written as its code, U+202E for instance."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], value)


def shorten(name: str, most: int = LONGEST) -> str:
    """A name on one line of at most `most` characters, cut in the middle: names of one kind often begin alike."""
    line = show(" ".join(name.split()))
    if len(line) <= most:
        return str(line)
    head = (most - 1) // 2
    return f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"


def shorten_unit(unit: str) -> str:
    """A unit of at most ten characters."""
    return shorten(unit, 10)


def with_unit(name: str, unit: str, inches: float) -> str:
    """`x (m)`, for an axis of a figure that is so long; names of no unit stand alone."""
    behind = f" ({shorten_unit(unit)})" if unit else ""
    return shorten(name, max(3, int(inches / CHARACTER) - len(behind))) + behind
