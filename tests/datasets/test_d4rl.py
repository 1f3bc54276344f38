import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets import D4RLReader, write_d4rl, write_store
from supple.datasets import d4rl as d4rl_module
from supple.datasets.d4rl import compute_episodes
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.errors import ConfigError, SourceError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

Arrays = dict[str, np.ndarray[Any, Any]]
MakeArrays = Callable[..., Arrays]


def write_raw(path: Path, arrays: Arrays) -> Path:
    """Writes what `write_d4rl` would refuse."""
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)
    return path


def refusal(path: Path) -> str:
    """The one-line message with which reading the file fails."""
    reader = D4RLReader(path)
    with pytest.raises(SourceError) as caught:
        list(reader.episodes())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert "; " in message
    return message


# --- episodes


def test_hand_worked_boundaries() -> None:
    #                     0  1  2  3  4  5  6
    terminals = np.array([0, 1, 0, 0, 0, 0, 0], np.bool_)
    timeouts = np.array([0, 0, 0, 1, 1, 0, 0], np.bool_)
    index = compute_episodes(terminals, timeouts)
    np.testing.assert_array_equal(index.start, [0, 2, 4, 5])
    np.testing.assert_array_equal(index.length, [2, 2, 1, 2])
    np.testing.assert_array_equal(index.terminated, [True, False, False, False])
    np.testing.assert_array_equal(index.truncated, [False, True, True, True])  # the last is the unterminated tail


def test_without_timeouts_only_terminals_end_an_episode() -> None:
    index = compute_episodes(np.array([0, 0, 1, 0, 1], np.bool_), None)
    np.testing.assert_array_equal(index.length, [3, 2])
    assert not index.truncated.any()


def test_without_timeouts_a_time_limit_can_be_given() -> None:
    #                     0  1  2  3  4  5  6  7  8
    terminals = np.array([0, 0, 0, 0, 1, 0, 0, 1, 0], np.bool_)
    index = compute_episodes(terminals, None, episode_steps=3)
    np.testing.assert_array_equal(index.length, [3, 2, 3, 1])  # 5 = 3 + 2; 3 ends by both; the tail
    np.testing.assert_array_equal(index.terminated, [False, True, True, False])
    np.testing.assert_array_equal(index.truncated, [True, False, True, True])


def test_a_time_limit_does_not_touch_a_file_with_timeouts() -> None:
    index = compute_episodes(np.zeros(6, np.bool_), np.array([0, 0, 0, 0, 0, 1], np.bool_), episode_steps=2)
    np.testing.assert_array_equal(index.length, [6])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.none() | st.integers(1, 7))
def test_episodes_cover_every_row_once(flags: list[tuple[bool, bool]], limit: int | None) -> None:
    terminals, timeouts = np.array(flags, np.bool_).T
    index = compute_episodes(terminals, None if limit else timeouts, limit)
    np.testing.assert_array_equal(index.start, np.cumsum(index.length) - index.length)
    assert index.length.sum() == len(flags)
    assert (index.length > 0).all()
    assert (index.terminated | index.truncated).all()
    inner = np.setdiff1d(np.arange(len(flags)), index.start + index.length - 1)
    assert not terminals[inner].any()
    if limit:
        assert index.length.max() <= limit


# --- what is read


def test_values_lie_where_they_belong(d4rl_file: Path) -> None:
    episodes = list(D4RLReader(d4rl_file).episodes())
    assert [episode.length for episode in episodes] == [5, 3, 7]
    assert [episode.terminated for episode in episodes] == [False, True, False]
    assert [episode.truncated for episode in episodes] == [True, False, True]
    start = 0
    for episode in episodes:
        row = np.arange(start, start + episode.length, dtype=np.float32)
        np.testing.assert_array_equal(episode.arrays["observation"][:, 0], row)
        np.testing.assert_array_equal(episode.arrays["action"][:, 0], row - start)  # action = step
        np.testing.assert_array_equal(episode.arrays["reward"], row / 2)
        np.testing.assert_array_equal(episode.arrays["qvel"][:, 1], row + 2)
        np.testing.assert_array_equal(episode.arrays["goal"][:, 1], row + 3)
        start += episode.length


