"""Cameras in bags: which picture a step shows, how it is decoded and scaled, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supple.datasets.bags import stretch as stretch_module
from supple.datasets.bags.mapping import parse_mapping, write_mapping
from supple.datasets.bags.reader import BagReader
from supple.datasets.testing import ReaderContract
from supple.errors import ConfigError, SourceError
from supple.robots.spec import ArraySpec, Axis, ImageSpec, RobotSpec
from tests.datasets.bags.conftest import START, Bags, Sent

HEIGHT, WIDTH = 16, 24
PERIOD = 20_000_000
FREE = (-np.inf, np.inf)
SPEC = RobotSpec(
    name="arm",
    observation=ArraySpec("observation", (Axis("a", "rad", *FREE), Axis("b", "rad", *FREE))),
    action=ArraySpec("action", (Axis("command_0", "", *FREE), Axis("command_1", "", *FREE))),
    goal=ArraySpec("goal", (Axis("a", "rad", *FREE),)),
    control_period=0.02,
    episode_steps=100,
    image=ImageSpec(8, 12, 3),
)
MAPPING = """
period = 0.02
[[topic]]
name = "/joint_states"
[[topic]]
name = "/commands"
clock = "log"
[[topic]]
name = "/camera"
max_age = 0.2
[[signal]]
feature = "observation"
topic = "/joint_states"
field = "position"
axes = ["a", "b"]
units = ["rad", "rad"]
[[signal]]
feature = "action"
topic = "/commands"
field = "data"
axes = ["a", "b"]
units = ["rad", "rad"]
[[picture]]
topic = "/camera"
height = 8
width = 12
"""


def paint(number: int) -> np.ndarray:
    """A picture that says which one it is: two tones of its own, in fields of two pixels."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, : WIDTH // 2], picture[:, WIDTH // 2 :] = (10 + number, 100, 200), (200, 50, 10 + number)
    return picture


def scaled(number: int) -> np.ndarray:
    return paint(number)[::2, ::2]


def raw(time: int, number: int, *, topic: str = "/camera", **fields: Any) -> Sent:
    picture = paint(number)
    shape = {"height": HEIGHT, "width": WIDTH, "encoding": "rgb8", "step": 3 * WIDTH, "data": picture.ravel()}
    return Sent(topic, "sensor_msgs/msg/Image", time, {"header": Bags().stamp(time), **shape, **fields})


def compressed(time: int, data: bytes, format: str = "jpeg", topic: str = "/camera") -> Sent:
    fields = {"header": Bags().stamp(time), "format": format, "data": np.frombuffer(data, np.uint8)}
    return Sent(topic, "sensor_msgs/msg/CompressedImage", time, fields)


