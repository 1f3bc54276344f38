"""Pictures that lie in a column as files, PNG or JPEG, one for each step, decoded with Pillow (extra `video`).

The header of each says its size, which is compared before a picture is decoded.
Legend: E episodes, T steps of one episode.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError, SpecError, describe_error
from ..robots.spec import ImageSpec, RobotSpec
from .disk_arrays import make_array, release
from .episode import Array
from .videos import MOST_SIDE

ENCODED = "a picture file per step"
"""What such a column is, see `Column.encoded`."""
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""First bytes of the files that are read, PNG and JPEG."""
_FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB"}
"""What Pillow calls pictures of 8 bits, by number of channels."""
_HELD_BYTES = 2**25
"""Of pictures behind which the memory of those on the disk is let go."""
_REMEDY = "write it as PNG or JPEG of 8 bits, or leave the camera out"


def find_shape(robot: RobotSpec | None) -> tuple[int, int, int] | None:
    """Of the pictures that a robot's camera shows; None where nobody knows."""
    return None if robot is None or robot.image is None else robot.image.shape


class PictureFiles:
    """The pictures of one camera, each of which is a file of its own.

    Args:
        where: Of the source and the camera, for messages.
        load: The files of the episodes [first, last), one behind the other, T of each.
        lengths: T of each episode, shape (E,).
        shape: Height, width and channels to which pictures are scaled; None leaves them as they are.

    Raises:
        SourceError: the first picture is none, or smaller than what is asked for.
    """

    notes: tuple[str, ...] = ()
    """What a person should know of how steps and pictures fit: each step has its own."""

    def __init__(
        self,
        where: str,
        load: Callable[[int, int], Iterator[bytes]],
        lengths: npt.NDArray[np.int64],
        shape: tuple[int, int, int] | None,
    ) -> None:
        self._where, self._load, self._lengths = where, load, lengths
        with self._opening(next(load(0, 1)), 0, 0) as first:
            (self._width, self._height), self._format = first.size, first.format
            channels = 1 if first.mode == "L" else 3
        self.shape = self._choose_shape((self._height, self._width, channels) if shape is None else shape)

    def describe(self) -> str:
        """What it shows, as a person reads it."""
        return f"pictures {self._height} x {self._width}, {self._format}: one for each of {self._lengths.sum()} steps"

    @contextmanager
    def playing(self) -> Iterator[Callable[[int, int], Array]]:
        """Pictures of the episodes [first, last), one behind the other."""

        def play(first: int, last: int) -> Array:
            pictures = make_array((int(self._lengths[first:last].sum()), *self.shape), np.uint8)
            often, row = max(1, _HELD_BYTES // math.prod(self.shape)), 0
            files = self._load(first, last)
            for episode in range(first, last):
                for step in range(int(self._lengths[episode])):
                    pictures[row] = self._decode(next(files), episode, step)
                    row += 1
                    if row % often == 0:
                        release(pictures)
            release(pictures)
            return pictures

        yield play

    def _choose_shape(self, wanted: Sequence[int]) -> tuple[int, int, int]:
        height, width, channels = wanted
        if height > self._height or width > self._width:
            raise SourceError(
                f"{self._where}: expected pictures of at least {height} x {width}, got {self._height} x {self._width}; "
                "ask for smaller ones with --picture-size"
            )
        if channels not in _MODES:
            raise SourceError(f"{self._where}: expected a camera with 1 or 3 channels, got {channels}; leave it out")
        try:
            return ImageSpec(height, width, channels).shape
        except SpecError as error:
            raise SourceError(f"{self._where}: {error}, with --picture-size") from error

    def _decode(self, data: bytes, episode: int, step: int) -> npt.NDArray[np.uint8]:
        from PIL import Image

        height, width, channels = self.shape
        with self._opening(data, episode, step) as picture:
            if picture.size != (self._width, self._height):
                raise SourceError(
                    f"{self._name(episode, step)}: expected {self._height} x {self._width} pixels as in the first one, "
                    f"got {picture.height} x {picture.width}; leave the camera out"
                )
            seen = picture.convert(_MODES[channels])
            if seen.size != (width, height):
                seen = seen.resize((width, height), Image.Resampling.BOX)  # the mean of the area
            return np.asarray(seen, np.uint8).reshape(self.shape)

    @contextmanager
    def _opening(self, data: bytes, episode: int, step: int) -> Iterator[Any]:
        """A picture whose header was read.

        Raises:
            SourceError: it is none, too large, of more than 8 bits or with transparency, or damaged.
        """
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(BytesIO(data), formats=_FORMATS) as picture:
                    if max(picture.size) > MOST_SIDE or picture.mode not in _MODES.values():
                        raise SourceError(
                            f"{self._name(episode, step)}: expected grey or red, green and blue of 8 bits, at most "
                            f"{MOST_SIDE} pixels a side, got mode {picture.mode}, {picture.height} x {picture.width}; "
                            f"{_REMEDY}"
                        )
                    yield picture
        except SourceError:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
            raise SourceError(
                f"{self._name(episode, step)}: expected a whole picture, got one that cannot be decoded "
                f"({describe_error(error)}); {_REMEDY}"
            ) from error

    def _name(self, episode: int, step: int) -> str:
        return f"{self._where}: episode {episode}, step {step}"
