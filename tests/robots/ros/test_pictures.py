"""Pictures of ROS: every encoding, damage, and a driver that shows the newest one or stops."""

import io
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supple.errors import ConfigError, RobotFault, SpecError
from supple.pipeline.deploy import checks
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.driver import RosDriver, pay_nothing, stop_ros_robot, survey
from supple.robots.ros.messages import encode, limit_bytes, load_types
from supple.robots.ros.pictures import COMPRESSED, RAW, PictureDecoder, PictureError, RosCamera
from supple.robots.ros.transport import OpensTransport, Sample
from supple.robots.ros.zenoh import Zenoh
from supple.robots.spec import ImageSpec
from tests.robots.ros.test_driver import WORKER, find_port
from tests.robots.ros.test_ros_robot import SPEC, Memory, make_robot

HEIGHT, WIDTH = 10, 16
SHAPE = (HEIGHT, WIDTH, 3)
PICTURE = np.zeros(SHAPE, np.uint8)
PICTURE[:, :8], PICTURE[:, 8:] = (250, 120, 30), (10, 60, 200)
SEES = replace(SPEC, image=ImageSpec(*SHAPE))


@dataclass
class Raw:
    """The fields of an `Image`."""

    encoding: str
    data: np.ndarray
    step: int = 0
    height: int = HEIGHT
    width: int = WIDTH
    is_bigendian: int = 0

    def __post_init__(self) -> None:
        self.step = self.step or self.data.size // HEIGHT
        self.data = self.data.ravel()


@dataclass
class Packed:
    """The fields of a `CompressedImage`."""

    data: bytes
    format: str = ""


def widen(picture: np.ndarray, order: str) -> np.ndarray:
    """The bytes of numbers of 16 bits that are as bright."""
    return (picture.astype(np.uint16) * 257).astype(f"{order}u2").view(np.uint8)


def pad(picture: np.ndarray) -> np.ndarray:
    """Rows with ten bytes more."""
    rows = picture.reshape(HEIGHT, -1)
    return np.concatenate([rows, np.full((HEIGHT, 10), 77, np.uint8)], axis=1)


