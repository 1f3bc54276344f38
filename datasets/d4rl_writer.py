"""Writes play data in the layout of D4RL's maze2d files.

J. Fu, A. Kumar, O. Nachum, G. Tucker, S. Levine, "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020,
arXiv:2004.07219.
Legend: N rows (steps of all episodes, one after the other), dim number of axes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..plain_files import write_durably
from ..robots.spec import RobotSpec
from .publish import refuse_existing

REQUIRED = ("observations", "actions", "rewards", "terminals")
"""Data sets that every D4RL file has."""
FLAGS = ("terminals", "timeouts")
"""Data sets of booleans: the episode ends with this row."""
ROBOT = "metadata/robot_spec"
"""Data set with the spec of the robot as JSON text, where the writer knows it; ours, other readers pass it over."""
IMAGES = "images"
"""Data set with a picture for each row, uint8 (N, height, width, channels), where the robot has a camera."""
ORIGIN = "metadata/origin"
"""Data set with who or what moved the robot, as UTF-8 text; ours too."""


def write_d4rl(
    path: str | Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    robot: RobotSpec | None = None,
    origin: str | None = None,
) -> Path:
    """Writes a D4RL file that is either there and whole or not there at all; it is made in memory.

    Args:
        path: Where the file shall appear; nothing may be there yet.
        arrays: `observations` (N, O), `actions` (N, A), `rewards` (N,), `terminals` (N,) and as a rule `timeouts` (N,),
            `infos/qpos`, `infos/qvel`, `infos/goal` (N, dim). Flags are stored as bool, the rest as float32. `images`
            (N, height, width, channels) are uint8 and stay so, packed.
        robot: That the data are from; `D4RLReader` then takes names, units, limits and control period from the file.
        origin: Who or what moved the robot, such as scripts; stands in the provenance of what is ingested.

    Returns:
        The path.

    Raises:
        SourceError: a required array is missing, an unknown name, no rows, unequal lengths, a value that is not finite
            in float32, or something is there already.
        OSError: It cannot be written, with its name; nothing is left of it.
    """
    path = Path(path)
    refuse_existing(path, SourceError)
    converted = {name: _convert(value, name, path) for name, value in arrays.items()}
    for name in REQUIRED:
        if name not in converted:
            raise SourceError(f"{path}: expected the array {name}, got {', '.join(arrays)}; pass it")
    rows = len(converted["observations"])
    for name, value in converted.items():
        if len(value) != rows or not rows:
            raise SourceError(f"{path}: {name}: expected {max(rows, 1)} rows, got {len(value)}; pass equal lengths")
    # HDF5 on a full disk fails again where it closes the file, and once more at the exit, with a crash of the process
    whole = io.BytesIO()
    with h5py.File(whole, "w", libver="earliest") as file:
        for name, value in converted.items():
            packed = {} if name != IMAGES else {"chunks": (min(len(value), 64), *value.shape[1:]), "compression": 1}
            file.create_dataset(name, data=value, **packed)
        if robot is not None:
            file.create_dataset(ROBOT, data=np.bytes_(json.dumps(robot.to_json())))
        if origin is not None:
            file.create_dataset(ORIGIN, data=np.bytes_(origin.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_existing(path, SourceError)  # by now it may be
    write_durably(path, whole.getbuffer())
    return path


def _convert(value: npt.NDArray[Any], name: str, path: Path) -> npt.NDArray[Any]:
    if name not in (*REQUIRED, "timeouts", IMAGES) and not name.startswith("infos/"):
        raise SourceError(f"{path}: expected a D4RL array name, got {name!r}; use infos/<name> for anything else")
    array = np.asarray(value)
    if name == IMAGES:
        if array.dtype != np.uint8 or array.ndim != 4:
            raise SourceError(
                f"{path}: {name}: expected uint8 of shape (rows, height, width, channels), got {array.dtype} "
                f"{array.shape}; convert the pictures to bytes"
            )
        return array
    if name in FLAGS:
        return array.astype(np.bool_)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise SourceError(f"{path}: {name}: expected finite float32 values, got {array[row]} in row {row}; correct it")
    return array
