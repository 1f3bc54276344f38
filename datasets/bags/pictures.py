"""Pictures of a topic: each message is decoded and scaled down once, and waits on the disk where there are many.

To all else a picture is a number, that of its message: it is held, grows old and is cut as any measurement.
Legend: n messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ...robots.ros.pictures import KINDS, PictureDecoder, PictureError
from ..disk_arrays import Column
from .mapping import TopicClock
from .recording import Topic
from .series import Request, TopicReader

Array = npt.NDArray[Any]


class PictureReader(TopicReader):
    """A `TopicReader` whose requests may be pictures: their column holds the number of the picture in `pictures`.

    Raises:
        SourceError: the topic holds no pictures.
        ConfigError: the library that decodes them is missing.
    """

    def __init__(self, topic: Topic, clock: TopicClock, requests: Sequence[Request], where: str) -> None:
        super().__init__(topic, clock, requests, where)
        if topic.type not in KINDS:
            raise SourceError(
                f"{where}: topic {topic.name}: expected pictures ({' or '.join(KINDS)}), got {topic.type}; correct "
                "[[picture]] in the mapping"
            )
        shapes = {request: request.picture for request in requests if request.picture is not None}
        self._decoders = {request: PictureDecoder(shape) for request, shape in shapes.items()}
        self._shown = {request: Column("uint8", math.prod(shape)) for request, shape in shapes.items()}
        self._numbers = dict.fromkeys(shapes, 0)

    def finish_pictures(self) -> dict[Request, npt.NDArray[np.uint8]]:
        """The pictures of each request by their numbers, (n, height, width, channels); called once, behind `line`."""
        return {
            request: column.finish().reshape(-1, *(request.picture or ())) for request, column in self._shown.items()
        }

    def _pays(self) -> bool:
        return False  # each picture is decoded by itself

    def _read_ragged(
        self, part: npt.NDArray[np.intp], payloads: Sequence[bytes], time: Array, columns: Sequence[Array]
    ) -> npt.NDArray[np.intp]:
        return part

    def _decode_one(self, row: int, payload: bytes, time: Array, columns: list[Array]) -> bool:
        try:
            return super()._decode_one(row, payload, time, columns)
        except PictureError as error:
            self._error = self._error or str(error)
            return False

    def _fill_one(self, message: Any, request: Request, column: Array, row: int) -> tuple[list[int], list[int]]:
        if request not in self._decoders:
            return super()._fill_one(message, request, column, row)
        self._shown[request].append(self._decoders[request].decode(message)[None])
        column[row, 0] = self._numbers[request]
        self._numbers[request] += 1
        return [0], []
