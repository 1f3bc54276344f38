"""Message types: from the definitions inside a bag, or those of ROS for bags that carry none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from ...errors import SourceError, describe_error
from .recording import Topic

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

MOST_DEFINITION = 2**18
"""Characters of one definition: `rosbags` makes a program of it."""
_IDL_MARK = "=" * 80 + "\n"

ENCODINGS = ("cdr", "ros1")
"""Of messages that can be decoded."""


def load_types(topic: Topic, where: str) -> Typestore:
    """A store that knows the topic's type and what it is made of.

    Args:
        topic: Whose messages shall be decoded.
        where: The bag, for the message.

    Raises:
        SourceError: the encoding or the definition cannot be read, or there is none of a type that ROS does not bring.
    """
    where = f"{where}: topic {topic.name}"
    if topic.encoding not in ENCODINGS:
        raise SourceError(f"{where}: expected messages in cdr or ros1, got {topic.encoding!r}; choose another topic")
    if not topic.definition.strip():
        standard = _load_standard(Stores.ROS1_NOETIC if topic.encoding == "ros1" else Stores.ROS2_HUMBLE)
        if topic.type in standard.fielddefs:
            return standard
        raise SourceError(
            f"{where}: expected a definition of {topic.type or 'its type'} in the bag, got an empty schema; record it "
            "with a newer rosbag2, or choose another topic"
        )
    if len(topic.definition) > MOST_DEFINITION:
        raise SourceError(
            f"{where}: expected a definition of at most {MOST_DEFINITION} characters, got {len(topic.definition)}; "
            "choose another topic"
        )
    try:
        return _parse(topic.type, topic.definition, topic.language)
    except (TypesysError, KeyError, ValueError, AttributeError, RecursionError, SyntaxError) as error:
        raise SourceError(
            f"{where}: expected a message definition of {topic.type}, got one that cannot be read "
            f"({describe_error(error)}); choose another topic"
        ) from error


class TopicTable:
    """The topics of a recording: one for all its channels that are decoded alike.

    A topic whose type got other fields while it was recorded, or another encoding, is two: no message is decoded by the
    definition of another one. Comments and spaces make no other definition.
    """

    def __init__(self) -> None:
        self._rows: list[Topic] = []

    @property
    def rows(self) -> tuple[Topic, ...]:
        """In the order in which they came."""
        return tuple(self._rows)

    def add(self, topic: Topic) -> int:
        """The row of the topic of a channel."""
        for row, known in enumerate(self._rows):
            if known[:3] != topic[:3] or not _are_alike(known, topic):
                continue
            if not known.definition.strip():
                self._rows[row] = topic
            return row
        self._rows.append(topic)
        return len(self._rows) - 1


def describe_kinds(topics: Sequence[Topic]) -> str:
    """How topics of one name differ."""
    types, encodings = (list(dict.fromkeys(one[at] for one in topics)) for at in (1, 2))
    if len(types) > 1:
        return f"messages of {len(types)} types"
    if len(encodings) > 1:
        return f"messages in {' and in '.join(encodings)}"
    return f"messages by {len(topics)} definitions of {types[0]}"


def _are_alike(one: Topic, other: Topic) -> bool:
    """Whether two definitions of a type have the same fields in the same order; a channel without one says nothing."""
    if one[3:] == other[3:] or not one.definition.strip() or not other.definition.strip():
        return True
    try:
        return _list_fields(one) == _list_fields(other)
    except SourceError:
        return False


def _list_fields(topic: Topic) -> dict[str, Any]:
    """Names and types of the fields of a topic's type, and of all types in it."""
    types = load_types(topic, "").fielddefs
    found: dict[str, Any] = {}
    waiting = [topic.type]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found[kind] = types[kind][1]
            for _, description in found[kind]:
                inner: Any = description[1][0] if description[0] in (Nodetype.SEQUENCE, Nodetype.ARRAY) else description
                waiting += [inner[1]] * (inner[0] == Nodetype.NAME)
    return found


def list_missing_field(topic: Topic, path: str) -> list[str]:
    """The fields that there are in place of one that a message type lacks; none where it has the whole path.

    Args:
        topic: Whose type is known to `load_types`.
        path: Such as `pose.position` or `points.0.positions`.
    """
    types, kind = load_types(topic, ""), topic.type
    for name in path.split(".") if path else ():
        if name.isdecimal():
            continue
        known = dict(types.fielddefs[kind][1])
        if name not in known:
            return list(known)
        description: Any = known[name]
        if description[0] in (Nodetype.SEQUENCE, Nodetype.ARRAY):
            description = description[1][0]
        if description[0] != Nodetype.NAME:
            break
        kind = description[1]
    return []


@lru_cache
def _load_standard(stores: Stores) -> Typestore:
    """The types of ROS; its decoders are made at the first message of each type, and kept."""
    return get_typestore(stores)


@lru_cache(maxsize=256)
def _parse(type: str, definition: str, language: str) -> Typestore:
    """A store of this definition; parsing takes longer than reading a small bag."""
    store = get_typestore(Stores.EMPTY)
    if language == "msg":
        store.register(get_types_from_msg(definition, type))
    else:
        parts = definition.split(_IDL_MARK)
        for text in [part.partition("\n")[2] for part in parts[1:]] if len(parts) > 1 else parts:
            store.register(get_types_from_idl(text))
    store.get_msgdef(type)
    return store
