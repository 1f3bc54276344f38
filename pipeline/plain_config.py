"""Settings out of JSON: the dataclass of a config, from the plain values that `keys.compute_plain` makes of it."""

from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import BundleError, ConfigError


def read_config(kind: Any, value: Any, where: str, optional: Set[str] = frozenset()) -> Any:
    """`value` as an object of type `kind`: a dataclass, a tuple, a literal, or a number, text or nothing.

    Args:
        kind: A type, as annotations have it.
        value: Plain JSON values.
        where: What they were read from, for the message.
        optional: Names of fields of `kind` itself that may be missing; they take their defaults.

    Raises:
        BundleError: The values are none of that type, or ones that it refuses.
    """
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where, optional)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = (inner[0],) * len(value) if inner[1:] == (Ellipsis,) else inner
        if len(kinds) == len(value):
            return tuple(
                read_config(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(kinds, value, strict=True))
            )
    if origin is Literal and value in inner:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (kind,) = (one for one in inner if one is not NoneType)
        return read_config(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise BundleError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}; export again")


def _read_dataclass(kind: Any, value: Any, where: str, optional: Set[str]) -> Any:
    names = {item.name for item in fields(kind)}
    if not isinstance(value, Mapping) or not names - optional <= set(value) <= names:
        found = sorted(value) if isinstance(value, Mapping) else value
        raise BundleError(f"{where}: expected the fields {sorted(names)}, got {found}; export again")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: read_config(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    except ConfigError as error:
        raise BundleError(f"{where}: {error}") from error
