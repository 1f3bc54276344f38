"""MCAP logs, read by the `mcap` library: first every checksum is checked, then the messages are read.

The file format is described at https://mcap.dev/spec. Schemas, channels and messages lie in chunks, each with a CRC;
the summary behind them has another, and counts the chunks and the messages. A file is whole if its end is there, all
CRCs fit and the counts are those of the summary. Of any other file all records are tried, and damaged chunks are left
out.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Footer, McapRecord, MessageIndex, Metadata, Schema, Statistics
from mcap.records import Message as McapMessage
from mcap.stream_reader import StreamReader, get_chunk_data_stream

from ...errors import SourceError, describe_error
from .message_types import TopicTable
from .recording import Block, Clamped, Loss, Recording, Topic, allow_record, gather

MAGIC_BYTES = 8
FOOTER_BYTES = 1 + 8 + 8 + 8 + 4
METADATA_NAME = "supple"
"""Of the record that the writer leaves in a bag."""
_SKIP_BYTES = 2**20
_KINDS = frozenset(map(int, Opcode))
_HEAD = struct.Struct("<BQ")
_UINT16, _UINT32, _UINT64 = (struct.Struct(form).unpack_from for form in ("<H", "<I", "<Q"))
_COMPRESSIONS = ("", "lz4", "zstd")
_LANGUAGES = {"ros2msg": "msg", "ros1msg": "msg", "ros2idl": "idl"}
_DAMAGE = (
    *(McapError, zstandard.ZstdError, struct.error, ValueError, RuntimeError, OverflowError, MemoryError),
    *(LookupError, TypeError, AssertionError, EOFError),
)
"""What the libraries raise on damaged bytes."""


class McapRecording(Recording):
    """One MCAP file.

    Raises:
        SourceError: it is no MCAP file, or damaged in a way that puts every message in doubt.
    """

    def __init__(self, path: Path, format: str = "mcap") -> None:
        self.path, self.format = path, format
        self.loss = Loss()
        self.embedded: dict[str, str] = {}
        self._counts: Counter[int] | None = None
        """Messages by channel as the summary says."""
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._indices: list[ChunkIndex] = []
        self._whole = self._check()
        if not self._whole and self._chunked:
            for _ in self._salvage(Loss()):  # topics may be known in the chunks alone
                pass
        topics = TopicTable()
        self._rows = {number: topics.add(self._describe(one)) for number, one in sorted(self._channels.items())}
        self.topics = topics.rows

    def _describe(self, channel: Channel) -> Topic:
        schema = self._schemas.get(channel.schema_id)
        if schema is None:
            return Topic(channel.topic, "", channel.message_encoding, "", "")
        name = schema.name if schema.name.count("/") != 1 else schema.name.replace("/", "/msg/")
        return Topic(
            channel.topic,
            name,
            channel.message_encoding,
            schema.data.decode(errors="replace"),
            _LANGUAGES.get(schema.encoding, ""),
        )

    def _check(self) -> bool:
        """Reads every record and checks every checksum; True for a whole file with an index of its chunks."""
        chunks = unchecked = loose = channels = 0
        statistics: Statistics | None = None
        footer: Footer | None = None
        with self.path.open("rb") as file:
            stream = Clamped(file)
            reader = _QuickReader(
                cast(Any, stream), emit_chunks=True, validate_crcs=True, record_size_limit=stream.size
            )
            try:
                for record in reader.records:
                    if isinstance(record, Chunk):
                        chunks += 1
                        unchecked += record.uncompressed_crc == 0
                        _unpack(record)
                    elif isinstance(record, ChunkIndex):
                        self._indices.append(record)
                    elif isinstance(record, McapMessage):
                        loose += 1
                    elif isinstance(record, Metadata) and record.name == METADATA_NAME:
                        self.embedded |= record.metadata
                    elif isinstance(record, Statistics):
                        statistics = record
                    elif isinstance(record, Footer):
                        footer = record
                    self._learn(record)
                channels = len(self._channels)
                self._check_summary(stream, footer)
            except _DAMAGE as error:
                if chunks == loose == 0 and stream.tell() <= MAGIC_BYTES:
                    raise SourceError(
                        f"{self.path}: expected an MCAP file, got {describe_error(error)}; check the path"
                    ) from error
                if loose and "DataEnd" in str(error):
                    raise SourceError(
                        f"{self.path}: expected the checksum of its messages to fit, got {describe_error(error)}; "
                        "nobody can say which messages are damaged: copy the bag again from the robot"
                    ) from error
                self.loss.add(_explain(error, stream))
        self.checksums, self._chunked = not loose and not unchecked, bool(chunks)
        if statistics is not None and not self.loss.reasons:
            self._counts = Counter(statistics.channel_message_counts)
            if statistics.chunk_count != chunks:
                self.loss.add(f"expected {statistics.chunk_count} chunks, got {chunks}")
        complete = statistics is not None and channels == statistics.channel_count
        return complete and not self.loss.reasons and not loose and len(self._indices) == chunks > 0

    def _check_summary(self, stream: Clamped, footer: Footer | None) -> None:
        """Compares the CRC of the summary and the footer, which the library reads and does not check."""
        if footer is None or footer.summary_crc == 0:
            return
        stream.seek(footer.summary_start or stream.size - MAGIC_BYTES - FOOTER_BYTES)
        found = zlib.crc32(stream.read(stream.size - MAGIC_BYTES - 4 - stream.tell()))
        if found != footer.summary_crc:
            raise McapError(f"crc of the summary, expected: {footer.summary_crc}, calculated: {found}")

    def _learn(self, record: object) -> None:
        if isinstance(record, Schema):
            self._schemas.setdefault(record.id, record)
        elif isinstance(record, Channel):
            self._channels.setdefault(record.id, record)

    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """See `Recording.blocks`."""
        rows = {number: row for number, row in self._rows.items() if row in wanted}
        loss = Loss(list(self.loss.reasons))
        found = self._read_whole(rows, loss) if self._whole else self._salvage(loss)
        yield from gather((rows[one.channel_id], one.log_time, one.data) for one in found if one.channel_id in rows)
        self.loss = loss

    def _read_whole(self, rows: Collection[int], loss: Loss) -> Iterator[McapMessage]:
        """Every message of these channels, in the order of the file; chunks without one are passed over."""
        found = 0
        indices = [
            one
            for one in self._indices
            if not one.message_index_offsets or any(channel in rows for channel in one.message_index_offsets)
        ]
        indices.sort(key=attrgetter("chunk_start_offset"))
        try:
            with self.path.open("rb") as file:
                for index in indices:
                    for one in _break_up(_unpack(_read_chunk(Clamped(file), index))):
                        if isinstance(one, McapMessage) and one.channel_id in rows:
                            found += 1
                            yield one
        except _DAMAGE as error:
            raise SourceError(
                f"{self.path}: expected chunks as their index says, got {describe_error(error)}; run mcap recover on it"
            ) from error
        expected = sum((self._counts or Counter())[number] for number in rows)
        if found != expected:
            loss.add(f"expected {expected} messages as the summary says, got {found}")
            loss.messages = max(0, expected - found)

    def _salvage(self, loss: Loss) -> Iterator[McapMessage]:
        """Every message of every whole chunk, up to the first record that cannot be read; fills in the loss."""
        found: Counter[int] = Counter()
        lost_chunk = False
        with self.path.open("rb") as file:
            stream = Clamped(file)
            reader = _Reader(cast(Any, stream), emit_chunks=True, record_size_limit=stream.size)
            try:
                for record in reader.records:
                    inner: list[Any] = [record]
                    if isinstance(record, Chunk):
                        lost_chunk = False
                        try:
                            inner = list(_break_up(_unpack(record)))
                        except _DAMAGE as error:
                            inner, lost_chunk = [], True
                            loss.chunks += 1
                            loss.add(describe_error(error) if str(error) else "a chunk is cut off")
                    elif isinstance(record, MessageIndex) and lost_chunk and self._counts is None:
                        loss.messages += len(record.records)
                    for one in inner:
                        self._learn(one)
                        if isinstance(one, McapMessage):
                            found[one.channel_id] += 1
                            yield one
            except _DAMAGE as error:
                loss.add(_explain(error, stream))
                loss.unread_bytes = max(0, stream.size - stream.tell())
        if self._counts is not None:
            loss.messages = sum((self._counts - found).values())


class _Reader(StreamReader):
    """Passes over attachments, which may be videos, and records of kinds that nobody knows, in small pieces."""

    passed: frozenset[int] = frozenset({int(Opcode.ATTACHMENT)})

    def _read_record(self, opcode: int, length: int) -> McapRecord | None:
        if opcode in _KINDS and opcode not in self.passed:
            return super()._read_record(opcode, length)
        for start in range(0, length, _SKIP_BYTES):
            self._stream.read(min(_SKIP_BYTES, length - start))
        return None


class _QuickReader(_Reader):
    """Passes over the indices of messages too, whose entries take longer to read than the messages to check."""

    passed = _Reader.passed | {int(Opcode.MESSAGE_INDEX)}


def _explain(error: BaseException, stream: Clamped) -> str:
    """Why reading stopped."""
    if stream.tell() >= stream.size and isinstance(error, EndOfFile | struct.error):
        return f"it is cut off: the file ends at byte {stream.size}, in the middle of a record"
    return describe_error(error)


class _BytesStream(ReadDataStream):
    """The library's stream of numbers and bytes, over bytes in memory: each number is read where it lies."""

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO())
        self._data = data

    def read(self, length: int) -> bytes:
        """The next `length` bytes, all of them."""
        self._count = end = (start := self._count) + length
        if not start <= end <= len(self._data):
            raise EndOfFile
        return self._data[start:end]

    def read_head(self) -> tuple[int, int]:
        """Kind and length of the next record."""
        self._count = (start := self._count) + _HEAD.size
        kind, length = _HEAD.unpack_from(self._data, start)
        return kind, length

    def read2(self) -> int:
        """The next two bytes as a number."""
        self._count = (start := self._count) + 2
        number: int = _UINT16(self._data, start)[0]
        return number

    def read4(self) -> int:
        """The next four bytes as a number."""
        self._count = (start := self._count) + 4
        number: int = _UINT32(self._data, start)[0]
        return number

    def read8(self) -> int:
        """The next eight bytes as a number."""
        self._count = (start := self._count) + 8
        number: int = _UINT64(self._data, start)[0]
        return number