def pack(picture: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


def film(bags: Any, seconds: float = 1.0, first: float = 0.0, period: float = 0.05) -> list[Sent]:
    """The arm of `Bags.arm`, filmed from `first` on."""
    shots = [raw(START + round((first + k * period) * 1e9), k) for k in range(round((seconds - first) / period))]
    return sorted((*bags.arm(seconds), *shots), key=lambda one: one.log_time)


def read(path: Path, text: str = MAPPING, **options: Any) -> Any:
    reader = BagReader(path, parse_mapping(text, "map"), **options)
    return reader.describe(), list(reader.episodes())


@pytest.mark.parametrize("kind", ["rosbag1", "sqlite", "mcap"])
def test_a_step_shows_the_last_picture_at_or_before_it(kind: str, bags: Any, tmp_path: Path) -> None:
    spec, (episode,) = read(bags.write(tmp_path / "film", kind, film(bags)))
    shown = episode.arrays["image"]
    assert spec.schema.feature("image").role == "image"
    assert shown.dtype == np.uint8
    assert shown.shape == (50, 8, 12, 3)
    for step in range(50):
        np.testing.assert_array_equal(shown[step], scaled(int(step * 0.02 / 0.05 + 1e-9)))
    assert spec.provenance["quality"][0]["topics"]["/camera"]["rate"] == 20.0
    assert spec.provenance["mapping"]["picture"][0]["height"] == 8


def test_many_pictures_lie_on_the_disk_and_are_the_same(
    bags: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bags.write(tmp_path / "film", "mcap", film(bags))
    _, (whole,) = read(path)
    monkeypatch.setattr("supple.datasets.disk_arrays.SPILL_BYTES", 700)
    monkeypatch.setattr(stretch_module, "_SHOWN_BYTES", 1000)
    _, (spilled,) = read(path)
    assert isinstance(spilled.arrays["image"], np.memmap)
    np.testing.assert_array_equal(spilled.arrays["image"], whole.arrays["image"])


def test_an_episode_begins_with_the_first_picture_and_ends_where_they_stop(bags: Any, tmp_path: Path) -> None:
    sent = [one for one in film(bags, 2.0, first=0.3) if one.topic != "/camera" or one.log_time < START + 10**9]
    _, (episode,) = read(bags.write(tmp_path / "film", "mcap", sent))
    times = (episode.arrays["time"] - START) / 1e9
    assert times[0] == pytest.approx(0.3)
    assert times[-1] == pytest.approx(0.95 + 0.2, abs=0.021)  # the last picture, and its longest age
    np.testing.assert_array_equal(episode.arrays["image"][0], scaled(0))
    spec, _ = read(tmp_path / "film")
    assert any("for image of topic /camera" in note for note in spec.notes)


def test_steps_that_are_kept_show_an_old_picture_and_are_not_valid(bags: Any, tmp_path: Path) -> None:
    sent = [one for one in film(bags, 2.0) if one.topic != "/camera" or one.log_time < START + 10**9]
    text = 'invalid = "keep"\n' + MAPPING
    _, (episode,) = read(bags.write(tmp_path / "film", "mcap", sent), text)
    valid = episode.arrays["valid"].astype(bool)
    assert 0 < valid.sum() < len(valid)
    assert (episode.arrays["age"][~valid] > 0.2).all()
    for picture in episode.arrays["image"][~valid]:
        np.testing.assert_array_equal(picture, scaled(19))  # the last one of all


def test_pictures_of_both_sides_of_a_clock_that_was_set_back_stay_apart(bags: Any, tmp_path: Path) -> None:
    later = [one._replace(fields=one.fields) for one in bags.arm(1.0)]
    shots = [raw(START + k * 50_000_000, 100 + k) for k in range(20)]
    again = sorted((*later, *shots), key=lambda one: one.log_time)
    path = bags.write(tmp_path / "film", "plain", [*film(bags), *again])
    _, episodes = read(path)
    assert [episode.length for episode in episodes] == [50, 50]
    np.testing.assert_array_equal(episodes[0].arrays["image"][0], scaled(0))
    np.testing.assert_array_equal(episodes[1].arrays["image"][0], scaled(100))


def test_pictures_whose_stamps_are_late_are_said(bags: Any, tmp_path: Path) -> None:
    late = [
        one._replace(log_time=one.log_time + 3 * 10**9) if one.topic == "/camera" else one for one in film(bags, 5.0)
    ]
    spec, _ = read(bags.write(tmp_path / "film", "mcap", sorted(late, key=lambda one: one.log_time)))
    (note,) = (one for one in spec.notes if "behind the recorder's clock" in one)
    assert note.startswith("topic /camera: its times are 3 s behind the recorder's clock, those of /")
    text = MAPPING.replace('name = "/camera"\n', 'name = "/camera"\nclock = "log"\nlatency = 3\n')
    spec, _ = read(tmp_path / "film", text)
    assert not any("behind the recorder's clock" in one for one in spec.notes)


def test_two_cameras_and_grey_pictures(bags: Any, tmp_path: Path) -> None:
    wrist = [raw(START + k * 10**8, 50 + k, topic="/wrist") for k in range(10)]
    sent = sorted((*film(bags), *wrist), key=lambda one: one.log_time)
    text = MAPPING.replace("[[signal]]", '[[topic]]\nname = "/wrist"\n[[signal]]', 1)
    text += '[[picture]]\nfeature = "wrist"\ntopic = "/wrist"\nheight = 8\nwidth = 8\nchannels = 1\n'
    text += '[[picture]]\nfeature = "wide"\ntopic = "/camera"\nheight = 16\nwidth = 24\n'
    _, (episode,) = read(bags.write(tmp_path / "film", "mcap", sent), text)
    assert episode.arrays["wrist"].shape == (50, 8, 8, 1)
    np.testing.assert_array_equal(episode.arrays["wide"][0], paint(0))
    np.testing.assert_array_equal(episode.arrays["image"][0], scaled(0))
    grey = np.array([60, 100, 200]) @ [0.299, 0.587, 0.114]
    assert episode.arrays["wrist"][0, 0, 0, 0] == pytest.approx(grey, abs=2)


@pytest.mark.parametrize(("kind", "off"), [("PNG", 0), ("JPEG", 4)])
def test_compressed_pictures(kind: str, off: int, bags: Any, tmp_path: Path) -> None:
    shots = [compressed(START + k * 50_000_000, pack(paint(k), kind), f"rgb8; {kind.lower()}") for k in range(20)]
    sent = sorted((*bags.arm(1.0), *shots), key=lambda one: one.log_time)
    _, (episode,) = read(bags.write(tmp_path / "film", "mcap", sent))
    assert np.abs(episode.arrays["image"][25].astype(int) - scaled(10)).max() <= off


def test_damaged_pictures_are_a_loss_and_the_one_before_is_held(bags: Any, tmp_path: Path) -> None:
    data = [pack(paint(k), "PNG") for k in range(20)]
    data[4], data[5] = data[4][:60], b"nothing"
    shots = [compressed(START + k * 50_000_000, one, "png") for k, one in enumerate(data)]
    sent = sorted((*bags.arm(1.0), *shots), key=lambda one: one.log_time)
    spec, (episode,) = read(bags.write(tmp_path / "film", "mcap", sent))
    np.testing.assert_array_equal(episode.arrays["image"][14], scaled(3))
    assert "2 messages" in spec.losses[0]


@pytest.mark.parametrize(
    ("sent", "text", "expected"),
    [
        ([], MAPPING, "topic /camera: expected a topic of one type, got none"),
        ([raw(START, 0, encoding="32FC1")], MAPPING, "got '32FC1', which is no colour"),
        ([raw(START, 0)], MAPPING.replace("height = 8", "height = 32"), "expected pictures of 32 x 12 or larger"),
        ([raw(START, 0, data=np.zeros(7, np.uint8))], MAPPING, "expected 16 rows of 72 bytes or more, got 7 bytes"),
        ([Bags().array(START, [1.0], "/camera")], MAPPING, r"expected pictures .*, got std_msgs/msg/Float64MultiArray"),
    ],
)
def test_what_is_no_picture_is_refused(sent: list[Sent], text: str, expected: str, bags: Any, tmp_path: Path) -> None:
    path = bags.write(tmp_path / "film", "mcap", [*bags.arm(1.0), *sent])
    with pytest.raises(SourceError, match=expected):
        read(path, text)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('topic = "/camera"\nheight', 'topic = "/else"\nheight', "picture: expected a topic of .*got '/else'"),
        ("height = 8", "height = 4", "height"),
        ("width = 12", "width = 12\nchannels = 2", "channels"),
        ("width = 12", 'width = 12\nfeature = "action"', "picture: expected a feature for each"),
        ("width = 12", 'width = 12\nfeature = "No Name"', "expected a name of a-z"),
    ],
)
def test_mappings_of_pictures_that_do_not_fit_are_refused(before: str, after: str, expected: str) -> None:
    with pytest.raises((ConfigError, SourceError), match=expected):
        parse_mapping(MAPPING.replace(before, after), "map")


