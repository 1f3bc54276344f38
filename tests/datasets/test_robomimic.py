"""robomimic: demos in numeric order, keys in a stated order, the last state from `next_obs`, filter lists."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.datasets.hdf5 import read_text
from supple.errors import ConfigError, SourceError
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from tests.datasets.make_sources import make_robomimic, record


def make_robot(period: float = 0.05) -> RobotSpec:
    observation = ArraySpec("observation", tuple(Axis(name, "m", -99.0, 99.0) for name in ("cube", "x", "y")))
    action = ArraySpec("action", tuple(Axis(name, "m/s", -99.0, 99.0) for name in ("vx", "vy")))
    return RobotSpec("panda", observation, action, observation, period, 500)


def test_demos_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lengths = list(range(1, 13))
    path = make_robomimic(tmp_path, record(lengths))  # demo_10 and demo_11 lie between demo_1 and demo_2
    assert [episode.length for episode in open_source(path, ReadOptions()).episodes()] == lengths


def test_the_order_of_keys_is_in_the_schema_and_the_provenance(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    spec = open_source(path, ReadOptions()).describe()
    assert spec.schema.feature("observation").axes == ("object_0", "robot0_eef_pos_0", "robot0_eef_pos_1")
    assert spec.provenance["columns"]["version"] == 1
    assert spec.provenance["columns"]["observation"] == ["obs/object", "obs/robot0_eef_pos"]
    assert spec.schema.control_period == 0.05
    assert spec.schema.feature("states").role == "state"
    swapped = ReadOptions(observation_keys=("obs/robot0_eef_pos", "obs/object"))
    other = open_source(path, swapped)
    assert other.describe().schema.feature("observation").axes[-1] == "object_0"
    assert other.describe().provenance != spec.provenance
    first = next(other.episodes())
    np.testing.assert_array_equal(first.arrays["next_observation"][:, 2], np.arange(1.0, 6.0))


def test_the_last_state_comes_from_next_obs(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    last = [episode.arrays["next_observation"][-1, 0] for episode in open_source(path, ReadOptions()).episodes()]
    assert last == [5.0, 9.0, 22.0]
    with h5py.File(path, "a") as file:
        del file["data/demo_1/next_obs"]
    assert "next_observation" not in open_source(path, ReadOptions()).describe().schema.names


def test_a_filter_list_chooses_demos(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    reader = open_source(path, ReadOptions(filter="train"))
    assert [episode.length for episode in reader.episodes()] == [5, 12]
    assert reader.describe().provenance["filter"] == "train"
    assert reader.describe().contents["mask/train"] == "a list of 2 demos"
    with pytest.raises(SourceError, match=r"expected a list of demos of train, got 'valid'; choose with --filter"):
        open_source(path, ReadOptions(filter="valid")).describe()
    with h5py.File(path, "a") as file:
        file["mask/wrong"] = np.array([b"demo_7"])
    with pytest.raises(SourceError, match=r"mask/wrong: expected demos of this file, got 'demo_7'"):
        open_source(path, ReadOptions(filter="wrong")).describe()


def test_a_robot_names_the_axes_and_checks_the_rate(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    schema = open_source(path, ReadOptions(), make_robot()).describe().schema
    assert schema.feature("observation").axes == ("cube", "x", "y")
    assert schema.feature("action").units == ("m/s", "m/s")
    with pytest.raises(SourceError, match=r"expected a step each 0\.1 s as robot 'panda' takes, got 0\.05 s"):
        open_source(path, ReadOptions(), make_robot(0.1)).describe()
    with pytest.raises(ConfigError, match=r"--action-units: expected none beside --robot"):
        open_source(path, ReadOptions(action_units=("m",)), make_robot()).describe()
    with pytest.raises(SourceError, match=r"obs/object: expected 3 axes cube, x, y, got 1 \(observation_0\)"):
        open_source(path, ReadOptions(observation_keys=("obs/object",)), make_robot()).describe()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("obs/nothing",), r"expected arrays for the observation of .*obs/object.*, got 'obs/nothing'"),
        ((), r"expected arrays for the observation, got .*; choose with --observation-keys"),
    ],
)
def test_keys_that_are_not_there_are_refused(keys: tuple[str, ...], message: str, tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with pytest.raises(SourceError, match=message):
        open_source(path, ReadOptions(observation_keys=keys)).describe()


def test_arrays_that_differ_between_demos_are_left_out_with_the_demo(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "a") as file:
        for number, length in enumerate((5, 3, 12)):
            file[f"data/demo_{number}/obs/camera"] = np.zeros((length, 4, 4, 3), np.uint8)
        del file["data/demo_2/obs/object"]
        file["data/demo_2/obs/object"] = np.zeros((12, 2))
    spec = open_source(path, ReadOptions()).describe()
    assert spec.schema.feature("observation").axes == ("observation_0", "observation_1")
    assert spec.ignored["obs/object"] == "is float64 (1,) and, in data/demo_2, float64 (2,)"
    assert (
        spec.ignored["obs/camera"]
        == "holds arrays of shape (4, 4, 3), neither one vector per step nor pictures, whose channels are last"
    )
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.zeros((2, 2))
    with pytest.raises(SourceError, match=r"demo_1/dones: expected 2 rows as in actions, got 3"):
        open_source(path, ReadOptions()).describe()


def test_a_value_that_is_not_finite_is_named_by_row_and_episode(tmp_path: Path) -> None:
    episodes = record()
    episodes[1].observation[1, 0] = np.nan
    path = make_robomimic(tmp_path, episodes)
    with pytest.raises(SourceError, match=r"expected finite float32 values, got \[ *nan.* in row 6 \(episode 1\)"):
        list(open_source(path, ReadOptions()).episodes())


def test_a_heap_that_the_library_would_read_for_ever_is_refused(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\x01\0\0\0")
    data[heap + 16 + 8] = 127  # the first entry ends among zeros, where an entry of no bytes begins
    path.write_bytes(data)
    with pytest.raises(SourceError, match=rf"expected a heap of strings at byte {heap}, got an entry of 0 bytes"):
        open_source(path, ReadOptions()).describe()


def test_an_attribute_that_is_no_text_is_not_read(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path) as file:
        assert "env_name" in str(read_text(file["data"], "env_args", path))
    data = bytearray(path.read_bytes())
    kind = data.index(b"\x19\x01\x01\x00\x10\x00\x00\x00")  # of variable length, a text in UTF-8, 16 bytes
    data[kind + 1] = 3  # neither a text nor a sequence: the library dies when it reads one
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert read_text(file["data"], "env_args", path) is None
        assert read_text(file["data"], "nothing", path) is None


def test_a_group_that_is_no_demo_is_named(tmp_path: Path) -> None:
    path = make_robomimic(tmp_path, record())
    with h5py.File(path, "r+") as file:
        file.create_group("data/demo_9")
    with pytest.raises(SourceError, match=r"data/demo_9/actions: expected a row for each step, got no such array"):
        open_source(path, ReadOptions()).describe()
    with h5py.File(path, "r+") as file:
        for name in list(file["data"]):
            del file["data"][name]
    with pytest.raises(SourceError):
        open_source(path, ReadOptions(format="robomimic")).describe()