def pack(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


OPAQUE = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
DEPTH = np.full((HEIGHT, WIDTH), 1500, np.uint16)
BGR = np.ascontiguousarray(PICTURE[..., ::-1])
EQUAL = {
    "rgb8": Raw("rgb8", PICTURE),
    "padded": Raw("rgb8", pad(PICTURE), 3 * WIDTH + 10),
    "bgr8": Raw("bgr8", BGR),
    "8UC3": Raw("8UC3", BGR),
    "rgba8": Raw("rgba8", np.concatenate([PICTURE, OPAQUE], 2)),
    "bgra8": Raw("bgra8", np.concatenate([BGR, OPAQUE], 2)),
    "rgb16": Raw("rgb16", widen(PICTURE, "<")),
    "bgr16, big endian": Raw("bgr16", widen(BGR, ">"), is_bigendian=1),
    "png": Packed(pack(PICTURE, "PNG"), "rgb8; png compressed bgr8"),
    "png with alpha": Packed(pack(np.concatenate([PICTURE, OPAQUE], 2), "PNG"), "rgba8; png compressed"),
    "jpeg": Packed(pack(PICTURE, "JPEG", quality=98, subsampling=0), "bgr8; jpeg compressed bgr8"),
}


@pytest.mark.parametrize("name", EQUAL)
def test_colours_are_those_of_the_camera_in_every_encoding(name: str) -> None:
    seen = PictureDecoder(SHAPE).decode(EQUAL[name])
    assert (seen.shape, seen.dtype) == (SHAPE, np.uint8)
    assert np.abs(seen.astype(int) - PICTURE).max() <= (4 if name == "jpeg" else 1)


@pytest.mark.parametrize("big", [False, True])
def test_grey_pictures_of_8_and_16_bits(big: bool) -> None:
    grey = np.tile(np.arange(WIDTH, dtype=np.uint8) * 16, (HEIGHT, 1))
    for message in (
        Raw("mono8", grey),
        Raw("8UC1", grey),
        Raw("mono16", widen(grey, "<>"[big]), is_bigendian=int(big)),
        Packed(pack(grey, "PNG"), "png"),
        Packed(pack(grey.astype(np.uint16) * 257, "PNG"), "mono16; png compressed "),
    ):
        seen = PictureDecoder((HEIGHT, WIDTH, 1)).decode(message)
        assert np.abs(seen[..., 0].astype(int) - grey).max() <= 1
    assert np.abs(PictureDecoder(SHAPE).decode(Raw("mono8", grey)).astype(int) - grey[..., None]).max() <= 1


@pytest.mark.parametrize("order", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
def test_pictures_of_brightness_and_half_as_much_colour(order: str) -> None:
    first = order in ("uyvy", "yuv422")
    data = np.full((HEIGHT, 2 * WIDTH), 128, np.uint8)  # no colour
    data[:, first::2] = np.where(np.arange(WIDTH) < 8, 16, 235)  # black, then white
    seen = PictureDecoder(SHAPE).decode(Raw(order, data))
    assert seen[:, :7].max() <= 3
    assert seen[:, 9:].min() >= 252


@pytest.mark.parametrize(("order", "place"), [("rggb", (0, 0)), ("bggr", (1, 1)), ("grbg", (0, 1)), ("gbrg", (1, 0))])
def test_pictures_behind_a_colour_filter(order: str, place: tuple[int, int]) -> None:
    data = np.zeros((HEIGHT, WIDTH), np.uint8)
    data[place[0] :: 2, place[1] :: 2] = 200  # the red pixels
    seen = PictureDecoder(SHAPE).decode(Raw(f"bayer_{order}8", data))[2:-2, 2:-2].astype(int)
    assert seen[..., 0].min() >= 190
    assert seen[..., 1:].max() <= 10


def test_each_pixel_is_the_mean_of_its_area() -> None:
    fine = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    seen = PictureDecoder((8, 12, 3)).decode(Raw("rgb8", fine, 144, 32, 48))
    assert np.abs(seen - fine.reshape(8, 4, 12, 4, 3).mean((1, 3))).max() <= 1.0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Raw("16UC1", widen(OPAQUE, "<")), "got '16UC1', which is no colour"),
        (Raw("", PICTURE), "got '', which is no colour"),
        (Raw("rgb8", PICTURE, 12), "expected 10 rows of 48 bytes or more, got 480 bytes in rows of 12"),
        (Raw("rgb8", PICTURE[:9]), "expected 10 rows of 48 bytes or more"),
        (
            Raw("bayer_rggb8", PICTURE[:9, :, 0], 16, 9),
            "expected an even number of pixels a side in bayer_rggb8, got 9 x 16",
        ),
        (Raw("rgb8", PICTURE, 48, 0), "expected 1 to 8192 pixels a side, got 0 x 16"),
        (Raw("rgb8", PICTURE, 48, 10, 1 << 20), "expected 1 to 8192 pixels a side"),
        (Raw("rgb8", PICTURE, 48, 5), "expected pictures of 10 x 16 or larger, got 5 x 16"),
        (Packed(b"GIF89a"), "expected a picture as JPEG or PNG, got 6 bytes"),
        (Packed(b""), "expected a picture as JPEG or PNG, got 0 bytes"),
        (Packed(pack(PICTURE, "PNG"), "16UC1; compressedDepth png"), "'16UC1; compressedDepth png'"),
        (Packed(pack(PICTURE, "PNG"), "16UC1; png compressed "), "'16UC1; png compressed '"),
        (
            Packed(pack(DEPTH, "PNG"), "png"),
            "expected a PNG of 16 bits whose message names .*, got 'png', which may be depth",
        ),
        (Packed(pack(DEPTH, "PNG"), "16UC1"), "got '16UC1', which may be depth"),
        (Packed(pack(PICTURE, "PNG")[:60]), "damaged"),
        (Packed(pack(np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8), "JPEG")[:300]), "damaged"),
    ],
)
def test_what_is_no_picture_is_told(message: Any, expected: str) -> None:
    with pytest.raises(PictureError, match=expected):
        PictureDecoder(SHAPE).decode(message)


