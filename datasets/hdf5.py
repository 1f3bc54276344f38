"""Opening HDF5 files that somebody else wrote.

An HDF5 file can name other files (external storage, virtual data sets, external links), load plug-ins for its filters,
and declare more data than it holds: the missing part then reads as zeros. A robot's data comes from strangers, so every
data set is refused unless its bytes lie in this file, whole, behind the filters that the HDF5 library itself brings.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ..errors import SourceError, SuppleError, describe_error
from .source_files import require_budget

MAX_BYTES = 2**36
"""Largest decoded data set that is read, 64 GiB: a damaged header must not ask for all the memory."""
MAX_CHUNK_BYTES = 2**30
"""Largest decoded chunk, 1 GiB: the HDF5 library unpacks a chunk as a whole."""
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_LZF: "lzf",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_NBIT: "nbit",
    h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset",
}
_HEAP = b"GCOL\x01\0\0\0"
_SCANNED_BYTES = 2**24
"""Of a file that is looked through, held in memory at a time."""
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)
"""What h5py raises, depending on where the damage lies; caught only around h5py calls."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Opens a file read-only, and turns what h5py raises within the block into one typed line.

    Raises:
        SourceError: the file is missing, is not HDF5, is truncated or damaged, or has a link to another file.
    """
    if not path.is_file():
        raise SourceError(f"{path}: expected an HDF5 file, got no file there; check the path")
    try:
        with h5py.File(path, "r") as file:
            _require_inside(file, path)
            yield file
    except SuppleError:
        raise
    except DAMAGE as error:
        raise SourceError(
            f"{path}: expected a whole HDF5 file, got one that cannot be read ({describe_error(error)}); "
            "copy or download it again"
        ) from error


def _require_inside(file: h5py.File, path: Path) -> None:
    """Refuses a link to another file, before anybody follows it: it may be a device that never answers."""

    def look(name: bytes, link: Any) -> bytes | None:
        return name if link.type == h5py.h5l.TYPE_EXTERNAL else None

    name = file.id.links.visit(look, info=True)
    if name is not None:
        raise SourceError(
            f"{path}: {name.decode(errors='replace')}: expected data in this file, got a link to another one; copy the "
            "data into the file"
        )


def list_top(path: Path, *, datasets: bool) -> set[str]:
    """Names of the data sets, or of the groups, at the top of a file; raises as `open_hdf5`."""
    with open_hdf5(path) as file:
        kind = h5py.Dataset if datasets else h5py.Group
        return {name for name in file if file.get(name, getclass=True) is kind}


def describe_contents(entries: Mapping[str, h5py.Dataset]) -> dict[str, str]:
    """Type and shape of each data set, as a person reads them."""
    return {name: f"{data.dtype} {data.shape}" for name, data in entries.items()}


def walk(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """Every data set of the file by name, `group/name`, sorted; links that leave their group are refused.

    Raises:
        SourceError: an external or soft link, or something that is neither group nor data set.
    """
    found: dict[str, h5py.Dataset] = {}
    seen: set[Any] = set()
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise SourceError(f"{path}: expected a tree of groups, got a loop at {prefix!r}; write the file again")
        seen.add(address)
        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise SourceError(
                    f"{path}: {name}: expected data in this file, got a link; write the data into the file itself"
                )
            entry = group[key]
            if isinstance(entry, h5py.Group):
                pending.append((f"{name}/", entry))
            elif isinstance(entry, h5py.Dataset):
                found[name] = entry
            else:
                raise SourceError(f"{path}: {name}: expected a data set, got {type(entry).__name__}; remove it")
    return dict(sorted(found.items()))


def require_plain(data: h5py.Dataset, name: str, path: Path) -> None:
    """Refuses a data set whose bytes lie elsewhere, need a foreign filter, or are not all there.

    Raises:
        SourceError: names the file, the data set and the remedy.
    """
    where = f"{path}: {name}"
    if data.shape is None:
        raise SourceError(f"{where}: expected an array, got an empty data space; write the data again")
    if data.is_virtual:
        raise SourceError(f"{where}: expected data in this file, got a virtual data set; copy the data into the file")
    if data.external:
        raise SourceError(f"{where}: expected data in this file, got external storage; copy the data into the file")
    properties = data.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code = properties.get_filter(index)[0]
        if code not in _FILTERS:
            raise SourceError(
                f"{where}: expected filters of {', '.join(sorted(_FILTERS.values()))}, got filter number {code}; "
                "write the data again with gzip"
            )
    size = _count_bytes(data)
    if size > MAX_BYTES:
        raise SourceError(f"{where}: expected at most {MAX_BYTES} bytes, got {size} bytes; split the file")
    chunk = _count_chunk_bytes(data)
    if chunk > MAX_CHUNK_BYTES:
        raise SourceError(
            f"{where}: expected chunks of at most {MAX_CHUNK_BYTES} bytes, got {chunk} bytes; write it again with "
            "h5repack"
        )
    if is_written(data):
        require_budget(max(size, chunk), path.stat().st_size, where)
    if is_written(data) and not _is_whole(data, size):
        raise SourceError(f"{where}: expected {size} bytes of data, got fewer in the file; copy or write it again")


def require_heaps(path: Path) -> None:
    """Refuses a file with a damaged heap of strings, which the HDF5 library (2.0) would read for ever.

    Called before a string of variable length is read. The layout is that of "Global Heap" in the HDF5 file format
    specification, version 3.

    Raises:
        SourceError: an entry of a heap has no length, or one beyond its heap.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for begin in range(0, len(data), _SCANNED_BYTES):
            limit = begin + _SCANNED_BYTES + len(_HEAP) - 1  # a heap that begins within these bytes
            start = data.find(_HEAP, begin, limit)
            while start >= 0:
                _require_heap(data, start, path)
                start = data.find(_HEAP, start + 16, limit)
            data.madvise(mmap.MADV_DONTNEED)


