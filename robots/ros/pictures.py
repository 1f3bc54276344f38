"""Pictures in messages of ROS: raw or compressed ones become bytes of red, green and blue, or of grey, scaled down.

The libraries of FFmpeg know the encodings and scale, through PyAV (extra `camera`). A picture is taken whole: what
cuts a part out of it is a node of its own, for the data as for the robot. Depth is no picture: its metres do not fit
into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...bounds import Bounded, Positive, require_bounds
from ...errors import ConfigError, describe_error

if TYPE_CHECKING:
    from av import VideoFrame

RAW: Final = "sensor_msgs/msg/Image"
COMPRESSED: Final = "sensor_msgs/msg/CompressedImage"
KINDS: Final = (RAW, COMPRESSED)
"""Types of messages that are pictures."""
MOST_SIDE: Final = 8192
"""Pixels of the longer side of a picture."""
_FORMATS: Final = {
    "rgb8": ("rgb24", 3),
    "bgr8": ("bgr24", 3),
    "rgba8": ("rgba", 4),
    "bgra8": ("bgra", 4),
    "mono8": ("gray", 1),
    "mono16": ("gray16", 2),
    "rgb16": ("rgb48", 6),
    "bgr16": ("bgr48", 6),
    "rgba16": ("rgba64", 8),
    "bgra16": ("bgra64", 8),
    "8UC1": ("gray", 1),
    "8UC3": ("bgr24", 3),
    "8UC4": ("bgra", 4),
    "yuv422": ("uyvy422", 2),
    "uyvy": ("uyvy422", 2),
    "yuv422_yuy2": ("yuyv422", 2),
    "yuyv": ("yuyv422", 2),
    "bayer_rggb8": ("bayer_rggb8", 1),
    "bayer_bggr8": ("bayer_bggr8", 1),
    "bayer_gbrg8": ("bayer_gbrg8", 1),
    "bayer_grbg8": ("bayer_grbg8", 1),
}
"""What FFmpeg calls the encodings of `sensor_msgs/image_encodings.hpp`, and the bytes of a pixel."""
_WIDE: Final = ("gray16", "rgb48", "bgr48", "rgba64", "bgra64")
"""Formats whose numbers have two bytes, in either order."""
_CODECS: Final = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG\r\n\x1a\n": "png"}
"""By the first bytes of a compressed picture."""
_DEEP: Final = ("gray16be", "ya16be")
"""Formats of a PNG of 16 bits that is grey or depth."""
_COLOURS: Final = {1: "gray", 3: "rgb24"}
"""By number of channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RosCamera(Bounded):
    """The camera of a robot of ROS 2, whose contract has the size of the picture.

    Raises:
        ConfigError: A setting is out of bounds.
    """

    topic: str
    """Such as `/camera/image_raw`."""
    compressed: bool = False
    """Whether it is a `CompressedImage` (JPEG or PNG), not an `Image`."""
    max_age: Positive = 0.5
    """Seconds after which a picture is no longer taken for the present, and the robot is stopped."""
    stamped: bool = True
    """Whether messages have the time of the picture in their header. Without it, ages count from the moment at which a
    message was published, as the transport says."""

    def __post_init__(self) -> None:
        require_bounds(self)

    @property
    def type(self) -> str:
        """Type of its topic."""
        return COMPRESSED if self.compressed else RAW


class PictureError(ValueError):
    """A message holds no picture, a damaged one, or one of another kind; its text is `expected ..., got ...`."""


