"""Reads D4RL files: flat HDF5 arrays whose episodes are found by `terminals | timeouts`.

J. Fu, A. Kumar, O. Nachum, G. Tucker, S. Levine, "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020,
arXiv:2004.07219.
In the published maze2d files the reward of a row belongs to the observation of that row, one step earlier than in the
others: it is read as it is.
Episodes are those of the `d4rl` package's `sequence_dataset`, with two differences: that function drops the rows after
the last boundary, which are kept here as a truncated episode; and in files without `timeouts` it cuts every episode but
the first one row before the time limit, where this reader cuts at the limit.
Legend: N rows of the file, E episodes, T rows of one episode, dim number of axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, FormatError, SourceError, SpecError
from ..robots.spec import ArraySpec, RobotSpec
from ..strict_json import parse_json
from .d4rl_writer import FLAGS, IMAGES, ORIGIN, REQUIRED, ROBOT, write_d4rl
from .episode import Episode, EpisodeIndex, Reader, ReadOptions, SourceSpec
from .hdf5 import describe_contents, is_written, list_top, open_hdf5, require_plain, walk
from .keyed import BLOCK_BYTES, BLOCK_ROWS, NEXT, PART, cut_blocks, name_axes
from .layout import find_missing
from .schema import IMAGE, Feature, Role, Schema, make_image_feature
from .side_arrays import TOO_FINE, cast, choose_dtype, choose_side, find_rounded, name_side
from .source_files import MOST_AXES, describe_files, require_episode

__all__ = ["D4RLReader", "write_d4rl"]

_NEXT = "next_observations"
_ROLES: dict[str, tuple[str, Role]] = {
    "observations": ("observation", "observation"),
    "actions": ("action", "action"),
    "rewards": ("reward", "reward"),
    "infos/qpos": ("qpos", "state"),
    "infos/qvel": ("qvel", "state"),
    "infos/goal": ("goal", "goal"),
    _NEXT: (NEXT, "other"),
}


def probe(path: Path) -> bool:
    """Whether an HDF5 file has D4RL's arrays at its top."""
    return {"observations", "actions"} <= list_top(path, datasets=True)


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    return D4RLReader(
        *(path, robot, options.episode_steps),
        only=options.only,
        skip=options.skip,
        observation_keys=options.observation_keys,
    )


