import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.datasets import (
    Episode,
    EpisodeStore,
    Feature,
    Schema,
    WindowSampler,
    open_store,
    verify_store,
    write_store,
    writing_store,
)
from supple.datasets import layout as layout_module
from supple.datasets import store as store_module
from supple.datasets import store_writer as writer_module
from supple.datasets.publish import remove_abandoned
from supple.errors import SpecError, StoreError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

MakeEpisodes = Callable[[Sequence[int]], Iterator[Episode]]
PROVENANCE = {"source": "made in a test"}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8 rows, written one at a time, so that few rows make many chunks; nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 8)
    monkeypatch.setattr(writer_module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(store_module, "CHUNK_ROWS", 8)
    monkeypatch.setattr(store_module, "_BLOCK_ROWS", 16)


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


# --- round trip


def test_round_trip(store: EpisodeStore, schema: Schema, make_episodes: MakeEpisodes) -> None:
    assert store.schema == schema
    assert store.provenance == PROVENANCE
    assert store.rows == 11
    np.testing.assert_array_equal(store.episodes.start, [0, 4, 5])
    np.testing.assert_array_equal(store.episodes.length, [4, 1, 6])
    np.testing.assert_array_equal(store.episodes.terminated, [True, False, True])
    np.testing.assert_array_equal(store.episodes.truncated, [False, True, False])
    episodes = list(make_episodes([4, 1, 6]))
    for name in schema.names:
        whole = np.concatenate([episode.arrays[name] for episode in episodes])
        loaded = store.load(name)
        assert loaded.dtype == whole.dtype
        np.testing.assert_array_equal(loaded, whole)


def test_steps_that_a_log_keeps_as_invalid_are_not_learned_from(
    tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes
) -> None:
    flag = Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",))
    valid = [[1, 0, 1, 1], [0], [1, 1, 1, 0, 0, 1]]
    episodes = [
        Episode({**one.arrays, "valid": np.array(flags, np.uint8)}, one.terminated, one.truncated)
        for one, flags in zip(make_episodes([4, 1, 6]), valid, strict=True)
    ]
    kept = write_store(tmp_path / "kept", episodes, replace(schema, features=(*schema.features, flag)), PROVENANCE)
    start, length, terminated, truncated = kept.find_stretches()
    assert start.tolist() == [0, 2, 5, 10]
    assert length.tolist() == [1, 2, 3, 1]
    assert terminated.tolist() == [False, True, False, True]
    assert truncated.tolist() == [True, False, True, False]
    sampler = WindowSampler(kept.load("observation"), kept.load("action"), start, length, 2)
    rows = sampler.take(np.arange(sampler.num_windows))[0][:, :, 0]
    assert rows.tolist() == [[2, 3], [5, 6], [6, 7]]


@pytest.mark.parametrize(
    ("said", "marks"),
    [
        ({}, True),
        ({"format": "mcap", "mapping": {}}, True),
        ({"format": "d4rl-hdf5"}, False),
        ({"format": "robomimic-hdf5", "columns": {"version": 1, "valid": ["valid"]}}, False),
        ({"parts": [{"source": {"format": "d4rl-hdf5"}}]}, False),
    ],
)
def test_an_array_of_a_source_that_is_called_valid_is_no_mark_in_older_stores(
    said: dict[str, Any], marks: bool, tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes
) -> None:
    flag = Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",))
    (one,) = make_episodes([4])
    episode = Episode({**one.arrays, "valid": np.array([1, 0, 1, 1], np.uint8)}, False, True)
    kept = write_store(tmp_path / "kept", [episode], replace(schema, features=(*schema.features, flag)), said)
    assert kept.load_valid().tolist() == [True, not marks, True, True]
    assert kept.load_valid(0).tolist() == [True, not marks, True, True]


def test_all_steps_of_most_stores_are_learned_from(store: EpisodeStore) -> None:
    assert store.load_valid().all()
    assert store.find_stretches() is store.episodes


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 23), min_size=1, max_size=6),
    rows=st.sampled_from(["unknown", "known", "wrong"]),
    compression=st.sampled_from(["none", "zstd"]),
)
@pytest.mark.usefixtures("small_chunks")
def test_ragged_episodes_come_back(
    lengths: list[int],
    rows: str,
    compression: Any,
    tmp_path_factory: pytest.TempPathFactory,
    schema: Schema,
    make_episodes: MakeEpisodes,
) -> None:
    path = tmp_path_factory.mktemp("round") / "store"
    total = {"unknown": None, "known": sum(lengths), "wrong": 29}[rows]
    steps = list(writing_store(path, make_episodes(lengths), schema, PROVENANCE, rows=total, compression=compression))
    assert steps[-1] == (sum(lengths), total)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    store = open_store(path)
    verify_store(path)
    np.testing.assert_array_equal(store.episodes.length, lengths)
    np.testing.assert_array_equal(store.load("count"), np.arange(sum(lengths)))
    np.testing.assert_array_equal(store.load("action")[:, 0], np.concatenate([np.arange(n) for n in lengths]))
    np.testing.assert_array_equal(np.concatenate(list(store.blocks("observation"))), store.load("observation"))
    plain = zarr.open_group(path, mode="r")["steps/observation"]  # any zarr v3 reader can read it
    np.testing.assert_array_equal(np.asarray(plain[...])[:, 1], np.arange(sum(lengths)) + 0.5)
    shutil.rmtree(path)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_finite_value_comes_back(
    values: list[float], tmp_path_factory: pytest.TempPathFactory, schema: Schema
) -> None:
    path = tmp_path_factory.mktemp("values") / "store"
    count = len(values)
    column = np.array(values, np.float32)[:, None]
    arrays = {"observation": column.repeat(2, 1), "action": column, "count": np.full(count, 2**31 - 1, np.int32)}
    loaded = write_store(path, [Episode(arrays, True, False)], schema, {}).load("action")
    assert loaded.tobytes() == column.tobytes()  # the sign of zero included
    shutil.rmtree(path)


