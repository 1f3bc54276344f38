"""Ways to damage a recording: bytes of a file, whole files, bombs, and names that lead out of the folder.

Legend: a recording is a mapping from names of files to their bytes; a change maps names to new bytes, to None for a
file that goes, or to a path for a link.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import lz4.frame
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Chunk
from mcap.writer import MCAP0_MAGIC
from numcodecs import get_codec
from numpy.lib import format as npy

Files = Mapping[str, bytes]
Changes = dict[str, bytes | Path | None]
BOMB_BYTES = 2**27
"""That a bomb unpacks to; all of them are smaller than a thousandth of it."""
OUTSIDE = "outside"
"""Folder beside the recording, which no reader may change."""
_LENGTHS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(len(data), size=int(rng.integers(1, 17))):
        data[place] ^= 1 << int(rng.integers(8))


def cut_off(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def leave_out(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _choose_block(data, rng)
    del data[at : at + size]


def erase(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _choose_block(data, rng)
    data[at : at + size] = bytes(len(data[at : at + size]))


def duplicate(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _choose_block(data, rng)
    data[at:at] = data[at : at + size]


def reorder(data: bytearray, rng: np.random.Generator) -> None:
    """Two blocks of one size change places."""
    at, size = _choose_block(data, rng)
    other = int(rng.integers(len(data)))
    size = min(size, abs(other - at), len(data) - at, len(data) - other)
    first, second = bytes(data[at : at + size]), bytes(data[other : other + size])
    data[at : at + size], data[other : other + size] = second, first


def splice(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _choose_block(data, rng)
    other = int(rng.integers(len(data)))
    data[at : at + size] = data[other : other + int(rng.integers(1, 64))]


def set_length(data: bytearray, rng: np.random.Generator) -> None:
    """Four or eight bytes become a length that nothing has."""
    width = int(rng.choice([4, 8]))
    lengths = [length for length in _LENGTHS if length < 2 ** (8 * width)]
    value = lengths[int(rng.integers(len(lengths)))]
    at = int(rng.integers(max(1, len(data) - width + 1)))
    data[at : at + width] = value.to_bytes(width, "big" if rng.integers(4) == 0 else "little")


def _choose_block(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    """Place and size, of few bytes or of many."""
    return int(rng.integers(len(data))), int(rng.choice([rng.integers(1, 64), rng.integers(1, len(data) + 1)]))


BYTES = (flip_bits, flip_bits, flip_bits, cut_off, leave_out, erase, duplicate, reorder, splice, set_length, set_length)
"""Of single files, the usual ones more often."""


def change_bytes(files: Files, rng: np.random.Generator) -> Changes:
    """One file damaged in one way; large files as often as small ones."""
    name = str(rng.choice([name for name, data in files.items() if data]))
    data = bytearray(files[name])
    BYTES[int(rng.integers(len(BYTES)))](data, rng)
    return {name: bytes(data)}


def change_files(files: Files, rng: np.random.Generator) -> Changes:
    """A file is lost, empty, a link to the outside, in the place of another, or there twice."""
    names = [str(name) for name in rng.choice(list(files), 2)]
    return (
        {names[0]: None},
        {names[0]: b""},
        {names[0]: Path(OUTSIDE) / "canary"},
        {names[0]: files[names[1]], names[1]: files[names[0]]},
        {f"{names[0]}.copy": files[names[0]]},
    )[int(rng.integers(5))]


def lead_out(files: Files, rng: np.random.Generator) -> Changes:
    """Names of files, in archives and in texts, become ways out of the folder."""
    name = str(rng.choice(list(files)))
    way = str(rng.choice([f"../{OUTSIDE}/canary", f"../../{OUTSIDE}/canary", "/etc/passwd", "..\\canary", "a/../../b"]))
    data = files[name]
    if zipfile.is_zipfile(io.BytesIO(data)):
        return {name: _rename_member(data, way, rng)}
    for known in sorted({Path(one).name for one in files}, key=len, reverse=True):
        if known.encode() in data:
            return {name: data.replace(known.encode(), way.encode())}
    if data.startswith(b"\x89HDF"):
        return {name: _link_out(data, way, rng)}
    return {f"{name}.link": Path("/etc/passwd")}


def _rename_member(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    """The archive with one more member, or with one that is called otherwise."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        renamed = int(rng.integers(2 * len(old.infolist())))
        for index, member in enumerate(old.infolist()):
            new.writestr(name if index == renamed else member.filename, old.read(member))
        if renamed >= len(old.infolist()):
            new.writestr(name, b"out")
    return made.getvalue()