def test_a_byte_that_was_changed_on_its_way_is_found_in_a_png() -> None:
    whole = pack(np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8), "PNG")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    with pytest.raises(PictureError, match="damaged"):
        PictureDecoder(SHAPE).decode(Packed(bytes(damaged)))


def test_a_camera_that_changes_its_size_is_told() -> None:
    decoder = PictureDecoder((8, 8, 3))
    decoder.decode(Raw("rgb8", PICTURE))
    with pytest.raises(PictureError, match="expected pictures of 10 x 16 as the first one, got 10 x 8"):
        decoder.decode(Raw("rgb8", PICTURE[:, :8], 24, 10, 8))


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"expected the library av, got none; .*'supple\[camera\]'"):
        PictureDecoder(SHAPE)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="expected 1 or 3 channels, got 4"):
        PictureDecoder((8, 8, 4))


# The driver


def encode_raw(picture: np.ndarray, stamp_ns: int) -> bytes:
    types = load_types().types
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    message = types[RAW](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
        height=picture.shape[0],
        width=picture.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * picture.shape[1],
        data=picture.ravel(),
    )
    return encode(RAW, message)


@dataclass(frozen=True)
class Filmed(Memory):
    """A `Memory` with a camera, whose pictures are as bright as it is told."""

    shots: list[tuple[int, float]] = field(default_factory=list)
    """Brightness and age, seconds, of the pictures that wait."""

    def take(self, topic: str) -> list[Sample]:
        if topic != "/camera":
            return super().take(topic)
        now, shots = time.time_ns(), list(self.shots)
        self.shots.clear()
        return [
            Sample(encode_raw(np.full(SHAPE, light, np.uint8), now - round(age * 1e9)), now) for light, age in shots
        ]


def connect(memory: Memory, **camera: Any) -> RosDriver:
    return RosDriver(make_robot(memory, contract=SEES, camera=RosCamera(topic="/camera", **camera)), pay_nothing)


ROW = np.arange(1)


def test_the_driver_shows_the_newest_picture() -> None:
    memory = Filmed(shots=[(5, 0.1)])
    driver = connect(memory)
    assert driver.take_images(ROW).shape == (1, *SHAPE)
    memory.shots[:] = [(50, 0.06), (70, 0.05)]
    driver.reset(np.zeros(1, np.float32), np.random.default_rng(0))
    assert (driver.take_images(ROW) == 70).all()
    memory.shots[:] = [(60, 0.3)]  # it was overtaken
    assert (driver.take_images(ROW) == 70).all()
    driver.close()
    with pytest.raises(RobotFault):
        driver.take_images(ROW)


@pytest.mark.parametrize("stamped", [True, False])
def test_a_camera_that_falls_silent_or_tells_the_future_stops_the_robot(stamped: bool) -> None:
    memory = Filmed(shots=[(5, 3.0)])
    driver = connect(memory, stamped=stamped)
    if stamped:
        with pytest.raises(RobotFault, match=r"expected a picture of at most 0\.5 s on /camera, got one of 3"):
            driver.take_images(ROW)
        memory.shots[:] = [(5, -2.0)]
        with pytest.raises(RobotFault, match="topic /camera: expected a stamp of the past"):
            driver.read()
    else:
        assert (driver.take_images(ROW) == 5).all()  # it has just come