def test_the_codec_and_the_fill_value(store: EpisodeStore) -> None:
    metadata = json.loads((store.path / "steps/observation/zarr.json").read_bytes())
    assert metadata["zarr_format"] == 3
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "crc32c"]
    assert metadata["fill_value"] == "NaN"
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [layout_module.CHUNK_ROWS, 2]
    assert json.loads((store.path / "steps/count/zarr.json").read_bytes())["fill_value"] == -(2**31)
    assert json.loads((store.path / "episodes/terminated/zarr.json").read_bytes())["fill_value"] == 255


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_chunks_are_the_bytes_that_zarr_writes(
    tmp_path: Path, compression: layout_module.Compression, dtype: str
) -> None:
    values = np.arange(1, 22).reshape(7, 3).astype(dtype)
    array = zarr.create_array(
        tmp_path / "array",
        shape=values.shape,
        chunks=(5, 3),
        dtype=dtype,
        compressors=layout_module.make_codecs(compression),
        fill_value=layout_module.missing_value(dtype),
        chunk_key_encoding=layout_module.CHUNK_KEYS,
    )
    array[:] = values
    for name, rows in (("c.0.0", values[:5]), ("c.1.0", values[5:])):
        assert b"".join(layout_module.encode_chunk(rows, 5, compression)) == (tmp_path / "array" / name).read_bytes()


def test_chunks_of_zeros_are_files_too(tmp_path: Path, schema: Schema) -> None:
    zeros = {"observation": np.zeros((3, 2), np.float32), "action": np.zeros((3, 1), np.float32)}
    episode = Episode(zeros | {"count": np.zeros(3, np.int32)}, terminated=False, truncated=False)
    store = write_store(tmp_path / "store", [episode], schema, {})
    assert (store.path / "episodes/terminated/c.0").is_file()
    assert (store.path / "steps/action/c.0.0").is_file()