def test_blocks_do_not_show(d4rl_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(D4RLReader(d4rl_file).episodes())
    for rows in (1, 4, 8, 9):
        monkeypatch.setattr(d4rl_module, "BLOCK_ROWS", rows)
        for first, second in zip(whole, D4RLReader(d4rl_file).episodes(), strict=True):
            for name, array in first.arrays.items():
                np.testing.assert_array_equal(array, second.arrays[name])


def test_description(d4rl_file: Path) -> None:
    spec = D4RLReader(d4rl_file).describe()
    assert (spec.episodes, spec.rows, spec.ignored, spec.notes) == (3, 15, {}, ())
    assert spec.schema.names == ("observation", "action", "reward", "qpos", "qvel", "goal")
    assert spec.schema.feature("observation").shape == (4,)
    assert spec.schema.feature("reward").shape == ()
    assert spec.schema.control_period is None
    assert spec.provenance["bytes"] == d4rl_file.stat().st_size


def test_a_robot_spec_names_the_axes(d4rl_file: Path) -> None:
    def array_spec(name: str, *axes: str) -> ArraySpec:
        return ArraySpec(name, tuple(Axis(axis, "cell", -1.0, 1.0) for axis in axes))

    spec = RobotSpec(
        "maze",
        array_spec("observation", "x", "y", "vx", "vy"),
        array_spec("action", "fx", "fy"),
        array_spec("goal", "x", "y"),
        0.01,
        300,
    )
    schema = D4RLReader(d4rl_file, spec).describe().schema
    assert (schema.robot, schema.control_period) == (spec, 0.01)
    assert schema.feature("observation").axes == ("x", "y", "vx", "vy")
    assert schema.feature("action").units == ("cell", "cell")
    narrow = RobotSpec("arm", array_spec("observation", "q"), spec.action, spec.goal, 0.01, 300)
    with pytest.raises(SourceError, match="observations: expected 1 axes q, got 4"):
        D4RLReader(d4rl_file, narrow).describe()


def test_old_and_odd_files(tmp_path: Path, make_arrays: MakeArrays) -> None:
    arrays = make_arrays([4, 5], [True, True])
    del arrays["timeouts"]
    arrays["rewards"] = arrays["rewards"][:, None].astype(np.float64)
    arrays["terminals"] = arrays["terminals"].astype(np.float32)[:, None]
    arrays["infos/note"] = np.array([b"text"] * 9)
    arrays["infos/scalar"] = np.array(3.0)
    arrays["infos/action_log_probs"] = np.arange(9.0)
    arrays["metadata/version"] = np.array(1)
    reader = D4RLReader(write_raw(tmp_path / "old.hdf5", arrays))
    spec = reader.describe()
    assert spec.ignored == {
        "infos/note": "holds |S4, not numbers",
        "infos/scalar": "has shape (), not one vector for each of 9 steps",
        "metadata/version": "not among D4RL's names",
    }
    episodes = list(reader.episodes())
    assert [episode.length for episode in episodes] == [4, 5]
    assert all(episode.terminated and not episode.truncated for episode in episodes)
    assert episodes[1].arrays["reward"].shape == (5,)
    assert episodes[1].arrays["reward"].dtype == np.float32
    np.testing.assert_array_equal(episodes[1].arrays["action_log_probs"], np.arange(4, 9))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "lzf"},
        {"compression": "gzip", "shuffle": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
    ],
)
def test_the_filters_of_the_library_are_read(tmp_path: Path, make_arrays: MakeArrays, options: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, value in make_arrays([20, 30]).items():
            file.create_dataset(name, data=value, chunks=(8, *value.shape[1:]), **options)
    assert [episode.length for episode in D4RLReader(tmp_path / "a.hdf5").episodes()] == [20, 30]


# --- what is written


def test_the_writer_writes_the_genuine_layout(d4rl_file: Path) -> None:
    with h5py.File(d4rl_file) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(names) == sorted(
            ["observations", "actions", "rewards", "terminals", "timeouts", "infos/qpos", "infos/qvel", "infos/goal"]
        )
        for name in names:
            assert file[name].dtype == (np.bool_ if name in ("terminals", "timeouts") else np.float32)


def test_parts_of_the_observations_are_taken_in_their_order(tmp_path: Path, make_arrays: MakeArrays) -> None:
    arrays = make_arrays([4, 5])
    arrays["observations"] = np.arange(9.0, dtype=np.float32)[:, None] + np.array([0.0, 0.25, 0.5], np.float32)
    arrays["next_observations"] = arrays["observations"] + 1
    path = write_raw(tmp_path / "a.hdf5", arrays)
    reader = open_source(path, ReadOptions(observation_keys=("observations[2:3]", "observations[0:1]")))
    described = reader.describe()
    assert described.schema.feature("observation").shape == (2,)
    assert described.provenance["observation_columns"] == [2, 0]
    assert described.ignored["next_observations"] == "is of all observations, of which a part was chosen"
    assert next(iter(reader.episodes())).arrays["observation"][1].tolist() == [1.5, 1.0]  # row 1: 1 + .5, 1 + 0


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (("observations",), ConfigError, r"^--observation-keys: expected parts of the array observations .*, got 'obs"),
        (("actions[0:1]",), ConfigError, "got 'actions"),
        (("observations[2:1]",), ConfigError, "name axes from FIRST to before LAST"),
        (("observations[0:2]", "observations[1:2]"), ConfigError, "expected each axis at most once"),
        ((), ConfigError, "and one at least, got none"),
        (("observations[0:9]",), SourceError, r"observations: expected the axes up to 8 .*, got shape \(9, "),
    ],
)
def test_parts_that_are_not_there_are_refused(
    tmp_path: Path, make_arrays: MakeArrays, keys: tuple[str, ...], error: type[Exception], message: str
) -> None:
    path = write_raw(tmp_path / "a.hdf5", make_arrays([4, 5]))
    with pytest.raises(error, match=message):
        open_source(path, ReadOptions(observation_keys=keys)).describe()


