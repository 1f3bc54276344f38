"""Where things lie in an episode store, and how its arrays are encoded.

    <store>/zarr.json               root group: attributes `schema` and `provenance`
    <store>/steps/<feature>         (N, dim) or (N,), all episodes one after the other
    <store>/episodes/start, length  (E,) int64, rows
    <store>/episodes/terminated, truncated   (E,) uint8, 0 or 1
    <store>/MANIFEST.json           hash and size of every other file

Zarr is used in its version 3: one file per chunk of 64 Ki rows, a crc32c behind each chunk. A missing chunk reads as
`fill_value`; NaN and the extreme integers cannot pass for data here, where NaN is refused and 0 is ordinary. Pictures
may hold any byte: their chunks are of 4 MiB, always packed, and a reader looks whether the files are there.
Legend: N steps of all episodes, E episodes, dim number of axes of a feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncodingLike

from .compression import Compression

CHUNK_ROWS = 65_536
"""Rows per chunk."""
CHUNK_KEYS: ChunkKeyEncodingLike = {"name": "default", "separator": "."}
"""Chunks lie side by side as `c.3.0`; with the usual `/` each has a folder of its own, and each folder costs a sync."""

_IMAGE_CHUNK_BYTES = 2**22
"""Of pictures, before they are packed: a chunk is a number of steps that is a power of two."""
_ZSTD_LEVEL = 1
INDEX_DTYPES = {"start": "int64", "length": "int64", "terminated": "uint8", "truncated": "uint8"}
"""Arrays of the episode index and their stored types."""


def count_image_rows(shape: tuple[int, ...]) -> int:
    """Rows of a chunk of pictures of this shape: the power of two whose bytes are at most 4 MiB, or 1."""
    fitting = _IMAGE_CHUNK_BYTES // math.prod(shape)
    return 1 << max(fitting.bit_length() - 1, 0)


def make_codecs(compression: Compression) -> list[BytesBytesCodec]:
    """The codecs behind the raw little-endian bytes of a chunk; the checksum covers what lies on the disk."""
    return [*([ZstdCodec(level=_ZSTD_LEVEL)] if compression == "zstd" else []), Crc32cCodec()]


def encode_chunk(rows: npt.NDArray[Any], chunk_rows: int, compression: Compression) -> Iterator[bytes | memoryview]:
    """What one chunk file holds, part by part: the bytes that zarr would write with `make_codecs`, without its copies.

    Args:
        rows: At most `chunk_rows` rows, (n,) or (n, dim); a last, shorter chunk is filled up with the missing value.
        chunk_rows: Rows of every chunk.
        compression: Of the chunk.
    """
    dtype = rows.dtype.newbyteorder("<")
    if len(rows) < chunk_rows:
        whole = np.full((chunk_rows, *rows.shape[1:]), missing_value(rows.dtype.name), dtype)
        whole[: len(rows)] = rows
        rows = whole
    data = np.ascontiguousarray(rows, dtype).reshape(-1).view(np.uint8)
    if compression == "zstd":
        data = np.frombuffer(Zstd(level=_ZSTD_LEVEL).encode(data), np.uint8)
    yield data.data
    yield google_crc32c.value(data).to_bytes(4, "little")


def missing_value(dtype: str) -> Any:
    """A value that data never has: NaN, the smallest signed or the largest unsigned integer."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return float("nan")
    return int(np.iinfo(kind).min if kind.kind == "i" else np.iinfo(kind).max)


def find_missing(values: npt.NDArray[Any]) -> int | None:
    """The first row that holds a value which data never has (infinities included), or None; pictures have any."""
    if values.ndim > 2:
        return None
    good = np.isfinite(values) if values.dtype.kind == "f" else values != missing_value(str(values.dtype))
    return None if good.all() else int(np.argwhere(~good)[0][0])
