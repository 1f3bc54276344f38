"""zarr v2 replay buffers, OGBench and SPiRL: where their episodes end."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.errors import SourceError
from tests.datasets.make_sources import make_ogbench, make_spirl, make_zarr, record


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([5, 8, 21], "expected the last end to be the number of rows, got 21 where .* has 20 rows, not 21"),
        ([5, 8], "expected the last end to be the number of rows, got 8 where"),
        ([8, 5, 20], "expected rising rows above 0, got 5 in entry 1"),
        ([0, 8, 20], "expected rising rows above 0, got 0 in entry 0"),
        ([5, 5, 20], "expected rising rows above 0, got 5 in entry 1"),
        ([-5, 8, 20], "expected rising rows above 0, got -5 in entry 0"),
    ],
)
def test_ends_must_rise_to_the_number_of_rows(ends: list[int], message: str, tmp_path: Path) -> None:
    path = make_zarr(tmp_path, record())
    root = zarr.open_group(LocalStore(path), zarr_format=2)
    del root["meta/episode_ends"]
    root.create_array("meta/episode_ends", data=np.array(ends))
    with pytest.raises(SourceError, match=message):
        open_source(path, ReadOptions()).describe()


def test_a_lost_chunk_is_said(tmp_path: Path) -> None:
    path = make_zarr(tmp_path, record())
    (path / "data/state/1.0").unlink()
    notes = open_source(path, ReadOptions()).describe().notes
    assert notes == (
        "state: 1 of 5 chunks are not there and read as 0.0: they were empty when they were written, or are lost",
    )


def test_a_recording_without_commands_asks_for_them(tmp_path: Path) -> None:
    path = make_zarr(tmp_path, record())
    root = zarr.open_group(LocalStore(path), zarr_format=2)
    del root["data/action"]
    root.create_array("data/robot0_eef_pos", data=np.zeros((20, 3), np.float32))
    with pytest.raises(
        SourceError, match=r"arrays for the action, got robot0_eef_pos, state; img holds .*; choose with --action"
    ):
        open_source(path, ReadOptions()).describe()
    reader = open_source(path, ReadOptions(action_keys=("robot0_eef_pos",)))
    assert reader.describe().schema.feature("action").shape == (3,)


def test_ogbench_counts_as_its_own_library_does(tmp_path: Path) -> None:
    """`load_dataset` drops the last row of every trajectory, whose action has no successor."""
    path = make_ogbench(tmp_path, record())
    reader = open_source(path, ReadOptions())
    read = list(reader.episodes())
    assert not any(episode.terminated for episode in read)
    assert max(float(episode.arrays["action"].max()) for episode in read) == 11.0  # never the 9 of a last row
    with np.load(path) as file:
        last = file["terminals"]
        later = np.concatenate([[False], ~last[:-1]])
        for name, rows in (("observation", ~last), ("next_observation", later)):
            mine = np.concatenate([episode.arrays[name] for episode in read])
            np.testing.assert_array_equal(mine, file["observations"][rows])
    assert reader.describe().schema.feature("qpos").role == "state"


def test_ogbench_reads_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_ogbench(tmp_path, record())
    whole = list(open_source(path, ReadOptions()).episodes())
    monkeypatch.setattr("supple.datasets.keyed.BLOCK_ROWS", 4)
    for first, second in zip(whole, open_source(path, ReadOptions()).episodes(), strict=True):
        for name, values in first.arrays.items():
            np.testing.assert_array_equal(values, second.arrays[name])


@pytest.mark.parametrize(
    ("terminals", "message"),
    [
        (np.zeros(23), "expected an end in the last of 23 rows, got none at all"),
        (np.arange(23) == 5, "expected an end in the last of 23 rows, got the last one in row 5"),
        (np.arange(23) / 22, "expected 0 or 1, got 0.045"),
        ((np.arange(23) == 0) | (np.arange(23) == 22), "got an episode of one, row 0"),
        (np.ones(22), "terminals: expected 23 rows as in observations, got 22"),
    ],
)
def test_ogbench_refuses_ends_that_are_none(terminals: np.ndarray, message: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    path = make_ogbench(tmp_path, record())
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, "terminals": terminals})
    with pytest.raises(SourceError, match=message):
        open_source(path, ReadOptions()).describe()


def test_an_npz_with_objects_is_read_without_them(tmp_path: Path) -> None:
    path = make_ogbench(tmp_path, record())
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, "extra": np.array([{"a": 1}, None], object)}, allow_pickle=True)
    assert "objects of Python" in open_source(path, ReadOptions()).describe().ignored["extra"]
    np.savez_compressed(path, **{**arrays, "actions": arrays["actions"].astype(object)}, allow_pickle=True)
    with pytest.raises(SourceError, match=r"actions: expected one vector per step .* objects of Python"):
        open_source(path, ReadOptions()).describe()


def test_a_member_that_the_directory_of_an_archive_passes_over_is_missed(tmp_path: Path) -> None:
    path = make_ogbench(tmp_path, record())
    with zipfile.ZipFile(path) as archive:
        before, last = archive.infolist()[-2:]
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(last.filename.encode()) - 46)
    assert before.filename.encode() in data[entry : entry + 80]
    data[entry + 32 : entry + 34] = b"\xff\xff"  # the length of its comment
    path.write_bytes(data)
    with pytest.raises(SourceError, match="expected 4 members as the end of the archive says, got 3 in its directory"):
        open_source(path, ReadOptions()).describe()


def test_an_archive_with_a_folder_around_the_group_says_so(tmp_path: Path) -> None:
    folder = make_zarr(tmp_path, record())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"replay.zarr/{file.relative_to(folder)}")
    with pytest.raises(SourceError, match=r"at the top of the archive, got it in replay\.zarr/; zip"):
        open_source(tmp_path / "a.zip", ReadOptions()).describe()


def test_spirl_reads_what_its_mask_counts(tmp_path: Path) -> None:
    path = make_spirl(tmp_path, record(range(1, 13)))
    reader = open_source(path, ReadOptions())
    assert [episode.length for episode in reader.episodes()] == list(range(1, 13))  # rollout_10 after rollout_9
    assert (
        reader.describe().ignored["images"]
        == "holds arrays of shape (4, 4, 3), neither one vector per step nor pictures, whose channels are last"
    )
    with h5py.File(path / "rollout_3.h5", "a") as file:
        file["traj0/pad_mask"][0] = 0
    with pytest.raises(
        SourceError, match=r"rollout_3\.h5: traj0/pad_mask: expected ones and then zeros, got a zero in row 0"
    ):
        open_source(path, ReadOptions()).describe()
