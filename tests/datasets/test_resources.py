"""Files that ask for far more than they are, that have very many entries, or that somebody is still writing."""

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from supple.datasets import Episode, Feature, Schema, hdf5, open_store, source_files, write_store
from supple.datasets.arrow_columns import RowStream, read_table
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.errors import SourceError
from tests.datasets.fuzz_readers import read_peak
from tests.datasets.make_sources import MAKERS, make_d4rl, record
from tests.datasets.mutations import BOMB_BYTES, BOMBS

SECONDS = 10.0
"""Of CPU, on a slow machine."""


@pytest.mark.parametrize("layout", ["d4rl", "robomimic", "spirl", "minari-hdf5", "ogbench", "zarr-zip", "zarr"])
def test_a_small_file_that_declares_much_is_refused_before_memory_is_taken(layout: str, tmp_path: Path) -> None:
    name, maker = MAKERS[layout]
    source = maker(tmp_path, record())
    root = source if source.is_dir() else source.parent
    files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    changes = BOMBS[layout](files, np.random.default_rng(1))
    for changed, data in changes.items():
        assert isinstance(data, bytes)
        (root / changed).write_bytes(data)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; libraries in C count, too
    before = read_peak()
    reader = open_source(source, ReadOptions(format=name))
    with suppress(SourceError):  # the bomb may be in what nobody asks for
        reader.describe()
        list(reader.episodes())
    assert read_peak() - before < BOMB_BYTES / 2


def make_zeros(path: Path, rows: int, chunks: int) -> Path:
    """A whole D4RL file of zeros: every array is written, so that nothing but its size is wrong."""
    with h5py.File(path, "w") as file:
        for name, width, dtype in (
            ("observations", 2, np.float32),
            ("actions", 2, np.float32),
            ("rewards", 0, np.float32),
            ("terminals", 0, np.bool_),
            ("timeouts", 0, np.bool_),
        ):
            tail = (width,) if width else ()
            block = np.zeros((rows, *tail), dtype)
            data = file.create_dataset(
                name, (rows * chunks, *tail), dtype, chunks=block.shape, compression="gzip", compression_opts=9
            )
            packed = zlib.compress(block.tobytes(), 9)
            for index in range(chunks):
                data.id.write_direct_chunk((rows * index, *(0 for _ in tail)), packed)
    return path


def test_a_whole_file_that_unpacks_to_a_thousand_times_its_size_is_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    path = make_zeros(tmp_path / "zeros.hdf5", 2**20, 60)  # 1.4 GB of zeros
    assert path.stat().st_size < 2**21
    Path("/proc/self/clear_refs").write_text("5")
    before = read_peak()
    with pytest.raises(SourceError, match="bytes decoded from"):
        list(open_source(path, ReadOptions(format="d4rl")).episodes())
    assert read_peak() - before < 2**26


def make_keys(path: Path) -> Path:
    """A D4RL file with 3,000 arrays beside the usual ones."""
    path = make_d4rl(path, record())
    with h5py.File(path, "r+") as file:
        rows = len(file["observations"])
        for number in range(3000):
            file[f"infos/key{number}"] = np.zeros((rows, 2), np.float32)
    return path


def make_columns(path: Path) -> Path:
    """A D4RL file whose observation has 2.5 million axes."""
    path = make_d4rl(path, record())
    with h5py.File(path, "r+") as file:
        rows = len(file["observations"])
        del file["observations"]
        file.create_dataset("observations", (rows, 2_500_000), "f4", chunks=(rows, 50_000), compression="gzip")
        file["observations"][0, 0] = 1.0
    return path


def make_wide_archive(path: Path) -> Path:
    """An OGBench file whose observation has 2.5 million axes."""
    rows = 3
    np.savez_compressed(
        path / "wide.npz",
        observations=np.zeros((rows, 2_500_000), np.float32),
        actions=np.zeros((rows, 2), np.float32),
        terminals=np.arange(rows) == rows - 1,
    )
    return path / "wide.npz"


