"""Every format: recognised, equal to what was written, the contract of a reader, options, and names for what is no
format."""

import dataclasses
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.datasets import Reader
from supple.datasets.containers import CONTAINERS
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import FORMATS, find_format, open_source
from supple.datasets.testing import ReaderContract
from supple.errors import ConfigError, FormatError, SourceError
from tests.datasets.make_sources import LENGTHS, MAKERS, make_d4rl, make_minari, record

UNITS = {"lerobot": ReadOptions(observation_units=("deg",), action_units=("deg",))}


def options_of(format_name: str) -> ReadOptions:
    return UNITS.get(format_name, ReadOptions())


@pytest.mark.parametrize("layout", MAKERS)
class TestReader(ReaderContract):
    """The contract, for each layout."""

    @pytest.fixture(autouse=True)
    def _choose(self, layout: str) -> None:
        self.format_name, self.maker = MAKERS[layout]

    def make_source(self, folder: Path) -> Path:
        return self.maker(folder, record())

    def make_reader(self, path: Path) -> Reader:
        return FORMATS[self.format_name].read(path, options_of(self.format_name))

    def test_it_is_recognised_and_equal_to_what_was_written(self, tmp_path: Path) -> None:
        path = self.make_source(tmp_path)
        assert find_format(path).name == self.format_name
        reader = open_source(path, options_of(self.format_name))
        read, written = list(reader.episodes()), record()
        assert [episode.length for episode in read] == list(LENGTHS)
        assert not reader.describe().questions
        for mine, theirs in zip(read, written, strict=True):
            np.testing.assert_array_equal(mine.arrays["observation"], theirs.observation[:-1])
            np.testing.assert_array_equal(mine.arrays["action"], theirs.action)
            assert (mine.terminated, mine.truncated) == (False, True)
            if "reward" in mine.arrays:
                np.testing.assert_array_equal(mine.arrays["reward"], theirs.reward)
            if "next_observation" in mine.arrays:
                np.testing.assert_array_equal(mine.arrays["next_observation"], theirs.observation[1:])

    def test_all_is_said_to_be_carried_over_or_left_out(self, tmp_path: Path) -> None:
        spec = self.make_reader(self.make_source(tmp_path)).describe()
        columns = {column for names in spec.provenance.get("columns", {}).values() if names != 1 for column in names}
        if columns:
            assert set(spec.contents) <= columns | set(spec.ignored) | {"mask/train", "meta/episode_ends"}


def test_only_formats_with_the_last_observation_carry_it(tmp_path: Path) -> None:
    def carries(layout: str) -> bool:
        folder = tmp_path / layout
        folder.mkdir()
        format_name, maker = MAKERS[layout]
        reader = FORMATS[format_name].read(maker(folder, record()), options_of(format_name))
        return "next_observation" in reader.describe().schema.names

    having = {layout for layout in MAKERS if carries(layout)}
    assert having == {"minari-hdf5", "minari-arrow", "minari-parquet", "robomimic", "ogbench"}


def test_a_format_refuses_the_options_of_others(tmp_path: Path) -> None:
    path = make_minari(tmp_path, record())
    with pytest.raises(ConfigError, match=r"^--episode-steps: expected a source of format d4rl, got a Minari data set"):
        open_source(path, ReadOptions(episode_steps=5))
    with pytest.raises(ConfigError, match=r"^--filter: expected a source of format robomimic, got a Minari"):
        open_source(path, ReadOptions(filter="train"))
    play = tmp_path / "play"
    play.mkdir()
    with pytest.raises(ConfigError, match=r"^--action-keys: expected a source of format minari, .*, got a D4RL"):
        open_source(make_d4rl(play, record()), ReadOptions(action_keys=("a",)))
    for field in dataclasses.fields(ReadOptions):
        assert field.name == "format" or any(field.name in row.options for row in FORMATS.values())


