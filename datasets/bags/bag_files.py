"""Opens a bag: a file, or a ROS 2 folder of one or more files, compressed or not.

A ROS 2 folder whose `metadata.yaml` is missing was never closed by its recorder: its files are read all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import zstandard
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ...errors import FormatError, SourceError, describe_error
from ...plain_files import read_plain_file
from ..containers import CONTAINERS, find_container
from .finding import list_own_files, list_storages
from .mcap_recording import McapRecording
from .message_types import TopicTable
from .recording import (
    Block,
    Loss,
    Message,
    Recording,
    allow_bytes,
    allow_record,
    gather,
    make_scratch,
)
from .rosbag1_recording import Rosbag1Recording
from .sqlite_recording import SqliteRecording

METADATA = "metadata.yaml"
_BLOCK_BYTES = 2**20


def open_recording(bag: Path) -> Recording:
    """Opens one bag of `find_bags`.

    Raises:
        SourceError: it cannot be read at all.
    """
    kind = find_container(bag)
    if kind == "mcap":
        return McapRecording(bag)
    if kind == "sqlite":
        return SqliteRecording(bag)
    if kind == "rosbag1":
        return Rosbag1Recording(bag)
    if not bag.is_dir():
        raise FormatError(f"{bag}: expected a bag, got {CONTAINERS[kind]}; check the path", kind, False)
    return FolderRecording(bag)


class FolderRecording(Recording):
    """A ROS 2 bag folder: its files one after the other, as one recording."""

    def __init__(self, folder: Path) -> None:
        self.loss = Loss()
        facts = self._read_metadata(folder)
        files = facts["files"]
        unpack = _unpack_message if facts["mode"] == "message" else None
        self._sources: list[tuple[Path, Path]] = []
        """File and what it was unpacked from, of each part."""
        self._parts = [self._open(file, unpack) for file in files]
        self._expected: dict[tuple[str, str], int] = facts["counts"]
        topics = TopicTable()
        self._rows = [[topics.add(topic) for topic in part.topics] for part in self._parts]
        self.topics = topics.rows
        self.format = self._parts[0].format
        self.checksums = all(part.checksums for part in self._parts)
        self.embedded = next((part.embedded for part in self._parts if part.embedded), {})
        self._gather(self.loss)

    def _read_metadata(self, folder: Path) -> dict[str, Any]:
        path = folder / METADATA
        if not path.is_file():
            files = list_storages(folder)
            self.loss.add(f"its recorder was killed: it has no {METADATA}")
            return {"files": files, "mode": "", "counts": {}}
        where = f"{path}: expected the metadata of a ROS 2 bag"
        try:
            text = read_plain_file(path, SourceError, "copy the bag again").decode()
            facts = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]
            files = [folder / PurePath(_require_text(name)).name for name in facts["relative_file_paths"]]
            counts: dict[tuple[str, str], int] = {}
            for row in facts["topics_with_message_count"]:
                topic = row["topic_metadata"]
                key = (_require_text(topic["name"]), _require_text(topic["type"]))
                counts[key] = counts.get(key, 0) + int(row["message_count"])
            mode, packing = (_require_text(facts.get(f"compression_{one}") or "").lower() for one in ("mode", "format"))
        except (YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SourceError(f"{where}, got {describe_error(error)}; run ros2 bag reindex on it") from error
        if mode in ("file", "message") and packing != "zstd":
            raise SourceError(f"{where} with compression zstd, got {packing!r}; convert it with ros2 bag convert")
        missing = [file.name for file in files if not file.is_file()]
        for name in missing:
            self.loss.add(f"its file {name} is missing")
        files = [file for file in files if file.is_file()]
        for file in list_own_files(folder):
            if file not in files:
                self.loss.add(
                    f"{file.name} is not in {METADATA} and not read: run ros2 bag reindex if it is of the bag"
                )
        if not files:
            got = f"none of {', '.join(missing)[:400]}" if missing else "no file"
            raise SourceError(f"{where} and its files, got {got}; copy the whole folder")
        return {"files": files, "mode": mode, "counts": counts}

    def _open(self, file: Path, unpack: Callable[[bytes], bytes] | None) -> Recording:
        source = file
        if find_container(file) == "zstd":
            file = _unpack_file(file, make_scratch(self))
        self._sources.append((file, source))
        kind = find_container(file)
        with _naming(file, source):
            if kind == "mcap":
                part: Recording = McapRecording(file, "rosbag2-mcap")
                return part if unpack is None else _UnpackedRecording(part, unpack)
            if kind == "sqlite":
                return SqliteRecording(file, unpack)
        got = "a compressed file that is cut off at its begin" if file != source and kind == "empty" else kind
        raise SourceError(f"{source}: expected an MCAP or SQLite file of a ROS 2 bag, got {got}; copy the bag again")

    def _gather(self, loss: Loss) -> None:
        """Adds up what the parts lost."""
        for part in self._parts:
            for reason in part.loss.reasons:
                loss.add(reason)
        for name in ("messages", "chunks", "unread_bytes"):
            setattr(loss, name, sum(getattr(part.loss, name) for part in self._parts))

    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """See `Recording.blocks`."""
        found = dict.fromkeys(wanted, 0)
        first = last = 0
        for part, rows, (file, source) in zip(self._parts, self._rows, self._sources, strict=True):
            with _naming(file, source):
                for topic, log_times, payloads, group in part.blocks(
                    [at for at, row in enumerate(rows) if row in found]
                ):
                    found[rows[topic]] += len(payloads)
                    last = first + group
                    yield Block(rows[topic], log_times, payloads, last)
            first = last + 1
        loss = Loss(list(self.loss.reasons))
        self._gather(loss)
        counts: dict[tuple[str, str], int] = {}
        for row, count in found.items():
            key = (self.topics[row].name, self.topics[row].type)
            counts[key] = counts.get(key, 0) + count
        missing = sum(max(0, self._expected.get(key, 0) - count) for key, count in counts.items())
        if missing > loss.messages:
            loss.messages = missing
            loss.add(f"{METADATA} counts more messages than its files hold")
        self.loss = loss


@contextmanager
def _naming(file: Path, source: Path) -> Iterator[None]:
    """Lets errors of a file that was unpacked for a while name what it was unpacked from."""
    try:
        yield
    except SourceError as error:
        if file == source:
            raise
        raise SourceError(str(error).replace(str(file), str(source))) from error


def _require_text(value: object) -> str:
    """A text; lists of lists that name each other would take all memory as one."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value


