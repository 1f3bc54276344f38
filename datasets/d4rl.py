"""Reads D4RL files: flat HDF5 arrays whose episodes are found by `terminals | timeouts`.

J. Fu, A. Kumar, O. Nachum, G. Tucker, S. Levine, "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020,
arXiv:2004.07219.
Episodes are those of the `d4rl` package's `sequence_dataset`, with two differences: that function drops the rows after
the last boundary, which are kept here as a truncated episode; and in files without `timeouts` it cuts every episode but
the first one row before the time limit, where this reader cuts at the limit.
Legend: N rows of the file, E episodes, T rows of one episode, dim number of axes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SourceError, SpecError
from ..robots.spec import ArraySpec, RobotSpec
from ..strict_json import parse_json
from .d4rl_writer import FLAGS, REQUIRED, ROBOT, write_d4rl
from .episode import Episode, EpisodeIndex, SourceSpec
from .hdf5 import open_hdf5, require_plain, walk
from .schema import Feature, Role, Schema

__all__ = ["D4RLReader", "write_d4rl"]

BLOCK_ROWS = 65_536
"""Rows read at a time, more only when one episode is longer."""
_ROLES: dict[str, tuple[str, Role]] = {
    "observations": ("observation", "observation"),
    "actions": ("action", "action"),
    "rewards": ("reward", "reward"),
    "infos/qpos": ("qpos", "state"),
    "infos/qvel": ("qvel", "state"),
    "infos/goal": ("goal", "goal"),
}


class D4RLReader:
    """One D4RL file; it is opened read-only, and only while something is read.

    Args:
        path: The HDF5 file.
        spec: The robot it was recorded on: gives names, units and the control period, and the widths that
            `observations` and `actions` must have. Without it, the robot is the one that the file names, as files of
            `write_d4rl` do; else axes are numbered, and units and period unknown. `LimitCheck` checks the values.
        episode_steps: Time limit, steps, for files without `timeouts`: an episode that reaches it is cut there, as
            `sequence_dataset` does with the environment's limit. None: only `terminals` end an episode there.
    """

    def __init__(self, path: str | Path, spec: RobotSpec | None = None, episode_steps: int | None = None) -> None:
        self._path = Path(path)
        self._spec = spec
        self._episode_steps = episode_steps

    @cached_property
    def robot(self) -> RobotSpec | None:
        """The robot it was recorded on, as the caller or the file says; None where neither does.

        Raises:
            SourceError: the file is missing or damaged.
            SpecError: the file names another robot than the caller.
        """
        with open_hdf5(self._path) as file:
            entry = walk(file, self._path).get(ROBOT)
            if entry is None:
                return self._spec
            require_plain(entry, ROBOT, self._path)
            text, kind = entry[()], f"{entry.dtype} {entry.shape}"
        where, remedy = f"{self._path}: {ROBOT}", "write the file again"
        if not isinstance(text, bytes):
            raise SourceError(f"{where}: expected JSON text, got {kind}; {remedy}")
        try:
            stated = RobotSpec.from_json(parse_json(text, dict, where, SourceError, remedy))
        except SpecError as error:
            raise SourceError(f"{where}: expected the spec of a robot, got {error}; {remedy}") from error
        if self._spec is None:
            return stated
        self._spec.require_source(stated, str(self._path))
        return self._spec

    def describe(self) -> SourceSpec:
        """Reads the structure and the flags, not the arrays.

        Raises:
            SourceError: the file is missing, damaged, no D4RL file, has no rows, or links to data elsewhere.
            SpecError: the file names another robot than the caller.
        """
        features, index, ignored = self._structure
        spec = self.robot
        return SourceSpec(
            schema=Schema(
                features=tuple(feature for _, feature in features),
                control_period=spec.control_period if spec else None,
                robot=spec,
            ),
            episodes=len(index.start),
            rows=int(index.length.sum()),
            provenance=self._provenance,
            ignored=ignored,
        )

    def episodes(self) -> Iterator[Episode]:
        """Every episode in file order; arrays are float32 views of blocks of about 64 Ki rows.

        Raises:
            SourceError: as `describe`, or a value is not finite in float32, or the data cannot be decoded.
        """
        features, index, _ = self._structure
        with open_hdf5(self._path) as file:
            for first, last in _blocks(index):
                begin, end = int(index.start[first]), int(index.start[last - 1] + index.length[last - 1])
                block = {
                    feature.name: self._read(file[source], source, feature, begin, end) for source, feature in features
                }
                for row in range(first, last):
                    at = int(index.start[row]) - begin
                    until = at + int(index.length[row])
                    yield Episode(
                        {name: array[at:until] for name, array in block.items()},
                        terminated=bool(index.terminated[row]),
                        truncated=bool(index.truncated[row]),
                    )

    def _read(self, data: h5py.Dataset, source: str, feature: Feature, begin: int, end: int) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):
            array: npt.NDArray[np.float32] = np.asarray(data[begin:end]).astype(np.float32, copy=False)
        array = np.ascontiguousarray(array.reshape(end - begin, *feature.shape))
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise SourceError(
                f"{self._path}: {source}: expected finite float32 values, got {array[row]} in row {begin + row}; "
                "remove the episode or repair the recording"
            )
        return array

    @cached_property
    def _structure(self) -> tuple[list[tuple[str, Feature]], EpisodeIndex, tuple[str, ...]]:
        path, robot = self._path, self.robot
        arrays = {} if robot is None else {"observation": robot.observation, "action": robot.action}
        with open_hdf5(path) as file:
            entries = walk(file, path)
            for name in REQUIRED:
                if name not in entries:
                    got = ", ".join(entries) or "an empty file"
                    raise SourceError(
                        f"{path}: expected the data set {name}, got {got[:200]}; "
                        f"rename the data sets to D4RL's names {', '.join(REQUIRED)}"
                    )
            used = [name for name in entries if name in (*REQUIRED, "timeouts") or name.startswith("infos/")]
            for name in used:
                require_plain(entries[name], name, path)
            rows = _rows(entries["observations"])
            if not rows:
                raise SourceError(f"{path}: observations: expected at least one row, got 0; record some episodes")
            carried = [name for name in used if name not in FLAGS and _is_numeric(entries[name], name, path)]
            for name in {*carried, *FLAGS} & set(used):
                if _rows(entries[name]) != rows:
                    raise SourceError(
                        f"{path}: {name}: expected {rows} rows as in observations, got {_rows(entries[name])}; "
                        "write equal lengths"
                    )
            carried.sort(key=lambda name: (list(_ROLES).index(name) if name in _ROLES else len(_ROLES), name))
            features = [(name, self._feature(name, entries[name], arrays)) for name in carried]
            names = [feature.name for _, feature in features]
            if len(set(names)) != len(names):
                raise SourceError(f"{path}: infos: expected distinct names, got {', '.join(names)}; rename one")
            terminals = _flags(entries["terminals"], "terminals", path)
            timeouts = _flags(entries["timeouts"], "timeouts", path) if "timeouts" in entries else None
        ignored = tuple(name for name in entries if name not in carried and name not in (*FLAGS, ROBOT))
        return features, compute_episodes(terminals, timeouts, self._episode_steps), ignored

    def _feature(self, source: str, data: h5py.Dataset, arrays: Mapping[str, ArraySpec]) -> Feature:
        name, role = _ROLES.get(source) or (_identifier(source), "other")
        shape = tuple(int(size) for size in data.shape[1:])
        if len(shape) > 1 or 0 in shape or (shape == () and source in ("observations", "actions")):
            raise SourceError(
                f"{self._path}: {source}: expected shape (rows, dim), got {tuple(data.shape)}; flatten each step"
            )
        if source == "rewards":
            if shape not in ((), (1,)):
                raise SourceError(f"{self._path}: rewards: expected one per row, got {data.shape}; choose one column")
            shape = ()
        width = shape[0] if shape else 1
        axes = tuple(f"{name}_{axis}" for axis in range(width)) if shape else (name,)
        units: tuple[str, ...] = ("",) * width
        array_spec = arrays.get(name)
        if array_spec is not None:
            if len(array_spec.axes) != width:
                raise SourceError(
                    f"{self._path}: {source}: expected {len(array_spec.axes)} axes {', '.join(array_spec.names)}, "
                    f"got {width}; choose the robot that it was recorded on"
                )
            axes, units = array_spec.names, tuple(axis.unit for axis in array_spec.axes)
        return Feature(name=name, dtype="float32", shape=shape, units=units, role=role, axes=axes)

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        with self._path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "format": "d4rl-hdf5",
            "bytes": self._path.stat().st_size,
            "sha256": digest,
            "episode_steps": self._episode_steps,
        }


def compute_episodes(
    terminals: npt.NDArray[np.bool_], timeouts: npt.NDArray[np.bool_] | None, episode_steps: int | None = None
) -> EpisodeIndex:
    """Episodes end with every row where `terminals | timeouts`; rows after the last end are a truncated episode.

    Args:
        terminals: Shape (N,), N > 0.
        timeouts: Shape (N,), or None for a file without them.
        episode_steps: Only without `timeouts`: also end an episode that has run for this many steps.
    """
    rows = len(terminals)
    ends = terminals.copy() if timeouts is None else terminals | timeouts
    cut = np.zeros(rows, np.bool_) if timeouts is None else timeouts.copy()
    if timeouts is None and episode_steps is not None:
        bounds = np.concatenate(([-1], np.flatnonzero(terminals)))
        step = np.arange(rows) - bounds[np.searchsorted(bounds, np.arange(rows)) - 1]
        cut = step % episode_steps == 0
        ends |= cut
    cut[-1] |= not ends[-1]
    ends[-1] = True
    last = np.flatnonzero(ends)
    start = np.concatenate(([0], last[:-1] + 1))
    return EpisodeIndex(start, last - start + 1, terminals[last], cut[last])


def _blocks(index: EpisodeIndex) -> Iterator[tuple[int, int]]:
    """Episode ranges [first, last) of at least one episode and, beyond that, at most BLOCK_ROWS rows."""
    ends = index.start + index.length
    first = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, index.start[first] + BLOCK_ROWS, side="right")))
        yield first, last
        first = last


def _rows(data: h5py.Dataset) -> int:
    return int(data.shape[0]) if data.shape else 0


def _is_numeric(data: h5py.Dataset, name: str, path: Path) -> bool:
    """Whether it is carried over; texts and scalars in `infos` are not, but a required array must be numbers."""
    if data.dtype.kind in "fiub" and data.shape:
        return True
    if name in REQUIRED:
        raise SourceError(f"{path}: {name}: expected an array of numbers, got {data.dtype}; write float32")
    return False


def _flags(data: h5py.Dataset, name: str, path: Path) -> npt.NDArray[np.bool_]:
    values = np.asarray(data[()])
    if values.dtype.kind not in "fiub" or values.shape not in ((len(values),), (len(values), 1)):
        raise SourceError(f"{path}: {name}: expected one flag per row, got {data.dtype} {data.shape}; write bool (N,)")
    values = values.reshape(len(values))
    if not np.isin(values, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(values, (0, 1)))[0])
        raise SourceError(f"{path}: {name}: expected 0 or 1, got {values[row]} in row {row}; write booleans")
    return values.astype(np.bool_)


def _identifier(source: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", source.removeprefix("infos/").lower()).strip("_")
    return name if name[:1].isalpha() else f"info_{name}"