def _link_out(data: bytes, way: str, rng: np.random.Generator) -> bytes:
    """The HDF5 file with one data set that lies in another file."""
    made = io.BytesIO(data)
    with h5py.File(made, "r+") as file:
        name = _choose_dataset(file, rng)
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        if rng.integers(2):
            file[name] = h5py.ExternalLink(way, "/data")
        else:
            file.create_dataset(name, shape, dtype, external=[(way, 0, h5py.h5f.UNLIMITED)])
    return made.getvalue()


def _choose_dataset(file: h5py.File, rng: np.random.Generator) -> str:
    names: list[str] = []
    file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) and entry.shape else None)
    return str(rng.choice(names))


def _bomb_hdf5(files: Files, rng: np.random.Generator) -> Changes:
    """One array of as many rows as a bomb holds, in equal compressed chunks."""
    name = str(rng.choice([name for name, data in files.items() if data.startswith(b"\x89HDF")]))
    made = io.BytesIO(files[name])
    with h5py.File(made, "r+") as file:
        array = _choose_dataset(file, rng)
        row, dtype = file[array].shape[1:], file[array].dtype
        rows = BOMB_BYTES // max(1, dtype.itemsize * int(np.prod(row)))
        chunk = rows // 16
        del file[array]
        big = file.create_dataset(array, (16 * chunk, *row), dtype, chunks=(chunk, *row), compression="gzip")
        zeros = _deflate(chunk * dtype.itemsize * int(np.prod(row)))
        for index in range(16):
            big.id.write_direct_chunk((index * chunk,) + (0,) * len(row), zeros)
    return {name: made.getvalue()}


@cache
def _deflate(size: int) -> bytes:
    return bytes(get_codec({"id": "zlib", "level": 1}).encode(bytes(size)))


def _bomb_zip(files: Files, rng: np.random.Generator) -> Changes:
    ((name, data),) = files.items()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.namelist() if not member.rsplit("/", 1)[-1].startswith(".")]
    return {name: _inflate_member(data, str(rng.choice(members)))}


