"""Chunks of zarr v2 arrays, looked at before a codec sees them: the codecs trust what a chunk says of its size.

Blosc's decoder reads beyond the end of a chunk whose header counts more bytes than there are, and takes the process
down; all of them unpack a bomb to its end.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numcodecs import Zstd  # type: ignore[import-untyped]
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore


class CheckedStore(WrapperStore[Any]):
    """A store that gives no chunk which unpacks to more than its array has room for.

    `get` raises ValueError for such a chunk.
    """

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._rooms: dict[PurePosixPath, tuple[str, int]] = {}

    def expect(self, array: str, codec: str, most_bytes: int) -> None:
        """Says which codec packed the chunks of an array, and how many bytes one of them may unpack to."""
        self._rooms[PurePosixPath(array)] = (codec, most_bytes)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See `zarr.abc.store.Store.get`."""
        value = await self._store.get(key, prototype, byte_range)
        path = PurePosixPath(key)
        if value is not None and not path.name.startswith("."):
            codec, most = next((self._rooms[one] for one in path.parents if one in self._rooms), ("", 0))
            if codec in _SIZES and _SIZES[codec](value.to_bytes(), most) > most:
                raise ValueError(f"chunk {key}: expected at most {most} bytes in it, got more")
        found: Buffer | None = value
        return found


def _size_blosc(data: bytes, _: int) -> int:
    size, _, packed = struct.unpack_from("<III", data, 4)
    if packed != len(data):
        raise ValueError(f"a Blosc chunk of {len(data)} bytes says that it has {packed}")
    return int(size)


def _size_lz4(data: bytes, _: int) -> int:
    return int(struct.unpack_from("<I", data)[0])


def _size_zstd(data: bytes, most: int) -> int:
    return int(np.asarray(Zstd().decode(data, np.empty(most, np.uint8))).nbytes)  # refuses what does not fit


def _size_by(make: Callable[[], Any]) -> Callable[[bytes, int], int]:
    return lambda data, most: len(make().decompress(data, most + 1))


_SIZES: dict[str, Callable[[bytes, int], int]] = {
    "blosc": _size_blosc,
    "lz4": _size_lz4,
    "zstd": _size_zstd,
    "zlib": _size_by(zlib.decompressobj),
    "gzip": _size_by(lambda: zlib.decompressobj(31)),
    "bz2": _size_by(bz2.BZ2Decompressor),
    "lzma": _size_by(lzma.LZMADecompressor),
}
"""Bytes that a chunk unpacks to, by codec; those of the last four count up to one above the limit."""
