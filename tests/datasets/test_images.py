"""Pictures as a feature: bytes in, the same bytes out, and nothing else taken for them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from supple.datasets import D4RLReader, Episode, Feature, Schema, open_store, verify_store, write_d4rl, write_store
from supple.datasets import store_writer as writer_module
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.datasets.layout import count_image_rows
from supple.datasets.schema import make_image_feature
from supple.datasets.store import EpisodeStore
from supple.datasets.store_source import read_episodes
from supple.datasets.windows import PictureWindows, WindowSampler
from supple.errors import SourceError, SpecError, StoreError
from supple.robots.spec import ArraySpec, Axis, ImageSpec, RobotSpec
from tests.datasets.make_sources import make_robomimic, record

SHAPE = (8, 12, 2)
LENGTHS = (5, 3, 9)


def make_flat(name: str, role: Any) -> Feature:
    return Feature(name=name, shape=(1,), units=("m",), role=role, axes=("x",))


SCHEMA = Schema(
    features=(
        make_flat("observation", "observation"),
        make_flat("action", "action"),
        make_image_feature("image", SHAPE),
    )
)


EYE = ImageSpec(*SHAPE)


def make_robot(image: ImageSpec | None = EYE) -> RobotSpec:
    axes = (Axis("x", "m", -100.0, 100.0),)
    spec = (ArraySpec(name, axes) for name in ("observation", "action", "goal"))
    return RobotSpec("eyed", *spec, control_period=0.1, episode_steps=10, image=image)


def make_pictures(rows: int) -> np.ndarray[Any, Any]:
    """Every byte occurs, white and the number that stands for missing data in other arrays among them."""
    pictures = np.random.default_rng(0).integers(0, 256, (rows, *SHAPE), np.uint8)
    pictures[0] = 255
    return pictures


def make_episodes() -> Iterator[Episode]:
    pictures, first = make_pictures(sum(LENGTHS)), 0
    for length in LENGTHS:
        part = slice(first, first + length)
        step = np.arange(first, first + length, dtype=np.float32)[:, None]
        yield Episode({"observation": step, "action": step, "image": pictures[part]}, False, True)
        first += length


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EpisodeStore:
    """Of three episodes, whose 17 pictures are in chunks of 4 and are written as soon as there are that many."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for module in ("layout", "store_writer", "store_metadata", "store"):
        monkeypatch.setattr(f"supple.datasets.{module}.count_image_rows", lambda _: 4)
    monkeypatch.setattr(writer_module, "_BLOCK_BYTES", 1)
    return write_store(tmp_path / "store", make_episodes(), SCHEMA, {"source": "made in a test"})


def test_pictures_come_back_byte_for_byte(store: EpisodeStore) -> None:
    pictures = make_pictures(sum(LENGTHS))
    np.testing.assert_array_equal(store.load("image"), pictures)
    np.testing.assert_array_equal(np.concatenate(list(store.blocks("image"))), pictures)
    np.testing.assert_array_equal(store.episode(1).arrays["image"], pictures[5:8])
    again = np.concatenate([episode.arrays["image"] for episode in read_episodes(store)])
    np.testing.assert_array_equal(again, pictures)
    assert verify_store(store.path).rows == 17


def test_a_memory_map_has_the_same_pictures(store: EpisodeStore, tmp_path: Path) -> None:
    mapped = store.memmap("image", tmp_path / "cache")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, make_pictures(sum(LENGTHS)))


def test_only_stores_with_pictures_are_of_version_3(store: EpisodeStore) -> None:
    assert store.schema_version == 3
    assert Schema(features=SCHEMA.features[:2]).to_json()["schema_version"] == 2
    assert Schema.from_json(SCHEMA.to_json()) == SCHEMA
    with pytest.raises(SpecError, match="expected schema_version 3 for these features, got 2"):
        Schema.from_json({**SCHEMA.to_json(), "schema_version": 2})


def test_pictures_are_packed_in_chunks_of_their_own(store: EpisodeStore) -> None:
    array = store.array("steps/image")
    assert array.chunks == (4, *SHAPE)
    assert array.nchunks == 5
    assert len(array.compressors) == 2
    assert len(store.array("steps/action").compressors) == 1


