"""Objects of `bundle.json` as frozen dataclasses: exactly the fields, each of its own type and within its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..bounds import BoundsError, require_bounds
from ..errors import BundleError

Settings = TypeVar("Settings")
MOST_INTEGER = 2**32 - 1
"""A seed; every other integer of a bundle counts something."""


def read_settings(kind: type[Settings], data: object, where: str) -> Settings:
    """The dataclass whose fields `data` gives.

    Args:
        kind: A dataclass; its fields are int, float, bool, str, one of some texts, tuples of int, or such dataclasses,
            each with the bounds of `bounds.py` where it has some.
        data: An object of JSON.
        where: Begins the errors.

    Raises:
        BundleError: A field is missing, unknown, of another type or out of its bounds, or the dataclass refuses it.
    """
    if not isinstance(data, Mapping):
        raise refuse(where, "an object", data)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - names):
        raise refuse(where, f"only the fields {sorted(names)}", unknown[0])
    if missing := sorted(names - set(data)):
        raise refuse(where, f"the field '{missing[0]}'", "none")
    hints = get_type_hints(kind)
    found = kind(**{name: _read_value(hints[name], data[name], f"{where}.{name}") for name in names})
    try:
        require_bounds(found)
    except BoundsError as error:
        reason = error.reason.partition(";")[0]
        raise BundleError(f"{where}.{'.'.join(error.path[1:])}: {reason}; export the bundle again") from error
    return found


def _read_value(wanted: Any, value: Any, where: str) -> Any:
    if wanted == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not all(map(_is_integer, value)):
            raise refuse(where, "a list of integers", value)
        return tuple(value)
    if wanted is float:
        if not (_is_integer(value) or type(value) is float) or not math.isfinite(value):
            raise refuse(where, "a finite number", value)
        return float(value)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise refuse(where, " or ".join(get_args(wanted)), value)
        return value
    if is_dataclass(wanted):
        return read_settings(wanted, value, where)  # type: ignore[arg-type]
    if wanted is int and type(value) is int and not _is_integer(value):
        raise refuse(where, f"an integer of at most {MOST_INTEGER}", value)
    if type(value) is not wanted:
        names = {int: "an integer", bool: "true or false", str: "text"}
        raise refuse(where, names[wanted], value)
    return value


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) <= MOST_INTEGER


def refuse(where: str, expected: str, got: object) -> BundleError:
    """The error that says what is wrong with a field of `bundle.json`."""
    return BundleError(f"{where}: expected {expected}, got {got!r:.80}; export the bundle again")
