"""Which paths are bags, told without any library of bags; see `formats.Format`."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ...errors import FormatError, SourceError
from ...plain_files import sort_naturally
from ...robots.spec import RobotSpec
from ..containers import CONTAINERS, find_container
from ..episode import ReadOptions
from ..manifest import hash_file
from .recording import DISORDER_NS

if TYPE_CHECKING:
    from .reader import BagReader, Model

_FILES = frozenset({"mcap", "sqlite", "rosbag1"})
_OTHERS = frozenset({"hdf5", "npz", "zarr2", "zarr2-zip", "minari", "lerobot", "store"})
"""Containers of recordings that are no bags."""
_ENDS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
"""Of the files in a ROS 2 folder."""
_MOST_PAUSE_NS = 60 * 10**9
"""Between two files of one recording; a recorder begins the next one where it ends the last."""


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
    """The bags at a path, in the order of their names and the numbers in them: the path itself, or those of a folder.

    Raises:
        FormatError: it is no bag.
        SourceError: nothing is there.
    """
    kind = find_container(path)
    if kind in _FILES or kind == "rosbag2" or (kind == "folder" and list_storages(path)):
        return [path]
    inner = [path / name for name in sort_naturally(os.listdir(path))] if kind == "folder" else []
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
    """Files of a ROS 2 folder without metadata, in order, as its recorder calls them: `log_0`, `log_1` and so on.

    None where the files in it are recordings of their own: some have other names, or do not follow on each other.
    """
    files = _list_by_name(folder)
    numbered = [f"{folder.name}_{number}" for number in range(len(files))]
    if list(files) == [folder.name] or (list(files) == numbered and _follow_on([*files.values()])):
        return list(files.values())
    return []


def list_own_files(folder: Path) -> list[Path]:
    """Files of a ROS 2 folder that have its name, in order."""
    name = re.compile(rf"{re.escape(folder.name)}(_\d+)?")
    return [file for stem, file in _list_by_name(folder).items() if name.fullmatch(stem)]


def _list_by_name(folder: Path) -> dict[str, Path]:
    """Files that hold messages, by their names without the end of it, in order."""
    found = {}
    for name in sort_naturally(os.listdir(folder)):
        end = next((end for end in _ENDS[::-1] if name.endswith(end)), None)
        if end is not None and (folder / name).is_file():
            found[name.removesuffix(end)] = folder / name
    return found


def _follow_on(files: list[Path]) -> bool:
    """Whether each file begins when the one before it ends, as far as they tell."""
    spans = [_read_span(file) for file in files]
    return all(
        before is None or after is None or -DISORDER_NS <= after[0] - before[1] <= _MOST_PAUSE_NS
        for before, after in pairwise(spans)
    )


def _read_span(file: Path) -> tuple[int, int] | None:
    """First and last time in a file by its index, ns; None where it has none, or is compressed."""
    kind = find_container(file)
    try:
        if kind == "mcap":
            from mcap.reader import make_reader

            with file.open("rb") as stream:
                summary = make_reader(stream).get_summary()
            facts = None if summary is None else summary.statistics
            return None if facts is None else (facts.message_start_time, facts.message_end_time)
        if kind == "sqlite":
            import sqlite3

            with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True)) as base:
                ((first, last),) = base.execute("SELECT min(timestamp), max(timestamp) FROM messages")
            return (int(first), int(last)) if isinstance(first, int) and isinstance(last, int) else None
    except Exception:  # noqa: BLE001 a file that its recorder never closed says nothing, and a damaged one is told later
        return None
    return None


def list_files(bag: Path) -> list[Path]:
    """The files of a bag, in order, for a digest of its content."""
    return [bag] if bag.is_file() else sorted(file for file in bag.rglob("*") if file.is_file())
