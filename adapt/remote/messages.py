"""Requests to a policy server: msgpack, read strictly. What a faulty or hostile client sends is refused before any use.

A request is a map of `id` (a number of the client's), `verb`, and the fields of that verb, nothing else. Refused are
other types, extension types, keys given twice or that are no text, numbers that are not finite, lists and texts that
are too long, values inside each other, and bytes that follow. A picture is bytes, as many as the robot's pictures have.
Nothing is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

from ...errors import SpecError, describe_error

MOST_BYTES = 1 << 16
"""Of a message, without a picture."""
MOST_NUMBERS = 4096
"""Of a list."""
_FLAG, _FLAG_OR_NONE = "true or false", "true, false or nil"
_NUMBER, _NUMBERS, _COUNT = "a number", "numbers", "a count"
_NUMBERS_OR_NONE = "numbers or nil"
_BYTES_OR_NONE = "bytes or nil"
REQUIRED: Any = object()
VERBS: Mapping[str, Mapping[str, tuple[str, Any]]] = {
    "health": {},
    "reset": {"task": (_FLAG, False), "explore": (_FLAG, True), "goal": (_NUMBERS_OR_NONE, None)},
    "act": {"observation": (_NUMBERS, REQUIRED), "picture": (_BYTES_OR_NONE, None)},
    "observe": {"reward": (_NUMBER, REQUIRED)},
    "end_episode": {
        "observation": (_NUMBERS, REQUIRED),
        "picture": (_BYTES_OR_NONE, None),
        "terminated": (_FLAG, REQUIRED),
        "success": (_FLAG_OR_NONE, None),
    },
    "adapt": {},
    "finish": {},
    "snapshot": {},
    "rollback": {"snapshot": (_COUNT, REQUIRED)},
}
"""The fields of each verb: what they are, and their value where they are left out."""


class Request(NamedTuple):
    """One request."""

    id: int
    verb: str
    fields: dict[str, Any]


def read_request(content: bytes | str, picture: int = 0) -> Request:
    """The request in a message.

    Args:
        content: The message.
        picture: Bytes of a picture of the robot; 0 where the policy needs none.

    Raises:
        SpecError: It is none; says what is wrong.
    """
    if not isinstance(content, bytes):
        raise _refuse("a binary message", "text")
    if len(content) > MOST_BYTES + picture:
        raise _refuse(f"at most {MOST_BYTES + picture} bytes", len(content))
    try:
        data = msgpack.unpackb(
            content,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_read_map,
            ext_hook=_refuse_extension,
            max_str_len=64,
            max_bin_len=picture,
            max_ext_len=0,
            max_array_len=MOST_NUMBERS,
            max_map_len=8,
        )
    # msgpack raises these for what is no msgpack, of every kind; its own errors are ValueErrors
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise _refuse("a map in msgpack", f"'{describe_error(error)}'") from error
    if type(data) is not dict:
        raise _refuse("a map", type(data).__name__)
    number, verb = data.pop("id", None), data.pop("verb", None)
    if type(number) is not int or not 0 <= number < 2**63:
        raise _refuse("an id of 0 or more", number)
    if not isinstance(verb, str) or verb not in VERBS:
        raise _refuse(f"a verb of {', '.join(VERBS)}", verb)
    known = VERBS[verb]
    if unknown := sorted(set(data) - set(known)):
        raise _refuse(f"only the fields {', '.join(known) or 'id and verb'} of {verb}", unknown[0])
    fields = {}
    for name, (what, usual) in known.items():
        value = data.get(name, usual)
        if value is REQUIRED or not _is(what, value):
            raise _refuse(f"{what} as {name} of {verb}", "nothing" if value is REQUIRED else value)
        fields[name] = value
    return Request(number, verb, fields)


def write_message(data: Mapping[str, Any]) -> bytes:
    """A message of plain values."""
    content: bytes = msgpack.packb(data)
    return content


def _is(what: str, value: Any) -> bool:
    if what == _NUMBERS_OR_NONE:
        return value is None or _is(_NUMBERS, value)
    if what == _BYTES_OR_NONE:
        return value is None or type(value) is bytes
    if what == _NUMBERS:
        return type(value) is list and all(_is(_NUMBER, one) for one in value)
    if what == _NUMBER:
        return type(value) in (int, float) and abs(value) < 2.0**128 and math.isfinite(value)
    if what == _COUNT:
        return type(value) is int and 0 <= value < 2**31
    return type(value) is bool or (what == _FLAG_OR_NONE and value is None)


def _read_map(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    data = dict(items)
    if len(data) < len(items):
        raise ValueError("a key twice")
    return data


def _refuse_extension(code: int, content: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _refuse(expected: str, got: object) -> SpecError:
    return SpecError(f"request: expected {expected}, got {str(got)[:80]!r}; see the verbs of supple serve")