def test_a_message_that_is_no_picture_stops_the_robot() -> None:
    memory = Filmed(shots=[(5, 0.0)])
    driver = connect(memory)
    memory.hook["/joint_states"] = memory.tell
    small = Sample(encode_raw(np.zeros((4, 4, 3), np.uint8), time.time_ns()), time.time_ns())
    object.__setattr__(memory, "take", lambda topic: [small] if topic == "/camera" else memory.tell())
    with pytest.raises(RobotFault, match=r"topic /camera: expected pictures of 10 x 16 or larger, got 4 x 4; check"):
        driver.read()


def test_a_camera_that_shows_nothing_is_named_and_does_not_keep_anyone_from_stopping_the_robot() -> None:
    memory = Filmed()
    with pytest.raises(RobotFault, match=r"arm connect: expected a sensor_msgs/msg/Image on /camera within 0\.05 s"):
        connect(memory)
    stop_ros_robot(make_robot(memory, contract=SEES, camera=RosCamera(topic="/camera")), "a test")
    assert memory.sent


def test_a_camera_is_counted_where_a_robot_is_looked_at() -> None:
    memory = Filmed(shots=[(5, 0.0)])
    found = survey(make_robot(memory, contract=SEES, camera=RosCamera(topic="/camera")), 0.01)
    assert set(found.rates) == {"/joint_states", "/camera"}


def test_the_doctor_asks_a_camera_for_pictures_that_are_young_enough_and_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "LISTENS", 0.03)
    memory = Filmed(shots=[(5, 0.0)])
    calm = replace(SEES, control_period=0.5)
    robot = make_robot(memory, contract=calm, camera=RosCamera(topic="/camera", max_age=100.0))
    seen = checks.check_ros(robot)
    assert seen.status == "failed"  # it showed one picture when the robot was connected, and none since
    assert "expected topics at 2 Hz or more and pictures every 100 s, got 1 slower ones" in seen.said
    assert any(line.startswith("- /camera: 0.0 Hz") for line in seen.details)
    tell = memory.take

    def take(topic: str) -> list[Sample]:
        memory.shots[:] = [(5, 0.0)]
        return tell(topic)

    object.__setattr__(memory, "take", take)
    assert checks.check_ros(robot).status == "ok"


def test_contract_and_camera_belong_together() -> None:
    with pytest.raises(ConfigError, match="arm camera: expected one for the contract's image, got None"):
        make_robot(Memory(), contract=SEES)
    with pytest.raises(ConfigError, match="arm camera: expected none, since the contract has no image"):
        make_robot(Memory(), camera=RosCamera(topic="/camera"))
    with pytest.raises(ConfigError, match="expected a full name such as /joint_states, got 'camera'"):
        make_robot(Memory(), contract=SEES, camera=RosCamera(topic="camera"))
    with pytest.raises(ConfigError, match="max_age"):
        RosCamera(topic="/camera", max_age=0.0)
    assert RosCamera(topic="/camera", compressed=True).type == COMPRESSED
    driver = RosDriver(make_robot(Memory()), pay_nothing)
    with pytest.raises(SpecError, match="expected a robot with a camera"):
        driver.take_images(ROW)


@pytest.mark.parametrize("kind", ["dds", "zenoh"])
def test_a_picture_of_a_camera_comes_through(kind: str) -> None:
    place = f"tcp/127.0.0.1:{find_port()}"
    there: OpensTransport = CycloneDds(domain=160 + WORKER, interface="127.0.0.1", peers=("127.0.0.1",))
    here = there
    if kind == "zenoh":
        there, here = Zenoh(connect=(), listen=(place,)), Zenoh(connect=(place,), mode="client")
    camera, driver = there.open(), here.open()
    camera.advertise("/camera", RAW)
    driver.subscribe("/camera", RAW)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    data, deadline, found = encode_raw(picture, time.time_ns()), time.monotonic() + 20.0, []
    assert len(data) < limit_bytes(RAW)
    while not found and time.monotonic() < deadline:
        camera.publish("/camera", data)
        found = driver.take("/camera")
    assert found[0].data[4:] == data[4:]
    camera.close()
    driver.close()