# --- digest


def test_the_same_data_gives_the_same_digest(tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes) -> None:
    first = write_store(tmp_path / "first", make_episodes([4, 1, 6]), schema, PROVENANCE)
    second = tmp_path / "elsewhere" / "second"
    list(writing_store(second, make_episodes([4, 1, 6]), schema, PROVENANCE, rows=11))
    assert open_store(second).digest == first.digest
    assert [file.read_bytes() for file in files_of(second)] == [file.read_bytes() for file in files_of(first.path)]


def test_other_data_gives_another_digest(store: EpisodeStore, schema: Schema, make_episodes: MakeEpisodes) -> None:
    folder = store.path.parent
    other_clock = Schema(features=schema.features, control_period=0.02)
    cart = RobotSpec(
        "cart",
        ArraySpec("observation", (Axis("x", "m", -1.0, 1.0), Axis("y", "m", -1.0, 1.0))),
        ArraySpec("action", (Axis("push", "N", -1.0, 1.0),)),
        ArraySpec("goal", (Axis("x", "m", -1.0, 1.0),)),
        0.01,
        10,
    )
    known_robot = Schema(features=schema.features, control_period=0.01, robot=cart)
    others = [
        write_store(folder / "a", make_episodes([4, 2, 5]), schema, PROVENANCE),
        write_store(folder / "b", make_episodes([4, 1, 6]), other_clock, PROVENANCE),
        write_store(folder / "d", make_episodes([4, 1, 6]), known_robot, PROVENANCE),
        write_store(folder / "c", make_episodes([4, 1, 6]), schema, {"source": "another"}),
    ]
    assert len({store.digest, *(other.digest for other in others)}) == 5
    assert open_store(folder / "d").schema.robot == cart


# --- what the writer refuses


def test_an_existing_entry_is_never_overwritten(
    store: EpisodeStore, schema: Schema, make_episodes: MakeEpisodes
) -> None:
    before = store.digest
    with pytest.raises(StoreError, match="expected nothing there yet"):
        write_store(store.path, make_episodes([2]), schema, PROVENANCE)
    assert open_store(store.path).digest == before
    assert [entry.name for entry in store.path.parent.iterdir()] == ["store"]


