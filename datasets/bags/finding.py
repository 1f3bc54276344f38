"""Which paths are bags, told without any library of bags; see `formats.Format`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FormatError, SourceError
from ...robots.spec import RobotSpec
from ..containers import CONTAINERS, find_container
from ..episode import ReadOptions
from ..manifest import hash_file

if TYPE_CHECKING:
    from .reader import BagReader, Model

_FILES = frozenset({"mcap", "sqlite", "rosbag1"})
_OTHERS = frozenset({"hdf5", "npz", "zarr2", "zarr2-zip", "minari", "lerobot", "store"})
"""Containers of recordings that are no bags."""
_ENDS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
"""Of the files in a ROS 2 folder."""


def probe(path: Path) -> bool:
    """Whether it is a bag, or a folder of bags."""
    try:
        return bool(find_bags(path))
    except SourceError:
        return False


def read(path: Path, options: ReadOptions, robot: RobotSpec | None = None, like: Model | None = None) -> BagReader:
    """A reader of bags, by the mapping that the options name, or as another bag is read."""
    from .mapping import load_mapping

    require_bags_alone(path)
    from .reader import BagReader

    return BagReader(path, None if options.mapping is None else load_mapping(options.mapping), robot, like)


def find_model(path: Path, options: ReadOptions, robot: RobotSpec | None = None) -> Model:
    """How a bag says that the bags beside it are read; reads all of it where its mapping has to be drafted."""
    return read(path, options, robot).model


def find_bags(path: Path) -> list[Path]:
    """The bags at a path, in the order of their names: the path itself, or those of a folder.

    Raises:
        FormatError: it is no bag.
        SourceError: nothing is there.
    """
    kind = find_container(path)
    if kind in _FILES or kind == "rosbag2" or (kind == "folder" and list_storages(path)):
        return [path]
    inner = sorted(path.iterdir()) if kind == "folder" else []
    bags = [
        one for one in inner if find_container(one) in (*_FILES, "rosbag2") or (one.is_dir() and list_storages(one))
    ]
    if not bags:
        raise FormatError(f"{path}: expected a bag, or a folder of bags, got no bag; check the path", kind, False)
    return bags


def require_bags_alone(path: Path) -> None:
    """Refuses a folder of bags in which other recordings lie, which would be passed over.

    These are recordings of other formats, folders with bags in them, and bags without a byte, as a crash leaves them.

    Raises:
        FormatError: naming one.
    """
    if find_container(path) != "folder" or list_storages(path):
        return
    bags = find_bags(path)
    for one in sorted(path.iterdir()):
        kind = find_container(one)
        if one in bags or one.name.startswith("."):
            continue
        found, cure = CONTAINERS[kind], "name the bags, or put it elsewhere"
        if kind == "folder" and probe(one):
            found = "a folder with bags of its own"
        elif kind == "empty" and any(end in one.name for end in (*_ENDS, ".bag")):
            cure = "remove it"
        elif kind not in _OTHERS:
            continue
        raise FormatError(f"{path}: expected a folder of bags alone, got {one.name} too, {found}; {cure}", kind, False)


def digest_bags(path: Path, bags: list[Path]) -> tuple[str, int]:
    """SHA-256 of the names and contents of the bags at a path, and their size in bytes."""
    digest, size = hashlib.sha256(), 0
    for bag in bags:
        for file in list_files(bag):
            name = "" if file == path else str(file.relative_to(path))
            digest.update(f"{name}\0{hash_file(file)}\n".encode())
            size += file.stat().st_size
    return digest.hexdigest(), size


def list_storages(folder: Path) -> list[Path]:
    """Files of a ROS 2 folder without metadata: all of the folder's name, as its recorder calls them."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.endswith(_ENDS))
    return [file for file in files if file.name.startswith(folder.name)] if files else []


def list_files(bag: Path) -> list[Path]:
    """The files of a bag, in order, for a digest of its content."""
    return [bag] if bag.is_file() else sorted(file for file in bag.rglob("*") if file.is_file())
