"""Messages as rows of numpy records: one `frombuffer` for all messages of a topic that are laid out alike.

In CDR and in ROS 1's serialisation the place of a field depends only on the lengths of the strings and sequences before
it. `Layout` walks the first message of a group with the field definitions that `rosbags` has parsed, and notes where
each field lies. Any other message of the same size whose lengths, and whose names in lists of strings, are the same
bytes has the same layout.
Legend: n messages of a group, L bytes of one message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

MOST_FIELDS = 20_000
"""Of one message; one with more is decoded by `rosbags`."""
FORMATS = {
    "bool": "u1",
    "byte": "u1",
    "char": "u1",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
}
EMPTY_STRUCT = "structure_needs_at_least_one_member"


class LayoutError(ValueError):
    """A message does not hold what its type says, or its type is one that cannot be laid out here."""


class Layout:
    """Where the fields of one message lie, and of all that are laid out alike.

    Args:
        types: Knows the type.
        type: Such as `sensor_msgs/msg/JointState`.
        payload: One message.
        encoding: `cdr` or `ros1`.

    Raises:
        LayoutError: the message is not of this type, or the type has fields that this cannot lay out (wide strings,
            128-bit floats, more than `MOST_FIELDS`).
    """

    def __init__(self, types: Typestore, type: str, payload: bytes, encoding: str) -> None:
        self._types, self._payload = types, payload
        self._cdr = encoding == "cdr"
        self._base, self._order = self._read_header()
        self._at = self._base
        self._names: list[str] = []
        self._formats: list[Any] = []
        self._offsets: list[int] = []
        self._fixed: list[int] = []
        self.texts: dict[str, tuple[str, ...]] = {}
        """Lists of strings by their path: the same in every message of this layout."""
        self._walk_type(type, "")
        spare = len(payload) - self._at
        if not 0 <= spare <= (3 if self._cdr else 0):
            raise LayoutError(f"expected a message of {self._at} bytes, got {len(payload)}")
        self.dtype = np.dtype(
            {"names": self._names, "formats": self._formats, "offsets": self._offsets, "itemsize": len(payload)}
        )
        self.size = len(payload)
        places = np.array(sorted({*self._fixed, *range(self._base)}), np.intp)  # the order of bytes counts as well
        cuts = np.flatnonzero(np.diff(places) > 1) + 1
        self._runs = [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(places, cuts) if len(run)]
        self._mask = np.zeros(self._runs[-1].stop if self._runs else 0, np.uint8)
        self._mask[places] = 0xFF
        self._template = np.frombuffer(payload, np.uint8)

    def select(self, messages: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which messages have this layout, (n,), of messages (n, L) of its size."""
        if self._is_same(messages):  # the usual case, in one look
            return np.ones(len(messages), np.bool_)
        found = np.ones(len(messages), np.bool_)
        for run in self._runs:
            found &= (messages[:, run] == self._template[run]).all(1)
        return found

    def _is_same(self, messages: npt.NDArray[np.uint8]) -> bool:
        """Whether the fixed bytes are the same in all messages."""
        span = slice(0, len(self._mask))
        difference = messages[:, span] ^ self._template[span]
        difference &= self._mask
        return not difference.max(initial=0)

    def read(self, messages: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The messages (n, L) as records (n,), with fields by their path (`header.stamp.sec`, `position`)."""
        return np.ascontiguousarray(messages).view(self.dtype)[:, 0]

    def _read_header(self) -> tuple[int, str]:
        """Where the fields start, and the order of bytes."""
        if not self._cdr:
            return 0, "<"
        if len(self._payload) < 4 or self._payload[0] != 0 or self._payload[1] not in (0, 1):
            raise LayoutError(f"expected a message in CDR, got one that starts with {self._payload[:4].hex()}")
        return 4, "<" if self._payload[1] else ">"

    def _walk_type(self, type: str, path: str) -> None:
        for name, description in self._types.fielddefs[type][1]:
            if name == EMPTY_STRUCT and not self._cdr:
                continue
            self._walk(description, f"{path}.{name}" if path else name)

    def _walk(self, description: Any, path: str) -> None:
        node, inner = description
        if node == Nodetype.NAME:
            self._walk_type(inner, path)
        elif node == Nodetype.BASE:
            self._add(inner[0], path)
        else:
            item, count = inner
            if node == Nodetype.SEQUENCE:
                count = self._count(path)
            self._walk_items(item, count, path)

    def _walk_items(self, item: Any, count: int, path: str) -> None:
        node, inner = item
        if node == Nodetype.BASE and inner[0] != "string":
            self._add(inner[0], path, count)
            return
        if count > len(self._payload) or len(self._names) + count > MOST_FIELDS:
            raise LayoutError(f"expected {path} within the message, got {count} entries")
        if node == Nodetype.BASE:
            self.texts[path] = tuple(self._text(f"{path}.{index}") for index in range(count))
            return
        for index in range(count):
            self._walk(item, f"{path}.{index}")

    def _add(self, base: str, path: str, count: int | None = None) -> None:
        """One number, or `count` of them; a string where it may differ between messages."""
        if base == "string":
            length = self._count(path)
            self._take(path, f"S{length - self._cdr}" if length > self._cdr else "V0", length)
            return
        if base not in FORMATS:
            raise LayoutError(f"expected numbers and strings, got {base}")
        format = self._order + FORMATS[base]
        size = np.dtype(format).itemsize
        if count != 0:
            self._align(size)
        self._take(path, format if count is None else (format, (count,)), size * (1 if count is None else count))

    def _count(self, path: str) -> int:
        """Reads a length, which is part of the layout."""
        self._align(4)
        if self._at + 4 > len(self._payload):
            raise LayoutError(f"expected the length of {path}, got the end of the message")
        (count,) = struct.unpack_from(f"{self._order}I", self._payload, self._at)
        self._fixed += range(self._at, self._at + 4)
        self._at += 4
        return int(count)

    def _text(self, path: str) -> str:
        """Reads a string that is part of the layout."""
        length = self._count(path)
        if length > len(self._payload) - self._at or (self._cdr and not length):
            raise LayoutError(f"expected the string {path} within the message, got {length} bytes")
        text = self._payload[self._at : self._at + length - self._cdr]
        self._fixed += range(self._at, self._at + length)
        self._at += length
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise LayoutError(f"expected {path} in UTF-8, got {text!r:.40}") from error

    def _take(self, path: str, format: Any, size: int) -> None:
        if self._at + size > len(self._payload):
            raise LayoutError(f"expected {path} within the message, got {size} bytes beyond its end")
        if len(self._names) >= MOST_FIELDS:
            raise LayoutError(f"expected at most {MOST_FIELDS} fields, got more")
        self._names.append(path)
        self._formats.append(format)
        self._offsets.append(self._at)
        self._at += size

    def _align(self, size: int) -> None:
        if self._cdr:
            self._at += -(self._at - self._base) % size


def group_messages(payloads: Sequence[bytes]) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]]:
    """Messages of equal length side by side: (their indices, their bytes (n, L)) for each length L."""
    lengths = np.fromiter(map(len, payloads), np.intp, len(payloads))
    if len(lengths) and (lengths == lengths[0]).all():
        return [(np.arange(len(lengths)), np.frombuffer(b"".join(payloads), np.uint8).reshape(len(lengths), -1))]
    groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    return [
        (rows, np.frombuffer(b"".join([payloads[row] for row in rows.tolist()]), np.uint8).reshape(len(rows), -1))
        for rows in groups
    ]