def test_a_mapping_of_pictures_is_written_as_it_was_read() -> None:
    mapping = parse_mapping(MAPPING, "map")
    assert parse_mapping(write_mapping(mapping), "again") == mapping


def test_a_draft_takes_the_camera_of_a_robot_that_sees(bags: Any, tmp_path: Path) -> None:
    path = bags.write(tmp_path / "film", "mcap", film(bags))
    reader = BagReader(path, spec=SPEC)
    (picture,) = reader.mapping.picture
    assert (picture.topic, picture.shape) == ("/camera", (8, 12, 3))
    assert reader.mapping.clock("/camera").max_age == pytest.approx(0.25)
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["image"][10], scaled(4))


def test_a_draft_asks_which_camera_it_is(bags: Any, tmp_path: Path) -> None:
    wrist = [raw(START + k * 10**8, k, topic="/wrist") for k in range(10)]
    path = bags.write(tmp_path / "film", "mcap", sorted((*film(bags), *wrist), key=lambda one: one.log_time))
    assert any(
        "expected one camera" in question and "/wrist" in question
        for question in BagReader(path, spec=SPEC).describe().questions
    )
    path = bags.write(tmp_path / "blind", "mcap", bags.arm(1.0))
    (question,) = BagReader(path, spec=SPEC)._draft.questions
    assert "no topic of pictures" in question


def test_cameras_are_named_where_nobody_asked_for_them(bags: Any, tmp_path: Path) -> None:
    spec = BagReader(bags.write(tmp_path / "film", "mcap", film(bags))).describe()
    assert any("/camera shows pictures, which are left out" in note for note in spec.notes)
    assert "picture" not in spec.provenance["mapping"]  # so that digests of stores without pictures are as they were
    assert "image" not in spec.schema.names


class TestPicturesOfBags(ReaderContract):
    """Two bags with a camera keep the contract of readers."""

    def make_source(self, folder: Path) -> Path:
        (folder / "bags").mkdir()
        for name, seconds in (("a", 1.0), ("b", 2.0)):
            Bags().write(folder / "bags" / name, "plain", film(Bags(), seconds))
        return folder / "bags"

    def make_reader(self, path: Path) -> BagReader:
        return BagReader(path, parse_mapping(MAPPING, "map"))
