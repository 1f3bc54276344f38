"""Bounds of the fields of a config: declared once, beside the field, and checked by one function before all else.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class SkillConfig(Bounded):
        skill_dim: Width = 10
        validation_fraction: Annotated[float, Range(0, 1, below=True)] = 0.02

A bound of a tuple holds for each of its numbers. What has no bound is still checked: numbers are finite (a `Range` may
end at infinity), whole numbers fit 64 bits, choices are among those of the `Literal`, texts and paths are UTF-8.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Range:
    """Of a number, both ends included unless said otherwise."""

    low: float
    high: float
    above: bool = False
    """`low` itself is outside."""
    below: bool = False
    """`high` itself is outside."""

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        return f"{'above' if self.above else 'from'} {self.low:.12g} to {'below ' * self.below}{self.high:.12g}"


@dataclass(frozen=True, slots=True)
class Length:
    """Of a tuple."""

    low: int
    high: int


Seed = Annotated[int, Range(0, 2**32 - 1)]
"""What all libraries take as a seed."""
Threads = Annotated[int, Range(1, 1024)]
"""Of a machine."""
Count = Annotated[int, Range(1, 10**9)]
"""How often, how many, how long."""
CountFromZero = Annotated[int, Range(0, 10**9)]
"""The same, or 0."""
Batch = Annotated[int, Range(1, 2**20)]
"""How many side by side in memory."""
Width = Annotated[int, Range(1, 2**14)]
"""An axis of an array of weights: a layer of this width fits into the memory of a small computer."""
Widths = Annotated[tuple[Width, ...], Length(1, 64)]
"""Of the hidden layers of a network."""
Layers = Annotated[tuple[Width, ...], Length(0, 64)]
"""The same, or none: the network is linear."""
Positive = Annotated[float, Range(0.0, 1e12, above=True)]
"""A rate, a scale, a time."""
NonNegative = Annotated[float, Range(0.0, 1e12)]
"""A weight, a penalty."""
Share = Annotated[float, Range(0.0, 1.0)]
"""A fraction or a probability."""


class Bounded:
    """A config that refuses values out of bounds wherever it is made.

    A config that also checks fields against each other has a `__post_init__` of its own, which calls `require_bounds`.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        """Checks each field.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)


class BoundsError(ConfigError):
    """A value is out of its bounds; `path` leads to it through the fields of the config."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}")
        self.path, self.reason = path, reason


def require_bounds(config: object) -> None:
    """Checks all values in a config, however deep.

    Raises:
        BoundsError: Naming the first value that is out of its bounds.
    """
    for path, reason in _find(config, None, (type(config).__name__,)):
        raise BoundsError(path, reason)


def _find(value: Any, hint: Any, path: tuple[str, ...], bounds: tuple[Any, ...] = ()) -> Iterator[tuple[Any, str]]:
    """Where values break the bounds that stand in the hint of their type, and how."""
    hint, found = _unwrap(value, hint)
    bounds += found
    if is_dataclass(value) and not isinstance(value, type):
        hints = _load_hints(type(value))
        for field in fields(value):
            yield from _find(getattr(value, field.name), hints.get(field.name), (*path, field.name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _find(item, None, (*path, str(name)))
    elif isinstance(value, tuple | list):
        for limit in bounds:
            if isinstance(limit, Length) and not limit.low <= len(value) <= limit.high:
                yield path, f"expected {limit.low} to {limit.high} values, got {len(value)}; give as many"
        inner = [one for one in get_args(hint) if one is not Ellipsis]
        for index, item in enumerate(value):
            kind = inner[min(index, len(inner) - 1)] if inner else None
            yield from _find(item, kind, (*path[:-1], f"{path[-1]}[{index}]"), bounds)
    else:
        reason = _check(value, hint, [limit for limit in bounds if isinstance(limit, Range)])
        if reason is not None:
            yield path, reason


def _check(value: Any, hint: Any, ranges: list[Range]) -> str | None:
    """What is wrong with one value; None where nothing is."""
    if get_origin(hint) is Literal:
        known = get_args(hint)
        return None if value in known else f"expected one of {', '.join(map(str, known))}, got {value!r}; choose one"
    if isinstance(value, str | Path):
        text = str(value)
        good = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
        return None if good else f"expected text that is UTF-8 without NUL, got {text!r:.80}; rename it"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    what = "a whole number" if hint is int else "a number"
    whole = isinstance(value, int)
    limits = " and ".join(map(str, ranges)) or ("below 2^63" if whole else "that is finite")
    bad = (hint is int and not whole) or not (abs(value) < 2**63 if whole else ranges or math.isfinite(value))
    if bad or any(value not in limit for limit in ranges):
        shown = f"{value}" if not whole or abs(value) < 10**40 else "one of more than 40 digits"
        return f"expected {what} {limits}, got {shown}; change it"
    return None


def _unwrap(value: Any, hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type that a value of this hint has, without `Annotated` and unions around it, and the bounds found there."""
    bounds: tuple[Any, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            bounds += tuple(one for one in found if isinstance(one, Range | Length))
        elif get_origin(hint) in (Union, types.UnionType):
            kinds = [one for one in get_args(hint) if one is not types.NoneType]
            if value is None or len(kinds) != 1:
                return None, bounds
            (hint,) = kinds
        else:
            return hint, bounds


@cache
def _load_hints(kind: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields; none where they name what is only there for a type checker."""
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