@cache
def _inflate_member(data: bytes, bomb: str) -> bytes:
    """The archive with one member of zeros; deflate shrinks them to a 1029th at best, to a 229th at worst."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for member in old.namelist():
            content = old.read(member)
            if member == bomb:
                header = io.BytesIO()
                if bomb.endswith(".npy"):
                    with old.open(member) as stream:
                        npy.read_magic(stream)
                        shape, _, dtype = npy.read_array_header_1_0(stream)
                    rows = BOMB_BYTES // max(1, dtype.itemsize * int(np.prod(shape[1:])))
                    npy.write_array_header_1_0(
                        header, {"descr": dtype.str, "fortran_order": False, "shape": (rows, *shape[1:])}
                    )
                content = header.getvalue() + bytes(BOMB_BYTES)
            new.writestr(member, content)
    return made.getvalue()


def _bomb_zarr(files: Files, rng: np.random.Generator) -> Changes:
    """A chunk that unpacks to more than a chunk, or an array that says it has more rows than anything holds."""
    chunks = [name for name in files if not Path(name).name.startswith(".")]
    name = str(rng.choice(chunks))
    about = str(Path(name).parent / ".zarray")
    facts = json.loads(files[about])
    if rng.integers(2):
        facts["shape"][0] = int(rng.choice([10**9, 2**31, 2**62]))
        return {about: json.dumps(facts).encode()}
    facts["compressor"] = {"id": "zlib", "level": 1}
    return {about: json.dumps(facts).encode(), name: _deflate(BOMB_BYTES)}


def _bomb_arrow(files: Files, _: np.random.Generator) -> Changes:
    name = min(name for name in files if name.endswith((".arrow", ".parquet")))
    return {name: _repeat_rows(files[name], name.endswith(".parquet"))}


@cache
def _repeat_rows(data: bytes, parquet: bool) -> bytes:
    """The first row again and again; compressed, so that the file stays small."""
    made = io.BytesIO()
    table = pq.read_table(io.BytesIO(data)) if parquet else pa.ipc.open_file(io.BytesIO(data)).read_all()
    large = table.take(pa.array(np.zeros(BOMB_BYTES // max(1, table.nbytes // len(table)), np.int64)))
    if parquet:
        pq.write_table(large, made, compression="zstd")
    else:
        with pa.ipc.new_file(made, large.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(large.combine_chunks())
    return made.getvalue()


def _bomb_mcap(files: Files, rng: np.random.Generator) -> Changes:
    """A chunk that declares all that it unpacks to, or hides it."""
    name = str(rng.choice([name for name in files if name.endswith(".mcap")]))
    packing = str(rng.choice(["zstd", "lz4"]))
    declared = int(rng.choice([BOMB_BYTES, 1000, 2**63]))
    builder = RecordBuilder()
    Chunk(packing, _pack(packing), 0, 0, 0, declared).write(builder)
    data = files[name]
    at = int(rng.choice([len(MCAP0_MAGIC), len(data) // 2]))
    return {name: data[:at] + builder.end() + data[at:]}


@cache
def _pack(packing: str) -> bytes:
    return zstandard.compress(bytes(BOMB_BYTES)) if packing == "zstd" else lz4.frame.compress(bytes(BOMB_BYTES))


def _bomb_zstd(files: Files, rng: np.random.Generator) -> Changes:
    """A file of a ROS 2 bag that is nothing but zeros, or that ends with them."""
    name = str(rng.choice([name for name in files if not name.endswith(".yaml")]))
    return {name: _pack("zstd") if rng.integers(2) else files[name] + _pack("zstd")}


BOMBS: dict[str, Callable[[Files, np.random.Generator], Changes]] = {
    **dict.fromkeys(("d4rl", "minari-hdf5", "robomimic", "spirl"), _bomb_hdf5),
    **dict.fromkeys(("ogbench", "zarr-zip"), _bomb_zip),
    **dict.fromkeys(("minari-arrow", "minari-parquet", "lerobot-2.1", "lerobot-3.0"), _bomb_arrow),
    **dict.fromkeys(("mcap", "plain", "plain-zstd", "plain-unchunked"), _bomb_mcap),
    **dict.fromkeys(("sqlite", "sqlite-message", "mcap-file", "rosbag1", "rosbag1-lz4"), _bomb_zstd),
    "zarr": _bomb_zarr,
    **dict.fromkeys(("lerobot-2.1-video", "lerobot-3.0-video"), _bomb_arrow),
}
"""By layout: puts a bomb into a recording."""


def mutate(layout: str, files: Files, rng: np.random.Generator) -> Changes:
    """Damages a recording in one way; what changes is always another recording."""
    while True:
        kind: Any = rng.random()
        if kind < 0.01:
            changes = BOMBS[layout](files, rng)
        elif kind < 0.04:
            changes = lead_out(files, rng)
        elif kind < 0.1 and len(files) > 1:
            changes = change_files(files, rng)
        else:
            changes = change_bytes(files, rng)
        if any(name not in files or files[name] != data for name, data in changes.items()):
            return changes
