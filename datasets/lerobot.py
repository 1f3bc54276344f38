"""Reads LeRobotDataset v2.0, v2.1 and v3.0 with pyarrow alone: `meta/info.json` and Parquet files below `data`.

R. Cadene et al., "LeRobot: State-of-the-art Machine Learning for Real-World Robotics in Pytorch", 2024; layout of its
dataset classes. Videos, and pictures within Parquet files, are decoded where somebody names their camera, see
`lerobot_videos` and `picture_files`. Rows are found by their own `episode_index` and `frame_index`, never by offsets in
the metadata, so that a subset of the episodes or of the files reads as what it is. No unit is written anywhere, and
degrees, radians and percent are all in use: somebody has to say which, see `SourceSpec.questions`.
Legend: E episodes, T frames of one episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, FormatError, SourceError
from ..plain_files import is_hidden, list_plain_files, sort_naturally
from ..robots.spec import RobotSpec
from ..strict_json import load_json, load_json_lines
from .arrow_columns import RowStream, read_columns, read_schema, read_table, take_column, typed_errors
from .episode import Array, EpisodeIndex, Reader, ReadOptions
from .keyed import Column, KeyedReader, KeyedSource, Load, Survey, cut_blocks
from .lerobot_videos import Camera, describe_videos, find_clips
from .picture_files import ENCODED, PictureFiles, find_shape
from .videos import require_picture_budget

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
_INDICES = ("episode_index", "frame_index", "index")
_OTHER_RATE = 0.2
"""Share by which the usual step of an episode may differ from that of most."""
_STATE, _ACTION, _REWARD, _DONE, _SUCCESS = "observation.state", "action", "next.reward", "next.done", "next.success"
_REMEDY = "copy or download the data set again"
_TEXTS = ("string", "large_string")
_FIELDS = ("bytes", "path")
"""Of a picture within a Parquet file."""
_PICTURE_ROWS = 64
"""Of pictures within Parquet files that are read together."""
_MOST_TASKS = 1000
"""Whose texts go into the provenance."""
_LABEL_ERROR = 0.05
"""Relative difference between the rate of the metadata and that of the time stamps, from which it is said."""


def probe(path: Path) -> bool:
    """Whether the folder says so."""
    return "codebase_version" in load_json(path / INFO, dict, SourceError, _REMEDY)


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    size = options.picture_size
    if size is not None and options.only is None:
        raise ConfigError(
            f"--picture-size: expected cameras whose pictures are wanted, got none for {path}; name them with --only"
        )
    shape = (*size, 3) if size else find_shape(robot)
    return KeyedReader("lerobot", LeRobotDataset(path, options.only or (), shape), options, robot)


class LeRobotDataset(KeyedSource):
    """The frames of one data set.

    Args:
        path: Its folder.
        wanted: Names of cameras whose pictures are decoded; others are said and left out. Names of columns are none.
        shape: Height, width and channels to which they are scaled; None leaves them as they are.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = (), shape: tuple[int, int, int] | None = None) -> None:
        super().__init__(path)
        self._wanted, self._shape = wanted, shape
        self._cameras: dict[str, Camera | PictureFiles] = {}
        self._files: list[Path] = []
        self._columns: dict[str, Column] = {}
        self._places: list[tuple[int, int]] = []
        """Of each episode: number of its file and first row there."""
        self._lengths = np.zeros(0, np.int64)

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        info = load_json(self.path / INFO, dict, SourceError, _REMEDY)
        version, rate, features = info.get("codebase_version"), info.get("fps"), info.get("features")
        if version not in VERSIONS:
            raise FormatError(
                f"{self.path / INFO}: expected codebase_version {', '.join(VERSIONS)}, got {version!r:.40}; convert "
                f"the data "
                "set with the tools of LeRobot",
                f"a LeRobotDataset of version {version!r:.40}",
                True,
            )
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6:
            raise SourceError(f"{self.path / INFO}: expected fps > 0, got {rate!r:.40}; {_REMEDY}")
        if not isinstance(features, dict) or not all(isinstance(one, dict) for one in features.values()):
            raise SourceError(f"{self.path / INFO}: expected features, got {type(features).__name__}; {_REMEDY}")
        numbers = self._find_episodes()
        notes = self._compare_metadata(info, numbers)
        videos = [name for name, one in features.items() if one.get("dtype") == "video" and name not in self._columns]
        pictures = [name for name, one in features.items() if one.get("dtype") == "image"]
        files = [name for name in pictures if f"{name}/{_FIELDS[0]}" in self._columns]
        for name in files:
            self._columns = {key: one for key, one in self._columns.items() if not key.startswith(f"{name}/")}
        columns = {name: self._name_axes(column, features.get(name, {})) for name, column in self._columns.items()}
        usable = [name for name, column in columns.items() if not column.problem]
        terminated, ends = self._read_ends(usable, numbers)
        stamps = self._check_stamps(float(rate), usable)
        everywhere = np.ones(len(terminated), np.bool_)
        films = self._look_at_videos(info, videos, numbers, 1 / float(rate), usable)
        return Survey(
            columns={**columns, **films, **self._look_at_pictures(files)},
            lengths=self._lengths,
            terminated=terminated,
            truncated=everywhere & ~terminated,
            observation=[_STATE] if _STATE in usable else [name for name in usable if name.startswith("observation.")],
            action=[name for name in (_ACTION,) if name in usable],
            reward=_REWARD if _REWARD in usable else None,
            hidden={name: "the store counts episodes and steps itself" for name in _INDICES if name in columns},
            control_period=1 / float(rate),
            provenance={
                "codebase_version": version,
                "robot_type": info["robot_type"] if isinstance(info.get("robot_type"), str) else None,
                "episodes": numbers if len(numbers) <= 1000 else f"{len(numbers)}, {numbers[0]} to {numbers[-1]}",
                **self._load_tasks(),
            },
            contents={
                **{name: f"image {features[name].get('shape')}" for name in pictures},
                **describe_videos(self.path, features, videos),
                **{name: camera.describe() for name, camera in self._cameras.items()},
            },
            ignored={
                name: "has no pictures within the Parquet files"
                for name in pictures
                if name not in columns and name not in files
            },
            notes=[
                *notes,
                *self._list_unnamed(features),
                *ends,
                *stamps,
                *(note for one in self._cameras.values() for note in one.notes),
            ],
            asks_units=True,
        )

    def load(self, names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
        """See `KeyedSource`."""
        with self.reading() as load:
            return load(names, first, last)

    @contextmanager
    def reading(self) -> Iterator[Load]:
        """Keeps the newest files open, in which many ranges of episodes lie."""
        with ExitStack() as stack:
            films = {name: stack.enter_context(camera.playing()) for name, camera in self._cameras.items()}
            rows = partial(self._load, {})

            def load(names: Sequence[str], first: int, last: int) -> Mapping[str, Array]:
                found = rows([name for name in names if name not in films], first, last)
                return {**found, **{name: films[name](first, last) for name in names if name in films}}

            yield load

    def _load(
        self, streams: dict[tuple[int, tuple[str, ...]], RowStream], names: Sequence[str], first: int, last: int
    ) -> Mapping[str, Array]:
        pieces: dict[str, list[Array]] = {name: [] for name in names}
        tops = tuple(dict.fromkeys(name.split("/")[0] for name in names))  # of a struct, all its parts
        while names and first < last:
            # the run of episodes that follow each other in one file
            file, begin = self._places[first]
            end = begin
            while first < last and self._places[first] == (file, end):
                end += int(self._lengths[first])
                first += 1
            key = (file, tops)
            if key not in streams:
                streams.clear()
                streams[key] = RowStream(self._files[file], tops)
            table = streams[key].take(begin, end)
            for name in names:
                pieces[name].append(take_column(table, name, self._columns[name], self._files[file]))
        return {name: np.concatenate(found) for name, found in pieces.items()}

    def _find_episodes(self) -> list[int]:
        """Finds the files and, in them, the rows of each episode; returns the episodes' own numbers in rising order.

        Raises:
            SourceError: no file, columns that differ, or frames that are missing, repeated or out of order.
        """
        root = self.path / "data"
        names = list_plain_files(root, SourceError) if root.is_dir() else iter(())
        found_files = (name for name in names if name.endswith(".parquet") and not is_hidden(name))
        self._files = [root / name for name in sort_naturally(found_files)]
        if not self._files:
            raise SourceError(f"{root}: expected Parquet files, got none; {_REMEDY}")
        found: dict[int, tuple[int, int, int]] = {}
        self._columns = self._measure_lists()
        for number, file in enumerate(self._files):
            columns = read_columns(file)[0]
            for name in sorted({*columns, *self._columns}):
                kinds = [one[name].dtype if name in one else "nothing" for one in (self._columns, columns)]
                if kinds[0] != kinds[1]:
                    raise SourceError(
                        f"{file}: {name}: expected {kinds[0]} as in {self._files[0]}, got {kinds[1]}; {_REMEDY}"
                    )
            for name in _INDICES[:2]:
                if name not in columns or columns[name].dtype.kind not in "iu" or columns[name].shape:
                    raise SourceError(f"{file}: expected the column {name} with integers, got none; {_REMEDY}")
            table = read_table(file, _INDICES[:2])
            episode, frame = (take_column(table, name, columns[name], file).astype(np.int64) for name in _INDICES[:2])
            cuts = np.concatenate(([0], np.flatnonzero(np.diff(episode)) + 1, [len(episode)]))
            for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
                if begin == end:
                    continue
                index = int(episode[begin])
                wrong = np.flatnonzero(frame[begin:end] != np.arange(end - begin))
                if index in found or len(wrong):
                    got = (
                        "them again" if index in found else f"frame {frame[begin + wrong[0]]} in row {begin + wrong[0]}"
                    )
                    raise SourceError(
                        f"{file}: episode {index}: expected its frames once, in order and from 0, got {got}; {_REMEDY}"
                    )
                found[index] = (number, begin, end - begin)
        numbers = sorted(found)
        self._places = [found[index][:2] for index in numbers]
        self._lengths = np.array([found[index][2] for index in numbers], np.int64)
        return numbers

    def _measure_lists(self) -> dict[str, Column]:
        """The columns, with the lengths of lists whose schema gives none taken from the first row of all files."""
        measured = read_columns(self._files[0])[0]
        open_ones = [name for name, column in measured.items() if -1 in column.shape]
        if open_ones:
            file = next((file for file in self._files if read_columns(file)[1]), self._files[0])
            tops = list(dict.fromkeys(name.split("/")[0] for name in open_ones))
            row: Any = next(iter(read_table(file, tops).slice(0, 1).to_pylist()), {})
            for name in open_ones:
                shape, value = [], row
                for part in name.split("/"):
                    value = value.get(part) if isinstance(value, dict) else None
                while isinstance(value, list):
                    shape.append(len(value))
                    value = value[0] if value else None
                measured[name] = Column(dtype=measured[name].dtype, shape=tuple(shape), flaw=measured[name].flaw)
        return measured

    def _name_axes(self, column: Column, feature: Mapping[str, Any]) -> Column:
        """The column with the names of its axes, where the metadata have as many as there are."""
        axes = tuple(_list_names(feature.get("names")))
        known = axes if len(axes) == column.width == len(set(axes)) and len(column.shape) == 1 else None
        return Column(dtype=column.dtype, shape=column.shape, axes=known, flaw=column.flaw)

    def _list_unnamed(self, features: Mapping[str, Any]) -> list[str]:
        """Notes on vectors whose axes the metadata name otherwise than one name for each."""
        return [
            f"{name}: the names of its axes in info.json are not one for each of {column.width}: they are numbered"
            for name, column in self._columns.items()
            if column.width > 1
            and not column.problem
            and features.get(name, {}).get("names")
            and self._name_axes(column, features[name]).axes is None
        ]

    def _compare_metadata(self, info: Mapping[str, Any], numbers: Sequence[int]) -> list[str]:
        """Notes where the metadata say another number of episodes.

        Raises:
            SourceError: an episode has another number of frames than its metadata say.
        """
        stated = self._load_lengths()
        lengths = dict(zip(numbers, self._lengths.tolist(), strict=True))
        for index, length in stated.items():
            if index in lengths and lengths[index] != length:
                raise SourceError(
                    f"{self.path}: episode {index}: expected {length} frames as its metadata say, got "
                    f"{lengths[index]}; "
                    f"{_REMEDY}"
                )
        notes = []
        absent = [index for index in stated if index not in lengths]
        if absent:
            notes.append(
                f"{len(absent)} of {len(stated)} episodes of the metadata have no frames here, the first "
                f"{absent[0]}: this "
                "is a part of the data set"
            )
        elif not stated and info.get("total_episodes") != len(numbers):
            notes.append(f"info.json says {info.get('total_episodes')!r:.40} episodes, the files hold {len(numbers)}")
        extra = [index for index in numbers if stated and index not in stated]
        if extra:
            notes.append(f"{len(extra)} episodes have frames and no metadata, the first {extra[0]}")
        return notes

    def _load_lengths(self) -> dict[int, int]:
        """Length of each episode as the metadata say; empty where they say none."""
        lines, folder = self.path / "meta/episodes.jsonl", self.path / "meta/episodes"
        pairs: list[tuple[Any, Any]] = []
        if lines.is_file():
            pairs = [
                (one.get("episode_index"), one.get("length")) for one in load_json_lines(lines, SourceError, _REMEDY)
            ]
        elif folder.is_dir():
            names = (name for name in list_plain_files(folder, SourceError) if not is_hidden(name))
            for name in sort_naturally(names):
                file = folder / name
                columns = read_columns(file)[0]
                if not {"episode_index", "length"} <= set(columns):
                    raise SourceError(
                        f"{file}: expected episode_index and length, got {', '.join(columns)[:200]}; {_REMEDY}"
                    )
                table = read_table(file, ("episode_index", "length"))
                pairs += zip(
                    *(take_column(table, key, columns[key], file).tolist() for key in table.column_names), strict=True
                )
        for index, length in pairs:
            if type(index) is not int or type(length) is not int or index < 0 or length < 1:
                raise SourceError(
                    f"{self.path}: meta: expected an episode_index and a length above 0, got {index!r:.40} and "
                    f"{length!r:.40}; "
                    f"{_REMEDY}"
                )
        return dict(pairs)

    def _load_tasks(self) -> dict[str, Any]:
        """What the robot was told to do, by `task_index`, as an entry of the provenance; empty where nobody says.

        Version 3 writes a table of pandas, whose texts are a column or the index.
        """
        lines, table = self.path / "meta/tasks.jsonl", self.path / "meta/tasks.parquet"
        pairs: list[tuple[Any, Any]] = []
        if lines.is_file():
            found = load_json_lines(lines, SourceError, _REMEDY)
            pairs = [(one.get("task_index"), one.get("task")) for one in found]
        elif table.is_file():
            schema, _ = read_schema(table)
            texts = [name for name, kind in zip(schema.names, schema.types, strict=True) if str(kind) in _TEXTS]
            if "task_index" in schema.names and texts:
                read = read_table(table, ("task_index", texts[0])).to_pydict()
                pairs = list(zip(read["task_index"], read[texts[0]], strict=True))
        told = {str(index): text for index, text in pairs if type(index) is int and isinstance(text, str)}
        if not told:
            return {}
        return {"tasks": told if len(told) <= _MOST_TASKS else f"{len(told)}, such as {next(iter(told.values()))}"}

    def _read_ends(self, usable: Sequence[str], numbers: Sequence[int]) -> tuple[npt.NDArray[np.bool_], list[str]]:
        """Whether each episode reached its end, and notes: `next.success` says it, else `next.done`."""
        name = next((one for one in (_SUCCESS, _DONE) if one in usable and self._columns[one].width == 1), None)
        if name is None:
            return np.zeros(len(self._lengths), np.bool_), []
        flags, amid = [], []
        for values, ends in self._walk_column(name):
            true = values.astype(bool)
            within = np.ones(len(true), np.bool_)
            within[ends] = False
            # success may hold to the end; what is undone again, or goes on behind its end, is another matter
            early = true & within & (~np.append(true[1:], False) if name == _SUCCESS else True)
            flags.append(true[ends])
            amid.append(np.add.reduceat(early, np.concatenate(([0], ends[:-1] + 1))) > 0)
        terminated, joined = np.concatenate(flags), np.flatnonzero(np.concatenate(amid))
        notes = (
            [
                f"{name} is set in the middle of {len(joined)} of {len(terminated)} episodes, the first of them number "
                f"{numbers[joined[0]]}: only the last frame of an episode ends it here"
            ]
            if len(joined)
            else []
        )
        if name == _SUCCESS or not terminated.any():
            return terminated, notes
        return terminated, [
            *notes,
            f"{_DONE} ends {int(terminated.sum())} of {len(terminated)} episodes, which are taken as terminated; the "
            "file does not say whether a task was solved or only the recording ended",
        ]

    def _check_stamps(self, rate: float, usable: Sequence[str]) -> list[str]:
        """Notes where the time stamps run at another rate than the metadata say, or have gaps."""
        if "timestamp" not in usable or self._columns["timestamp"].width != 1:
            return []
        usual, longest, gaps, back = 0.0, 0.0, 0, 0
        medians: list[float] = []
        for values, ends in self._walk_column("timestamp"):
            parts = np.split(values.astype(np.float64), ends[:-1] + 1)
            medians += [float(np.median(np.diff(part))) for part in parts if len(part) > 1]
            within = np.ones(len(values), np.bool_)
            within[ends] = False
            steps = np.diff(values.astype(np.float64), append=0.0)[within]
            if len(steps):
                usual = usual or float(np.median(steps))
                longest = max(longest, float(steps.max()))
                gaps += int((steps > 1.5 * max(usual, 1e-9)).sum())
                back += int((steps <= 0).sum())
        notes = []
        most = float(np.median(medians)) if medians else 0.0
        others = [step for step in medians if abs(step - most) > _OTHER_RATE * most]
        if others:
            notes.append(
                f"{len(others)} of {len(medians)} episodes have another rate than most: steps of {min(medians):.3g} to "
                f"{max(medians):.3g} s; one control period is taken for all"
            )
        if usual and abs(usual - 1 / rate) > _LABEL_ERROR / rate:
            notes.append(
                f"info.json says {rate:g} frames per second, the time stamps are {usual:g} s apart: trust neither"
            )
        if gaps:
            notes.append(f"{gaps} steps last longer than 1.5 usual ones, the longest {longest:g} s")
        if back:
            notes.append(f"time stands still or runs back in {back} steps")
        return notes

    def _look_at_videos(
        self,
        info: Mapping[str, Any],
        videos: Sequence[str],
        numbers: Sequence[int],
        period: float,
        usable: Sequence[str],
    ) -> dict[str, Column]:
        """The cameras as columns; of those that are wanted, which frame belongs to which step."""
        chosen = [name for name in videos if name in self._wanted]
        times = self._read_times(period, usable) if chosen else []
        on_disk = decoded = 0
        for name in chosen:
            clips = find_clips(self.path, info, name, numbers)
            self._cameras[name] = camera = Camera(name, clips, numbers, times, period, self._shape)
            on_disk += camera.on_disk
            decoded += int(self._lengths.sum()) * math.prod(camera.shape)
        require_picture_budget(decoded, on_disk, f"{self.path}: {', '.join(chosen)}")
        shapes = {name: camera.shape for name, camera in self._cameras.items()}
        return {
            name: Column(dtype=np.dtype(np.uint8), shape=shapes.get(name, ()), encoded="a video") for name in videos
        }

    def _look_at_pictures(self, names: Sequence[str]) -> dict[str, Column]:
        """The cameras whose pictures are files within the Parquet files, as columns; of those that are wanted, how."""
        for name in names:
            if name in self._wanted and len(self._lengths):
                load = partial(self._load_files, {}, name)
                camera = PictureFiles(f"{self.path}: {name}", load, self._lengths, self._shape)
                size = sum(file.stat().st_size for file in self._files)
                require_picture_budget(int(self._lengths.sum()) * math.prod(camera.shape), size, f"{self.path}: {name}")
                self._cameras[name] = camera
        shapes = {name: camera.shape for name, camera in self._cameras.items()}
        return {name: Column(dtype=np.dtype(np.uint8), shape=shapes.get(name, ()), encoded=ENCODED) for name in names}

    def _load_files(self, streams: dict[int, RowStream], name: str, first: int, last: int) -> Iterator[bytes]:
        """The picture files of the episodes [first, last), of which a few rows are in memory at a time.

        Raises:
            SourceError: a row has none; only its name stands there, or not even that.
        """
        for episode in range(first, last):
            yield from self._load_episode_files(streams, name, episode)

    def _load_episode_files(self, streams: dict[int, RowStream], name: str, episode: int) -> Iterator[bytes]:
        file, begin = self._places[episode]
        where = f"{self._files[file]}: {name}"
        if file not in streams:
            streams.clear()
            streams[file] = RowStream(self._files[file], (name,), _PICTURE_ROWS)
        end = begin + int(self._lengths[episode])
        for first in range(begin, end, _PICTURE_ROWS):
            table = streams[file].take(first, min(first + _PICTURE_ROWS, end))
            with typed_errors(self._files[file]):
                rows = table[name].to_pylist()
            for row, one in enumerate(rows, first):
                data, path = (None if one is None else one.get(field) for field in _FIELDS)
                if not isinstance(data, bytes):
                    got = "nothing" if path is None else f"the name {path!r:.80} alone"
                    raise SourceError(
                        f"{where}: expected the bytes of a picture in every row, got {got} in row {row}; write the "
                        "pictures into the file (embed_images of LeRobot does), or leave the camera out"
                    )
                yield data

    def _read_times(self, period: float, usable: Sequence[str]) -> list[npt.NDArray[np.float64]]:
        """When each step of each episode is, in seconds from the start of the episode.

        Raises:
            SourceError: a time is no number.
        """
        if "timestamp" not in usable or self._columns["timestamp"].width != 1:
            return [np.arange(length, dtype=np.float64) * period for length in self._lengths.tolist()]
        found: list[npt.NDArray[np.float64]] = []
        for values, ends in self._walk_column("timestamp"):
            found += [np.asarray(one, np.float64) for one in np.split(values, ends[:-1] + 1)]
        for times in found:
            if not np.isfinite(times).all():
                raise SourceError(f"{self.path}: timestamp: expected finite times, got others; {_REMEDY}")
        return found

    def _walk_column(self, name: str) -> Iterator[tuple[Array, npt.NDArray[np.int64]]]:
        """A column of one axis in blocks of whole episodes, each with the last rows of its episodes."""
        ends, never = np.cumsum(self._lengths), np.zeros(len(self._lengths), np.bool_)
        index = EpisodeIndex(ends - self._lengths, self._lengths, never, never)
        with self.reading() as load:
            for first, last in cut_blocks(index):
                yield load((name,), first, last)[name].reshape(-1), ends[first:last] - index.start[first] - 1


def _list_names(names: object) -> list[str]:
    """The names of axes in what LeRobot's tools write for them; empty where these are none.

    A list; groups of lists, such as the motors of each arm; or a number for each name, by which they are sorted.
    """
    if isinstance(names, list):
        return names if all(isinstance(name, str) for name in names) else []
    if not isinstance(names, dict):
        return []
    if all(type(place) is int for place in names.values()):
        inner = sorted(names, key=names.__getitem__)
        return inner if [names[name] for name in inner] == list(range(len(inner))) else []
    groups = {group: _list_names(inner) for group, inner in names.items()}
    found = [name for inner in groups.values() for name in inner] if all(groups.values()) else []
    if len(set(found)) < len(found):  # two arms with joints of the same names
        return [f"{group}_{name}" for group, inner in groups.items() for name in inner]
    return found
