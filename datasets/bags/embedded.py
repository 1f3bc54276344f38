"""What Supple's writer leaves in a bag, so that the bag becomes the same store again: schema, mapping and flags."""

from __future__ import annotations

from collections.abc import Mapping as Texts
from dataclasses import dataclass

from ...errors import SourceError, SpecError
from ...strict_json import parse_json
from ..schema import Schema
from .mapping import Mapping, parse_mapping

_ENDS = {"terminated": "false", "truncated": "true"}
"""Flags of a bag whose writer was killed."""
_REMEDY = "give --mapping to read it as any other bag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Of one episode."""

    schema: Schema
    """Of the store that it comes from."""
    mapping: Mapping
    """Makes the episode's arrays of the bag's topics."""
    terminated: bool
    truncated: bool


def read_embedded(texts: Texts[str, str], where: str) -> Embedded | None:
    """What `supple export-bag` left; None for another bag.

    Raises:
        SourceError: it cannot be read.
        ConfigError: its mapping cannot be read.
    """
    if not texts:
        return None
    where = f"{where}: what export-bag left"
    try:
        schema = Schema.from_json(parse_json(texts["schema"], dict, where, SourceError, _REMEDY), where)
        terminated, truncated = (texts.get(name, end) == "true" for name, end in _ENDS.items())
        mapping = parse_mapping(texts["mapping"], where)
    except (KeyError, SpecError) as error:
        raise SourceError(f"{where}: expected schema, mapping and flags, got {error}; {_REMEDY}") from error
    return Embedded(schema=schema, mapping=mapping, terminated=terminated, truncated=truncated)
