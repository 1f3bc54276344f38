"""What the metadata of an episode store must say, compared before any library acts on it.

All that a store's arrays can be follows from its schema, its number of steps and its number of episodes, so metadata
that declare anything else are damaged or made up. They are read as text: no memory is taken for what they declare.
Legend: N steps of all episodes, E episodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..strict_json import load_json
from .layout import CHUNK_ROWS, INDEX_DTYPES, count_image_rows, missing_value
from .manifest import Manifest
from .schema import Schema

_REMEDY = "ingest the source again"
_CRC_BYTES = 4
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CODECS = (("bytes", "crc32c"), ("bytes", "zstd", "crc32c"))


def load_attributes(path: Path) -> dict[str, Any]:
    """The attributes `schema` and `provenance` of a store's root group.

    Raises:
        StoreError: the root is no group of zarr v3.
    """
    root = load_json(path / "zarr.json", dict, StoreError, _REMEDY, "the root of an episode store")
    attributes = root.get("attributes")
    if root.get("zarr_format") != 3 or root.get("node_type") != "group" or not isinstance(attributes, dict):
        raise StoreError(f"{path / 'zarr.json'}: expected a zarr v3 group with attributes, got another; {_REMEDY}")
    return attributes


def check_arrays(path: Path, manifest: Manifest, schema: Schema) -> None:
    """Checks the metadata of every array, and the size of every chunk that it declares.

    Raises:
        StoreError: names the file and what is impossible.
    """
    first = f"episodes/{next(iter(INDEX_DTYPES))}"
    entry = manifest.files.get(f"{first}/c.0")
    if entry is None:
        raise StoreError(f"{path / first}: expected the chunk c.0, got none; {_REMEDY}")
    episodes = (entry.bytes - _CRC_BYTES) // np.dtype(INDEX_DTYPES["start"]).itemsize
    for name, dtype in INDEX_DTYPES.items():
        _check_array(path, manifest, f"episodes/{name}", dtype, (episodes,), episodes)
    rows, chunk_rows = _read_rows(path, schema)
    for feature in schema.features:
        count = chunk_rows if feature.role != "image" else count_image_rows(feature.shape)
        _check_array(path, manifest, f"steps/{feature.name}", feature.dtype, (rows, *feature.shape), count)


def _read_rows(path: Path, schema: Schema) -> tuple[int, int]:
    """N and the rows of a chunk, as the first array of numbers declares them; all others are compared with it."""
    numbers = [feature.name for feature in schema.features if feature.role != "image"]
    file = path / "steps" / (numbers or schema.names)[0] / "zarr.json"
    found = _load(file)
    try:
        rows, chunk = found["shape"][0], found["chunk_grid"]["configuration"]["chunk_shape"][0]
    except (KeyError, TypeError, IndexError):
        rows = chunk = None
    if type(rows) is not int or type(chunk) is not int or not (0 < rows < 2**62 and 0 < chunk <= CHUNK_ROWS):
        raise StoreError(
            f"{file}: expected rows above 0 in chunks of at most {CHUNK_ROWS}, got {str(rows)[:40]} in chunks of "
            f"{str(chunk)[:40]}; {_REMEDY}"
        )
    return rows, chunk


def _load(file: Path) -> dict[str, Any]:
    return load_json(file, dict, StoreError, _REMEDY, "the metadata of an array")


def _check_array(
    path: Path, manifest: Manifest, name: str, dtype: str, shape: tuple[int, ...], chunk_rows: int
) -> None:
    file = path / name / "zarr.json"
    found = _load(file)
    missing = missing_value(dtype)
    expected = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk_rows, *shape[1:]]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN" if missing != missing else missing,
    }
    for field, value in expected.items():
        if found.get(field) != value:
            raise StoreError(f"{file}: expected {field} {value}, got {str(found.get(field))[:80]}; {_REMEDY}")
    codecs = _list_codecs(found, file)
    chunks = -(-shape[0] // chunk_rows)
    names = [key for key in manifest.files if key.startswith(f"{name}/c.")]
    listed = manifest.chunks.get(name)
    if not chunks == listed == len(names):
        raise StoreError(
            f"{path / name}: expected {chunks} chunks, got {len(names)} files and {str(listed)[:20]} in the manifest; "
            f"{_REMEDY}"
        )
    size = int(np.prod([chunk_rows, *shape[1:]], dtype=object)) * np.dtype(dtype).itemsize
    for number in range(chunks):
        key = f"{name}/c.{number}{'.0' * len(shape[1:])}"
        if key not in manifest.files:
            raise StoreError(f"{path / key}: expected a chunk of this name, got none; {_REMEDY}")
        decoded = manifest.files[key].bytes - _CRC_BYTES
        if "zstd" in codecs:
            decoded = _read_decoded_size(path / key)
        if decoded != size:
            raise StoreError(f"{path / key}: expected a chunk of {size} bytes, got one of {decoded}; {_REMEDY}")


def _list_codecs(found: dict[str, Any], file: Path) -> tuple[str, ...]:
    """Names of the codecs, which are those that a store is written with and no others."""
    codecs = found.get("codecs")
    names: tuple[str, ...] = ()
    if isinstance(codecs, list) and all(isinstance(codec, dict) for codec in codecs):
        names = tuple(str(codec.get("name")) for codec in codecs)
    order = codecs[0].get("configuration", {"endian": "little"}) if isinstance(codecs, list) and names else None
    plain = names in _CODECS and order in ({"endian": "little"}, {"endian": None}, {})
    if not plain or found.get("storage_transformers", []) != []:
        raise StoreError(f"{file}: expected the codecs bytes, crc32c and perhaps zstd, got others; {_REMEDY}")
    return names


def _read_decoded_size(file: Path) -> int:
    """Bytes that a zstd frame declares to unpack to (RFC 8878, section 3.1.1.1); -1 where it does not say."""
    with file.open("rb") as stream:
        head = stream.read(18)
    if head[:4] != _ZSTD_MAGIC or len(head) < 18:
        return -1
    descriptor = head[4]
    single = bool(descriptor & 0x20)
    size_bytes = (int(single), 2, 4, 8)[descriptor >> 6]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    if not size_bytes:
        return -1
    return int.from_bytes(head[at : at + size_bytes], "little") + (256 if size_bytes == 2 else 0)
