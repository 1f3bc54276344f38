"""The videos of a LeRobotDataset: where that of each episode lies, and which frame each step shows.

Versions 2.0 and 2.1 have a file for each episode. Version 3 has many episodes in one file, and says where each begins.
A step shows the frame that is nearest to its time. The metadata name the files by a template, which leads to no file
but those below `videos`.
Legend: E episodes, T steps of one episode, F frames of one file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import SourceError, SpecError
from ..plain_files import is_hidden, list_plain_files, sort_naturally
from ..robots.spec import ImageSpec
from .arrow_columns import read_schema, read_table, typed_errors
from .disk_arrays import make_array, release
from .episode import Array
from .videos import PictureStream, Video, find_frames, survey_video

ROOT = "videos"
_TEMPLATE_2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_TEMPLATE_3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_FIELD = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")
_CHUNK_EPISODES = 1000
"""Of version 2, where the metadata say nothing else."""
_OFF_SECONDS = 1e-3
"""Distance of a frame from the time of its step above which it is said; writers round times to less."""
_HELD_BYTES = 2**25
"""Of pictures behind which the memory of those on the disk is let go."""
_REMEDY = "copy or download the data set again, or leave the camera out"


class Clip(NamedTuple):
    """The video of one episode."""

    path: Path
    begin: float
    """Of the episode in the file, seconds."""
    end: float | None
    """Of the episode in the file, seconds; None where it is the file's own."""


