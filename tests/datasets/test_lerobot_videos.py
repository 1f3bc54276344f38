"""Videos of LeRobotDatasets: the frame of each step by its time, in a stated size, and nothing else taken for it."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets import open_store, videos, write_store
from supple.datasets.episode import Episode, ReadOptions
from supple.datasets.formats import open_source
from supple.datasets.videos import PictureStream, Video, find_frames, survey_video
from supple.errors import ConfigError, SourceError
from supple.robots.spec import ArraySpec, Axis, ImageSpec, RobotSpec
from tests.datasets.make_sources import (
    CAMERA,
    HEIGHT,
    LENGTHS,
    WIDTH,
    Recorded,
    make_lerobot_2_filmed,
    make_lerobot_3_filmed,
    make_pictures,
    record,
    write_video,
)

FEATURE = "observation_images_top"
OPTIONS = ReadOptions(observation_units=("deg",), action_units=("deg",), only=(CAMERA,))
Maker = Callable[[Path, list[Recorded]], Path]
BOTH = pytest.mark.parametrize("make", [make_lerobot_2_filmed, make_lerobot_3_filmed])
FILES_2 = f"videos/chunk-000/{CAMERA}"
FILES_3 = f"videos/{CAMERA}/chunk-000"


def read(path: Path, options: ReadOptions = OPTIONS) -> list[Episode]:
    return list(open_source(path, options).episodes())


def find_rows(pictures: np.ndarray) -> list[int]:  # type: ignore[type-arg]
    """Which rows they are of, by their grey."""
    return [round(one) for one in (pictures[:, -1, -1].mean(-1) / 10).tolist()]


@BOTH
def test_every_step_has_the_picture_of_its_own_time(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    reader = open_source(path, OPTIONS)
    spec = reader.describe()
    feature = spec.schema.feature(FEATURE)
    assert (feature.role, feature.shape) == ("image", (HEIGHT, WIDTH, 3))
    files = 3 if make is make_lerobot_2_filmed else 2
    assert spec.contents[CAMERA] == f"video 48 x 64, h264: 20 frames in {files} files, one for each of 20 steps"
    assert spec.notes == ()
    row = 0
    for episode, length in zip(reader.episodes(), LENGTHS, strict=True):
        pictures = episode.arrays[FEATURE]
        expected = make_pictures(np.arange(row, row + length))
        assert np.abs(pictures.astype(int) - expected).max() <= 2  # what the colours lose
        row += length


def test_pictures_are_those_of_the_library(tmp_path: Path) -> None:
    path = make_lerobot_3_filmed(tmp_path, record())
    with av.open(path / FILES_3 / "file-000.mp4") as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    first, second, _ = read(path)
    np.testing.assert_array_equal(np.concatenate([first.arrays[FEATURE], second.arrays[FEATURE]]), frames)


@BOTH
def test_pictures_are_scaled_down_by_the_mean_of_their_area(make: Maker, tmp_path: Path) -> None:
    options = ReadOptions(observation_units=("deg",), action_units=("deg",), only=(CAMERA,), picture_size=(12, 16))
    reader = open_source(make(tmp_path, record()), options)
    assert reader.describe().provenance["picture_size"] == [12, 16]
    pictures = np.concatenate([one.arrays[FEATURE] for one in reader.episodes()])
    whole = make_pictures(np.arange(20)).reshape(20, 12, 4, 16, 4, 3).mean((2, 4))
    assert pictures.shape == (20, 12, 16, 3)
    assert np.abs(pictures - whole).max() <= 3


def test_a_store_of_them_opens(tmp_path: Path) -> None:
    reader = open_source(make_lerobot_3_filmed(tmp_path, record()), OPTIONS)
    spec = reader.describe()
    write_store(tmp_path / "store", reader.episodes(), spec.schema, spec.provenance)
    assert find_rows(open_store(tmp_path / "store").load(FEATURE)) == list(range(20))


@BOTH
def test_videos_that_nobody_names_are_left_out_and_never_opened(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    for file in (path / "videos").rglob("*.mp4"):
        file.write_bytes(b"not looked at")
    options = ReadOptions(observation_units=("deg",), action_units=("deg",))
    spec = open_source(path, options).describe()
    assert spec.ignored[CAMERA] == "is a video; --only takes it by name"
    assert spec.contents[CAMERA].startswith("video [48, 64, 3], ")
    assert FEATURE not in spec.schema.names
    skipping = ReadOptions(observation_units=("deg",), action_units=("deg",), skip=(CAMERA,))
    assert open_source(path, skipping).describe().ignored[CAMERA] == "left out by choice"


def test_a_robot_with_a_camera_gets_its_pictures_in_its_size(tmp_path: Path) -> None:
    path = make_lerobot_3_filmed(tmp_path, record())

    def make_robot(image: ImageSpec) -> RobotSpec:
        def name(*names: str) -> tuple[Axis, ...]:
            return tuple(Axis(one, "deg", -100.0, 100.0) for one in names)

        arrays = [ArraySpec("observation", name("a", "b", "c")), ArraySpec("action", name("a", "b"))]
        goal = ArraySpec("goal", name("a"))
        return RobotSpec("so100", *arrays, goal, control_period=0.1, episode_steps=10, image=image)

    only = ReadOptions(only=(CAMERA,))
    for image in (ImageSpec(12, 16, 3), ImageSpec(24, 32, 1)):
        reader = open_source(path, only, make_robot(image))
        assert reader.describe().schema.feature("image").shape == image.shape
        assert find_rows(np.concatenate([one.arrays["image"] for one in reader.episodes()])) == list(range(20))
    with pytest.raises(SourceError, match=rf"robot 'so100', which has a camera, got none; .* --only \({CAMERA}\)"):
        open_source(path, ReadOptions(), make_robot(ImageSpec(12, 16, 3))).describe()
    with pytest.raises(SourceError, match="a camera with 1 or 3 channels, got 2"):
        open_source(path, only, make_robot(ImageSpec(12, 16, 2))).describe()


def test_larger_pictures_than_the_video_has_are_refused(tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    large = ReadOptions(only=(CAMERA,), picture_size=(48, 65))
    with pytest.raises(SourceError, match=r"expected pictures of at least 48 x 65, got 48 x 64; ask for smaller"):
        open_source(path, large).describe()
    with pytest.raises(ConfigError, match="--picture-size: expected cameras whose pictures are wanted, got none"):
        open_source(path, ReadOptions(picture_size=(12, 16)))


def test_a_video_that_is_too_short_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    write_video(path / FILES_2 / "episode_000002.mp4", make_pictures(np.arange(8, 18)))
    wrong = r"episode_000002\.mp4: .*top: episode 2: expected a frame at the time of every step, got none for 2 of 12 "
    with pytest.raises(SourceError, match=wrong + r"steps, first step 10 at 1 s, in a video from 0 to 0\.9 s"):
        open_source(path, OPTIONS).describe()


def test_frames_of_other_times_are_counted_and_said(tmp_path: Path) -> None:
    """Steps are at 10 Hz. At 20 Hz, half of 10 frames are of no step. At 12 Hz, the frame of step 3 is 1/3 s behind."""
    path = make_lerobot_2_filmed(tmp_path, record())
    write_video(path / FILES_2 / "episode_000000.mp4", make_pictures(np.arange(10)), rate=20)
    write_video(path / FILES_2 / "episode_000002.mp4", make_pictures(np.arange(15)), rate=12)
    assert open_source(path, OPTIONS).describe().notes == (
        f"{CAMERA}: 9 of 20 steps show a frame of another time, at most 33.3 ms away",
        f"{CAMERA}: 8 frames of the videos belong to no step",
    )
    first, _, last = read(path)
    assert find_rows(first.arrays[FEATURE]) == [0, 2, 4, 6, 8]
    assert find_rows(last.arrays[FEATURE]) == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13]


def test_episodes_of_a_shared_file_are_found_by_where_they_begin(tmp_path: Path) -> None:
    """A subset that lacks the first episode, whose frames are in the file still."""
    path = make_lerobot_3_filmed(tmp_path, record())
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.filter(pa.compute.equal(table["episode_index"], 1)), file)
    reader = open_source(path, OPTIONS)
    assert f"{CAMERA}: 5 frames of the videos belong to no step" in reader.describe().notes
    assert [find_rows(one.arrays[FEATURE]) for one in reader.episodes()] == [[5, 6, 7], list(range(8, 20))]


@pytest.mark.parametrize(
    ("name", "values", "named"),
    [
        ("file_index", [0, 7, 1], r"file-007\.mp4: expected the video of episode 1, got no file"),
        ("file_index", [0, -1, 1], "expected numbers of a chunk and a file .* got 0, -1, 0.5 and"),
        ("from_timestamp", [0.0, float("nan"), 0.0], "a time from before a time to, got 0, 0, nan and"),
        ("from_timestamp", [0.0, 9.0, 0.0], "a time from before a time to, got 0, 0, 9.0 and 0.8"),
        ("to_timestamp", [0.5, 1e300, 1.2], "a time from before a time to"),
        ("file_index", None, "expected the column videos/.*/file_index, got none"),
    ],
)
def test_metadata_that_lead_nowhere_are_refused(
    name: str, values: list[object] | None, named: str, tmp_path: Path
) -> None:
    path = make_lerobot_3_filmed(tmp_path, record())
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    place = table.column_names.index(f"videos/{CAMERA}/{name}")
    field = table.field(place)
    table = (
        table.remove_column(place) if values is None else table.set_column(place, field, pa.array(values, field.type))
    )
    pq.write_table(table, file)
    with pytest.raises(SourceError, match=named):
        open_source(path, OPTIONS).describe()


@pytest.mark.parametrize(
    ("template", "good"),
    [
        ("videos/{video_key}/chunk-{chunk_index:03d}/part_{file_index:06d}.mp4", True),
        ("videos/{video_key}/chunk-{chunk_index:03d}/part_{file_index}.mp4", False),
        ("../outside/{file_index:03d}.mp4", False),
        ("{video_key.__class__}/{0}{unknown}.mp4", False),
        ("videos/{video_key}/chunk-{chunk_index:099999999d}/a.mp4", False),
    ],
)
def test_the_metadata_name_the_files(template: str, good: bool, tmp_path: Path) -> None:
    path = make_lerobot_3_filmed(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "video_path": template}))
    for number in range(2):
        file = path / FILES_3 / f"file-{number:03d}.mp4"
        file.rename(file.with_name(f"part_{number:06d}.mp4"))
    if good:
        assert find_rows(np.concatenate([one.arrays[FEATURE] for one in read(path)])) == list(range(20))
    else:
        with pytest.raises(SourceError, match="expected the video of episode 0, got no file"):
            open_source(path, OPTIONS).describe()


def test_a_camera_whose_name_leads_out_of_the_folder_finds_nothing(tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["../../outside"] = info["features"][CAMERA]
    (path / "meta/info.json").write_text(json.dumps(info))
    write_video(tmp_path / "so100/outside/episode_000000.mp4", make_pictures(np.arange(5)))
    options = ReadOptions(observation_units=("deg",), action_units=("deg",), only=("../../outside",))
    with pytest.raises(SourceError, match="expected the video of episode 0, got no file"):
        open_source(path, options).describe()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "expected a video in MP4, Matroska, WebM or AVI, got an empty file"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n", "got a text"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", "got a text"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "got a damaged one|got 0 of them"),
    ],
)
def test_what_is_no_video_is_named(data: bytes, named: str, tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    (path / FILES_2 / "episode_000001.mp4").write_bytes(data)
    with pytest.raises(SourceError, match=rf"episode_000001\.mp4: .*({named})"):
        open_source(path, OPTIONS).describe()


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    file = path / FILES_2 / "episode_000002.mp4"
    data = bytearray(file.read_bytes())
    with av.open(file) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    data[places[5] + 4 : places[6]] = bytes(places[6] - places[5] - 4)
    file.write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"episode_000002\.mp4: expected a (video that can be decoded|whole picture)"):
        read(path)


def test_videos_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    write_video(path / FILES_2 / "episode_000001.mp4", make_pictures(np.arange(3))[:, :32])
    with pytest.raises(SourceError, match=r"episode_000001\.mp4: expected pictures of 48 x 64 as in .* got 32 x 64"):
        open_source(path, OPTIONS).describe()


def test_pictures_beyond_the_budget_are_refused_before_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_lerobot_2_filmed(tmp_path, record())
    monkeypatch.setattr(videos, "FREE_BYTES", 0)
    monkeypatch.setattr(videos, "MOST_VIDEO_EXPANSION", 1)
    monkeypatch.setattr(PictureStream, "_decode", None)
    with pytest.raises(
        SourceError, match=r"bytes of pictures from \d+ bytes of video \(1 times, and 0\), got 184320; ask"
    ):
        open_source(path, OPTIONS).describe()


def test_a_frame_is_never_decoded_twice_on_the_way_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = survey_video(write_video(tmp_path / "a.mp4", make_pictures(np.arange(25))))
    stream, jumps = PictureStream(video, (48, 64, 3)), []
    jump = stream._jump
    monkeypatch.setattr(stream, "_jump", lambda number: (jumps.append(number), jump(number)))
    monkeypatch.setattr(videos, "_FAR", 12)
    for numbers in ([0, 0, 1, 4], [4, 9, 20], [3, 2, 2, 13], [24], [11]):  # also back, twice, and over a gap
        assert find_rows(np.array([one.copy() for one in stream.play(np.array(numbers))])) == numbers
    assert jumps == [0, 3, 2, 11]
    stream.close()


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.webm"), ("libsvtav1", "a.mp4"), ("mpeg4", "a.mp4")])
def test_other_codecs_are_read(codec: str, name: str, tmp_path: Path) -> None:
    video = survey_video(write_video(tmp_path / name, make_pictures(np.arange(12)), codec=codec))
    np.testing.assert_allclose(video.times, np.arange(12) / 10, atol=1e-3)
    stream = PictureStream(video, (48, 64, 3))
    assert find_rows(np.array([one.copy() for one in stream.play(np.arange(7, 12))])) == list(range(7, 12))
    stream.close()


@given(
    times=st.lists(st.integers(0, 1000), min_size=1, max_size=20, unique=True).map(sorted),
    wanted=st.lists(st.integers(-50, 1100), max_size=10),
)
def test_the_nearest_frame_is_found(times: list[int], wanted: list[int]) -> None:
    video = Video(
        path=Path("a.mp4"), height=8, width=8, codec="h264", stamps=np.array(times), times=np.array(times, np.float64)
    )
    found = find_frames(video, np.array(wanted, np.float64))
    for time, frame in zip(wanted, found.tolist(), strict=True):
        assert abs(times[frame] - time) == min(abs(one - time) for one in times)
