"""Which of several bundles to take first, from the same log.

The order: the better verdict; then the smaller error of actions as a share of the log's spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..report.measure import format_number
from .section import Level, Section
from .verdict import LEVELS, Verdict


class Compared(NamedTuple):
    """One bundle among others."""

    label: str
    level: Level
    head: tuple[str, ...]
    """Titles of the numbers that were compared."""
    shown: tuple[str, ...]
    why: str
    """The rule of the order."""


def compare_bundles(bundles: Sequence[tuple[str, Verdict, Sequence[Section]]]) -> list[Compared]:
    """The bundles in the order in which to take them; equal ones stay in the order given."""

    def key(one: tuple[str, Verdict, Sequence[Section]]) -> tuple[int, float]:
        return LEVELS.index(one[1].level), find_error(one[2])

    return [
        Compared(
            label,
            verdict.level,
            ("action error / spread of the log",),
            (format_number(find_error(sections)),),
            "The better verdict first; among equals the smaller action error.",
        )
        for label, verdict, sections in sorted(bundles, key=key)
    ]


def find_error(sections: Sequence[Section]) -> float:
    """The action error as a share of the log's spread; infinite where there is none."""
    found = next((section.data.get("error_share") for section in sections if section.name == "open_loop"), None)
    return math.inf if found is None else float(found)
