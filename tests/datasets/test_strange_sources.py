"""Recordings that no list names: each is read as what it is, or refused in a line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import LocalStore

from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.datasets.side_arrays import find_rounded
from supple.errors import SourceError
from tests.datasets.make_sources import (
    make_lerobot_2,
    make_lerobot_3,
    make_minari,
    make_ogbench,
    make_robomimic,
    make_spirl,
    make_zarr,
    record,
)

UNKNOWN = ReadOptions(observation_units=("unknown",), action_units=("unknown",))


def change_tables(root: Path, change: Callable[[int, pa.Table], pa.Table]) -> None:
    for number, file in enumerate(sorted((root / "data").rglob("*.parquet"))):
        pq.write_table(change(number, pq.read_table(file)), file)


def test_lists_within_structs_are_columns(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    change_tables(
        path,
        lambda _, table: table.append_column(
            "observation.hand", pa.array([{"width": 0.5, "force": [float(k), 2.0]} for k in range(len(table))])
        ),
    )
    reader = open_source(path, UNKNOWN)
    assert reader.describe().schema.feature("observation_hand_force").shape == (2,)
    episode = list(reader.episodes())[1]
    np.testing.assert_array_equal(episode.arrays["observation_hand_force"], [[0, 2], [1, 2], [2, 2]])
    np.testing.assert_array_equal(episode.arrays["observation_hand_width"], [0.5] * 3)


def test_the_length_of_lists_comes_from_the_first_file_that_has_a_row(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())

    def change(number: int, table: pa.Table) -> pa.Table:
        place = table.column_names.index("observation.state")
        rows = pa.array(table["observation.state"].to_pylist(), pa.list_(pa.float32()))
        return table.set_column(place, "observation.state", rows).slice(0, len(table) if number else 0)

    change_tables(path, change)
    spec = open_source(path, UNKNOWN).describe()
    assert spec.schema.feature("observation").axes == ("pan.pos", "lift.pos", "grip.pos")
    assert spec.episodes == 2
    assert "1 of 3 episodes of the metadata have no frames here, the first 0" in spec.notes[0]


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ({"motors": {"arm": ["a", "b"], "hand": ["c"]}}, ("a", "b", "c")),
        ({"left": ["a"], "right": ["b", "c"]}, ("a", "b", "c")),
        ({"left": ["a", "b"], "right": ["a"]}, ("left_a", "left_b", "right_a")),
        ({"c": 2, "a": 0, "b": 1}, ("a", "b", "c")),
        ({"c": 2, "a": 0, "b": 0}, ("observation_0", "observation_1", "observation_2")),
        ({"arm": ["a", "b"], "hand": None}, ("observation_0", "observation_1", "observation_2")),
    ],
)
def test_names_of_axes_come_in_groups_or_with_numbers(names: object, axes: tuple[str, ...], tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.state"]["names"] = names
    (path / "meta/info.json").write_text(json.dumps(info))
    assert open_source(path, UNKNOWN).describe().schema.feature("observation").axes == axes


def test_what_the_robot_was_told_stands_in_the_provenance(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    (path / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "pick"}\n{"task_index": 1, "task": "öffne"}\n')
    assert open_source(path, UNKNOWN).describe().provenance["tasks"] == {"0": "pick", "1": "öffne"}


@pytest.mark.parametrize("column", ["task", "__index_level_0__"])
def test_tasks_of_version_3_are_a_column_or_an_index(column: str, tmp_path: Path) -> None:
    path = make_lerobot_3(tmp_path, record())
    pq.write_table(pa.table({"task_index": [0, 1], column: ["pick", "place"]}), path / "meta/tasks.parquet")
    assert open_source(path, UNKNOWN).describe().provenance["tasks"] == {"0": "pick", "1": "place"}


def change_groups(path: Path, groups: str, change: Callable[[int, Any], None]) -> None:
    with h5py.File(path, "a") as file:
        found = file[groups] if groups else file
        for number, name in enumerate(sorted(found)):
            if isinstance(found[name], h5py.Group):
                change(number, found[name])


def test_arrays_that_are_no_rows_of_steps_are_left_out_and_said(tmp_path: Path) -> None:
    """Of robomimic, Minari and SPiRL: states with one more, summaries with fewer, arrays that hold nothing at all."""
    robomimic = make_robomimic(tmp_path, record())
    change_groups(robomimic, "data", lambda _, demo: demo.__setitem__("summary", np.zeros(len(demo["actions"]) + 1)))
    change_groups(robomimic, "data", lambda _, demo: demo.__setitem__("nothing", h5py.Empty("f4")))
    spec = open_source(robomimic, ReadOptions()).describe()
    assert spec.ignored["summary"] == "has 6 rows in data/demo_0, and actions 5"
    assert spec.ignored["nothing"] == "has an empty data space in data/demo_0"
    minari = make_minari(tmp_path, record())
    change_groups(
        minari / "main_data.hdf5",
        "",
        lambda number, one: one.__setitem__("infos/x", np.zeros(len(one["rewards"]) + 1 - 4 * (number == 2))),
    )
    spec = open_source(minari, ReadOptions()).describe()
    assert spec.ignored["infos/x"] == "has 9 rows in episode_2, and rewards 12"
    spirl = make_spirl(tmp_path, record())
    for file in spirl.iterdir():
        change_groups(file, "", lambda _, one: one.__setitem__("goal", np.zeros(3)))
    spec = open_source(spirl, ReadOptions()).describe()
    assert spec.ignored["goal"] == "has 3 rows in traj0, and actions 7"


def test_floats_of_two_sizes_are_one_array(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "a") as file:
        values = file["data/demo_1/obs/object"][()]
        del file["data/demo_1/obs/object"]
        file["data/demo_1/obs/object"] = values.astype(np.float32)
    reader = open_source(path, ReadOptions())
    assert reader.describe().schema.feature("observation").axes[0] == "object_0"
    assert list(reader.episodes())[1].arrays["observation"][:, 0].tolist() == [6.0, 7.0, 8.0]


@pytest.mark.parametrize("make", [make_robomimic, make_minari])
def test_an_episode_that_is_a_link_to_another_is_refused(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    groups = "data/demo_" if path.is_file() else "episode_"
    with h5py.File(path if path.is_file() else path / "main_data.hdf5", "a") as file:
        file[f"{groups}7"] = h5py.SoftLink(f"/{groups}0")
    with pytest.raises(SourceError, match=rf"{groups}7: expected data in this file, got a link; write the data"):
        open_source(path, ReadOptions()).describe()


def test_an_empty_list_of_demos_is_named(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "a") as file:
        file["mask/none"] = np.array([], "S8")
    with pytest.raises(SourceError, match="expected demos in mask/none, got none; choose another"):
        open_source(path, ReadOptions(filter="none")).describe()


def test_keys_that_differ_in_signs_alone_have_axes_by_number(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    change_groups(path, "data", lambda _, demo: demo.__setitem__("obs/OBJECT", np.ones((len(demo["actions"]), 1))))
    axes = open_source(path, ReadOptions()).describe().schema.feature("observation").axes
    assert axes == ("observation_0", "observation_1", "observation_2", "observation_3")


def test_why_no_array_is_the_observation_is_said(tmp_path: Path) -> None:
    path = make_zarr(tmp_path, record())
    root = zarr.open_group(LocalStore(path), zarr_format=2)
    del root["data/action"]
    root.create_array("data/action", data=np.ones((19, 2)))
    root.create_array("data/sub/more", data=np.ones((20, 2)))
    with pytest.raises(SourceError, match=r"for the action, got state; action has 19 rows, not 20; img holds .*choose"):
        open_source(path, ReadOptions()).describe()
    spec = open_source(path, ReadOptions(action_keys=("state",))).describe()
    assert spec.ignored["sub"] == "is a group; only arrays that lie in data itself are read"


def test_numbers_that_float32_does_not_tell_apart() -> None:
    time = 1.7e9 + 0.02 * np.arange(100)
    assert find_rounded(np.stack([np.arange(100.0), time], 1)) == 1  # 1.7e9 itself is exact
    assert find_rounded(time.astype(np.float32)) is None  # was lost before
    assert find_rounded(time - time[0]) is None
    assert find_rounded(np.arange(2**30, 2**30 + 9)) == 0
    assert find_rounded(np.array([2**24, -(2**24)])) is None
    assert find_rounded(np.array([0, 2**24 + 2])) == 1  # an integer of this size is an identifier, exact or not
    pressure = 2.5e7 + 1e3 * np.random.default_rng(0).normal(size=(100, 1))  # Pa: digits that nobody needs
    assert find_rounded(pressure) is None
    assert find_rounded(np.full((5, 1), 1.7e9 + 0.5)) is None  # a constant
    assert find_rounded(np.array([np.inf, np.nan, 1e300])) is None  # is refused for what it is
    assert find_rounded(np.zeros((0, 2))) is None


def test_times_since_1970_are_no_axis(tmp_path: Path, make_arrays: Any) -> None:
    arrays = make_arrays([3, 4])
    arrays["observations"] = (1.7e9 + np.arange(14).reshape(7, 2)).astype(np.float64)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
        file["infos/nothing"] = h5py.Empty("f4")
    reader = open_source(tmp_path / "a.hdf5", ReadOptions())
    assert reader.describe().ignored["infos/nothing"] == "has an empty data space"
    with pytest.raises(
        SourceError, match=r"observations: expected numbers that float32 tells apart, .*; leave the axis"
    ):
        list(reader.episodes())
    path = make_ogbench(tmp_path, record())
    members = dict(np.load(path))
    members["observations"] = 1.7e9 + members["observations"].astype(np.float64)
    np.savez(path, **members)
    with pytest.raises(SourceError, match=r"observations: expected numbers that float32 tells apart"):
        list(open_source(path, ReadOptions()).episodes())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robomimic", r"a\.hdf5: expected the group data with demos, got observations; choose another --format"),
        ("minari", r"a\.hdf5: expected groups episode_0, episode_1 and so on, got none; record some"),
        ("spirl", r"a\.hdf5: expected HDF5 files with groups traj0, got none"),
        ("d4rl", r"a\.hdf5: expected the data set actions, got observations"),
    ],
)
def test_a_file_that_is_not_what_somebody_calls_it_is_not_called_damaged(
    name: str, message: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 2))
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / "a.hdf5", ReadOptions(format=name)).describe()
