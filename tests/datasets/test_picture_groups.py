"""Pictures that lie in HDF5 files as PNG or JPEG, one for each step of an episode that is a group."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from supple.datasets import episode_groups
from supple.datasets.episode import Episode, ReadOptions
from supple.datasets.formats import open_source
from supple.errors import SourceError
from supple.robots.spec import ImageSpec
from tests.datasets.make_sources import (
    LENGTHS,
    count_rows,
    make_minari,
    make_pictures,
    make_robomimic,
    make_spirl,
    record,
)
from tests.datasets.test_picture_files import encode
from tests.datasets.test_robomimic import make_robot

CAMERA = "obs/front_image"
Write = Callable[[h5py.Group, str, list[bytes]], None]


def write_ragged(group: h5py.Group, name: str, files: list[bytes]) -> None:
    data = group.create_dataset(name, len(files), h5py.vlen_dtype(np.uint8))
    for row, one in enumerate(files):
        data[row] = np.frombuffer(one, np.uint8)


def write_texts(group: h5py.Group, name: str, files: list[bytes]) -> None:
    group[name] = np.array(files, np.bytes_)


def write_opaque(group: h5py.Group, name: str, files: list[bytes]) -> None:
    group[name] = np.array([one.ljust(max(map(len, files)), b"\0") for one in files], np.void)


def write_filled(group: h5py.Group, name: str, files: list[bytes]) -> None:
    rows = np.zeros((len(files), max(map(len, files))), np.uint8)
    for row, one in zip(rows, files, strict=True):
        row[: len(one)] = np.frombuffer(one, np.uint8)
    group.create_dataset(name, data=rows, compression="gzip")


WAYS = pytest.mark.parametrize("write", [write_ragged, write_texts, write_opaque, write_filled])


def make_demos(
    folder: Path, write: Write = write_ragged, change: Callable[[int], bytes | None] = lambda _: None
) -> Path:
    """Demos with the pictures of a camera, beside those of the next step; `change` has another file for some rows."""
    episodes = record()
    path = make_robomimic(folder, episodes)
    with h5py.File(path, "a") as file:
        for number, rows in enumerate(count_rows(episodes)):
            files = [change(row) or encode(make_pictures(np.array([row]))[0]) for row in rows.tolist()]
            write(file[f"data/demo_{number}"], CAMERA, files)
            write(file[f"data/demo_{number}"], f"next_{CAMERA}", files)
    return path


def read(path: Path, *only: str) -> list[Episode]:
    return list(open_source(path, ReadOptions(only=only)).episodes())


@WAYS
def test_every_step_has_its_own_picture(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_groups, "_FILE_ROWS", 2)
    reader = open_source(make_demos(tmp_path, write), ReadOptions(only=(CAMERA,)))
    spec = reader.describe()
    assert spec.schema.feature("obs_front_image").role == "image"
    assert spec.contents[CAMERA] == "pictures 48 x 64, PNG: one for each of 20 steps"
    assert spec.provenance["columns"]["observation"] == ["obs/object", "obs/robot0_eef_pos"]
    episodes = list(reader.episodes())
    assert [one.length for one in episodes] == list(LENGTHS)
    pictures = np.concatenate([one.arrays["obs_front_image"] for one in episodes])
    np.testing.assert_array_equal(pictures, make_pictures(np.arange(20)))


@WAYS
def test_they_are_left_out_unless_somebody_names_them(write: Write, tmp_path: Path) -> None:
    path = make_demos(tmp_path, write)
    spec = open_source(path, ReadOptions()).describe()
    assert spec.ignored[CAMERA] == "is a picture file per step; --only takes it by name"
    assert spec.contents[CAMERA] == "PNG or JPEG"
    assert spec.schema.names == ("observation", "action", "reward", "next_observation", "states")
    with pytest.raises(SourceError, match=r"expected one of the side arrays .*, got 'next_obs/front_image'"):
        read(path, "next_obs/front_image")


def test_they_are_scaled_to_what_the_robot_sees(tmp_path: Path) -> None:
    robot = make_robot()
    object.__setattr__(robot, "image", ImageSpec(12, 16, 3))
    (first, *_) = open_source(make_demos(tmp_path), ReadOptions(only=(CAMERA,)), robot).episodes()
    whole = make_pictures(np.arange(5)).reshape(5, 12, 4, 16, 4, 3).mean((2, 4))
    assert np.abs(first.arrays["image"] - whole).max() <= 0.5


def test_minari_and_spirl_have_them_too(tmp_path: Path) -> None:
    episodes = record()
    paths = [make_minari(tmp_path, episodes) / "main_data.hdf5", *sorted(make_spirl(tmp_path, episodes).iterdir())]
    names = ["episode_0", "episode_1", "episode_2", "traj0", "traj0", "traj0"]
    for place, (name, rows) in enumerate(zip(names, count_rows(episodes) * 2, strict=True)):
        files = [encode(one) for one in make_pictures(np.append(rows, [0, 0][: 2 - (place < 3)]))]
        with h5py.File(paths[max(0, place - 2)], "a") as file:
            write_ragged(file[name], "infos/camera", files)
    for path in (tmp_path / "data", tmp_path / "rollouts"):
        pictures = np.concatenate([one.arrays["camera"] for one in read(path, "infos/camera")])
        np.testing.assert_array_equal(pictures, make_pictures(np.arange(20)))


PLAIN = make_pictures(np.zeros(1))[0]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"GIF89a", "obs/front_image: episode 0, step 3: expected a whole picture, got one that cannot be decoded"),
        (encode(PLAIN)[:-40], "episode 0, step 3: expected a whole picture"),
        (encode(PLAIN[:40]), "step 3: expected 48 x 64 pixels as in the first one, got 40 x 64"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, named: str, tmp_path: Path) -> None:
    path = make_demos(tmp_path, change=lambda row: data if row == 3 else None)
    with pytest.raises(SourceError) as caught:
        read(path, CAMERA)
    assert named in str(caught.value)


def test_bytes_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    path = make_demos(tmp_path, change=lambda _: b"GIF89a")
    with pytest.raises(SourceError, match="got one that holds bytes that are neither PNG nor JPEG; skip it"):
        read(path, CAMERA)
    path = make_demos(tmp_path, change=lambda row: b"GIF89a" if row >= 5 else None)
    with pytest.raises(SourceError, match=r"is uint8 \(\), a picture file per step and, in data/demo_1, object \(\)"):
        read(path, CAMERA)


def test_a_demo_without_them_is_named(tmp_path: Path) -> None:
    path = make_demos(tmp_path)
    with h5py.File(path, "a") as file:
        del file[f"data/demo_1/{CAMERA}"]
    with pytest.raises(SourceError, match="got one that is missing in data/demo_1; skip it"):
        read(path, CAMERA)


def test_a_heap_of_files_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = make_demos(tmp_path)
    data: Any = bytearray(path.read_bytes())
    at = data.index(b"GCOL\x01\0\0\0")
    data[at + 24 : at + 32] = (2**62).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(SourceError, match="expected a heap of strings at byte"):
        open_source(path, ReadOptions()).describe()