def find_clips(root: Path, info: Mapping[str, Any], camera: str, numbers: Sequence[int]) -> list[Clip]:
    """The video of each episode.

    Args:
        root: Of the data set.
        info: Its `info.json`.
        camera: Name of the feature.
        numbers: The episodes' own, E of them.

    Raises:
        SourceError: an episode has none.
    """
    there = {f"{ROOT}/{name}" for name in list_plain_files(root / ROOT, SourceError)} if (root / ROOT).is_dir() else ()
    shared, stated = info["codebase_version"] == "v3.0", info.get("video_path")
    template = stated if isinstance(stated, str) else _TEMPLATE_3 if shared else _TEMPLATE_2
    if shared:
        names = _find_shared(root, camera, template)
    else:
        size = info.get("chunks_size", _CHUNK_EPISODES)
        size = size if type(size) is int and size > 0 else _CHUNK_EPISODES
        places = {one: {"episode_chunk": one // size, "episode_index": one} for one in numbers}
        names = {one: (_fill(template, camera, place), 0.0, None) for one, place in places.items()}
    clips = []
    for number in numbers:
        if number not in names:
            raise SourceError(
                f"{root}: {camera}: expected the metadata to say where the video of episode {number} is, got nothing; "
                f"{_REMEDY}"
            )
        name, begin, end = names[number]
        if name not in there:
            raise SourceError(f"{root / name}: expected the video of episode {number}, got no file; {_REMEDY}")
        clips.append(Clip(root / name, begin, end))
    return clips


def _fill(template: str, camera: str, numbers: Mapping[str, int]) -> str:
    """The name of a file below the data set; what the template names and nobody knows stays as it is."""

    def find(match: re.Match[str]) -> str:
        name, digits = match.groups()
        if name in numbers:
            return f"{numbers[name]:0{digits or 0}d}"
        return camera if name == "video_key" else match[0]

    return _FIELD.sub(find, template)


def _find_shared(root: Path, camera: str, template: str) -> dict[int, tuple[str, float, float | None]]:
    """Of version 3: by episode, the file and where in it the episode begins and ends."""
    folder = root / "meta/episodes"
    found: dict[int, tuple[str, float, float | None]] = {}
    fields = [f"{ROOT}/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    files = list(list_plain_files(folder, SourceError)) if folder.is_dir() else []
    for file in (folder / name for name in sort_naturally(name for name in files if not is_hidden(name))):
        there = read_schema(file)[0].names
        missing = [name for name in ("episode_index", *fields) if name not in there]
        if missing:
            raise SourceError(f"{file}: expected the column {missing[0]}, got none; {_REMEDY}")
        table = read_table(file, ("episode_index", *fields))
        with typed_errors(file):
            rows = list(zip(*(table[name].to_pylist() for name in ("episode_index", *fields)), strict=True))
        for number, chunk, place, begin, end in rows:
            whole = all(type(one) is int and 0 <= one < 10**9 for one in (number, chunk, place))
            if not whole or type(begin) is not float or type(end) is not float or not 0 <= begin < end < 1e9:
                raise SourceError(
                    f"{file}: {camera}: expected numbers of a chunk and a file and a time from before a time to, got "
                    f"{chunk!r:.40}, {place!r:.40}, {begin!r:.40} and {end!r:.40}; {_REMEDY}"
                )
            found[number] = (_fill(template, camera, {"chunk_index": chunk, "file_index": place}), begin, end)
    return found


def describe_videos(root: Path, features: Mapping[str, Mapping[str, Any]], cameras: Sequence[str]) -> dict[str, str]:
    """What the metadata and the names of the files say of each camera; no video is opened."""
    there = list(list_plain_files(root / ROOT, SourceError)) if cameras and (root / ROOT).is_dir() else []
    found = {}
    for camera in cameras:
        files = [name for name in there if camera in name.split("/") and not is_hidden(name)]
        size = sum((root / ROOT / name).stat().st_size for name in files)
        found[camera] = f"video {features[camera].get('shape')!s:.40}, {len(files)} files of {size} bytes"
    return found


class Camera:
    """The pictures of one camera.

    Args:
        name: Of the feature.
        clips: The video of each episode, E of them.
        numbers: The episodes' own.
        times: When each step is, seconds from the start of its episode, E arrays of shape (T,).
        period: Seconds between two steps.
        shape: Height, width and channels to which pictures are scaled; None leaves them as they are.

    Raises:
        SourceError: a video is damaged, of another size than the first, smaller than the pictures that are asked for,
            or has no frame at the time of a step.
    """

    def __init__(
        self,
        name: str,
        clips: Sequence[Clip],
        numbers: Sequence[int],
        times: Sequence[npt.NDArray[np.float64]],
        period: float,
        shape: tuple[int, int, int] | None,
    ) -> None:
        self._name, self._clips, self._period = name, clips, period
        self._videos = {path: survey_video(path) for path in dict.fromkeys(clip.path for clip in clips)}
        self.shape = self._choose_shape(shape)
        self.on_disk = sum(path.stat().st_size for path in self._videos)
        """Bytes of its files."""
        self._frames: list[npt.NDArray[np.int32]] = []
        """Of each episode, the number in its file of the frame that each step shows, shape (T,)."""
        self.notes: list[str] = []
        """What a person should know of how steps and frames fit."""
        self._match(numbers, times)

    def describe(self) -> str:
        """What it shows, as a person reads it."""
        first, frames = self._first, sum(len(one.times) for one in self._videos.values())
        steps = sum(map(len, self._frames))
        return (
            f"video {first.height} x {first.width}, {first.codec}: {frames} frames in {len(self._videos)} files, one "
            f"for each of {steps} steps"
        )

    @contextmanager
    def playing(self) -> Iterator[Callable[[int, int], Array]]:
        """Pictures of the episodes [first, last), one behind the other; the newest file is kept open meanwhile."""
        stream: tuple[Path, PictureStream] | None = None

        def play(first: int, last: int) -> Array:
            nonlocal stream
            pictures = make_array((sum(map(len, self._frames[first:last])), *self.shape), np.uint8)
            often, row = max(1, _HELD_BYTES // math.prod(self.shape)), 0
            for clip, frames in zip(self._clips[first:last], self._frames[first:last], strict=True):
                if stream is None or stream[0] != clip.path:
                    if stream is not None:
                        stream[1].close()
                    stream = (clip.path, PictureStream(self._videos[clip.path], self.shape))
                for picture in stream[1].play(frames):
                    pictures[row] = picture
                    row += 1
                    if row % often == 0:
                        release(pictures)
            release(pictures)
            return pictures

        try:
            yield play
        finally:
            if stream is not None:
                stream[1].close()

    @property
    def _first(self) -> Video:
        return next(iter(self._videos.values()))

    def _choose_shape(self, wanted: tuple[int, int, int] | None) -> tuple[int, int, int]:
        first = self._first
        for path, video in self._videos.items():
            if (video.height, video.width) != (first.height, first.width):
                raise SourceError(
                    f"{path}: expected pictures of {first.height} x {first.width} as in {first.path}, got "
                    f"{video.height} x {video.width}; leave the camera out"
                )
        shape = (first.height, first.width, 3) if wanted is None else wanted
        if shape[0] > first.height or shape[1] > first.width:
            raise SourceError(
                f"{first.path}: expected pictures of at least {shape[0]} x {shape[1]}, got {first.height} x "
                f"{first.width}; ask for smaller ones with --picture-size"
            )
        if shape[2] not in (1, 3):
            raise SourceError(f"{first.path}: expected a camera with 1 or 3 channels, got {shape[2]}; leave it out")
        try:
            return ImageSpec(*shape).shape
        except SpecError as error:
            raise SourceError(f"{first.path}: {error}, with --picture-size") from error

    def _match(self, numbers: Sequence[int], times: Sequence[npt.NDArray[np.float64]]) -> None:
        """Finds the frame of each step.

        Raises:
            SourceError: a step has none.
        """
        shown = {path: np.zeros(len(video.times), np.bool_) for path, video in self._videos.items()}
        off = again = wrong = steps = 0
        furthest = 0.0
        for clip, number, episode in zip(self._clips, numbers, times, strict=True):
            video, wanted = self._videos[clip.path], clip.begin + episode
            frames = find_frames(video, wanted)
            distance = np.abs(video.times[frames] - wanted)
            missing = np.flatnonzero(distance > self._period / 2)
            if len(missing):
                raise SourceError(
                    f"{clip.path}: {self._name}: episode {number}: expected a frame at the time of every step, got "
                    f"none for {len(missing)} of {len(wanted)} steps, first step {missing[0]} at "
                    f"{wanted[missing[0]]:g} s, in a video from {video.times[0]:g} to {video.times[-1]:g} s; {_REMEDY}"
                )
            off, furthest = off + int((distance > _OFF_SECONDS).sum()), max(furthest, float(distance.max()))
            again += int((np.diff(frames) == 0).sum())
            wrong += clip.end is not None and abs(clip.end - clip.begin - len(wanted) * self._period) > self._period / 2
            steps += len(wanted)
            shown[clip.path][frames] = True
            self._frames.append(frames.astype(np.int32))
        unused = sum(int((~one).sum()) for one in shown.values())
        said = (
            (off, f"{off} of {steps} steps show a frame of another time, at most {furthest * 1e3:.3g} ms away"),
            (again, f"{again} of {steps} steps show the frame of the step before"),
            (wrong, f"the metadata give another length to the videos of {wrong} of {len(numbers)} episodes"),
            (unused, f"{unused} frames of the videos belong to no step"),
        )
        self.notes += [f"{self._name}: {text}" for count, text in said if count]