def test_the_same_data_gives_the_same_bytes(tmp_path: Path, make_arrays: MakeArrays) -> None:
    first = write_d4rl(tmp_path / "a.hdf5", make_arrays([3, 4]))
    second = write_d4rl(tmp_path / "b.hdf5", make_arrays([3, 4]))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": None}, "expected the array observations"),
        ({"actions": np.zeros((6, 2))}, "actions: expected 7 rows, got 6"),
        ({"observations": np.full((7, 4), np.nan)}, "observations: expected finite float32 values, got .*nan"),
        ({"observations": np.full((7, 4), 1e300)}, "observations: expected finite float32 values, got .*inf"),
        ({"qpos": np.zeros((7, 2))}, "expected a D4RL array name, got 'qpos'"),
    ],
)
def test_the_writer_refuses(tmp_path: Path, make_arrays: MakeArrays, change: dict[str, Any], message: str) -> None:
    arrays = {name: value for name, value in (make_arrays([3, 4]) | change).items() if value is not None}
    with pytest.raises(SourceError, match=message):
        write_d4rl(tmp_path / "a.hdf5", arrays)
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_no_rows(tmp_path: Path, make_arrays: MakeArrays) -> None:
    empty = {name: value[:0] for name, value in make_arrays([3]).items()}
    with pytest.raises(SourceError, match="observations: expected 1 rows, got 0"):
        write_d4rl(tmp_path / "a.hdf5", empty)


