"""Which of several bundles to take first, from the same log.

The better verdict comes first. Among equals, the first of these criteria that every bundle has: the larger estimated
return, of estimates that may be believed at least with caution; the fewer episodes that the adaptation will need; the
smaller action error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..report.measure import format_number
from .section import Level, Section
from .verdict import LEVELS, Verdict

Candidate = tuple[str, Verdict, Sequence[Section]]
"""Label, verdict and sections."""


class Compared(NamedTuple):
    """One bundle among others."""

    label: str
    level: Level
    shown: tuple[str, ...]
    """Its number of each of `CRITERIA`."""


class Criterion(NamedTuple):
    """By what bundles of the same verdict are ordered."""

    title: str
    find: Callable[[Sequence[Section]], float | None]
    """The number of a bundle; None where it has none."""
    sign: float
    """1 where less is better."""
    rule: str
    """The end of a sentence."""


def find_return(sections: Sequence[Section]) -> float | None:
    """The estimated return; None where nothing is estimated, or the estimate may not be used."""
    data = next((one.data for one in sections if one.name == "off_policy" and one.data), None)
    if data is None:
        return None
    level = data["levels"][data["main"]]
    return None if level["verdict"] == "do not use" else float(level["estimates"][level["headline"]]["value"])


def find_needed(sections: Sequence[Section]) -> float | None:
    """Episodes that the adaptation will need, the median; None where nobody can say."""
    data = next((one.data for one in sections if one.name == "rehearsal"), {})
    needed = data.get("episodes_needed")
    return float(needed[-1]["median"]) if needed else None


def find_error(sections: Sequence[Section]) -> float | None:
    """The action error as a share of the log's spread; None where there is none."""
    found = next((one.data.get("error_share") for one in sections if one.name == "open_loop"), None)
    return None if found is None else float(found)


CRITERIA = (
    Criterion("return", find_return, -1.0, "the larger estimated return"),
    Criterion("adapts in", find_needed, 1.0, "the fewer episodes of adaptation"),
    Criterion("error / spread", find_error, 1.0, "the smaller action error"),
)


def find_criterion(bundles: Sequence[Candidate]) -> Criterion:
    """The first criterion that every bundle has; the last one where there is none."""
    for criterion in CRITERIA:
        if all(criterion.find(sections) is not None for _, _, sections in bundles):
            return criterion
    return CRITERIA[-1]


def compare_bundles(bundles: Sequence[Candidate]) -> list[Compared]:
    """The bundles in the order in which to take them; equal ones stay in the order given."""
    criterion = find_criterion(bundles)

    def key(one: Candidate) -> tuple[int, float]:
        value = criterion.find(one[2])
        return LEVELS.index(one[1].level), math.inf if value is None else criterion.sign * value

    return [
        Compared(label, verdict.level, tuple(show(each.find(sections)) for each in CRITERIA))
        for label, verdict, sections in sorted(bundles, key=key)
    ]


def describe_order(bundles: Sequence[Candidate]) -> str:
    """The rule of the order, a sentence."""
    return (
        f"The better verdict comes first; among equals {find_criterion(bundles).rule}. Columns: estimated return; "
        "episodes that the adaptation will need; action error as a share of the spread of the logged commands."
    )


def show(value: float | None) -> str:
    """A number, or that there is none."""
    return "none" if value is None else format_number(value)
