"""Pictures of video files, found by their times, with the libraries of FFmpeg through PyAV (extra `video`).

The file is read as the container that its first bytes say, from an open file alone, so that a text in its place, which
would name other files or addresses, is no video. Videos have no checksum: a decoder finds most damage, not all of it.
Legend: F frames of one video in the order in which they are shown, K times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError, SuppleError, describe_error
from .containers import CONTAINERS, find_container
from .source_files import FREE_BYTES

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FORMATS = {"mp4": "mp4", "matroska": "matroska", "avi": "avi"}
"""What FFmpeg calls the containers that are read."""
_COLOURS = {1: "gray", 3: "rgb24"}
"""By number of channels."""
MOST_SIDE = 8192
"""Pixels of the longer side of a video."""
MOST_VIDEO_EXPANSION = 2000
"""Largest ratio of the bytes of the wanted pictures to those of the videos: a camera that stands still shows ten or a
hundred times as much as it takes, and a moving one less."""
_FAR = 64
"""Frames that are rather decoded than jumped over."""
_REMEDY = "copy or download it again, or leave the camera out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """What is in a video file, known before a picture of it is decoded."""

    path: Path
    height: int
    width: int
    codec: str
    stamps: npt.NDArray[np.int64]
    """When each frame is shown, in the file's own unit, shape (F,), rising; F > 0."""
    times: npt.NDArray[np.float64]
    """The same in seconds."""


def survey_video(path: Path) -> Video:
    """Reads the header of a video and the times of its frames, and decodes none.

    Raises:
        SourceError: it is no video, a damaged one, or one that is too large.
    """
    with _opening(path) as (container, stream), _typed_errors(path):
        packets = container.demux(stream)
        stamps = np.array([_take_stamp(path, one.pts) for one in packets if one.size and not one.is_discard], np.int64)
        stamps.sort()
        if not len(stamps) or (np.diff(stamps) <= 0).any():
            got = "none" if not len(stamps) else "two at one time"
            raise SourceError(f"{path}: expected frames one after the other, got {got}; {_REMEDY}")
        scale = stream.time_base
        assert scale is not None, "a stream whose packets have times"
        return Video(
            path=path,
            height=stream.codec_context.height,
            width=stream.codec_context.width,
            codec=stream.codec_context.name,
            stamps=stamps,
            times=np.asarray(stamps * float(scale), np.float64),
        )


def find_frames(video: Video, wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The numbers of the frames that are next to some times.

    Args:
        video: F frames.
        wanted: Seconds, shape (K,).

    Returns:
        0 .. F - 1, shape (K,).
    """
    behind = np.clip(np.searchsorted(video.times, wanted), 1, max(len(video.times) - 1, 1))
    before = behind - 1
    behind = np.minimum(behind, len(video.times) - 1)
    nearer = np.abs(video.times[behind] - wanted) < np.abs(video.times[before] - wanted)
    return np.where(nearer, behind, before)


def require_picture_budget(decoded: int, on_disk: int, where: object) -> None:
    """Refuses pictures that take far more room than their videos, before any is decoded.

    Raises:
        SourceError: with both sizes and the limit.
    """
    most = FREE_BYTES + MOST_VIDEO_EXPANSION * on_disk
    if decoded > most:
        raise SourceError(
            f"{where}: expected at most {most} bytes of pictures from {on_disk} bytes of video "
            f"({MOST_VIDEO_EXPANSION} times, and {FREE_BYTES}), got {decoded}; ask for smaller ones with --picture-size"
        )


class PictureStream:
    """Pictures of one video, scaled down: who goes forward never decodes a frame twice.

    Args:
        video: The file.
        shape: Height, width and channels of the pictures, 1 or 3; no side is longer than that of the video.
    """

    def __init__(self, video: Video, shape: tuple[int, int, int]) -> None:
        self._video, self._shape = video, shape
        self._open = ExitStack()
        self._frames: Iterator[Any] | None = None
        self._number = -1
        self._picture: npt.NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def play(self, numbers: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint8]]:
        """The pictures of frames by their numbers, each of this shape and valid until the next.

        Raises:
            SourceError: a frame is missing or damaged.
        """
        for number in numbers.tolist():
            if number != self._number:
                self._picture, self._number = self._decode(number), number
            yield self._picture

    def close(self) -> None:
        """Closes the file; the next picture opens it again."""
        self._open.close()
        self._frames, self._number = None, -1

    def _decode(self, number: int) -> npt.NDArray[np.uint8]:
        path, stamp = self._video.path, int(self._video.stamps[number])
        if self._frames is None or not 0 < number - self._number <= _FAR:
            self._jump(number)
        assert self._frames is not None, "opened by the jump"
        with _typed_errors(path):
            for frame in self._frames:
                if frame.pts == stamp:
                    if frame.is_corrupt or (frame.height, frame.width) != (self._video.height, self._video.width):
                        break
                    height, width, channels = self._shape
                    scaled = frame.reformat(width, height, _COLOURS[channels], interpolation="AREA")
                    return np.asarray(scaled.to_ndarray(), np.uint8).reshape(self._shape)
                if frame.pts is None or frame.pts > stamp:
                    break
        raise SourceError(
            f"{path}: expected a whole picture at {self._video.times[number]:g} s, got a damaged one or none; {_REMEDY}"
        )

    def _jump(self, number: int) -> None:
        """Opens the file in front of a frame."""
        self.close()
        container, stream = self._open.enter_context(_opening(self._video.path))
        with _typed_errors(self._video.path):
            if number:
                container.seek(int(self._video.stamps[number]), stream=stream)
            self._frames = container.decode(stream)


def _take_stamp(path: Path, stamp: int | None) -> int:
    if stamp is None:
        raise SourceError(f"{path}: expected a time for every frame, got none; write it as MP4")
    return stamp


@contextmanager
def _opening(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the one video in it; where a decoder finds damage, it gives up instead of drawing over it.

    Raises:
        SourceError: it is no video, a damaged one, or one that is too large.
    """
    import av

    kind = find_container(path)
    if kind not in _FORMATS:
        raise SourceError(f"{path}: expected a video in MP4, Matroska, WebM or AVI, got {CONTAINERS[kind]}; {_REMEDY}")
    with ExitStack() as stack:
        with _typed_errors(path):
            file = stack.enter_context(path.open("rb"))
            container: InputContainer = stack.enter_context(av.open(file, "r", format=_FORMATS[kind]))
        streams = container.streams.video
        if len(streams) != 1 or streams[0].codec_context is None or streams[0].time_base is None:
            got = f"{len(streams)} of them" if len(streams) != 1 else "one of an unknown kind"
            raise SourceError(f"{path}: expected one video that can be decoded, got {got}; {_REMEDY}")
        height, width = streams[0].codec_context.height, streams[0].codec_context.width
        if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE):
            raise SourceError(f"{path}: expected 1 to {MOST_SIDE} pixels a side, got {height} x {width}; scale it down")
        # a decoder takes what the frames say, which may be another size; it pads to its blocks
        options = {"err_detect": "explode", "max_pixels": str((height + 256) * (width + 256))}
        streams[0].codec_context.options = options
        yield container, streams[0]


@contextmanager
def _typed_errors(path: Path) -> Iterator[None]:
    """Turns what the library raises into one line; caught only around calls into it.

    Raises:
        SourceError: the video is damaged, or cannot be read.
    """
    import av

    try:
        yield
    except SuppleError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError, UnicodeError) as error:
        raise SourceError(
            f"{path}: expected a video that can be decoded, got a damaged one ({describe_error(error)}); {_REMEDY}"
        ) from error
