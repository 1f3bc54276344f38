"""The list of every file of a store with its hash, size and chunk counts, which no change of a byte leaves intact.

The text is canonical JSON: the parsed manifest, written again, must give the same bytes, so a change in white space
shows as well. `digest` is the SHA-256 of that text without the digest itself; it names the content of the whole store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..plain_files import list_plain_files, read_plain_file, sync
from ..strict_json import parse_json

MANIFEST_NAME = "MANIFEST.json"
_FORMAT = "supple-episode-store"
_VERSION = 2
"""Version 1 had no last bytes of the files."""
_SEAL_THREADS = 4
_TAIL_BYTES = 4


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What one file must be."""

    sha256: str
    bytes: int
    tail: str | None = None
    """The last four bytes, hexadecimal: of a chunk, its crc32c. None in a manifest of version 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Every file of the store but the manifest itself."""

    files: Mapping[str, FileEntry]
    """By path relative to the store, with `/`."""
    chunks: Mapping[str, int]
    """Number of chunks of each array."""

    @property
    def digest(self) -> str:
        """SHA-256 that names the content of the store."""
        return hashlib.sha256(_dump(self._body())).hexdigest()

    def to_bytes(self) -> bytes:
        """The canonical text."""
        return _dump({**self._body(), "digest": self.digest})

    def _body(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "version": 1 if any(entry.tail is None for entry in self.files.values()) else _VERSION,
            "chunks": dict(self.chunks),
            "files": {
                name: {key: value for key, value in asdict(entry).items() if value is not None}
                for name, entry in self.files.items()
            },
        }


class Sealer:
    """Writes, hashes and syncs files in the background, while the next ones are prepared.

    Args:
        root: The folder that the manifest will describe.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(_SEAL_THREADS)
        self._entries: dict[str, Future[FileEntry]] = {}

    def write(self, name: str, make_parts: Callable[[], Iterable[bytes | memoryview]]) -> None:
        """Writes a file of these parts, one after the other; they are made and released in the background."""
        self._entries[name] = self._pool.submit(_write_file, self._root / name, make_parts)

    def wait(self) -> None:
        """Returns when all that was given so far is on the disk; raises OSError when it could not be written."""
        for entry in self._entries.values():
            entry.result()

    def finish(self, chunks: Mapping[str, int]) -> Manifest:
        """Syncs and hashes whatever else lies under the root, waits, and returns the manifest of all of it."""
        for name in list_files(self._root):
            if name not in self._entries:
                self._entries[name] = self._pool.submit(_sync_and_hash, self._root / name)
        files = {name: self._entries[name].result() for name in sorted(self._entries)}
        return Manifest(files=files, chunks=dict(sorted(chunks.items())))

    def close(self) -> None:
        """Drops what has not begun, and waits for the rest."""
        self._pool.shutdown(cancel_futures=True)


def load_manifest(root: Path) -> Manifest:
    """Reads the manifest and checks it against itself.

    Raises:
        StoreError: there is none (an unfinished write or no store at all), or a byte of it changed.
    """
    path = root / MANIFEST_NAME
    remedy = "check the path, or ingest the source again"
    raw = read_plain_file(path, StoreError, remedy, "the manifest of an episode store")
    newer = None
    try:
        value = parse_json(raw, dict, path, StoreError, remedy)
        newer = _find_newer(value)
        manifest = Manifest(
            files={name: FileEntry(**entry) for name, entry in value["files"].items()},
            chunks=value["chunks"],
        )
        whole = manifest.to_bytes() == raw
    except (StoreError, KeyError, TypeError, AttributeError):
        whole = False
    if newer is not None:
        raise StoreError(
            f"{path}: expected a store of format version 1 or {_VERSION}, got version {newer}; install the version of "
            "supple that wrote it"
        )
    if not whole:
        raise StoreError(f"{path}: expected an unchanged manifest, got a damaged one; ingest the source again")
    for name, entry in manifest.files.items():
        if type(entry.bytes) is not int or not 0 <= entry.bytes < 2**62 or not isinstance(entry.sha256, str):
            raise StoreError(f"{path}: {name}: expected a digest and a size, got others; do not use this store")
        if name.startswith("/") or ".." in name.split("/") or name == MANIFEST_NAME:
            raise StoreError(f"{path}: expected paths within the store, got {name!r}; do not use this store")
    return manifest


def _find_newer(value: Mapping[str, Any]) -> int | None:
    """The version of a manifest that is newer than this code, which may look like any other."""
    version = value.get("version")
    return version if value.get("format") == _FORMAT and type(version) is int and version > _VERSION else None


def list_files(root: Path) -> Iterator[str]:
    """Relative paths of all files under `root`, except the manifest.

    Raises:
        StoreError: a link or a special file, which a store never contains.
    """
    return (name for name in list_plain_files(root, StoreError) if name != MANIFEST_NAME)


def hash_file(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def measure_file(path: Path) -> tuple[int, str]:
    """Size and the last four bytes of a file, hexadecimal."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        return size, os.pread(handle, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).hex()
    finally:
        os.close(handle)


def _write_file(path: Path, make_parts: Callable[[], Iterable[bytes | memoryview]]) -> FileEntry:
    digest, size, tail = hashlib.sha256(), 0, b""
    with path.open("xb", buffering=0) as stream:
        for part in make_parts():
            view = memoryview(part).cast("B")
            digest.update(view)
            size += len(view)
            tail = (tail + view[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            while view:  # an unbuffered write may take less than it is given
                view = view[stream.write(view) :]
        os.fsync(stream.fileno())
    return FileEntry(digest.hexdigest(), size, tail.hex())


def _sync_and_hash(path: Path) -> FileEntry:
    sync(path)
    return FileEntry(hash_file(path), *measure_file(path))


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()
