"""ROS 1 bags, record by record in the order of the file, with the record reader of `rosbags`.

The index at the end of a bag is only counted with: a bag that was never closed has none, and reads the same. The format
has no checksums of its own; bz2 brings some.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import lz4.frame
from rosbags.rosbag1 import ReaderError
from rosbags.rosbag1.reader import Header, RecordType, normalize, read_bytes, read_uint32
from rosbags.typesys.msg import normalize_msgtype

from ...errors import SourceError, describe_error
from .message_types import TopicTable
from .recording import Block, Clamped, Loss, Message, Recording, Topic, allow_record, gather

MAGIC = b"#ROSBAG V2.0\n"
_DAMAGE = (
    *(ReaderError, ValueError, struct.error, RuntimeError, OSError, EOFError, KeyError, IndexError),
    *(OverflowError, MemoryError),
)


class Rosbag1Recording(Recording):
    """One `.bag` file; see `McapRecording` for errors."""

    format = "rosbag1"
    checksums = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loss = Loss()
        self.embedded = {}
        self._rows: dict[int, int] = {}
        self._topics = TopicTable()
        with path.open("rb") as file:
            magic = file.readline(64)
            if magic != MAGIC:
                raise SourceError(f"{path}: expected a bag of ROS 1, version 2.0, got {magic[:20]!r}; convert it")
        for _ in self._scan(Loss(), ()):
            pass
        self.topics = self._topics.rows

    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """See `Recording.blocks`."""
        loss = Loss()
        yield from gather(self._scan(loss, wanted))
        self.loss = loss

    def _scan(self, loss: Loss, wanted: Collection[int]) -> Iterator[Message]:
        lost_chunk = False
        with self.path.open("rb") as file:
            stream = Clamped(file)
            stream.seek(len(MAGIC))
            source = cast(BinaryIO, stream)
            try:
                while stream.tell() < stream.size:
                    header = Header.read(source)
                    kind, size = header.get_uint8("op"), read_uint32(source)
                    if kind == RecordType.CHUNK:
                        lost_chunk = False
                        data = read_bytes(source, size)
                        try:
                            yield from self._read_chunk(_unpack(header, data), wanted)
                        except _DAMAGE as error:
                            lost_chunk = True
                            loss.chunks += 1
                            loss.add(f"a chunk is damaged: {describe_error(error)}")
                        continue
                    if kind == RecordType.BAGHEADER and header.get_uint64("index_pos") == 0:
                        loss.add("its recorder never closed it: it has no index")
                    elif kind == RecordType.IDXDATA and lost_chunk:
                        loss.messages += header.get_uint32("count")
                    elif kind == RecordType.CONNECTION:
                        self._learn(header, read_bytes(source, size))
                        continue
                    read_bytes(source, size)
            except _DAMAGE as error:
                loss.add(f"it is cut off or damaged: {describe_error(error)}")
                loss.unread_bytes = stream.size - stream.tell()

    def _read_chunk(self, data: bytes, wanted: Collection[int]) -> Iterator[Message]:
        chunk = BytesIO(data)
        while chunk.tell() < len(data):
            header = Header.read(chunk)
            kind, content = header.get_uint8("op"), read_bytes(chunk, read_uint32(chunk))
            if kind == RecordType.CONNECTION:
                self._learn(header, content)
            elif kind == RecordType.MSGDATA:
                row = self._rows[header.get_uint32("conn")]
                if row in wanted:
                    yield Message(row, header.get_time("time"), content)
            else:
                raise ValueError(f"a record of kind {kind}")

    def _learn(self, header: Header, content: bytes) -> None:
        number = header.get_uint32("conn")
        if number in self._rows:
            return
        size = struct.pack("<L", len(content))
        facts = Header.read(BytesIO(size + content))
        topic = Topic(
            normalize(header.get_string("topic")),
            normalize_msgtype(facts.get_string("type")),
            "ros1",
            facts.get_string("message_definition"),
            "msg",
        )
        self._rows[number] = self._topics.add(topic)


def _unpack(header: Header, data: bytes) -> bytes:
    """The content of a chunk.

    Raises:
        ValueError: it declares more than it can hold, or holds another number of bytes; or as the libraries raise.
    """
    declared, compression = header.get_uint32("size"), header.get_string("compression")
    if declared > allow_record(len(data)):
        raise ValueError(f"a chunk of {len(data)} bytes declares {declared} bytes")
    decompressors: dict[str, Any] = {"bz2": bz2.BZ2Decompressor, "lz4": lz4.frame.LZ4FrameDecompressor}
    if compression in decompressors:
        decompressor = decompressors[compression]()
        data = decompressor.decompress(data, max_length=declared + 1)
        if compression == "bz2" and not decompressor.eof:
            raise ValueError("a bz2 chunk without its end")
    elif compression != "none":
        raise ValueError(f"a chunk with compression {compression!r}")
    if len(data) != declared:
        raise ValueError(f"a chunk declares {declared} bytes and holds {len(data)}")
    return data