def test_a_full_disk_leaves_nothing_and_is_an_error_of_the_file(tmp_path: Path) -> None:
    """A larger file than the limit of the process; HDF5 itself would crash."""
    program = f"""
import resource
import sys
from pathlib import Path

import numpy as np

from supple.datasets import write_d4rl

resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
arrays = {{"observations": np.zeros((1000, 4)), "actions": np.zeros((1000, 2)), "rewards": np.zeros(1000)}}
try:
    write_d4rl(Path({str(tmp_path)!r}) / "a.hdf5", {{**arrays, "terminals": np.zeros(1000, bool)}})
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{errno.EFBIG} {tmp_path / 'a.hdf5'}\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_writer_never_overwrites(d4rl_file: Path, make_arrays: MakeArrays) -> None:
    before = d4rl_file.read_bytes()
    with pytest.raises(SourceError, match="expected nothing there yet"):
        write_d4rl(d4rl_file, make_arrays([2]))
    assert d4rl_file.read_bytes() == before
    assert list(d4rl_file.parent.iterdir()) == [d4rl_file]


# --- what is refused


def test_a_missing_file(tmp_path: Path) -> None:
    assert "got no file there; check the path" in refusal(tmp_path / "absent.hdf5")
    assert "got no file there" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.9, -1])
def test_a_truncated_file(d4rl_file: Path, keep: float) -> None:
    data = d4rl_file.read_bytes()
    d4rl_file.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    assert "copy or download it again" in refusal(d4rl_file)


def test_wrong_keys(tmp_path: Path, make_arrays: MakeArrays) -> None:
    for name in ("observations", "actions", "rewards", "terminals"):
        arrays = make_arrays([3, 4])
        arrays[f"{name}_"] = arrays.pop(name)
        message = refusal(write_raw(tmp_path / f"{name}.hdf5", arrays))
        assert f"expected the data set {name}, got " in message
    assert "got an empty file" in refusal(write_raw(tmp_path / "empty.hdf5", {}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards"])
def test_values_that_are_not_finite(tmp_path: Path, make_arrays: MakeArrays, name: str, value: float) -> None:
    arrays = make_arrays([3, 4])
    arrays[name] = arrays[name].astype(np.float64)
    arrays[name][5] = value
    message = refusal(write_raw(tmp_path / "a.hdf5", arrays))
    assert f"{name}: expected finite float32 values" in message
    assert "in row 5; remove the episode" in message


@pytest.mark.parametrize("name", ["actions", "rewards", "terminals", "timeouts"])
def test_unequal_lengths(tmp_path: Path, make_arrays: MakeArrays, name: str) -> None:
    arrays = make_arrays([3, 4])
    arrays[name] = arrays[name][:-1]
    message = refusal(write_raw(tmp_path / "a.hdf5", arrays))
    assert f"{name}: expected 7 rows as in observations, got 6; write equal lengths" in message


def test_zero_episodes(tmp_path: Path, make_arrays: MakeArrays) -> None:
    empty = {name: value[:0] for name, value in make_arrays([3]).items()}
    assert "observations: expected at least one row, got 0" in refusal(write_raw(tmp_path / "a.hdf5", empty))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.zeros((7, 2, 2))}, "observations: expected shape (rows, dim) or (rows,), got (7, 2, 2)"),
        ({"actions": np.zeros((7, 0))}, "actions: expected shape (rows, dim) or (rows,), got (7, 0)"),
        ({"rewards": np.zeros((7, 2))}, "rewards: expected one per row, got (7, 2)"),
        ({"rewards": np.array([b"1"] * 7)}, "rewards: expected an array of numbers"),
        ({"observations": np.zeros((7, 2), np.complex64)}, "observations: expected an array of numbers"),
        ({"terminals": np.array([0, 0, 2, 0, 0, 0, 1])}, "terminals: expected 0 or 1, got 2 in row 2"),
        ({"timeouts": np.full(7, np.nan)}, "timeouts: expected 0 or 1, got nan in row 0"),
        ({"timeouts": np.array([b"no"] * 7)}, "timeouts: expected one flag per row"),
        ({"terminals": np.zeros((7, 2))}, "terminals: expected one flag per row"),
    ],
)
def test_other_shapes_and_types(tmp_path: Path, make_arrays: MakeArrays, change: Arrays, message: str) -> None:
    assert message in refusal(write_raw(tmp_path / "a.hdf5", make_arrays([3, 4]) | change))


@pytest.mark.parametrize("name", ["observations", "terminals", "infos/goal"])
@pytest.mark.parametrize("kind", ["soft link", "external link", "external storage", "virtual", "part", "filter"])
def test_data_that_is_not_in_the_file(tmp_path: Path, make_arrays: MakeArrays, name: str, kind: str) -> None:
    arrays = make_arrays([3, 4])
    value = arrays.pop(name)
    path = write_raw(tmp_path / "a.hdf5", arrays)
    other = write_raw(tmp_path / "other.hdf5", {"secret": value})
    with h5py.File(path, "a") as file:
        if kind == "soft link":
            file[name] = h5py.SoftLink("/actions")
        elif kind == "external link":
            file[name] = h5py.ExternalLink(str(other), "/secret")
        elif kind == "external storage":
            raw = tmp_path / "raw.bin"
            raw.write_bytes(value.tobytes())
            file.create_dataset(name, value.shape, value.dtype, external=[(str(raw), 0, value.nbytes)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(value.shape, value.dtype)
            layout[:] = h5py.VirtualSource(str(other), "secret", shape=value.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == "part":
            file.create_dataset(name, value.shape, value.dtype, chunks=(2, *value.shape[1:]))[:2] = value[:2]
        else:
            foreign = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            foreign.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
            file.create_dataset(name, data=value, chunks=(2, *value.shape[1:]), dcpl=foreign)
    expected = {
        "soft link": "got a link",
        "external link": "got a link",
        "external storage": "got external storage",
        "virtual": "got a virtual data set",
        "part": "got fewer in the file",
        "filter": "lzf, nbit, scaleoffset, shuffle, got filter number 32001; write the data again with gzip",
    }[kind]
    message = refusal(path)
    assert message.startswith(f"{path}: {name}: expected")
    assert expected in message


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("actions", "record it"),
        ("terminals", "write it, false where no episode ends"),
        ("timeouts", "write it, false where no episode ends"),
    ],
)
@pytest.mark.parametrize("chunks", [None, (2,)])
def test_an_array_that_was_never_written(
    tmp_path: Path, make_arrays: MakeArrays, name: str, remedy: str, chunks: tuple[int, ...] | None
) -> None:
    arrays = make_arrays([3, 4])
    value = arrays.pop(name)
    path = write_raw(tmp_path / "a.hdf5", arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset(name, value.shape, value.dtype, chunks=chunks and chunks + value.shape[1:])
    message = f"{name}: expected values, got an array that was created and never written; {remedy}"
    assert refusal(path) == f"{path}: {message}"


# --- side arrays


STAMPS = 1_700_000_000_000_000_000 + 20_000_000 * np.arange(7)
"""Nanoseconds, 20 ms apart: float32 knows two of them."""


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (STAMPS, "int64"),
        (2**24 + np.arange(7, dtype=np.int32), "int32"),
        (STAMPS.astype(np.uint64), "uint64"),
        (1e-9 * STAMPS, "float64"),
        (np.arange(7).astype(">i2"), "int16"),
        (np.arange(7) % 2 == 0, "uint8"),
        # 255 stands for missing data among bytes
        (np.array([0, 1, 2, 3, 4, 5, 255], np.uint8), "int16"),
        (np.array([[-128, 0]] * 7, np.int8), "int16"),
        (np.arange(7, dtype=np.float16), "float32"),
    ],
)
def test_side_arrays_keep_their_type_and_values(
    tmp_path: Path, make_arrays: MakeArrays, values: np.ndarray[Any, Any], dtype: str
) -> None:
    reader = D4RLReader(write_raw(tmp_path / "a.hdf5", make_arrays([3, 4]) | {"infos/extra": values}))
    assert reader.describe().schema.feature("extra").dtype == dtype
    store = write_store(tmp_path / "store", reader.episodes(), reader.describe().schema, {})
    stored = store.load("extra")
    assert stored.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(stored, values)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("seed", np.array([7]), "has shape (1,), not one vector for each of 7 steps"),
        ("version", np.array(3), "has shape (), not one vector for each of 7 steps"),
        ("image", np.zeros((7, 2, 2)), "has shape (7, 2, 2), not one vector for each of 7 steps"),
        ("empty", np.zeros((7, 0)), "has shape (7, 0), not one vector for each of 7 steps"),
        ("text", np.array([b"a"] * 7), "holds |S1, not numbers"),
        ("log_prob", np.array([0, 1, 2, -np.inf, 4, 5, 6]), "holds -inf in row 3"),
        ("id", np.full(7, np.iinfo(np.int64).min), "holds -9223372036854775808 in row 0"),
        ("observation", np.zeros(7), "would be called observation, as another array is"),
        ("Goal", np.zeros(7), "would be called goal, as another array is"),
    ],
)
def test_a_side_array_that_cannot_be_carried_over_is_left_out_and_said(
    tmp_path: Path, make_arrays: MakeArrays, name: str, values: np.ndarray[Any, Any], reason: str
) -> None:
    path = write_raw(tmp_path / "a.hdf5", make_arrays([3, 4]) | {f"infos/{name}": values})
    spec = D4RLReader(path).describe()
    assert spec.ignored == {f"infos/{name}": reason}
    assert [episode.length for episode in D4RLReader(path).episodes()] == [3, 4]
    with pytest.raises(
        SourceError, match=f"infos/{name}: expected an array to carry over, got one that {re.escape(reason)}"
    ):
        D4RLReader(path, only=[f"infos/{name}", "infos/goal"]).describe()


def test_a_side_array_that_was_never_written_is_left_out(tmp_path: Path, make_arrays: MakeArrays) -> None:
    path = write_raw(tmp_path / "a.hdf5", make_arrays([3, 4]))
    with h5py.File(path, "a") as file:
        file.create_dataset("infos/contact", (7,), np.float32)
    assert D4RLReader(path).describe().ignored == {"infos/contact": "was created and never written"}


def test_side_arrays_are_chosen_by_name(d4rl_file: Path) -> None:
    def names(**choice: list[str]) -> tuple[str, ...]:
        return D4RLReader(d4rl_file, **choice).describe().schema.names[3:]

    assert names() == ("qpos", "qvel", "goal")
    assert names(skip=["infos/qvel"]) == ("qpos", "goal")
    assert names(only=["infos/goal", "infos/qpos"]) == ("qpos", "goal")
    assert names(only=[]) == ()
    assert D4RLReader(d4rl_file, only=[]).describe().ignored["infos/goal"] == "left out by choice"
    with pytest.raises(
        SourceError, match=r"expected one of the side arrays infos/goal, infos/qpos, infos/qvel, got 'goal'"
    ):
        names(skip=["goal"])


# --- how episodes are found


def test_a_time_limit_counts_where_timeouts_are_never_set(tmp_path: Path, make_arrays: MakeArrays) -> None:
    arrays = make_arrays([6, 3], [True, True])
    assert not arrays["timeouts"].any()
    path = write_raw(tmp_path / "a.hdf5", arrays)
    assert [episode.length for episode in D4RLReader(path, episode_steps=4).episodes()] == [4, 2, 3]
    assert D4RLReader(path, episode_steps=4).describe().notes == ()


def test_what_a_person_should_know_of_the_episodes_is_said(
    tmp_path: Path, d4rl_file: Path, make_arrays: MakeArrays
) -> None:
    assert D4RLReader(d4rl_file, episode_steps=2).describe().notes == (
        "episode_steps is not used: the timeouts of the file end its episodes",
    )
    arrays = make_arrays([7])
    arrays["timeouts"][:] = False
    path = write_raw(tmp_path / "a.hdf5", arrays)
    assert D4RLReader(path).describe().notes == (
        "nothing ends an episode: all 7 rows are one; give --episode-steps if they are not",
    )


@pytest.mark.parametrize("steps", [0, -3])
def test_a_time_limit_is_positive(d4rl_file: Path, steps: int) -> None:
    with pytest.raises(ConfigError, match=f"episode_steps: expected at least 1 step, got {steps}"):
        D4RLReader(d4rl_file, episode_steps=steps)


def test_groups_in_a_circle(d4rl_file: Path) -> None:
    with h5py.File(d4rl_file, "a") as file:
        file["infos/again"] = file["infos"]
    assert "got a loop at 'infos/again/'" in refusal(d4rl_file)


def test_more_data_than_any_memory(d4rl_file: Path) -> None:
    with h5py.File(d4rl_file, "a") as file:
        file.create_dataset("infos/bomb", (2**40,), "f4", chunks=(2**20,), compression="gzip")
    assert "infos/bomb: expected at most 68719476736 bytes, got 4398046511104 bytes; split" in refusal(d4rl_file)


MUTATE = """
import resource, signal, sys
import numpy as np
from supple.datasets import D4RLReader
from supple.errors import ConfigError, SourceError
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
source, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = np.fromfile(source, np.uint8)
read = refused = 0
for seed in range(count):
    rng = np.random.default_rng(seed)
    mutant = data.copy()
    where = rng.integers(len(data), size=rng.integers(1, 17))
    kind = seed % 4
    if kind == 0:
        mutant[where] ^= 1 << rng.integers(8, size=len(where)).astype(np.uint8)
    elif kind == 1:
        mutant = mutant[: where[0]]
    elif kind == 2:
        mutant[where[0]: where[0] + 8] = rng.choice([0, 255])
    else:
        mutant = np.concatenate([mutant[: where[0]], mutant[where[-1]:]])
    mutant.tofile(target)
    signal.alarm(5)
    try:
        reader = D4RLReader(target)
        spec = reader.describe()
        assert sum(episode.length for episode in reader.episodes()) == spec.rows
        read += 1
    except SourceError as error:
        assert target in str(error) and "\\n" not in str(error)
        refused += 1
