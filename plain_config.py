"""Settings out of JSON: the dataclass of a config, from the plain values that `keys.compute_plain` makes of it."""

from collections.abc import Callable, Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import BundleError, ConfigError, SuppleError

Failure = tuple[type[SuppleError], str]
"""Which error is raised, and the remedy that it names."""
_EXPORT: Failure = (BundleError, "export again")


def read_config(
    kind: Any,
    value: Any,
    where: str,
    optional: Set[str] = frozenset(),
    *,
    failure: Failure = _EXPORT,
    defaults: bool = False,
) -> Any:
    """`value` as an object of type `kind`: a dataclass, a tuple, a literal, or a number, text or nothing.

    Args:
        kind: A type, as annotations have it.
        value: Plain JSON values.
        where: What they were read from, for the message.
        optional: Names of fields of `kind` itself that may be missing; they take their defaults.
        failure: What is raised.
        defaults: Whether any field that has a default may be missing, however deep; for files that people write.

    Raises:
        SuppleError: Of the class in `failure`: the values are none of that type, or ones that it refuses.
    """
    error, remedy = failure
    read = partial(read_config, failure=failure, defaults=defaults)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        known = {item.name for item in fields(kind) if defaults and _has_default(item)}
        return _read_dataclass(kind, value, where, optional | known, read, failure)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = (inner[0],) * len(value) if inner[1:] == (Ellipsis,) else inner
        if len(kinds) == len(value):
            return tuple(
                read(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(kinds, value, strict=True))
            )
    if origin is Literal and value in inner:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (kind,) = (one for one in inner if one is not NoneType)
        return read(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    what = f"one of {', '.join(map(str, inner))}" if origin is Literal else getattr(kind, "__name__", kind)
    raise error(f"{where}: expected {what}, got {value!r:.80}; {remedy}")


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _read_dataclass(
    kind: Any, value: Any, where: str, optional: Set[str], read: Callable[..., Any], failure: Failure
) -> Any:
    error, remedy = failure
    names = {item.name for item in fields(kind)}
    if not isinstance(value, Mapping) or not names - optional <= set(value) <= names:
        found, flaw = value, ""
        if isinstance(value, Mapping):
            unknown, missing = sorted(set(value) - names), sorted(names - optional - set(value))
            found = sorted(value)
            flaw = f", where {', '.join(unknown)} is unknown" if unknown else f" without {', '.join(missing)}"
        raise error(f"{where}: expected the fields {sorted(names)}, got {found}{flaw}; {remedy}")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: read(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    except ConfigError as problem:
        if isinstance(problem, error) and str(problem).startswith(where):  # of a value within this one
            raise
        raise error(f"{where}: {problem}") from problem
