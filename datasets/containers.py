"""What kind of file or folder a path is, by its first bytes and names alone: a dozen bytes are read, no library loaded.

The kinds follow the signatures in the documentation of each format; nothing is concluded from the end of a file's name.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from ..errors import SourceError

CONTAINERS = {
    "hdf5": "an HDF5 file",
    "matlab-hdf5": "a MATLAB 7.3 file, whose arrays are transposed",
    "matlab": "a MATLAB file of version 7 or older",
    "npz": "a NumPy .npz archive",
    "npy": "a single NumPy array",
    "zarr2": "a zarr v2 group",
    "zarr2-zip": "a zarr v2 group in a zip file",
    "zarr3": "a zarr v3 group",
    "store": "an episode store of Supple",
    "minari": "a Minari data set",
    "lerobot": "a LeRobotDataset",
    "rosbag1": "a ROS 1 bag",
    "rosbag2": "a ROS 2 bag folder",
    "mcap": "an MCAP log",
    "sqlite": "an SQLite data base",
    "rlds": "an RLDS data set of TensorFlow records",
    "arrow-dataset": "a Hugging Face data set in Arrow files",
    "parquet": "a Parquet file",
    "arrow": "an Arrow file",
    "pickle": "a pickle, which can run any program when it is opened",
    "torch": "a checkpoint of PyTorch",
    "mp4": "an MP4 video",
    "matroska": "a Matroska or WebM video",
    "avi": "an AVI video",
    "png": "a PNG picture",
    "jpeg": "a JPEG picture",
    "zip": "a zip archive",
    "gzip": "a gzip file",
    "zstd": "a zstd file",
    "xz": "an xz file",
    "bzip2": "a bzip2 file",
    "tar": "a tar archive",
    "lfs": "a Git LFS pointer in place of the file",
    "html": "a page of HTML",
    "json": "a JSON text",
    "csv": "a table of text (CSV)",
    "text": "a text",
    "empty": "an empty file",
    "folder": "a folder",
    "binary": "a file of unknown bytes",
}
"""Kinds by name, as an error line calls them."""
_STARTS = (
    ("hdf5", b"\x89HDF\r\n\x1a\n"),
    ("matlab-hdf5", b"MATLAB 7.3 MAT-file"),
    ("matlab", b"MATLAB 5.0 MAT-file"),
    ("npy", b"\x93NUMPY"),
    ("rosbag1", b"#ROSBAG V"),
    ("mcap", b"\x89MCAP0\r\n"),
    ("sqlite", b"SQLite format 3\0"),
    ("parquet", b"PAR1"),
    ("arrow", b"ARROW1\0\0"),
    ("matroska", b"\x1a\x45\xdf\xa3"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("jpeg", b"\xff\xd8\xff"),
    ("zip", b"PK\x03\x04"),
    ("zip", b"PK\x05\x06"),
    ("gzip", b"\x1f\x8b"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("xz", b"\xfd7zXZ\0"),
    ("bzip2", b"BZh"),
    ("lfs", b"version https://git-lfs.github.com/"),
    *(("pickle", bytes((0x80, protocol))) for protocol in range(2, 6)),
)
_FOLDERS = (
    ("store", ("MANIFEST.json",)),
    ("lerobot", ("meta/info.json",)),
    ("minari", ("metadata.json", "main_data.hdf5")),
    ("minari", ("data/metadata.json",)),
    ("minari", ("metadata.json", "0")),
    ("rosbag2", ("metadata.yaml",)),
    ("zarr2", (".zgroup",)),
    ("zarr3", ("zarr.json",)),
    ("rlds", ("dataset_info.json", "features.json")),
    ("arrow-dataset", ("dataset_info.json", "state.json")),
)
"""Names that a folder of this kind has, first match."""
_HEAD_BYTES = 1024


def find_container(path: Path) -> str:
    """The kind of what is at `path`, a key of `CONTAINERS`.

    Raises:
        SourceError: nothing is there, or a pipe or device, or it cannot be read.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return next((kind for kind, names in _FOLDERS if all((path / name).exists() for name in names)), "folder")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{path}: expected a file or folder, got a pipe or device; give a file")
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            return _find_hdf5(head) or _find_start(head, path) or _find_text(head)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: expected a source of data, got '{error.strerror}'; check the path") from error
    except ValueError as error:  # NUL in the path
        raise SourceError(f"{str(path)!r}: expected a source of data, got '{error}'; check the path") from error


def _find_hdf5(head: bytes) -> str | None:
    """HDF5 may begin behind a block of the user's, as MATLAB's files do."""
    for offset in (0, 512):
        if head[offset : offset + 8] == _STARTS[0][1]:
            return "matlab-hdf5" if head.startswith(b"MATLAB") else "hdf5"
    return None


def _find_start(head: bytes, path: Path) -> str | None:
    kind = next((kind for kind, start in _STARTS if head.startswith(start)), None)
    if kind == "zip":
        return _find_zip(path)
    if kind is None and head[4:8] == b"ftyp":
        return "mp4"
    if kind is None and head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "tar" if kind is None and head[257:262] == b"ustar" else kind


def _find_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return "zip"
    tops = {name.rsplit("/", 1)[-1] for name in names[:10_000]}
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if tops & {".zgroup", ".zarray"}:
        return "zarr2-zip"
    return "torch" if "data.pkl" in tops else "zip"


def _find_text(head: bytes) -> str:
    if not head:
        return "empty"
    try:
        text = head[: head.rfind(b"\n") + 1 or len(head)].decode()
    except UnicodeDecodeError:
        return "binary"
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return "binary"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html"
    if start.startswith(("{", "[")):
        return "json"
    counts = {line.count(sign) for sign in ",;\t" for line in text.splitlines()[:5] if sign in text.splitlines()[0]}
    return "csv" if len(counts) == 1 and counts != {0} else "text"