def test_a_format_can_be_named(tmp_path: Path) -> None:
    path = make_d4rl(tmp_path, record())
    assert find_format(path, "robomimic").name == "robomimic"
    with pytest.raises(ConfigError, match=r"--format: expected one of d4rl, minari, .*, got 'hdf'"):
        find_format(path, "hdf")
    with pytest.raises(FormatError, match=r"expected an OGBench \.npz file, got an HDF5 file"):
        find_format(path, "ogbench")


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"observations": np.zeros(3)}))


def write_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("create table messages (id integer)")
    base.close()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")


def write_torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def write_matlab(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["observations"] = np.zeros((3, 100))
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


KINDS = {
    "pickle": write_pickle,
    "sqlite": write_sqlite,
    "zip": write_zip,
    "torch": write_torch,
    "matlab-hdf5": write_matlab,
    "matlab": lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + b" " * 200),
    "rosbag1": lambda path: path.write_bytes(b"#ROSBAG V2.0\n" + bytes(50)),
    "mcap": lambda path: path.write_bytes(b"\x89MCAP0\r\n" + bytes(50)),
    "mp4": lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(50)),
    "csv": lambda path: path.write_text("time,x,y\n0.0,1,2\n0.1,1,2\n"),
    "html": lambda path: path.write_text("<!DOCTYPE html>\n<title>404</title>"),
    "lfs": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "json": lambda path: path.write_text(json.dumps({"a": 1})),
    "text": lambda path: path.write_text("some words\n"),
    "npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\0" + bytes(50)),
    "parquet": lambda path: path.write_bytes(b"PAR1" + bytes(50)),
    "gzip": lambda path: path.write_bytes(b"\x1f\x8b" + bytes(50)),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_format_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.hdf5"
    KINDS[kind](path)
    supported = any(kind in row.containers for row in FORMATS.values())
    for name in (None, "d4rl"):
        if name is None and supported:
            continue
        with pytest.raises(FormatError) as caught:
            find_format(path, name)
        assert caught.value.found == CONTAINERS[kind]
        assert CONTAINERS[kind] in str(caught.value)
        assert "damaged" not in str(caught.value)
        assert "whole" not in str(caught.value)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="got 'No such file or directory'"):
        find_format(tmp_path / "nothing")
    with pytest.raises(SourceError, match="embedded null"):
        find_format(Path("a\0b"))
    with pytest.raises(FormatError, match="got an empty folder"):
        find_format(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"^\S+pipe: expected a file or folder, got a pipe or device; give a file$"):
        find_format(tmp_path / "pipe")


HDF5 = {
    "a pandas": {"table/axis0": np.zeros(3), "table/block0_values": np.zeros((3, 2))},
    "an episode of ALOHA or ACT": {"observations/qpos": np.zeros((5, 14)), "action": np.zeros((5, 14))},
    "a ManiSkill": {"traj_0/actions": np.zeros((5, 2)), "traj_0/obs": np.zeros((6, 2))},
    "an HDF5 file with the entries 'force', 'time'": {"time": np.zeros(3), "force": np.zeros(3)},
}


@pytest.mark.parametrize("found", HDF5)
def test_hdf5_files_of_other_layouts_are_named(found: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in HDF5[found].items():
            file[name] = values
        if "pandas" in found:
            file["table"].attrs["pandas_type"] = "frame"
    with pytest.raises(FormatError, match=rf"got {found}") as caught:
        find_format(tmp_path / "a.h5")
    assert caught.value.known == ("entries" not in found)


def test_transposed_arrays_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["observations"], file["actions"] = np.zeros((4, 100)), np.zeros((2, 100))
        file["rewards"], file["terminals"] = np.zeros(100), np.zeros(100, np.bool_)
    with pytest.raises(
        FormatError, match=r"got arrays that are transposed, \(4, 100\), as MATLAB and Julia write them"
    ):
        open_source(tmp_path / "a.h5", ReadOptions()).describe()


def test_recognising_loads_only_the_libraries_of_the_format(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from supple.datasets.formats import find_format
try:
    find_format(Path(sys.argv[1]))
except ValueError:
    pass
print([name for name in ("h5py", "zarr", "pyarrow", "numcodecs") if name in sys.modules])
"""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.csv")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