print(read, refused)
"""


def test_any_bytes_give_data_or_one_typed_line(tmp_path: Path, make_arrays: MakeArrays) -> None:
    """Flips, cuts, length fields and splices; in a child, so that a crash or a hang of the HDF5 library would show."""
    source = tmp_path / "source.hdf5"
    with h5py.File(source, "w") as file:
        for name, value in make_arrays([20, 30]).items():
            file.create_dataset(name, data=value, chunks=(16, *value.shape[1:]), compression="gzip")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", MUTATE, str(source), str(tmp_path / "mutant.hdf5"), "300"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    read, refused = map(int, result.stdout.split())
    assert read + refused == 300
    assert refused > 75


def test_who_moved_the_robot_stands_in_the_provenance(tmp_path: Path, make_arrays: MakeArrays) -> None:
    told = write_d4rl(tmp_path / "a.hdf5", make_arrays([3, 4]), origin="scripts, not a person")
    untold = write_d4rl(tmp_path / "b.hdf5", make_arrays([3, 4]))
    assert D4RLReader(told).describe().provenance["origin"] == "scripts, not a person"
    assert "origin" not in D4RLReader(untold).describe().provenance
    assert not D4RLReader(told).describe().ignored
    with h5py.File(told, "r+") as file:
        del file["metadata/origin"]
        file["metadata/origin"] = np.arange(3)
    with pytest.raises(SourceError, match=r"a.hdf5: metadata/origin: expected text in UTF-8, got int64 \(3,\)"):
        D4RLReader(told).describe()


def test_one_number_per_step_is_one_axis(tmp_path: Path) -> None:
    arrays = {
        "observations": np.zeros((7, 2), np.float32),
        "actions": np.arange(7),
        "rewards": np.zeros(7),
        "terminals": np.arange(7) == 6,
    }
    reader = D4RLReader(write_d4rl(tmp_path / "a.hdf5", arrays))
    assert reader.describe().schema.feature("action").shape == (1,)
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["action"], np.arange(7)[:, None])
