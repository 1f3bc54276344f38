"""What a unit measures, and how many SI units it is: one table, for whoever limits what a robot may be told."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

PLACES = {
    "angle": {
        **dict.fromkeys(("rad", "radian", "radians"), 1.0),
        "mrad": 1e-3,
        **dict.fromkeys(("deg", "degree", "degrees", "°"), math.pi / 180.0),
        **dict.fromkeys(("rev", "revolution", "revolutions", "turn", "turns"), 2.0 * math.pi),
    },
    "length": {
        **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1.0),
        "cm": 1e-2,
        "mm": 1e-3,
        **dict.fromkeys(("um", "µm"), 1e-6),
        **dict.fromkeys(("in", "inch"), 0.0254),
    },
}
"""Units of places, by what they measure: rad or m of each."""
TIMES = {"s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "min": 60.0, "minute": 60.0, "h": 3600.0}
"""Seconds of each; a speed is a place per one of them."""
FORCES = {
    **{f"{prefix}N": scale for prefix, scale in (("", 1.0), ("m", 1e-3), ("k", 1e3))},
    **{f"{prefix}Nm": scale for prefix, scale in (("", 1.0), ("m", 1e-3), ("k", 1e3))},
    "Ncm": 1e-2,
    "Nmm": 1e-3,
    **dict.fromkeys(("newton", "newtons"), 1.0),
}
"""Units of forces and torques, without the sign of a product: N or N m of each."""
SCALED = re.compile(r"(-?\d[\d.e+-]*) (.+)")
"""A unit may begin with a scale: 150 N m."""


class Unit(NamedTuple):
    """What a unit measures."""

    kind: str
    """`place`, `speed`, `force` or `another`."""
    measures: str
    """Of a place or a speed: `angle` or `length`; else the unit itself."""
    scale: float
    """SI units (rad, m, rad/s, m/s, N, N m) that the number 1 stands for; of another kind its leading number alone."""


def split_unit(unit: str) -> tuple[float, str]:
    """The leading number of a unit, 1 where there is none, and the rest."""
    found = SCALED.fullmatch(unit)
    return (float(found[1]), found[2]) if found else (1.0, unit)


def read_unit(unit: str) -> Unit:
    """What a unit measures; of the kind `another` where no table has it."""
    number, base = split_unit(unit.strip())
    word = re.sub(r"\s*(?:[·⋅∙*]|\s)\s*", "", base)
    if word == "rpm":
        return Unit("speed", "angle", number * 2.0 * math.pi / 60.0)
    if word in FORCES:
        return Unit("force", word, number * FORCES[word])
    place, slash, time = re.sub(r"(s|min|h)(?:\^-1|⁻¹)$", r"/\1", word).replace("per", "/").partition("/")
    for measures, places in PLACES.items():
        if place in places and not slash:
            return Unit("place", measures, number * places[place])
        if place in places and time in TIMES:
            return Unit("speed", measures, number * places[place] / TIMES[time])
    return Unit("another", unit, number)
