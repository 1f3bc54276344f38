"""Messages that are all laid out differently, taken apart field by field, with one look at all messages for each field.

Where a field lies depends on the lengths of the strings and sequences before it. `RaggedMessages` keeps a place in each
message and moves all of them over one field after the other, as `Layout` does in one message. A message that does not
fit its type is left to `rosbags`, which says whether it can be decoded.
Legend: n messages, B bytes of all of them, r of n messages that have a field at all.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype

from .layout import EMPTY_STRUCT, FORMATS, MOST_FIELDS, LayoutError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
MOST_ENTRIES = 256
"""Of a list of strings or structures; a message with more is left to `rosbags`."""
MOST_TEXT = 1024
"""Bytes of a string that is wanted; a message with a longer one is left to `rosbags`."""
_SPARE = 8
"""Bytes behind the last message, so that every number can be read from every place."""
_CDR_LITTLE = (0, 1)
"""First bytes of a message in CDR with the order of bytes of almost all machines."""


class Numbers(NamedTuple):
    """One number of each message that has it."""

    rows: Rows
    """Which messages, (r,)."""
    values: Array
    """(r,)."""


class Sequences(NamedTuple):
    """A sequence of numbers of each message that has it."""

    rows: Rows
    """Which messages, (r,)."""
    begin: npt.NDArray[np.int64]
    """Where the first number lies, from the start of the first message, (r,)."""
    length: npt.NDArray[np.int64]
    """How many there are, (r,)."""
    format: str
    """Of one number, as numpy names it."""


class Pieces(NamedTuple):
    """A string, or a list of strings, of each message that has it."""

    rows: Rows
    """Which messages, (r,)."""
    begin: npt.NDArray[np.int64]
    """Where it begins in its message, bytes, (r,)."""
    end: npt.NDArray[np.int64]
    """Where it ends there, (r,)."""
    fixed: int | None = None
    """Of a list whose type says its length: that length, with which it does not begin then."""


class RaggedMessages:
    """The fields of n messages of one type.

    Args:
        types: Knows the type.
        type: Such as `sensor_msgs/msg/JointState`.
        payloads: n messages.
        encoding: `cdr` or `ros1`.
        wanted: Paths of the numbers and strings that are kept, such as `header.stamp.sec`; sequences of numbers and
            lists of strings all are.

    Raises:
        LayoutError: the type has fields that this cannot lay out (wide strings, 128-bit floats), or messages have more
            than `MOST_FIELDS`.
    """

    def __init__(
        self, types: Typestore, type: str, payloads: Sequence[bytes], encoding: str, wanted: AbstractSet[str]
    ) -> None:
        self._types, self._wanted, self._cdr = types, wanted, encoding == "cdr"
        self._base = 4 if self._cdr else 0
        self._data = b"".join([*payloads, bytes(_SPARE)])
        self._length = np.fromiter(map(len, payloads), np.int64, len(payloads))
        self._start = np.cumsum(self._length) - self._length
        self._at = np.full(len(payloads), self._base, np.int64)
        self._steps = 0
        self.good = np.ones(len(payloads), np.bool_)
        """Which messages are of this type, (n,); what is said of others means nothing."""
        self.numbers: dict[str, Numbers] = {}
        self.sequences: dict[str, Sequences] = {}
        self.texts: dict[str, Pieces] = {}
        self.lists: dict[str, Pieces] = {}
        rows = np.arange(len(payloads))
        if self._cdr:
            self.good &= self._length >= self._base
            for place, byte in enumerate(_CDR_LITTLE):
                self.good &= self._view("u1")[self._start + place] == byte
        self._walk_type(type, "", rows)
        spare = self._length - self._at
        self.good &= (spare >= 0) & (spare <= (3 if self._cdr else 0))

    def read(self, places: npt.NDArray[np.int64], format: str) -> Array:
        """Numbers at places from the start of the first message; one that is no place gives any number."""
        view = self._view(format)
        return view[np.clip(places, 0, len(view) - 1)]

    def _view(self, format: str) -> Array:
        """The bytes as numbers that begin at every one of them."""
        dtype = np.dtype(f"<{format}")
        return np.ndarray((len(self._data) - dtype.itemsize + 1,), dtype, self._data, 0, (1,))

    def _walk_type(self, type: str, path: str, rows: Rows) -> None:
        for name, description in self._types.fielddefs[type][1]:
            if name == EMPTY_STRUCT and not self._cdr:
                continue
            self._walk(description, f"{path}.{name}" if path else name, rows)

    def _walk(self, description: Any, path: str, rows: Rows) -> None:
        self._steps += 1
        if self._steps > MOST_FIELDS:
            raise LayoutError(f"expected at most {MOST_FIELDS} fields, got more")
        node, inner = description
        if node == Nodetype.NAME:
            self._walk_type(inner, path, rows)
        elif node == Nodetype.BASE:
            self._pass_one(inner[0], path, rows)
        else:
            item, count = inner
            fixed = None if node == Nodetype.SEQUENCE else int(count)
            counted = self._count(rows) if fixed is None else np.full(len(rows), fixed, np.int64)
            self._pass_items(item, counted, path, rows, fixed)

    def _pass_one(self, base: str, path: str, rows: Rows) -> None:
        """Moves over one number or string."""
        if base == "string":
            length = self._count(rows)
            begin = self._at[rows]
            self._at[rows] = begin + length
            if path in self._wanted:
                self.good[rows[length > MOST_TEXT]] = False
                self.texts[path] = Pieces(rows, begin, begin + length - (self._cdr & (length > 0)))
            return
        format = _find_format(base)
        size = np.dtype(format).itemsize
        self._align(size, rows)
        if path in self._wanted:
            self.numbers[path] = Numbers(rows, self.read(self._start[rows] + self._at[rows], format))
        self._at[rows] += size

    def _pass_items(self, item: Any, count: npt.NDArray[np.int64], path: str, rows: Rows, fixed: int | None) -> None:
        """Moves over an array, or over a sequence whose length was read."""
        node, inner = item
        if node == Nodetype.BASE and inner[0] != "string":
            format = _find_format(inner[0])
            size = np.dtype(format).itemsize
            self._align(size, rows[count > 0])
            self.sequences[path] = Sequences(rows, self._start[rows] + self._at[rows], count, format)
            self._at[rows] += count * size
            return
        texts = node == Nodetype.BASE
        if texts and fixed is not None:
            self._align(4, rows)
        begin = self._at[rows] - 4 * (fixed is None)
        many = count > MOST_ENTRIES
        self.good[rows[many]] = False
        count = np.where(many | ~self.good[rows], 0, count)
        for index in range(int(count.max(initial=0))):
            there = rows[count > index]
            if texts:
                length = self._count(there)
                if self._cdr:
                    self.good[there[length == 0]] = False
                self._at[there] += length
            else:
                self._walk(item, f"{path}.{index}", there)
        if texts:
            self.lists[path] = Pieces(rows, begin, self._at[rows], fixed)

    def _count(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Reads a length; one that is longer than its message is 0."""
        self._align(4, rows)
        count = self.read(self._start[rows] + self._at[rows], "u4").astype(np.int64)
        self._at[rows] += 4
        long = count > self._length[rows] - self._at[rows]
        if long.any():
            self.good[rows[long]] = False
            count[long] = 0
        return count

    def _align(self, size: int, rows: Rows) -> None:
        if self._cdr and size > 1:
            at = self._at[rows]
            self._at[rows] = at + -(at - self._base) % size


def split_list(data: bytes, fixed: int | None, encoding: str) -> tuple[str, ...] | None:
    """The strings of a list, `Pieces` of a good message; None where they are not in UTF-8."""
    cdr, at = encoding == "cdr", 4 * (fixed is None)
    found = []
    for _ in range(struct.unpack_from("<I", data)[0] if fixed is None else fixed):
        at += -at % 4 * cdr
        (length,) = struct.unpack_from("<I", data, at)
        try:
            found.append(data[at + 4 : at + 4 + length - cdr].decode())
        except UnicodeDecodeError:
            return None
        at += 4 + length
    return tuple(found)


def _find_format(base: str) -> str:
    if base not in FORMATS:
        raise LayoutError(f"expected numbers and strings, got {base}")
    return FORMATS[base]
