"""One bag as its messages: the topics, the payloads in the order of the file, and a count of what could not be read.

A recording is opened read-only. What it holds is decoded by the library of its container: `mcap` (which checks the
checksums), SQLite, and `rosbags` for ROS 1. A bag that its recorder never closed, or that was damaged since, is read as
far as that is possible; its `loss` then says what is missing, and nobody can take it for a whole one.
"""

from __future__ import annotations

import os
import shutil
import weakref
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, NamedTuple

MOST_RATIO = 200
"""Bytes that one compressed byte may stand for; motion shrinks to a twentieth at best, a bomb to a thousandth."""
FLOOR_BYTES = 2**20
"""What may be unpacked whatever the ratio."""

MOST_RECORD = 2**29
"""Bytes of one record or chunk, packed or not, 512 MiB: it is held in memory as a whole."""
_MOST_REASONS = 6
"""Of one loss: the checksums of a thousand damaged chunks say no more than those of a few."""
_BLOCK_BYTES = 2**20
"""Of the payloads that are handed on together, where the container has no blocks of its own."""
_TIME_BYTES = 36
"""Of a time in a list."""
DISORDER_NS = 100_000_000
"""Times that run back by up to this are of messages that overtook each other: of several threads or publishers."""
LATEST_NS = 2**62
"""Latest time of a message, in the year 2116; a log may hold any integer, and differences shall fit into 64 bits."""


class Topic(NamedTuple):
    """One topic with one message type, in one encoding and by one definition."""

    name: str
    type: str
    """Such as `sensor_msgs/msg/JointState`."""
    encoding: str
    """Of the payloads: `cdr` or `ros1`, or one that cannot be decoded here."""
    definition: str
    """Text of the message definition; empty where the bag has none."""
    language: str
    """Of the definition: `msg` or `idl`; empty where there is none."""


class Message(NamedTuple):
    """One message."""

    topic: int
    """Index into the topics of its recording."""
    log_time: int
    """When the recorder received it, ns."""
    payload: bytes


class Block(NamedTuple):
    """Messages of one topic, in the order of the file: one object for many of them."""

    topic: int
    """Index into the topics of their recording."""
    log_times: list[int]
    """When the recorder received each, ns."""
    payloads: list[bytes]
    group: int = 0
    """Blocks of one group lie side by side in the file, and later groups behind it; the recorder's clock was not set
    back within one."""


@dataclass(slots=True)
class Loss:
    """What of a recording could not be read. Complete once its messages were read to the end."""

    reasons: list[str] = field(default_factory=list)
    """Why it is not whole; empty for a whole recording."""
    messages: int = 0
    """How many messages are known to be missing; more may be."""
    chunks: int = 0
    """Blocks of messages that are damaged and were left out."""
    unread_bytes: int = 0
    """Bytes behind the point where reading had to stop."""

    def add(self, reason: str) -> None:
        """Notes a reason once; of many, the first ones."""
        if reason not in self.reasons and len(self.reasons) < _MOST_REASONS:
            self.reasons.append(reason if len(self.reasons) < _MOST_REASONS - 1 else "and more of this kind")


class Recording(ABC):
    """One bag, opened; `blocks` and `messages` may be called any number of times."""

    format: str
    """Such as `rosbag2-mcap`."""
    topics: tuple[Topic, ...]
    loss: Loss
    checksums: bool
    """Whether checksums cover all payloads."""
    embedded: dict[str, str]
    """What the writer of `supple export-bag` left in the bag; empty in other bags."""

    @abstractmethod
    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """The messages of the topics with these indices: those of each topic in the order of the file, as they came.

        Raises:
            SourceError: they cannot be read at all.
        """

    def messages(self, wanted: Collection[int]) -> Iterator[Message]:
        """As `blocks`, one by one."""
        for topic, log_times, payloads, _ in self.blocks(wanted):
            for log_time, payload in zip(log_times, payloads, strict=True):
                yield Message(topic, log_time, payload)


def gather(messages: Iterable[tuple[int, int, bytes]]) -> Iterator[Block]:
    """Blocks of messages that come one by one, in the order of the file: topic, log time and payload of each."""
    blocks: dict[int, Block] = {}
    size = group = 0
    latest = -(2**64)
    for topic, log_time, payload in messages:
        if log_time > latest:
            latest = log_time
        elif log_time < latest - DISORDER_NS:
            yield from blocks.values()
            blocks, size, group, latest = {}, 0, group + 1, log_time
        block = blocks.get(topic) or blocks.setdefault(topic, Block(topic, [], [], group))
        block.log_times.append(log_time)
        block.payloads.append(payload)
        size += len(payload) + _TIME_BYTES
        if size > _BLOCK_BYTES:
            yield from blocks.values()
            blocks, size, group = {}, 0, group + 1
    yield from blocks.values()


class Clamped:
    """A file from which no read takes more than there is, whatever length a damaged record asks for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = os.fstat(stream.fileno()).st_size

    def read(self, length: int) -> bytes:
        """At most `length` bytes; fewer at the end of the file.

        Raises:
            ValueError: that would be more than a record may have.
        """
        held = max(0, min(length, self.size - self._stream.tell()))
        if held > MOST_RECORD:
            raise ValueError(f"a record of {held} bytes, more than {MOST_RECORD}")
        return self._stream.read(held)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file, but never beyond its end."""
        base = (0, self._stream.tell(), self.size)[whence]
        return self._stream.seek(max(0, min(base + offset, self.size)))

    def tell(self) -> int:
        """Where the next read starts."""
        return self._stream.tell()

    def readline(self) -> bytes:
        """Up to and including the next line feed."""
        return self._stream.readline(256)


def make_scratch(owner: object) -> Path:
    """A temporary folder that goes when its owner does."""
    folder = Path(mkdtemp(prefix="supple-bag-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def allow_bytes(compressed: int) -> int:
    """How many bytes a file of `compressed` bytes may unpack to, on the disk."""
    return FLOOR_BYTES + MOST_RATIO * compressed


def allow_record(compressed: int) -> int:
    """How many bytes a chunk or message of `compressed` bytes may unpack to, in memory."""
    return min(MOST_RECORD, allow_bytes(compressed))