def test_a_chunk_has_at_most_4_mebibytes() -> None:
    assert count_image_rows((32, 32, 1)) == 4096
    assert count_image_rows((100, 100, 3)) == 128  # 139 fit
    assert count_image_rows((4096, 4096, 3)) == 1


def test_a_chunk_that_vanished_is_no_white_picture(store: EpisodeStore) -> None:
    (store.path / "steps/image/c.2.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"c\.2\.0\.0\.0: expected a chunk of pictures, got no file"):
        store.load("image")
    assert store.read_rows("image", 0, 8).shape == (8, *SHAPE)
    with pytest.raises(StoreError, match=r"c\.2\.0\.0\.0"):
        open_store(store.path)


def test_a_changed_picture_is_found(store: EpisodeStore) -> None:
    file = store.path / "steps/image/c.1.0.0.0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="steps/image"):
        store.load("image")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shape": (8, 12)}, "expected pictures as uint8"),
        ({"dtype": "float32"}, "expected pictures as uint8 .* got float32"),
        ({"shape": (8, 7, 2)}, "expected width from 8 to 4096, got 7"),
        ({"shape": (8, 5000, 2)}, "expected width from 8 to 4096, got 5000"),
        ({"axes": ("height", "width", "depth")}, "expected the axes height, width, channel"),
    ],
)
def test_what_is_no_picture_is_refused(change: dict[str, Any], named: str) -> None:
    fields = {
        "name": "image",
        "dtype": "uint8",
        "shape": SHAPE,
        "units": ("",) * 3,
        "role": "image",
        "axes": ("height", "width", "channel"),
    }
    with pytest.raises(SpecError, match=named):
        Feature(**{**fields, **change})


def test_a_schema_has_the_pictures_of_its_robot() -> None:
    with pytest.raises(SpecError, match=r"expected pictures of shape \(8, 8, 1\), got image of shape \(8, 12, 2\)"):
        Schema(features=SCHEMA.features, control_period=0.1, robot=make_robot(ImageSpec(8, 8, 1)))
    named = r"'eyed': expected the pictures of its camera in the feature image, got observation, action; do not leave"
    with pytest.raises(SpecError, match=named):
        Schema(features=SCHEMA.features[:2], control_period=0.1, robot=make_robot())


# --- D4RL files


def make_arrays(rows: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    ends = np.zeros(rows, np.bool_)
    ends[[2, rows - 1]] = True
    step = np.arange(rows, dtype=np.float32)[:, None]
    return {
        "observations": step,
        "actions": step,
        "rewards": step[:, 0],
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": ends,
        "images": make_pictures(rows),
    }


def test_a_file_of_pictures_is_read_as_written(tmp_path: Path) -> None:
    path = write_d4rl(tmp_path / "play.hdf5", make_arrays(), make_robot())
    reader = D4RLReader(path)
    spec = reader.describe()
    assert spec.schema.feature("image").role == "image"
    assert spec.schema.robot == make_robot()
    pictures = np.concatenate([episode.arrays["image"] for episode in reader.episodes()])
    np.testing.assert_array_equal(pictures, make_pictures(6))


Damage = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any] | None]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda images: images.astype(np.float32) / 255.0, "holds float32 .* convert them to bytes"),
        (lambda images: images[..., 0], r"holds uint8 of shape \(6, 8, 12\)"),
        (lambda images: images[:5], "has 5 pictures, not one for each of 6 steps"),
        (
            lambda images: images[:, :, ::-1][:, :, :8],
            r"shape \(8, 8, 2\), not \(8, 12, 2\) as robot 'eyed' takes them",
        ),
        (lambda images: None, "expected the data set images"),
    ],
)
def test_pictures_that_the_robot_does_not_take_are_refused(tmp_path: Path, damage: Damage, named: str) -> None:
    path = tmp_path / "play.hdf5"
    arrays = make_arrays()
    images = damage(arrays.pop("images"))
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)
        if images is not None:
            file.create_dataset("images", data=images)
    with pytest.raises(SourceError, match=named) as caught:
        D4RLReader(path, make_robot()).describe()
    assert "\n" not in str(caught.value)
    if images is not None and images.shape[1:] != (8, 8, 2):
        # a robot without a camera does without them, and the reader says why
        assert "images" in D4RLReader(path, make_robot(None)).describe().ignored


