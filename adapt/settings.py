"""Objects of `bundle.json` as frozen dataclasses: exactly the fields, each of its own type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from ..errors import BundleError

Facts = TypeVar("Facts")
MOST_INTEGER = 2**32 - 1
"""A seed; every other integer of a bundle counts something."""


def read_settings(kind: type[Facts], data: object, where: str) -> Facts:
    """The dataclass whose fields `data` gives; fields are int, float, bool, str, tuples of int, or such dataclasses.

    Args:
        kind: A dataclass.
        data: An object of JSON.
        where: Begins the errors.

    Raises:
        BundleError: A field is missing, unknown or of another type, or the dataclass refuses its value.
    """
    if not isinstance(data, Mapping):
        raise _refusal(where, "an object", data)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - names):
        raise _refusal(where, f"only the fields {sorted(names)}", unknown[0])
    if missing := sorted(names - set(data)):
        raise _refusal(where, f"the field '{missing[0]}'", "none")
    hints = get_type_hints(kind)
    return kind(**{name: _read_value(hints[name], data[name], f"{where}.{name}") for name in names})


def _read_value(wanted: Any, value: Any, where: str) -> Any:
    if wanted == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not all(map(_is_integer, value)):
            raise _refusal(where, "a list of integers", value)
        return tuple(value)
    if wanted is float:
        if not (_is_integer(value) or type(value) is float) or not math.isfinite(value):
            raise _refusal(where, "a finite number", value)
        return float(value)
    if is_dataclass(wanted):
        return read_settings(wanted, value, where)  # type: ignore[arg-type]
    if type(value) is not wanted or (wanted is int and not _is_integer(value)):
        names = {int: "an integer", bool: "true or false", str: "text"}
        raise _refusal(where, names[wanted], value)
    return value


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) <= MOST_INTEGER


def _refusal(where: str, expected: str, got: object) -> BundleError:
    return BundleError(f"{where}: expected {expected}, got {got!r:.80}; export the bundle again")