class PictureDecoder:
    """The pictures of one topic, scaled down, each pixel the mean of its area.

    Args:
        shape: Height, width and channels of the pictures, 1 or 3.

    Raises:
        ConfigError: The library is missing, or there are other channels than 1 or 3.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        try:
            import av
        except ImportError as error:
            raise ConfigError(
                f"pictures: expected the library {error.name}, got none; install it with: pip install 'supple[camera]'"
            ) from error
        if shape[2] not in _COLOURS:
            raise ConfigError(f"pictures: expected 1 or 3 channels, got {shape[2]}; a camera of ROS shows no others")
        self._av, self._shape = av, shape
        self._size: tuple[int, int] | None = None

    def decode(self, message: Any) -> NDArray[np.uint8]:
        """The picture in a message of the type `RAW` or `COMPRESSED`, uint8 (height, width, channels).

        Raises:
            PictureError: There is none, it is damaged, smaller than asked for, or of another size than the first one.
        """
        try:
            frame = self._read_raw(message) if hasattr(message, "encoding") else self._read_compressed(message)
            self._require_size((frame.height, frame.width))
            if (frame.format.name or "").startswith("bayer"):
                frame = frame.reformat(format="rgb24")
            height, width, channels = self._shape
            scaled = frame.reformat(width, height, _COLOURS[channels], interpolation="AREA")
            return np.asarray(scaled.to_ndarray(), np.uint8).reshape(self._shape)
        except (self._av.FFmpegError, IndexError) as error:
            raise PictureError(f"expected a whole picture, got a damaged one ({describe_error(error)})") from error

    def _read_raw(self, message: Any) -> VideoFrame:
        if message.encoding not in _FORMATS:
            raise PictureError(
                f"expected pictures in one of {', '.join(_FORMATS)}, got {message.encoding!r:.40}, which is no colour"
            )
        name, pixel = _FORMATS[message.encoding]
        height, width, step = int(message.height), int(message.width), int(message.step)
        row = pixel * width
        if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE):
            raise PictureError(f"expected 1 to {MOST_SIDE} pixels a side, got {height} x {width}")
        if name.startswith("bayer") and (height % 2 or width % 2):  # FFmpeg ends the process for an odd height
            raise PictureError(
                f"expected an even number of pixels a side in {message.encoding}, got {height} x {width}"
            )
        if step < row or len(message.data) < step * (height - 1) + row:
            raise PictureError(
                f"expected {height} rows of {row} bytes or more, got {len(message.data)} bytes in rows of {step}"
            )
        if name in _WIDE:
            name += "be" if message.is_bigendian else "le"
        frame = self._av.VideoFrame(width, height, name)
        plane: Any = frame.planes[0]
        target = np.frombuffer(plane, np.uint8)[: height * plane.line_size].reshape(height, -1)
        target[:, :row] = as_strided(np.frombuffer(message.data, np.uint8), (height, row), (step, 1))
        return frame

    def _read_compressed(self, message: Any) -> VideoFrame:
        data = bytes(message.data)
        codec = next((name for start, name in _CODECS.items() if data.startswith(start)), None)
        encoding, _, transport = message.format.partition(";")  # "16UC1; compressedDepth png", or "jpeg" alone
        if codec is None or (transport and encoding.strip() not in _FORMATS) or "compressedDepth" in transport:
            raise PictureError(f"expected a picture as JPEG or PNG, got {len(data)} bytes of {message.format!r:.40}")
        decoder: Any = self._av.CodecContext.create(codec, "r")
        decoder.options = {"err_detect": "crccheck+explode", "max_pixels": str(MOST_SIDE**2)}
        frames = decoder.decode(self._av.Packet(data)) or decoder.decode(None)
        if len(frames) != 1 or frames[0].is_corrupt:
            raise PictureError(f"expected a whole picture, got {len(frames)} of them, or a damaged one")
        frame: VideoFrame = frames[0]
        if not transport and frame.format.name in _DEEP:
            raise PictureError(
                f"expected a PNG of 16 bits whose message names its encoding (mono16; png compressed), got "
                f"{message.format!r:.40}, which may be depth"
            )
        return frame

    def _require_size(self, size: tuple[int, int]) -> None:
        height, width, _ = self._shape
        if size[0] < height or size[1] < width:
            raise PictureError(f"expected pictures of {height} x {width} or larger, got {size[0]} x {size[1]}")
        if self._size is None:
            self._size = size
        if size != self._size:
            raise PictureError(
                f"expected pictures of {self._size[0]} x {self._size[1]} as the first one, got {size[0]} x {size[1]}"
            )
