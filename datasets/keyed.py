"""Sources that are named arrays cut into episodes, which is every format but a bag: one reader, a small class for each.

A `KeyedSource` says which columns there are and loads rows of them; `KeyedReader` decides what becomes observation,
action, reward and side arrays, names axes and units, checks every number and cuts the episodes. Where a source knows
the observation behind the last action, it is kept as the feature `next_observation`.
Legend: N rows of the source, E episodes, T rows of one episode, dim number of axes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, SourceError, SpecError
from ..robots.spec import ArraySpec, ImageSpec, RobotSpec
from .containers import find_container
from .episode import Array, Episode, EpisodeIndex, ReadOptions, SourceSpec
from .layout import find_missing
from .schema import IMAGE, Feature, Role, Schema, make_image_feature
from .side_arrays import TOO_FINE, cast, choose_dtype, choose_side, find_rounded, identify, name_side
from .source_files import MOST_AXES, count_bytes, describe_files, require_budget, require_episode

NEXT = "next_observation"
"""Feature, and name among the side arrays, of the observation behind each action."""
BLOCK_ROWS = 65_536
"""Rows read at a time, fewer where they are wide, more only when one episode is longer."""
BLOCK_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One array of a source, with a row for each step."""

    dtype: np.dtype[Any]
    """In the source."""
    shape: tuple[int, ...]
    """Of one step."""
    role: Role = "other"
    """As a side array."""
    axes: tuple[str, ...] | None = None
    """Names of the axes, where the source says."""
    flaw: str = ""
    """Why it cannot be carried over, such as "holds pictures"; empty where it can."""
    encoded: str = ""
    """What its pictures are decoded from, "a video" for instance, where somebody names it; long episodes of it lie on
    the disk. Empty where they are there as numbers."""

    @property
    def width(self) -> int:
        """Number of axes."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def is_picture(self) -> bool:
        """Whether it holds what a store can hold as a picture per step: numbers of (height, width, channels)."""
        if self.flaw or self.dtype.kind not in "uif" or len(self.shape) != 3:
            return False
        try:
            ImageSpec(*self.shape)
        except SpecError:
            return False
        return True

    @property
    def problem(self) -> str:
        """Why it cannot be one vector per step; empty where it can."""
        if self.flaw:
            return self.flaw
        if self.encoded:
            return f"is {self.encoded}"
        if self.dtype.kind not in "fiub":
            return f"holds {self.dtype}, not numbers"
        if len(self.shape) > 1 or 0 in self.shape:
            if self.is_picture:
                return f"holds pictures of shape {self.shape}, not one vector per step"
            return (
                f"holds arrays of shape {self.shape}, neither one vector per step nor pictures, whose channels are last"
            )
        return f"has {self.width} axes, more than {MOST_AXES}" if self.width > MOST_AXES else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a source holds, known before its arrays are read."""

    columns: Mapping[str, Column]
    """By their names in the source."""
    lengths: npt.NDArray[np.int64]
    """T of each episode, shape (E,), > 0."""
    terminated: npt.NDArray[np.bool_]
    """Shape (E,)."""
    truncated: npt.NDArray[np.bool_]
    """Shape (E,)."""
    observation: Sequence[str]
    """Columns that make up the observation unless somebody chooses."""
    action: Sequence[str]
    """Columns that make up the action unless somebody chooses."""
    reward: str | None = None
    """Column of the reward."""
    following: Mapping[str, str] = field(default_factory=dict)
    """For columns of the observation, the column that holds the next one."""
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Columns that are no side arrays of their own, and why, such as flags and indices."""
    control_period: float | None = None
    """Seconds between two steps."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What the source says of itself, as JSON values."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What else is in the source beside the columns, as `SourceSpec.contents`."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Entries beside the columns that are not carried over, and why."""
    notes: Sequence[str] = ()
    """See `SourceSpec`."""
    asks_units: bool = False
    """Whether this format is used with several units, and says nowhere which: then someone has to."""


