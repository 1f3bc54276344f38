"""Names of HDF5 layouts that are known and not read here, so that such a file is called what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py

from .hdf5 import open_hdf5

_SHOWN = 8


def _has_attribute(file: h5py.File, name: str) -> bool:
    return any(name in entry.attrs for entry in [file, *(file.get(key) for key in file)] if entry is not None)


_LAYOUTS: tuple[tuple[str, Callable[[h5py.File], bool]], ...] = (
    ("a pandas (PyTables) table", lambda file: _has_attribute(file, "pandas_type") or "TITLE" in file.attrs),
    ("a NetCDF 4 file", lambda file: "_NCProperties" in file.attrs),
    ("an episode of ALOHA or ACT", lambda file: "action" in file and "observations/qpos" in file),
    ("a ManiSkill trajectory file", lambda file: "traj_0/actions" in file),
    ("a DROID trajectory", lambda file: "action/cartesian_position" in file and "observation/robot_state" in file),
    ("a Keras model", lambda file: "keras_version" in file.attrs or "model_weights" in file),
    ("an AnnData file", lambda file: "X" in file and "obs" in file and "var" in file),
)


def name_layout(path: Path) -> tuple[str, bool]:
    """What an HDF5 file holds, and whether that is a layout that is known.

    Raises:
        SourceError: the file is damaged.
    """
    with open_hdf5(path) as file:
        for name, fits in _LAYOUTS:
            if fits(file):
                return name, True
        names = sorted(file)
    if not names:
        return "an HDF5 file without any entry", False
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"an HDF5 file with the entries {shown}{', ...' * (len(names) > _SHOWN)}", False