def _require_heap(data: mmap.mmap, start: int, path: Path) -> None:
    (size,) = struct.unpack_from("<Q", data[start + 8 : start + 16].ljust(8, b"\0"))
    at, end = start + 16, start + size
    while at + 16 <= end:
        index, length = struct.unpack("<H6xQ", data[at : at + 16].ljust(16, b"\0"))
        step = 16 + -(-length // 8) * 8 if index else length
        if not step or step > end - at or end > len(data):
            raise SourceError(
                f"{path}: expected a heap of strings at byte {start}, got an entry of {length} bytes; copy or "
                "download it again"
            )
        at += step


def read_text(entry: h5py.Group | h5py.Dataset, name: str, path: Path) -> str | bytes | None:
    """A text attribute; None where there is none, or it is no text.

    The HDF5 library dies of a type of variable length that is damaged, so that nothing but a text is read.

    Raises:
        SourceError: a heap of strings of the file is damaged.
    """
    if name not in entry.attrs:
        return None
    if not isinstance(h5py.h5a.open(entry.id, name.encode()).get_type(), h5py.h5t.TypeStringID):
        return None
    require_heaps(path)
    text = entry.attrs[name]
    return text if isinstance(text, str | bytes) else None


def is_written(data: h5py.Dataset) -> bool:
    """Whether anything was ever written into the data set; HDF5 takes space for it only then."""
    return not _count_bytes(data) or bool(data.id.get_storage_size())


def _count_bytes(data: h5py.Dataset) -> int:
    return int(math.prod(data.shape) * data.dtype.itemsize)


def _count_chunk_bytes(data: h5py.Dataset) -> int:
    return int(math.prod(data.chunks) * data.dtype.itemsize) if data.chunks else 0


def _is_whole(data: h5py.Dataset, size: int) -> bool:
    if data.chunks is None:
        return bool(data.id.get_storage_size() >= size)
    chunks = math.prod(-(-extent // chunk) for extent, chunk in zip(data.shape, data.chunks, strict=True))
    return bool(data.id.get_num_chunks() == chunks)