def test_of_two_writers_one_wins(tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes) -> None:
    def slow() -> Iterator[Episode]:
        yield from make_episodes([3])
        write_store(tmp_path / "store", make_episodes([5]), schema, PROVENANCE)  # the other is faster

    with pytest.raises(StoreError, match="expected nothing there yet"):
        write_store(tmp_path / "store", slow(), schema, PROVENANCE)
    assert open_store(tmp_path / "store").rows == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def changed(episode: Episode, **arrays: Any) -> Episode:
    merged = {name: value for name, value in (dict(episode.arrays) | arrays).items() if value is not None}
    return Episode(merged, episode.terminated, episode.truncated)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"action": None}, "episode 1: expected the features observation, action, count, got observation, count"),
        ({"observation": None, "action": None, "count": None}, "episode 1: expected the features observation, action"),
        ({"extra": np.zeros(3)}, "episode 1: expected the features .*, got observation, action, count, extra"),
        ({"action": np.zeros((2, 1), np.float32)}, r"episode 1: action: expected float32 of shape \(3, 1\)"),
        ({"action": np.zeros((3, 1))}, r"action: expected float32 of shape \(3, 1\), got float64"),
        (
            {"action": np.array([[0], [np.nan], [0]], np.float32)},
            r"steps/action: expected finite values .*, got .nan. in row 5;",
        ),
        (
            {"count": np.array([0, 0, -(2**31)], np.int32)},
            "steps/count: .* other than -2147483648, got -2147483648 in row 6;",
        ),
    ],
)
def test_an_episode_that_does_not_fit(
    tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes, arrays: dict[str, Any], message: str
) -> None:
    first, second = make_episodes([4, 3])
    with pytest.raises(StoreError, match=message):
        write_store(tmp_path / "store", [first, changed(second, **arrays)], schema, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_no_episode_and_an_empty_one(tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes) -> None:
    with pytest.raises(StoreError, match="expected at least one episode, got 0; check the source"):
        write_store(tmp_path / "store", [], schema, PROVENANCE)
    with pytest.raises(StoreError, match="episode 0: expected at least one step, got 0 steps"):
        write_store(tmp_path / "store", make_episodes([0]), schema, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
def test_a_writer_that_is_closed_leaves_nothing(tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes) -> None:
    steps = writing_store(tmp_path / "store", make_episodes([9, 9, 9]), schema, PROVENANCE)
    assert next(steps) == (8, None)
    (partial,) = tmp_path.iterdir()
    with pytest.raises(StoreError, match=r"MANIFEST.json: expected the manifest|got an unfinished write"):
        open_store(partial)
    steps.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
def test_a_living_writer_keeps_its_folder(tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes) -> None:
    steps = writing_store(tmp_path / "store", make_episodes([9, 9]), schema, PROVENANCE)
    next(steps)
    abandoned = tmp_path / "store.partial-0123"
    abandoned.mkdir()
    remove_abandoned(tmp_path / "store")
    assert not abandoned.exists()
    assert len(list(tmp_path.iterdir())) == 1
    list(steps)
    assert open_store(tmp_path / "store").rows == 18


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_at_any_moment_leaves_nothing(
    tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The k-th sync or rename fails, for k = 1, 2, ... until none does; only the last sync comes after publication."""
    genuine = getattr(os, call)
    for failing in range(1, 100):
        calls = iter(range(1, 1000))

        def limited(*args: Any, calls: Iterator[int] = calls, failing: int = failing) -> Any:
            if next(calls) == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return None if call == "fsync" else genuine(*args)

        monkeypatch.setattr(os, call, limited)
        try:
            write_store(tmp_path / "store", make_episodes([2]), schema, PROVENANCE)
        except StoreError as error:
            refusal = str(error)
            assert "No space left on device; free some space" in refusal
        else:
            break
        finally:
            monkeypatch.setattr(os, call, genuine)
        if (tmp_path / "store").exists():
            verify_store(tmp_path / "store")
            shutil.rmtree(tmp_path / "store")
        assert list(tmp_path.iterdir()) == []
    assert failing > (20 if call == "fsync" else 1)
    verify_store(tmp_path / "store")


# --- memory maps


def test_memory_maps_are_keyed_by_content(
    store: EpisodeStore, tmp_path: Path, schema: Schema, make_episodes: MakeEpisodes
) -> None:
    cache = tmp_path / "cache"
    mapped = store.memmap("observation", cache)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, store.load("observation"))
    (file,) = cache.glob("*.npy")
    written = file.stat().st_mtime_ns
    store.memmap("observation", cache)
    assert file.stat().st_mtime_ns == written
    other = write_store(tmp_path / "other", make_episodes([4, 1, 7]), schema, PROVENANCE)
    assert len(other.memmap("observation", cache)) == 12
    assert len(list(cache.glob("*.npy"))) == 2
    assert store.memmap("count", cache).dtype == np.int32


def test_a_changed_cache_file_is_refused(store: EpisodeStore, tmp_path: Path) -> None:
    store.memmap("action", tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=f"{file}: expected the cached action, got changed bytes; remove the file"):
        store.memmap("action", tmp_path / "cache")


def test_an_unknown_feature_lists_the_known_ones(store: EpisodeStore, tmp_path: Path) -> None:
    for call in (store.load, lambda name: store.memmap(name, tmp_path), lambda name: list(store.blocks(name))):
        with pytest.raises(SpecError, match="expected a feature of observation, action, count, got 'velocity'"):
            call("velocity")