def _break_up(data: bytes) -> Iterator[McapRecord]:
    """The records of a chunk, as `mcap.stream_reader.breakup_chunk` reads them at half the speed."""
    stream, size = _BytesStream(data), len(data)
    message, read_message = int(Opcode.MESSAGE), McapMessage.read
    while stream.count < size:
        kind, length = stream.read_head()
        if kind == message:
            yield read_message(stream, length)
        elif kind == Opcode.CHANNEL:
            yield Channel.read(stream)
        elif kind == Opcode.SCHEMA:
            yield Schema.read(stream)
        else:
            stream.read(length)


def _read_chunk(stream: Clamped, index: ChunkIndex) -> Chunk:
    """The chunk that an index tells of."""
    stream.seek(index.chunk_start_offset)
    source = ReadDataStream(cast(Any, stream))
    kind, _ = source.read1(), source.read8()
    if kind != Opcode.CHUNK:
        raise ValueError(f"a record of kind {kind} at byte {index.chunk_start_offset}")
    chunk: Chunk = Chunk.read(source)
    return chunk


def _unpack(chunk: Chunk) -> bytes:
    """The content of a chunk, once its size and CRC are checked, and that it is no bomb.

    Raises:
        ValueError: it is damaged, or declares more than it can hold; or as the libraries raise.
    """
    declared = chunk.uncompressed_size
    if chunk.compression not in _COMPRESSIONS:
        raise ValueError(f"a chunk with compression {chunk.compression!r:.40}")
    if declared > allow_record(len(chunk.data)):
        raise ValueError(f"a chunk of {len(chunk.data)} bytes declares {declared} bytes")
    size = declared
    if chunk.compression == "zstd":
        size = zstandard.get_frame_parameters(chunk.data).content_size
    elif chunk.compression == "lz4":
        size = lz4.frame.get_frame_info(chunk.data)["content_size"]
        if not size:  # not said: it is unpacked here no further than is declared
            size = len(lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=declared + 1))
    if size in (declared, zstandard.CONTENTSIZE_UNKNOWN):
        stream, held = get_chunk_data_stream(chunk, validate_crc=True)
        if held == declared:
            return stream.read(held)
    raise ValueError(f"a chunk declares {declared} bytes and holds others")