def test_floats_are_not_written_as_pictures(tmp_path: Path) -> None:
    arrays = {**make_arrays(), "images": make_pictures(6) / 255.0}
    with pytest.raises(SourceError, match="images: expected uint8"):
        write_d4rl(tmp_path / "play.hdf5", arrays)
    assert not list(tmp_path.iterdir())


# --- windows


def test_windows_have_the_pictures_of_their_steps_and_those_before() -> None:
    """Each picture holds the number of its row; an episode begins with its first picture, also before it."""
    rows = np.arange(12, dtype=np.float32)[:, None]
    pictures = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 8, 8, 1)).copy()
    start, length = np.array([0, 5]), np.array([5, 7])
    windows = WindowSampler(rows, rows, start, length, 3)
    seeing = PictureWindows(windows, pictures, start, frames=3)
    observation, action, seen = seeing.sample(200, np.random.default_rng(0))
    plain = windows.sample(200, np.random.default_rng(0))
    np.testing.assert_array_equal(observation, plain[0])
    np.testing.assert_array_equal(action, plain[1])
    assert seen.shape == (200, 5, 8, 8, 1)
    for first, numbers in zip(observation[:, 0, 0].astype(int), seen[:, :, 0, 0, 0], strict=True):
        begin = 0 if first < 5 else 5
        expected = [max(row, begin) for row in range(first - 2, first + 3)]
        assert numbers.tolist() == expected


def test_episodes_held_out_keep_their_own_first_picture() -> None:
    """The sampler draws from the second episode alone; pictures before it are its own first, not those of the first."""
    rows = np.arange(12, dtype=np.float32)[:, None]
    pictures = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 8, 8, 1)).copy()
    windows = WindowSampler(rows, rows, np.array([5]), np.array([3]), 3)
    _, _, seen = PictureWindows(windows, pictures, np.array([0, 5, 8]), frames=2).sample(4, np.random.default_rng(0))
    assert (seen[:, :, 0, 0, 0] == [5, 5, 6, 7]).all()


def test_metadata_of_a_store_names_pictures(store: EpisodeStore) -> None:
    record = json.loads((store.path / "zarr.json").read_text())["attributes"]["schema"]
    (image,) = [feature for feature in record["features"] if feature["role"] == "image"]
    assert image["shape"] == list(SHAPE)


# --- other readers