class _UnpackedRecording(Recording):
    """A recording each of whose payloads is compressed."""

    def __init__(self, inner: Recording, unpack: Callable[[bytes], bytes]) -> None:
        self._inner, self._unpack = inner, unpack
        self.format, self.topics, self.checksums = inner.format, inner.topics, inner.checksums
        self.loss, self.embedded = inner.loss, inner.embedded

    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """See `Recording.blocks`."""
        yield from gather(self._unpack_messages(wanted))

    def _unpack_messages(self, wanted: Collection[int]) -> Iterator[Message]:
        bad, reason = 0, ""
        for topic, log_time, payload in self._inner.messages(wanted):
            try:
                yield Message(topic, log_time, self._unpack(payload))
            except ValueError as error:
                bad, reason = bad + 1, describe_error(error)
        self.loss = self._inner.loss
        if bad:
            self.loss.messages += bad
            self.loss.add(reason)


def _unpack_message(payload: bytes) -> bytes:
    """Undoes zstd.

    Raises:
        ValueError: it is damaged, or a bomb.
    """
    most = allow_record(len(payload))
    try:
        declared = zstandard.get_frame_parameters(payload).content_size
        if declared not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) and declared > most:
            raise ValueError(f"a message of {len(payload)} bytes declares {declared} bytes")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ValueError(f"a compressed message is damaged: {describe_error(error)}") from error


def _unpack_file(file: Path, place: Path) -> Path:
    """Undoes zstd of a whole file, in blocks; a file that is cut off gives what is there.

    Raises:
        SourceError: it would grow beyond what its size allows.
    """
    target, size = place / file.stem, file.stat().st_size
    most, written = allow_bytes(size), 0
    with file.open("rb") as source, target.open("wb") as unpacked:
        reader = zstandard.ZstdDecompressor().stream_reader(source)
        try:
            while block := reader.read(_BLOCK_BYTES):
                written += len(block)
                if written > most:
                    raise SourceError(
                        f"{file}: expected at most {most} bytes from {size} compressed bytes, got more; "
                        "unpack it by hand if you trust it"
                    )
                unpacked.write(block)
        except zstandard.ZstdError as error:
            if not written:
                raise SourceError(
                    f"{file}: expected a zstd file, got {describe_error(error)}; copy it again"
                ) from error
    return target