Load = Callable[[Sequence[str], int, int], Mapping[str, Array]]
"""See `KeyedSource.load`."""


class KeyedSource(ABC):
    """One source; a format implements this."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def survey(self) -> Survey:
        """Reads the structure and the flags.

        Raises:
            SourceError: naming what is missing, damaged or contradicts itself.
        """

    @abstractmethod
    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """Columns of the episodes [first, last), one behind the other; raises as `survey`."""

    @contextmanager
    def reading(self) -> Iterator[Load]:
        """A `load` for one range of episodes after the other, which may keep a file open meanwhile."""
        yield self.load


PART = re.compile(r"(?P<array>.+)\[(?P<first>\d{1,6}):(?P<last>\d{1,6})\]")
"""How a part of an array is written, `NAME[FIRST:LAST]`."""


class SlicedSource(KeyedSource):
    """A source in which some arrays are also there in part, as `NAME[FIRST:LAST]`.

    Args:
        source: The whole.
        names: Columns that somebody chose; only those that are written so, and are no columns themselves, are parts.
    """

    def __init__(self, source: KeyedSource, names: Sequence[str]) -> None:
        super().__init__(source.path)
        self._source, self._names = source, names
        self._slices: dict[str, tuple[str, slice]] = {}

    def survey(self) -> Survey:
        """See `KeyedSource`; also raises SourceError where an array has no such part."""
        survey = self._source.survey()
        columns, following, hidden = dict(survey.columns), dict(survey.following), dict(survey.hidden)
        for name in self._names:
            match = PART.fullmatch(name)
            if name in columns or match is None or match["array"] not in columns:
                continue
            array, first, last = match["array"], int(match["first"]), int(match["last"])
            column = columns[array]
            if len(column.shape) != 1 or not first < last <= column.width:
                raise SourceError(
                    f"{self.path}: {name}: expected a part of one vector per step of {column.width} axes, got "
                    f"[{first}:{last}] of shape {column.shape}; correct the range"
                )
            hidden[array] = "is taken in part"
            for whole, part in ((array, name), (following.get(array), f"next {name}")):
                if whole is not None:
                    self._slices[part] = (whole, slice(first, last))
                    axes = None if column.axes is None else column.axes[first:last]
                    columns[part] = replace(column, shape=(last - first,), axes=axes)
            if array in following:
                following[name] = f"next {name}"
                hidden[following[array]] = "is taken in part"
        return replace(survey, columns=columns, following=following, hidden=hidden)

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        return self._cut(self._source.load, names, first, last)

    @contextmanager
    def reading(self) -> Iterator[Load]:
        """See `KeyedSource`."""
        with self._source.reading() as load:
            yield partial(self._cut, load)

    def _cut(self, load: Load, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        whole = {name: self._slices.get(name, (name, slice(None)))[0] for name in names}
        loaded = load(tuple(dict.fromkeys(whole.values())), first, last)
        return {
            name: loaded[whole[name]][:, self._slices[name][1]] if name in self._slices else loaded[name]
            for name in names
        }


@dataclass(frozen=True, slots=True)
class _Part:
    """A feature and the columns that make it up."""

    feature: Feature
    columns: tuple[str, ...]


class KeyedReader:
    """Makes episodes of a source of named arrays.

    Args:
        name: Of the format, for the provenance.
        source: The format's own part.
        options: What is read, and what the source does not say.
        robot: That it was recorded on: gives names, units and the control period.
    """

    def __init__(self, name: str, source: KeyedSource, options: ReadOptions, robot: RobotSpec | None) -> None:
        chosen = (*(options.observation_keys or ()), *(options.action_keys or ()))
        parts = any(PART.fullmatch(one) for one in chosen)
        self._source = SlicedSource(source, chosen) if parts else source
        self._name, self._options, self._robot = name, options, robot
        self._path = source.path

    @property
    def robot(self) -> RobotSpec | None:
        """The robot that the caller named."""
        return self._robot

    def describe(self) -> SourceSpec:
        """Reads the structure, the flags and the side arrays, not the others.

        Raises:
            SourceError: the source is missing or damaged, has no episode, or contradicts itself or the robot.
            ConfigError: an option names what is not there, or a number of units that does not fit.
        """
        survey, robot = self._survey, self._robot
        parts, ignored = self._plan
        period = self._choose_period(survey.control_period, robot)
        rows = int(survey.lengths.sum())
        return SourceSpec(
            schema=Schema(features=tuple(part.feature for part in parts), control_period=period, robot=robot),
            episodes=len(survey.lengths),
            rows=rows,
            provenance=self._provenance,
            contents={
                **{
                    name: f"{column.dtype} {(rows, *column.shape)}"
                    for name, column in survey.columns.items()
                    if name not in survey.following.values()
                },
                **survey.contents,
            },
            ignored={**survey.ignored, **ignored},
            notes=tuple(survey.notes),
            questions=self._ask(parts),
        )

    def episodes(self) -> Iterator[Episode]:
        """Every episode in the order of the source; arrays are views of blocks of about 64 Ki rows.

        Raises:
            SourceError: as `describe`, or a value is not finite, or the data cannot be decoded.
        """
        survey, (parts, _) = self._survey, self._plan
        starts = np.cumsum(survey.lengths) - survey.lengths
        index = EpisodeIndex(starts, survey.lengths, survey.terminated, survey.truncated)
        names = tuple(dict.fromkeys(name for part in parts for name in part.columns))
        row_bytes = max(1, sum(_row_bytes(survey.columns[name]) for name in names))
        held = sum(_row_bytes(survey.columns[name]) for name in names if not survey.columns[name].encoded)
        require_episode(int(survey.lengths.max()), held, self._path, "leave arrays out with --skip")
        with self._source.reading() as load:
            for first, last in cut_blocks(index, max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))):
                begin = int(starts[first])
                rows = int(survey.lengths[first:last].sum())
                loaded = load(names, first, last)
                block = {part.feature.name: self._join(part, loaded, begin, rows) for part in parts}
                for number in range(first, last):
                    at = int(starts[number]) - begin
                    until = at + int(survey.lengths[number])
                    yield Episode(
                        {name: array[at:until] for name, array in block.items()},
                        terminated=bool(survey.terminated[number]),
                        truncated=bool(survey.truncated[number]),
                    )

    @cached_property
    def _survey(self) -> Survey:
        find_container(self._path)
        survey = self._source.survey()
        if not len(survey.lengths):
            raise SourceError(f"{self._path}: expected at least one episode, got none; record some")
        if (survey.lengths < 1).any():
            number = int(np.flatnonzero(survey.lengths < 1)[0])
            raise SourceError(
                f"{self._path}: expected at least one step in every episode, got {survey.lengths[number]} in episode "
                f"{number}; remove it"
            )
        return survey

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        defaults = ReadOptions()
        chosen = {
            name: list(value) if isinstance(value, tuple) else value
            for name in ("observation_keys", "action_keys", "filter", "picture_size")
            if (value := getattr(self._options, name)) != getattr(defaults, name)
        }
        parts = {part.feature.name: list(part.columns) for part in self._plan[0]}
        return {
            "format": self._name,
            **describe_files(self._path),
            **self._survey.provenance,
            **chosen,
            "columns": {"version": 1, **parts},
        }

    @cached_property
    def _plan(self) -> tuple[list[_Part], dict[str, str]]:
        """Features with their columns, and why other columns are left out."""
        survey, options = self._survey, self._options
        observation = self._require("observation", options.observation_keys, survey.observation)
        action = self._require("action", options.action_keys, survey.action)
        parts = [
            self._make_main("observation", "observation", observation, options.observation_units),
            self._make_main("action", "action", action, options.action_units),
        ]
        following = tuple(survey.following[name] for name in observation if name in survey.following)
        ignored = {**survey.hidden}
        if survey.reward is not None:
            problem = survey.columns[survey.reward].problem
            width = survey.columns[survey.reward].width
            if problem or width != 1:
                ignored[survey.reward] = problem or f"holds {width} rewards per step, not one"
            else:
                feature = Feature(name="reward", shape=(), units=("",), role="reward", axes=("reward",))
                parts.append(_Part(feature, (survey.reward,)))
        taken = {*observation, *action, *survey.following.values(), *ignored, survey.reward}
        side = [name for name in survey.columns if name not in taken]
        offered = [*side, *([NEXT] if len(following) == len(observation) else [])]
        wanted = choose_side(offered, options.only, options.skip, self._path)
        if NEXT in wanted:
            now = parts[0].feature
            feature = Feature(name=NEXT, shape=now.shape, units=now.units, role="other", axes=now.axes)
            parts.append(_Part(feature, following))
        require_budget(
            int(survey.lengths.sum())
            * sum(_row_bytes(survey.columns[name]) for part in parts for name in part.columns),
            self._on_disk,
            self._path,
        )
        for name in side:
            found: Feature | str = "left out by choice"
            if name in wanted:
                found = self._make_side(name, [part.feature.name for part in parts])
            if isinstance(found, Feature):
                parts.append(_Part(found, (name,)))
            elif name in wanted and options.only is not None:
                raise SourceError(
                    f"{self._path}: {name}: expected an array to carry over, got one that {found}; skip it"
                )
            else:
                ignored[name] = found
        self._require_pictures(parts)
        return parts, ignored

    def _require_pictures(self, parts: Sequence[_Part]) -> None:
        """Refuses to leave out what the camera of the robot shows.

        Raises:
            SourceError: with the arrays of pictures that there are.
        """
        robot = self._robot
        if robot is None or robot.image is None or any(part.feature.role == "image" for part in parts):
            return
        columns = self._survey.columns
        later = {*self._survey.following.values()}
        fit = ", ".join(name for name, one in columns.items() if (one.is_picture or one.encoded) and name not in later)
        raise SourceError(
            f"{self._path}: expected the pictures of robot '{robot.name}', which has a camera, got none; choose an "
            f"array with --only ({fit[:400] or 'there is none'})"
        )

    @cached_property
    def _on_disk(self) -> int:
        return count_bytes(self._path)

    def _require(self, what: str, chosen: Sequence[str] | None, usual: Sequence[str]) -> tuple[str, ...]:
        """The columns of the observation or action.

        Raises:
            SourceError: there are none, or one is missing or no vector per step.
        """
        columns = self._survey.columns
        names = tuple(usual if chosen is None else chosen)
        fit = ", ".join(name for name, column in columns.items() if not column.problem) or "(there are none)"
        if not names:
            doubles = {*self._survey.following.values()}
            flawed = "".join(
                f"; {name} {column.problem}"
                for name, column in columns.items()
                if column.problem and name not in doubles
            )
            raise SourceError(
                f"{self._path}: expected arrays for the {what}, got {fit[:400]}{flawed[:400]}; choose with "
                f"--{what}-keys"
            )
        for name in names:
            if name not in columns:
                raise SourceError(
                    f"{self._path}: expected arrays for the {what} of {fit[:400]}, got {name!r}; choose with "
                    f"--{what}-keys"
                )
            if columns[name].problem:
                raise SourceError(
                    f"{self._path}: {name}: expected one vector per step for the {what}, got an array that "
                    f"{columns[name].problem}; choose others with --{what}-keys"
                )
        if len(set(names)) < len(names):
            raise ConfigError(f"--{what}-keys: expected distinct arrays, got {', '.join(names)}; name each once")
        return names

    def _make_main(self, name: str, role: Role, columns: tuple[str, ...], units: tuple[str, ...] | None) -> _Part:
        """Observation or action: one vector of float32, from the columns in their order."""
        axes: list[str] = []
        for column in columns:
            found = self._survey.columns[column]
            prefix = _shorten(column) if len(columns) > 1 else name
            axes += found.axes or [f"{prefix}_{axis}" for axis in range(found.width)]
        if len(set(axes)) < len(axes):
            axes = [f"{identify(column)}_{axis}" for column in columns for axis in range(self._width(column))]
        if len(set(axes)) < len(axes):  # names that differ only in what no identifier has
            axes = [f"{name}_{axis}" for axis in range(len(axes))]
        named = tuple(axes)
        return _Part(
            name_axes(
                Feature(name=name, shape=(len(named),), units=("",) * len(named), role=role, axes=named),
                None if self._robot is None else getattr(self._robot, name),
                units,
                f"{self._path}: {', '.join(columns)}",
            ),
            columns,
        )

    def _width(self, column: str) -> int:
        return self._survey.columns[column].width

    def _make_side(self, source: str, taken: Sequence[str]) -> Feature | str:
        """The feature of a side array, or why it cannot be carried over."""
        column, name = self._survey.columns[source], name_side(source)
        if (column.is_picture or column.encoded) and not column.flaw:
            # they are most of a recording, and few policies look at them: only who asks by name gets them
            if self._options.only is None:
                if column.encoded:
                    return f"is {column.encoded}; --only takes it by name"
                what = "holds pictures" if column.dtype == np.uint8 else f"may hold pictures, as {column.dtype}"
                return f"{what}; --only takes them by name"
            camera = None if self._robot is None else self._robot.image
            if self._robot is not None and camera is not None:
                name = IMAGE
                if column.shape != camera.shape:
                    raise SourceError(
                        f"{self._path}: {source}: expected pictures of shape {camera.shape} as robot "
                        f"'{self._robot.name}' takes them, got {column.shape}; scale them as its camera does"
                    )
            if name in taken:
                return f"would be called {name}, as another array is"
            return make_image_feature(name, column.shape)
        if column.problem:
            return column.problem
        if name in taken:
            return f"would be called {name}, as another array is"
        survey = self._survey
        starts = np.cumsum(survey.lengths) - survey.lengths
        index = EpisodeIndex(starts, survey.lengths, survey.terminated, survey.truncated)
        most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, _row_bytes(column))))
        with self._source.reading() as load:
            blocks = (load((source,), *ends)[source] for ends in cut_blocks(index, most))
            dtype, flaw = choose_dtype(column.dtype, blocks)
        if dtype is None:
            return flaw
        axes = column.axes or tuple(f"{name}_{axis}" for axis in range(column.width)) if column.shape else (name,)
        return Feature(name=name, dtype=dtype, shape=column.shape, units=("",) * len(axes), role=column.role, axes=axes)

    def _join(self, part: _Part, loaded: Mapping[str, Array], begin: int, rows: int) -> Array:
        """The values of a feature, shape (rows, dim) or (rows,), checked."""
        feature = part.feature
        pieces = []
        for name in part.columns:
            values = loaded[name]
            if len(values) != rows:
                raise SourceError(
                    f"{self._path}: {name}: expected {rows} rows from row {begin}, got {len(values)}; read it again"
                )
            if feature.role == "image":
                values = self._to_bytes(name, values, begin)
            elif feature.role in ("observation", "action"):
                row = find_rounded(values)
                if row is not None:
                    raise SourceError(
                        f"{self._path}: {name}: {TOO_FINE}, got {values[row]} in row {begin + row}; leave it out of "
                        f"the {feature.role}"
                    )
            pieces.append(cast(values, feature.dtype).reshape(rows, -1))
        array = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
        array = np.ascontiguousarray(array.reshape(rows, *feature.shape))
        bad = find_missing(array)
        if bad is not None:
            raise SourceError(
                f"{self._path}: {', '.join(part.columns)}: expected finite {feature.dtype} values, got {array[bad]} in "
                f"row {begin + bad} (episode {self._find_episode(begin + bad)}); remove the episode or repair the "
                "recording"
            )
        return array

    def _to_bytes(self, name: str, pictures: Array, begin: int) -> Array:
        """Pictures whose numbers are those of bytes, in whatever type they are kept.

        Raises:
            SourceError: a number is none of these.
        """
        if pictures.dtype == np.uint8:
            return pictures
        with np.errstate(invalid="ignore"):
            found = pictures.astype(np.uint8)
        wrong = np.argwhere(found != pictures)
        if len(wrong):
            raise SourceError(
                f"{self._path}: {name}: expected pictures of whole numbers from 0 to 255, got "
                f"{pictures[tuple(wrong[0])]} in row {begin + wrong[0][0]}; write them as bytes (those from 0 to 1 "
                "times 255, rounded)"
            )
        return found

    def _find_episode(self, row: int) -> int:
        return int(np.searchsorted(np.cumsum(self._survey.lengths), row, side="right"))

    def _choose_period(self, stated: float | None, robot: RobotSpec | None) -> float | None:
        if robot is None:
            return stated
        if stated is not None and abs(stated - robot.control_period) > 0.05 * robot.control_period:
            raise SourceError(
                f"{self._path}: expected a step each {robot.control_period:g} s as robot '{robot.name}' takes, got "
                f"{stated:g} s; choose the robot that it was recorded on"
            )
        return robot.control_period

    def _ask(self, parts: Sequence[_Part]) -> tuple[str, ...]:
        """What someone has to say before the source can be ingested."""
        if not self._survey.asks_units or self._robot is not None:
            return ()
        given = {"observation": self._options.observation_units, "action": self._options.action_units}
        return tuple(
            f"{part.feature.name}: expected a unit for each of the axes {', '.join(part.feature.axes)[:400]}, got "
            f"none in "
            f"the source; give --robot, or --{part.feature.name}-units with one for each or one for all (rad, deg, m, "
            "percent, or unknown)"
            for part in parts
            if part.feature.name in given and given[part.feature.name] is None
        )


def name_axes(feature: Feature, spec: ArraySpec | None, units: Sequence[str] | None, where: str) -> Feature:
    """The feature with the names and units of the robot, or with the units that somebody gave.

    Args:
        feature: As the source names it.
        spec: Of the robot; None where nobody knows it.
        units: One for each axis or one for all, `unknown` where nobody knows; None where nobody gave any.
        where: The source and its arrays, for messages.

    Raises:
        SourceError: the robot has another number of axes.
        ConfigError: another number of units, or units beside a robot.
    """
    width = len(feature.axes)
    axes, named = feature.axes, feature.units
    if spec is not None and units is not None:
        raise ConfigError(f"--{feature.name}-units: expected none beside --robot, got {units}; leave one of them out")
    if spec is not None:
        if spec.shape != feature.shape:
            raise SourceError(
                f"{where}: expected {len(spec.axes)} axes {', '.join(spec.names)}, got {width} "
                f"({', '.join(feature.axes)[:400]}); choose the robot that it was recorded on, or other arrays"
            )
        axes, named = spec.names, tuple(axis.unit for axis in spec.axes)
    elif units is not None:
        if len(units) not in (1, width):
            raise ConfigError(
                f"--{feature.name}-units: expected 1 or {width} units, for {', '.join(feature.axes)[:400]}, got "
                f"{len(units)}; give one for each axis"
            )
        given = tuple("" if unit == "unknown" else unit for unit in units)
        named = given * width if len(given) == 1 else given
    return Feature(name=feature.name, shape=feature.shape, units=named, role=feature.role, axes=axes)


def cut_blocks(index: EpisodeIndex, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, int]]:
    """Episode ranges [first, last) of at least one episode and, beyond that, at most so many rows."""
    ends = index.start + index.length
    first = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, index.start[first] + rows, side="right")))
        yield first, last
        first = last


def _shorten(column: str) -> str:
    """The name of a column below its group: `arm_index_0` for `observations/arm/_index_0`."""
    return re.sub("_+", "_", identify(column.partition("/")[2] or column))


def _row_bytes(column: Column) -> int:
    return column.width * column.dtype.itemsize