def test_pictures_of_robomimic_come_along_where_they_are_asked_for(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    pictures = []
    with h5py.File(path, "a") as file:
        for demo in sorted(file["data"], key=lambda name: int(name.split("_")[1])):
            steps = len(file[f"data/{demo}/actions"])
            pictures.append(np.random.default_rng(steps).integers(0, 256, (steps, 8, 9, 3), np.uint8))
            file[f"data/{demo}/obs/camera"] = pictures[-1]
    left = open_source(path, ReadOptions()).describe()
    assert left.ignored["obs/camera"] == "holds pictures; --only takes them by name"
    reader = open_source(path, ReadOptions(only=("obs/camera",)))
    (feature,) = [one for one in reader.describe().schema.features if one.role == "image"]
    assert (feature.name, feature.shape) == ("obs_camera", (8, 9, 3))
    for episode, expected in zip(reader.episodes(), pictures, strict=True):
        np.testing.assert_array_equal(episode.arrays["obs_camera"], expected)


def test_the_pictures_of_a_robot_with_a_camera_have_its_name(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            for camera in ("front", "side"):
                demo[f"obs/{camera}"] = np.zeros((len(demo["actions"]), *SHAPE), np.uint8)
    axes = tuple(Axis(name, "m", -1000.0, 1000.0) for name in "abc")
    arrays = (ArraySpec(name, axes[:count]) for name, count in (("observation", 3), ("action", 2), ("goal", 1)))
    robot = RobotSpec("panda", *arrays, control_period=0.05, episode_steps=10, image=EYE)
    keys = ("obs/object", "obs/robot0_eef_pos")
    reader = open_source(path, ReadOptions(observation_keys=keys, only=("obs/side",)), robot)
    assert reader.describe().schema.feature("image").shape == SHAPE
    assert next(iter(reader.episodes())).arrays["image"].shape == (5, *SHAPE)
    with pytest.raises(
        SourceError, match="obs/side: expected an array to carry over, got one that would be called image"
    ):
        open_source(path, ReadOptions(observation_keys=keys, only=("obs/side", "obs/front")), robot).describe()
    with pytest.raises(SourceError, match=r"got none; choose an array with --only \(obs/front, obs/side\)"):
        open_source(path, ReadOptions(observation_keys=keys), robot).describe()


def put_pictures(path: Path, make: Callable[[int], np.ndarray[Any, Any]], group: str = "obs") -> None:
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo[f"{group}/camera"] = make(len(demo["actions"]))


def test_pictures_behind_the_steps_are_never_taken_for_those_of_the_steps(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    for group in ("obs", "next_obs"):
        put_pictures(path, lambda steps: np.zeros((steps, *SHAPE), np.uint8), group)
    assert "next_obs/camera" not in open_source(path, ReadOptions()).describe().ignored
    with pytest.raises(SourceError, match=r"expected one of the side arrays .*, got 'next_obs/camera'"):
        open_source(path, ReadOptions(only=("next_obs/camera",))).describe()


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_pictures_in_another_type_are_bytes_where_they_are_whole(dtype: type, tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    put_pictures(path, lambda steps: make_pictures(steps).astype(dtype))
    left = open_source(path, ReadOptions()).describe().ignored["obs/camera"]
    assert left == f"may hold pictures, as {np.dtype(dtype)}; --only takes them by name"
    for episode in open_source(path, ReadOptions(only=("obs/camera",))).episodes():
        pictures = episode.arrays["obs_camera"]
        assert pictures.dtype == np.uint8
        np.testing.assert_array_equal(pictures, make_pictures(len(pictures)))


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan, np.inf])
def test_numbers_that_are_no_bytes_are_no_pictures(value: float, tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())

    def make(steps: int) -> np.ndarray[Any, Any]:
        pictures = np.zeros((steps, *SHAPE))
        pictures[2, 3, 4, 1] = value
        return pictures

    put_pictures(path, make)
    with pytest.raises(SourceError, match=rf"obs/camera: expected pictures .* from 0 to 255, got {value} in row 2;"):
        list(open_source(path, ReadOptions(only=("obs/camera",))).episodes())


@pytest.mark.parametrize("shape", [(3, 24, 40), (24, 40), (7, 24, 3)])
def test_what_is_no_picture_by_its_shape_says_so(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    put_pictures(path, lambda steps: np.zeros((steps, *shape), np.uint8))
    with pytest.raises(SourceError) as caught:
        open_source(path, ReadOptions(only=("obs/camera",))).describe()
    assert f"obs/camera: expected an array to carry over, got one that holds arrays of shape {shape}" in str(
        caught.value
    )
    assert "neither one vector per step nor pictures, whose channels are last" in str(caught.value)


def test_pictures_of_another_size_than_those_of_the_robot_are_named(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    put_pictures(path, lambda steps: np.zeros((steps, 16, 12, 2), np.uint8))
    axes = tuple(Axis(name, "m", -1000.0, 1000.0) for name in "abc")
    arrays = (ArraySpec(name, axes[:count]) for name, count in (("observation", 3), ("action", 2), ("goal", 1)))
    robot = RobotSpec("panda", *arrays, control_period=0.05, episode_steps=10, image=EYE)
    chosen = ReadOptions(observation_keys=("obs/object", "obs/robot0_eef_pos"), only=("obs/camera",))
    with pytest.raises(SourceError) as caught:
        open_source(path, chosen, robot).describe()
    assert f"{path}: obs/camera: expected pictures of shape (8, 12, 2) as robot 'panda' takes them, got" in str(
        caught.value
    )


def test_an_array_that_a_source_calls_valid_is_no_mark_of_steps(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["valid"] = np.zeros(len(demo["actions"]), np.uint8)
    names = open_source(path, ReadOptions()).describe().schema.names
    assert "info_valid" in names
    assert "valid" not in names
    other = write_d4rl(tmp_path / "play.hdf5", {**make_arrays(), "infos/valid": np.zeros(6, np.uint8)})
    reader = D4RLReader(other)
    store = write_store(tmp_path / "store", reader.episodes(), reader.describe().schema, {})
    assert "info_valid" in store.schema.names
    assert store.load_valid().all()