@pytest.mark.parametrize("make", [make_keys, make_columns, make_wide_archive])
def test_very_many_entries_are_answered_in_seconds(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = make(tmp_path)
    began = time.process_time()
    reader = open_source(source, ReadOptions())
    if make is make_keys:
        assert len(reader.describe().schema.features) > 3000
    else:
        with pytest.raises(SourceError, match="expected"):
            reader.describe()
    assert time.process_time() - began < SECONDS


WRITER = """
import sys
file = open(sys.argv[1], "r+b")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("layout", ["d4rl", "ogbench", "lerobot-3.0"])
def test_a_file_that_another_process_is_writing_is_said(layout: str, tmp_path: Path) -> None:
    name, maker = MAKERS[layout]
    source = maker(tmp_path, record())
    written = source if source.is_file() else sorted(source.rglob("*.parquet"))[0]
    units = ("deg",) if name == "lerobot" else None
    options = ReadOptions(observation_units=units, action_units=units)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(written)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    with pytest.raises(SourceError, match="another process"):
        open_source(source, options).describe()
    writer.communicate("")
    assert open_source(source, options).describe().rows


def test_an_episode_beyond_its_limit_is_refused_and_cut_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "MOST_EPISODE_BYTES", 100)
    source = make_d4rl(tmp_path, record([2, 9]))
    with pytest.raises(
        SourceError, match=r"an episode of at most 100 bytes, got 9 steps of 2\d bytes; cut it with --epis"
    ):
        list(open_source(source, ReadOptions()).episodes())
    monkeypatch.setattr(source_files, "MOST_EPISODE_BYTES", 2**28)
    assert len(list(open_source(source, ReadOptions()).episodes())) == 2


def test_a_long_episode_is_written_block_by_block(tmp_path: Path) -> None:
    schema = Schema(
        features=(Feature(name="action", shape=(8,), units=("",) * 8, role="action", axes=tuple("abcdefgh")),)
    )
    steps = 2_300_000  # 70 MiB, two blocks and more
    whole = np.arange(8 * steps, dtype=np.float32).reshape(steps, 8)
    ends = [0, 5, steps - 7, steps]
    episodes = [Episode({"action": whole[a:b]}, True, False) for a, b in pairwise(ends)]
    write_store(tmp_path / "store", episodes, schema, {})
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.load("action"), whole)
    assert store.episodes.length.tolist() == [5, steps - 12, 7]


def test_parquet_whose_equal_numbers_take_no_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "FREE_BYTES", 1000)
    rows = 500_000
    names = ("observation.state", "episode_index")
    pq.write_table(pa.table(dict.fromkeys(names, np.zeros(rows))), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 5000
    for read in (read_table, RowStream):
        with pytest.raises(SourceError, match=r"observation\.state: expected at most \d+ bytes decoded.* got 4000000"):
            read(tmp_path / "a.parquet", names[:1])


def test_a_link_to_another_file_is_never_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # would be waited for
    sources = [make_d4rl(tmp_path, record()), tmp_path / "unknown.hdf5"]
    for source in sources:
        with h5py.File(source, "a") as file:
            file.create_group("group")["away"] = h5py.ExternalLink("pipe", "/")
        with pytest.raises(SourceError, match=r"group/away: expected data in this file, got a link to another one"):
            open_source(source, ReadOptions()).describe()


def test_a_chunk_is_unpacked_as_a_whole_and_so_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_d4rl(tmp_path, record())
    with h5py.File(source, "r+") as file:
        observation = file["observations"][:]
        del file["observations"]
        file.create_dataset("observations", data=observation, chunks=observation.shape)
    monkeypatch.setattr(hdf5, "MAX_CHUNK_BYTES", observation.nbytes - 1)
    with pytest.raises(SourceError, match="observations: expected chunks of at most"):
        open_source(source, ReadOptions()).describe()
    (tmp_path / "zarr").mkdir()
    source = MAKERS["zarr"][1](tmp_path / "zarr", record())
    facts = json.loads((source / "data/action/.zarray").read_text())
    (source / "data/action/.zarray").write_text(json.dumps(facts | {"chunks": [2**26, facts["shape"][1]]}))
    with pytest.raises(SourceError, match="data/action: expected chunks of at most"):
        open_source(source, ReadOptions()).describe()


def test_no_flipped_bit_of_a_parquet_footer_ends_the_process(tmp_path: Path) -> None:
    """The library throws where nobody can catch it when the metadata of a damaged column are asked for."""
    program = """if True:
        import sys
        from pathlib import Path
        from supple.datasets.arrow_columns import RowStream
        from supple.errors import SourceError
        path, refused = Path(sys.argv[1]), 0
        data = path.read_bytes()
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        for place in range(footer, len(data) - 8):
            for bit in range(8):
                path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
                try:
                    RowStream(path, ["row"]).take(0, 3)
                except SourceError:
                    refused += 1
        print(refused)
    """
    path = tmp_path / "a.parquet"
    table = pa.table({"row": np.arange(3)})
    pq.write_table(table, path, store_schema=False, use_dictionary=False, write_statistics=True)
    child = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-500:]
    assert int(child.stdout) > 100