class D4RLReader:
    """One D4RL file; it is opened read-only, and only while something is read.

    Args:
        path: The HDF5 file.
        spec: The robot it was recorded on: gives names, units and the control period, and the widths that
            `observations` and `actions` must have. Without it, the robot is the one that the file names, as files of
            `write_d4rl` do; else axes are numbered, and units and period unknown. `LimitCheck` checks the values.
        episode_steps: Time limit, steps, > 0, for files whose `timeouts` are not there or never set: an episode that
            reaches it is cut there, as `sequence_dataset` does with the environment's limit. None: only `terminals` end
            an episode there.
        only: Names of the side arrays (`infos/<name>`) to carry over; None carries all that can be.
        skip: Names of side arrays to leave out.
        observation_keys: Parts of `observations`, each as `observations[FIRST:LAST]`, that make up the observation in
            this order; None takes all of it.

    Raises:
        ConfigError: the time limit is not positive, or a key is no part of `observations`.
    """

    def __init__(
        self,
        path: str | Path,
        spec: RobotSpec | None = None,
        episode_steps: int | None = None,
        *,
        only: Sequence[str] | None = None,
        skip: Sequence[str] = (),
        observation_keys: Sequence[str] | None = None,
    ) -> None:
        if episode_steps is not None and episode_steps < 1:
            raise ConfigError(f"episode_steps: expected at least 1 step, got {episode_steps}; give the time limit")
        self._path = Path(path)
        self._spec = spec
        self._episode_steps = episode_steps
        self._only, self._skip = only, skip
        self._columns = None if observation_keys is None else _read_parts(observation_keys)
        self._contents: dict[str, str] = {}

    @cached_property
    def robot(self) -> RobotSpec | None:
        """The robot it was recorded on, as the caller or the file says; None where neither does.

        Raises:
            SourceError: the file is missing or damaged.
            SpecError: the file names another robot than the caller.
        """
        text = self._read_text(ROBOT, "JSON text")
        if text is None:
            return self._spec
        where, remedy = f"{self._path}: {ROBOT}", "write the file again"
        try:
            stated = RobotSpec.from_json(parse_json(text, dict, where, SourceError, remedy))
        except SpecError as error:
            raise SourceError(f"{where}: expected the spec of a robot, got {error}; {remedy}") from error
        if self._spec is None:
            return stated
        self._spec.require_source(stated, str(self._path))
        return self._spec

    def _read_text(self, where: str, what: str) -> bytes | None:
        """A text that the file holds beside the arrays; None where it is not there.

        Raises:
            SourceError: the file is missing or damaged, or this is no text.
        """
        with open_hdf5(self._path) as file:
            group, _, name = where.partition("/")
            here = isinstance(file.get(group, getlink=True), h5py.HardLink) and isinstance(file[group], h5py.Group)
            entry = walk(file[group], self._path).get(name) if here else None
            if entry is None:
                return None
            require_plain(entry, where, self._path)
            text = entry[()]
            if not isinstance(text, bytes):
                raise SourceError(
                    f"{self._path}: {where}: expected {what}, got {entry.dtype} {entry.shape}; write the file again"
                )
            return text

    def describe(self) -> SourceSpec:
        """Reads the structure, the flags and the side arrays, not the others.

        Raises:
            SourceError: the file is missing, damaged, no D4RL file, has no rows, or links to data elsewhere.
            SpecError: the file names another robot than the caller.
        """
        features, index, ignored, notes = self._structure
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
            contents=self._contents,
            ignored=ignored,
            notes=notes,
        )

    def episodes(self) -> Iterator[Episode]:
        """Every episode in file order; arrays are views of blocks of about 64 Ki rows, side arrays in their own type.

        Raises:
            SourceError: as `describe`, or a value is not finite, or the data cannot be decoded.
        """
        features, index, *_ = self._structure
        step_bytes = sum(math.prod(feature.shape) * np.dtype(feature.dtype).itemsize for _, feature in features)
        require_episode(int(index.length.max()), step_bytes, self._path, "cut it with --episode-steps")
        with open_hdf5(self._path) as file:
            for first, last in cut_blocks(index, max(1, min(BLOCK_ROWS, BLOCK_BYTES // step_bytes))):
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

    def _read(self, data: h5py.Dataset, source: str, feature: Feature, begin: int, end: int) -> npt.NDArray[Any]:
        values = data[begin:end]
        if source == "observations" and self._columns is not None:
            values = values[:, self._columns]
        row = find_rounded(values) if feature.role in ("observation", "action") else None
        if row is not None:
            raise SourceError(
                f"{self._path}: {source}: {TOO_FINE}, got {values[row]} in row {begin + row}; leave the axis out, or "
                "count from the start of the recording"
            )
        array = np.ascontiguousarray(cast(values, feature.dtype).reshape(end - begin, *feature.shape))
        bad = find_missing(array)
        if bad is not None:
            raise SourceError(
                f"{self._path}: {source}: expected finite {feature.dtype} values, got {array[bad]} in row "
                f"{begin + bad}; remove the episode or repair the recording"
            )
        return array

    @cached_property
    def _structure(self) -> tuple[list[tuple[str, Feature]], EpisodeIndex, dict[str, str], tuple[str, ...]]:
        """Features by their names in the file, the index, why other entries are left out, and notes."""
        path, robot = self._path, self.robot
        if robot is not None and robot.image is not None and IMAGES not in list_top(path, datasets=True):
            raise SourceError(
                f"{path}: expected the data set {IMAGES} with the pictures of robot '{robot.name}', got none; record "
                "them, or choose a robot without a camera"
            )
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
            side = [name for name in entries if name.startswith("infos/") or name in (_NEXT, IMAGES)]
            main = [name for name in (*REQUIRED, "timeouts") if name in entries]
            for name in (*main, *side):
                if name in main or entries[name].shape is not None:
                    require_plain(entries[name], name, path)
            rows = _rows(entries["observations"])
            if not rows:
                raise SourceError(f"{path}: observations: expected at least one row, got 0; record some episodes")
            _refuse_transposed(entries, rows, path)
            for name in main:
                _require_main(entries[name], name, rows, path)
            features = [(name, self._feature(name, entries[name], arrays)) for name in main if name not in FLAGS]
            known = {*main, *side, ROBOT, ORIGIN}
            ignored = {name: "not among D4RL's names" for name in entries if name not in known}
            self._contents = describe_contents(entries)
            wanted = choose_side(side, self._only, self._skip, path)
            taken = {feature.name for _, feature in features}
            for name in sorted(
                side, key=lambda name: (list(_ROLES).index(name) if name in _ROLES else len(_ROLES), name)
            ):
                found = "left out by choice"
                if name in wanted:
                    if name == IMAGES:
                        feature = self._image_feature(entries[name], rows, robot)
                    else:
                        feature = self._side_feature(name, entries[name], rows, features[0][1], taken)
                    if isinstance(feature, Feature):
                        features.append((name, feature))
                        taken.add(feature.name)
                        continue
                    found = feature
                ignored[name] = found
            terminals = _flags(entries["terminals"], "terminals", path)
            timeouts = _flags(entries["timeouts"], "timeouts", path) if "timeouts" in entries else None
        index = compute_episodes(terminals, timeouts, self._episode_steps)
        return features, index, ignored, self._describe_ends(terminals, timeouts)

    def _image_feature(self, data: h5py.Dataset, rows: int, robot: RobotSpec | None) -> Feature | str:
        """The feature of pictures, or why they cannot be carried over.

        Raises:
            SourceError: they cannot be, and the robot has a camera or they were asked for by name.
        """
        shape = tuple(int(size) for size in data.shape or ())
        wanted = None if robot is None or robot.image is None else robot.image.shape
        flaw, cure = "", "record them again"
        if data.shape is None or not is_written(data):
            flaw = "was created and never written"
        elif data.dtype != np.uint8 or len(shape) != 4:
            flaw = f"holds {data.dtype} of shape {shape}, not uint8 of (rows, height, width, channels)"
            cure = "convert them to bytes"
        elif shape[0] != rows:
            flaw = f"has {shape[0]} pictures, not one for each of {rows} steps"
        elif wanted is not None and shape[1:] != wanted:
            assert robot is not None
            flaw = f"has pictures of shape {shape[1:]}, not {wanted} as robot '{robot.name}' takes them"
            cure = "scale them as its camera does"
        else:
            try:
                return make_image_feature(IMAGE, shape[1:])
            except SpecError as error:
                flaw, _, cure = f"is no array of pictures: {error}".partition("; ")
        if wanted is not None or self._only is not None:
            raise SourceError(
                f"{self._path}: {IMAGES}: expected pictures to carry over, got an array that {flaw}; {cure}"
            )
        return flaw

    def _side_feature(
        self, source: str, data: h5py.Dataset, rows: int, observation: Feature, taken: Set[str]
    ) -> Feature | str:
        """The feature of a side array, or why it cannot be carried over.

        Raises:
            SourceError: it cannot be carried over, and was asked for by name.
        """
        name, role = _ROLES.get(source) or (name_side(source), "other")
        dtype: str | None = None
        if data.shape is None:
            flaw = "has an empty data space"
        elif not is_written(data):
            flaw = "was created and never written"
        elif data.dtype.kind not in "fiub":
            flaw = f"holds {data.dtype}, not numbers"
        elif _rows(data) != rows or data.ndim > 2 or 0 in data.shape or data.shape[-1] > max(rows, MOST_AXES):
            flaw = f"has shape {data.shape}, not one vector for each of {rows} steps"
        elif source == _NEXT and self._columns is not None:
            flaw = "is of all observations, of which a part was chosen"
        elif source == _NEXT and data.shape[1:] != observation.shape:
            flaw = f"has {data.shape[1:]} axes per step, not {observation.shape} as observations"
        elif name in taken:
            flaw = f"would be called {name}, as another array is"
        else:
            blocks = (data[begin : begin + BLOCK_ROWS] for begin in range(0, rows, BLOCK_ROWS))
            dtype, flaw = choose_dtype(data.dtype, blocks)
        if dtype is None:
            if self._only is not None:
                raise SourceError(
                    f"{self._path}: {source}: expected an array to carry over, got one that {flaw}; skip it"
                )
            return flaw
        shape = tuple(int(size) for size in data.shape[1:])
        axes = tuple(f"{name}_{axis}" for axis in range(shape[0])) if shape else (name,)
        if source == _NEXT:
            return replace(observation, name=NEXT, role=role)
        return Feature(name=name, dtype=dtype, shape=shape, units=("",) * len(axes), role=role, axes=axes)

    def _describe_ends(
        self, terminals: npt.NDArray[np.bool_], timeouts: npt.NDArray[np.bool_] | None
    ) -> tuple[str, ...]:
        """What a person should know of how episodes were found."""
        limited = self._episode_steps is not None
        if timeouts is not None and timeouts.any():
            return ("episode_steps is not used: the timeouts of the file end its episodes",) if limited else ()
        if not limited and not terminals[:-1].any():
            return (
                f"nothing ends an episode: all {len(terminals)} rows are one; give --episode-steps if they are not",
            )
        return ()

    def _feature(self, source: str, data: h5py.Dataset, arrays: Mapping[str, ArraySpec]) -> Feature:
        """The feature of observations, actions or rewards."""
        name, role = _ROLES[source]
        shape = tuple(int(size) for size in data.shape[1:])
        if source == "rewards":
            if shape not in ((), (1,)):
                raise SourceError(f"{self._path}: rewards: expected one per row, got {data.shape}; choose one column")
            return Feature(name=name, shape=(), units=("",), role=role, axes=(name,))
        shape = shape or (1,)  # a robot with one axis, or the index of a choice
        if source == "observations" and self._columns is not None:
            if data.ndim != 2 or max(self._columns) >= shape[0]:
                raise SourceError(
                    f"{self._path}: {source}: expected the axes up to {max(self._columns)} that --observation-keys "
                    f"takes, got shape {tuple(data.shape)}; correct the ranges"
                )
            shape = (len(self._columns),)
        if len(shape) != 1 or 0 in shape:
            raise SourceError(
                f"{self._path}: {source}: expected shape (rows, dim) or (rows,), got {tuple(data.shape)}; flatten "
                "each step"
            )
        if shape[0] > MOST_AXES:
            raise SourceError(
                f"{self._path}: {source}: expected at most {MOST_AXES} axes per step, got {shape[0]}; choose columns"
            )
        axes = tuple(f"{name}_{axis}" for axis in range(shape[0]))
        feature = Feature(name=name, shape=shape, units=("",) * len(axes), role=role, axes=axes)
        return name_axes(feature, arrays.get(name), None, f"{self._path}: {source}")

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        origin = self._read_text(ORIGIN, "text in UTF-8")
        said: dict[str, Any] = {} if origin is None else {"origin": origin.decode("utf-8", "replace")}
        if self._columns is not None:
            said["observation_columns"] = self._columns
        return {"format": "d4rl-hdf5", **describe_files(self._path), "episode_steps": self._episode_steps, **said}


def _read_parts(keys: Sequence[str]) -> list[int]:
    """The columns of `observations` that keys such as `observations[0:30]` take.

    Raises:
        ConfigError: a key is no such part, or a column is taken twice.
    """
    columns: list[int] = []
    for key in keys:
        part = PART.fullmatch(key)
        if part is None or part["array"] != "observations" or int(part["first"]) >= int(part["last"]):
            raise ConfigError(
                f"--observation-keys: expected parts of the array observations of a D4RL file, as observations[0:30], "
                f"got {key!r}; name axes from FIRST to before LAST"
            )
        columns += range(int(part["first"]), int(part["last"]))
    if not columns or len(set(columns)) < len(columns):
        raise ConfigError(
            f"--observation-keys: expected each axis at most once, and one at least, got {', '.join(keys) or 'none'}; "
            "correct the ranges"
        )
    return columns


def compute_episodes(
    terminals: npt.NDArray[np.bool_], timeouts: npt.NDArray[np.bool_] | None, episode_steps: int | None = None
) -> EpisodeIndex:
    """Episodes end with every row where `terminals | timeouts`; rows after the last end are a truncated episode.

    Args:
        terminals: Shape (N,), N > 0.
        timeouts: Shape (N,), or None for a file without them.
        episode_steps: Only where no timeout is set: also end an episode that has run for this many steps.
    """
    rows = len(terminals)
    if timeouts is not None and not timeouts.any():
        timeouts = None
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


def _rows(data: h5py.Dataset) -> int:
    return int(data.shape[0]) if data.shape else 0


def _refuse_transposed(entries: Mapping[str, h5py.Dataset], rows: int, path: Path) -> None:
    """Names a file whose arrays have their rows in the last place.

    Raises:
        FormatError: it is one.
    """
    steps, first = _rows(entries["terminals"]), entries["observations"]
    if steps > 1 and rows != steps and first.ndim == 2 and first.shape[1] == steps == entries["actions"].shape[-1]:
        found = f"arrays that are transposed, {tuple(first.shape)}, as MATLAB and Julia write them"
        raise FormatError(
            f"{path}: expected observations of {steps} rows, as many as terminals, got {found}; transpose them",
            found,
            True,
        )


def _require_main(data: h5py.Dataset, name: str, rows: int, path: Path) -> None:
    """Refuses an array of D4RL's own that was never written, holds no numbers or has another number of rows."""
    where = f"{path}: {name}"
    if not is_written(data):
        cure = "write it, false where no episode ends" if name in FLAGS else "record it"
        raise SourceError(f"{where}: expected values, got an array that was created and never written; {cure}")
    if name not in FLAGS and not (data.dtype.kind in "fiub" and data.shape):
        raise SourceError(f"{where}: expected an array of numbers, got {data.dtype}; write float32")
    if _rows(data) != rows:
        raise SourceError(f"{where}: expected {rows} rows as in observations, got {_rows(data)}; write equal lengths")


def _flags(data: h5py.Dataset, name: str, path: Path) -> npt.NDArray[np.bool_]:
    values = np.asarray(data[()])
    if values.dtype.kind not in "fiub" or values.shape not in ((len(values),), (len(values), 1)):
        raise SourceError(f"{path}: {name}: expected one flag per row, got {data.dtype} {data.shape}; write bool (N,)")
    values = values.reshape(len(values))
    if not np.isin(values, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(values, (0, 1)))[0])
        raise SourceError(f"{path}: {name}: expected 0 or 1, got {values[row]} in row {row}; write booleans")
    return values.astype(np.bool_)
