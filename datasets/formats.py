"""The formats that can be read: one row each, how a path is recognised, and what it is where it is none of them.

A row names a module with two functions, so that only the libraries of the format at hand are loaded:

    probe(path) -> bool                  cheap, reads structure at most, raises nothing but SourceError
    read(path, options, robot) -> Reader; of a format that `splits` also `like=`, of
    find_model(path, options, robot)
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import cast

from ..errors import ConfigError, FormatError
from ..plain_files import sort_naturally
from ..robots.spec import RobotSpec
from .containers import CONTAINERS, find_container
from .episode import Reader, ReadOptions

_KEYED = frozenset({"observation_keys", "action_keys", "observation_units", "action_units", "only", "skip"})
"""Options of formats whose observation is made up of named arrays."""


ANY = "a recording of a format that is read"
UNKNOWN = frozenset({"binary", "empty", "folder", "hdf5", "json", "npz", "text", "zip"})
"""Containers that tell nothing of what is in them."""
_NO_SOURCES = frozenset({"csv", "html", "json", "text"})
"""Of files that may lie beside recordings."""
REMEDIES = {
    "lfs": "fetch the file itself with git lfs pull",
    "html": "download the file itself, not the page about it",
    "empty": "copy or download it again",
    "folder": "name the recording, or the folder in which its files lie",
    "matlab-hdf5": "save the arrays with h5py, rows first",
    **{kind: "unpack it" for kind in ("zip", "gzip", "zstd", "xz", "bzip2", "tar")},
    "pickle": "load it where you trust it, and save its arrays as HDF5 in D4RL's layout",
}
"""What to do about a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format."""

    name: str
    """As in `--format`."""
    title: str
    """As an error line calls it."""
    module: str
    """Module of this package that reads it."""
    containers: frozenset[str]
    """Kinds of file or folder that it comes in, keys of `CONTAINERS`."""
    options: frozenset[str]
    """Fields of `ReadOptions` that it takes, beside `format`."""
    libraries: tuple[str, ...]
    """Distributions that decode it: their versions are part of what is read."""
    splits: bool = False
    """Whether a folder of these is a source each, of which the first says how all are read."""

    @property
    def file(self) -> str:
        """The module's file below the package root, for the code version of a stage."""
        return f"datasets/{self.module.replace('.', '/')}.py"

    def probe(self, path: Path) -> bool:
        """Whether the path is of this format, as far as its structure says; nothing is written, no array is read."""
        return find_container(path) in self.containers and bool(self._load().probe(path))

    def read(self, path: Path, options: ReadOptions, robot: RobotSpec | None = None, like: object = None) -> Reader:
        """A reader of the path.

        Args:
            path: The source.
            options: How it is read.
            robot: That it was recorded on: gives names, units and the control period.
            like: The model of another source, that this one is read by, see `find_model`.

        Raises:
            ConfigError: an option that this format does not take.
        """
        for field in fields(ReadOptions):
            if field.name not in {*self.options, "format"} and getattr(options, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                known = ", ".join(row.name for row in FORMATS.values() if field.name in row.options)
                raise ConfigError(
                    f"{option}: expected a source of format {known}, got {self.title} ({self.name}): {path}; leave "
                    f"{option} out"
                )
        model = {"like": like} if self.splits else {}
        return cast(Reader, self._load().read(path, options, robot, **model))

    def find_model(self, path: Path, options: ReadOptions, robot: RobotSpec | None = None) -> object:
        """What a source says of how those beside it are read: of a bag, a mapping; None where each says it itself.

        Raises:
            SourceError: the source cannot be read.
        """
        return self._load().find_model(path, options, robot) if self.splits else None

    def _load(self) -> ModuleType:
        return importlib.import_module(f".{self.module}", __package__)


FORMATS = {
    row.name: row
    for row in (
        Format(
            name="d4rl",
            title="a D4RL HDF5 file",
            module="d4rl",
            containers=frozenset({"hdf5"}),
            options=frozenset({"episode_steps", "observation_keys", "only", "skip"}),
            libraries=("h5py",),
        ),
        Format(
            name="minari",
            title="a Minari data set",
            module="minari",
            containers=frozenset({"minari", "hdf5"}),
            options=_KEYED,
            libraries=("h5py", "pyarrow"),
        ),
        Format(
            name="robomimic",
            title="a robomimic HDF5 file",
            module="robomimic",
            containers=frozenset({"hdf5"}),
            options=_KEYED | {"filter"},
            libraries=("h5py",),
        ),
        Format(
            name="lerobot",
            title="a LeRobotDataset of version 2 or 3",
            module="lerobot",
            containers=frozenset({"lerobot"}),
            options=_KEYED | {"picture_size"},
            libraries=("pyarrow", "av"),
        ),
        Format(
            name="zarr",
            title="a zarr v2 replay buffer (diffusion_policy, UMI)",
            module="zarr_replay",
            containers=frozenset({"zarr2", "zarr2-zip"}),
            options=_KEYED,
            libraries=(),
        ),
        Format(
            name="ogbench",
            title="an OGBench .npz file",
            module="ogbench",
            containers=frozenset({"npz"}),
            options=_KEYED,
            libraries=(),
        ),
        Format(
            name="spirl",
            title="rollouts of SPiRL in HDF5",
            module="spirl",
            containers=frozenset({"hdf5", "folder"}),
            options=_KEYED,
            libraries=("h5py",),
        ),
        Format(
            name="bag",
            title="a bag of ROS 1 or 2, an MCAP log, or a folder of these",
            module="bags.finding",
            containers=frozenset({"rosbag1", "rosbag2", "mcap", "sqlite", "folder"}),
            options=frozenset({"mapping"}),
            libraries=("rosbags", "mcap", "zstandard", "lz4"),
            splits=True,
        ),
        Format(
            name="store",
            title="an episode store of Supple",
            module="store_source",
            containers=frozenset({"store"}),
            options=frozenset({"only", "skip"}),
            libraries=(),
        ),
    )
}
"""By name; the first one whose probe agrees reads a path."""


def find_format(path: Path, name: str | None = None) -> Format:
    """The format of a path.

    Args:
        path: A file or folder.
        name: Of the format that it shall be read as; None recognises it.

    Raises:
        ConfigError: there is no format of that name.
        FormatError: it is none of these, or none that comes in such a file; the message names what it is.
        SourceError: nothing is there, or it cannot be read.
    """
    container = find_container(path)
    if name is not None:
        if name not in FORMATS:
            raise ConfigError(f"--format: expected one of {', '.join(FORMATS)}, got {name!r}; choose one of these")
        if container not in FORMATS[name].containers:
            raise refuse(path, FORMATS[name].title)
        return FORMATS[name]
    found = next((row for row in FORMATS.values() if container in row.containers and row.probe(path)), None)
    if found is None:
        raise refuse(path, ANY)
    return found


def open_source(path: Path, options: ReadOptions, robot: RobotSpec | None = None, like: object = None) -> Reader:
    """The reader of a path, of the format that `options` names or that the path is; see `Format.read`."""
    return find_format(path, options.format).read(path, options, robot, like)


def list_sources(path: Path, name: str | None = None) -> list[Path]:
    """The sources at a path that can be read one at a time, in the order of their names: itself, or those in a folder.

    Texts and hidden files in a folder of sources are no sources.

    Args:
        path: A file or folder.
        name: As for `find_format`.

    Raises:
        FormatError: in a folder is something else than a source; or it is of another kind itself.
        SourceError: nothing is there, or it cannot be read.
    """
    if find_container(path) != "folder":
        return [path]
    from .bags.finding import find_bags, require_bags_alone

    form = next((row for row in FORMATS.values() if "folder" in row.containers and row.probe(path)), None)
    if form is not None:
        if not form.splits:
            return [path]
        require_bags_alone(path)
        return find_bags(path)
    inner = [path / name for name in sort_naturally(os.listdir(path)) if not name.startswith(".")]
    found = [one for one in inner if find_container(one) not in _NO_SOURCES]
    if not found:
        raise refuse(path, ANY)
    for one in found:
        find_format(one, name)
    return found


def refuse(path: Path, expected: str) -> FormatError:
    """The error for a path of another kind: names the kind, and says whether it is one that is known."""
    container = find_container(path)
    found, known = CONTAINERS[container], container not in UNKNOWN
    if container == "hdf5" and expected == ANY:
        from .hdf5_layouts import name_layout

        found, known = name_layout(path)
    elif container == "folder" and not any(path.iterdir()):
        found = "an empty folder"
    support = "a kind that is known and not read" if known else "of an unknown layout"
    return FormatError(
        f"{path}: expected {expected}, got {found}, {support}; {REMEDIES.get(container, _list_formats())}", found, known
    )


def _list_formats() -> str:
    return f"convert it to one of these: {', '.join(row.title for row in FORMATS.values())}"
