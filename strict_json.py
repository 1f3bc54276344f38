"""JSON from files, read strictly: what a person or a faulty disk has put there is refused before anybody uses it.

Refused are bytes that are not UTF-8, keys given twice, numbers that are not finite or beyond 128 bits, texts that hold
NUL or half a surrogate pair, values nested deeper than `MOST_DEPTH`, very large files and anything that is no plain
file. The caller says which type it expects and which error it raises.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from .errors import SuppleError, describe_error
from .plain_files import read_plain_file

MOST_DEPTH = 64
"""Objects and lists inside each other; ours have at most 10."""
MOST_DIGITS = 39
"""Of an integer: the state of a random generator has 128 bits, and nothing of ours is larger."""

Kind = TypeVar("Kind", dict[str, Any], list[Any])


def parse_json(content: bytes | str, kind: type[Kind], where: object, error: type[SuppleError], remedy: str) -> Kind:
    """The JSON object or list in `content`.

    Args:
        content: The whole text; bytes are UTF-8.
        kind: `dict` or `list`.
        where: What it was read from, for the message.
        error: Raised where it is something else.
        remedy: What to do then.

    Raises:
        SuppleError: Of the given class.
    """
    try:
        value = json.loads(
            content.decode() if isinstance(content, bytes) else content,
            object_pairs_hook=_read_object,
            parse_constant=_refuse_number,
            parse_float=_read_float,
            parse_int=_read_int,
        )
        _check(value, 0)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: expected strict JSON, got {describe_error(problem)}; {remedy}") from problem
    if type(value) is not kind:
        names: dict[type, str] = {dict: "an object", list: "a list"}
        raise error(f"{where}: expected {names[kind]}, got {names.get(type(value), repr(value)[:40])}; {remedy}")
    return value


def load_json(path: Path, kind: type[Kind], error: type[SuppleError], remedy: str, what: str = "a JSON file") -> Kind:
    """The JSON object or list in a file that is `what`; see `parse_json`."""
    return parse_json(read_plain_file(path, error, remedy, what), kind, path, error, remedy)


def load_json_lines(
    path: Path, error: type[SuppleError], remedy: str, *, growing: bool = False
) -> list[dict[str, Any]]:
    """The objects of a file that has one on each line; see `parse_json`.

    Args:
        path: The file.
        error: Raised where a line is something else.
        remedy: What to do then.
        growing: Whether another process may be writing: a last line without its end is left out.
    """
    content = read_plain_file(path, error, remedy, "a file of JSON lines")
    if growing:
        content = content[: content.rfind(b"\n") + 1]
    return [
        parse_json(line, dict, f"{path}, line {number}", error, remedy)
        for number, line in enumerate(content.splitlines(), start=1)
    ]


def _read_object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(items)
    if len(record) < len(items):
        seen: set[str] = set()
        name = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {name[:40]!r} twice")
    return record


def _read_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _read_int(text: str) -> int:
    return int(text) if len(text.lstrip("-")) <= MOST_DIGITS else _refuse_number(text)


def _refuse_number(text: str) -> Any:
    raise ValueError(f"the number {text if len(text) < 40 else text[:20] + '...'}")


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # half a surrogate pair
        if "\0" in value:
            raise ValueError("a text with NUL")
    elif isinstance(value, dict | list):
        if depth == MOST_DEPTH:
            raise ValueError(f"values nested deeper than {MOST_DEPTH}")
        if isinstance(value, dict):
            for name in value:
                _check(name, depth)
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
