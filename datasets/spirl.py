"""Reads the rollouts of SPiRL: HDF5 files `rollout_<n>.h5` with groups `traj<k>`, in a folder or one by one.

K. Pertsch, Y. Lee, J. Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL 2020; layout of its
rollout files: `traj_per_file`, and in each group arrays such as `states`, `actions`, `images`, with `pad_mask`, which
is 1 in the rows that belong to the rollout. A rollout stops where its recording stops: it is truncated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import SourceError
from ..plain_files import is_hidden, list_plain_files, sort_naturally
from ..robots.spec import RobotSpec
from .containers import find_container
from .episode import Array, Reader, ReadOptions
from .episode_groups import (
    GroupedSource,
    Place,
    load_groups,
    mark_rows,
    require_rows,
    require_steps,
    survey_groups,
)
from .hdf5 import list_top
from .keyed import KeyedReader, Survey
from .picture_files import find_shape

_PAD = "pad_mask"
_STATES = ("states", "observations", "state")
_ENDINGS = (".h5", ".hdf5")


def probe(path: Path) -> bool:
    """Whether an HDF5 file, or the first one in a folder, has a group `traj0`."""
    first = path if path.is_file() else next(iter(list_files(path)), None)
    return first is not None and find_container(first) == "hdf5" and "traj0" in list_top(first, datasets=False)


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    return KeyedReader("spirl-hdf5", SpirlRollouts(path, options.only or (), find_shape(robot)), options, robot)


def list_files(path: Path) -> list[Path]:
    """The file, or all HDF5 files below the folder, in the order of the numbers in their names."""
    if path.is_file():
        return [path]
    names = [name for name in list_plain_files(path, SourceError) if name.endswith(_ENDINGS) and not is_hidden(name)]
    return [path / name for name in sort_naturally(names)]


class SpirlRollouts(GroupedSource):
    """All rollouts of a file or folder; see `GroupedSource`."""

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        self._places = [
            Place(file, name)
            for file in list_files(self.path)
            for name in sort_naturally(name for name in list_top(file, datasets=False) if name.startswith("traj"))
        ]
        if not self._places:
            raise SourceError(f"{self.path}: expected HDF5 files with groups traj0, got none; check the path")
        found = survey_groups(self._places, self.path, lambda name, _: "")
        rows = require_steps(found, "actions", self._places)
        self._lengths = rows
        columns = mark_rows(found, rows, self._places, "actions")
        for name in (*_STATES, "rewards", _PAD):
            if name in columns and not found.columns[name].problem:
                require_rows(found, name, rows, self._places, "actions")
        usable = [name for name in columns if not columns[name].problem]
        if _PAD in usable:
            self._lengths = self._count_steps(rows)
        columns = self._open_cameras(columns)
        everywhere = np.ones(len(rows), np.bool_)
        return Survey(
            columns=columns,
            lengths=self._lengths,
            terminated=~everywhere,
            truncated=everywhere,
            observation=[name for name in _STATES if name in usable][:1],
            action=["actions"],
            reward="rewards" if "rewards" in usable else None,
            contents=self._describe_cameras(columns),
            hidden={_PAD: "it tells which rows belong to the rollout"} if _PAD in columns else {},
        )

    def _count_steps(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Array:
        """Rows of each rollout that its mask counts, which must be the first ones."""
        (mask,) = load_groups(self._places, [(_PAD, 0)], rows)
        counts = []
        for place, part in zip(
            self._places, np.split(mask.reshape(len(mask), -1)[:, 0] > 0, np.cumsum(rows)[:-1]), strict=True
        ):
            count = int(part.sum())
            if not part[:count].all():
                raise SourceError(
                    f"{place}/{_PAD}: expected ones and then zeros, got a zero in row {int(part.argmin())} before a "
                    f"one; "
                    "remove the rollout"
                )
            counts.append(count)
        return np.array(counts, np.int64)
