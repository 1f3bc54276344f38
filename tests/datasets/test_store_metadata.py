"""A store whose metadata are impossible, under a manifest that fits them, is refused at once and in little memory."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from numcodecs.zstd import Zstd

from supple.datasets import Episode, EpisodeStore, Schema, open_store, verify_store, write_store
from supple.datasets.manifest import MANIFEST_NAME, FileEntry, Manifest, hash_file, load_manifest, measure_file
from supple.errors import StoreError


def reseal(path: Path, chunks: dict[str, int] | None = None) -> None:
    """Writes a manifest of the files as they are now."""
    old = load_manifest(path)
    files = {name: path / name for name in old.files if (path / name).exists()}
    entries = {name: FileEntry(hash_file(file), *measure_file(file)) for name, file in files.items()}
    (path / MANIFEST_NAME).write_bytes(Manifest(files=entries, chunks=chunks or old.chunks).to_bytes())


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_array(name: str, **fields: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def update(value: Any) -> None:
            for key, field in fields.items():
                if key == "chunks":
                    value["chunk_grid"]["configuration"]["chunk_shape"] = field
                else:
                    value[key] = field

        change_json(path / name / "zarr.json", update)

    return change


def change_root(*keys: Any, to: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def update(value: Any) -> None:
            for key in keys[:-1]:
                value = value[key]
            value[keys[-1]] = to

        change_json(path / "zarr.json", update)

    return change


def change_text(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / "zarr.json"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


def change_index(name: str, values: list[int]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import zarr

        zarr.open_group(path, mode="r+")[f"episodes/{name}"][:] = np.array(values)

    return change


IMPOSSIBLE: dict[str, Callable[[Path], None]] = {
    "rows 10^12": change_array("steps/observation", shape=[10**12, 2]),
    "rows 10^30": change_array("steps/observation", shape=[10**30, 2]),
    "rows -1": change_array("steps/observation", shape=[-1, 2]),
    "episodes 10^12": change_array("episodes/start", shape=[10**12]),
    "episodes 10^12 in one chunk": change_array("episodes/start", shape=[10**12], chunks=[10**12]),
    "chunk 0": change_array("steps/observation", chunks=[0, 2]),
    "chunk -1": change_array("steps/observation", chunks=[-1, 2]),
    "chunk 10^12": change_array("steps/observation", chunks=[10**12, 2]),
    "chunk of one axis": change_array("steps/observation", chunks=[65536]),
    "another type": change_array("steps/observation", data_type="complex128"),
    "text": change_array("steps/count", data_type="string"),
    "period 10^400": change_text('"control_period": 0.01', '"control_period": 1' + "0" * 400),
    "period NaN": change_text('"control_period": 0.01', '"control_period": NaN'),
    "dim 2^63": change_root("attributes", "schema", "features", 0, "shape", to=[2**63 - 1]),
    "dim 10^6": change_root("attributes", "schema", "features", 0, "shape", to=[10**6]),
    "lengths 2^63-1": change_index("length", [2**63 - 1, 2**63 - 1, 6]),
    "lengths that wrap around": change_index("length", [2**63 - 1, -(2**63) + 5, 6]),
    "lengths beyond the rows": change_index("length", [4, 1, 10**9]),
    "codec bomb": change_array(
        "steps/observation",
        codecs=[
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 1}},
        ],
    ),
    "a sharded bomb": change_array(
        "steps/observation",
        codecs=[
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [1, 2],
                    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                    "index_location": "end",
                },
            }
        ],
    ),
    "a storage transformer": change_array("steps/observation", storage_transformers=[{"name": "x"}]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
@pytest.mark.parametrize("deep", [False, True])
def test_impossible_metadata_are_refused(case: str, deep: bool, store: EpisodeStore) -> None:
    IMPOSSIBLE[case](store.path)
    reseal(store.path)
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(StoreError, match=str(store.path)):
            verify_store(store.path) if deep else open_store(store.path)
        assert time.process_time() - begin < 1.0
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


@pytest.fixture
def chunked(
    tmp_path: Path, schema: Schema, make_episodes: Callable[..., Iterator[Episode]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store of six chunks for each array."""
    monkeypatch.setattr("supple.datasets.store_writer.CHUNK_ROWS", 8)
    write_store(tmp_path / "chunked", make_episodes([20, 28]), schema, {})
    return tmp_path / "chunked"


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def test_opening_finds_chunks_that_changed_places(chunked: Path) -> None:
    steps = chunked / "steps"
    swap(steps / "observation/c.1.0", steps / "observation/c.4.0")
    with pytest.raises(StoreError, match=r"observation/c\.[14]\.0: expected a file that ends with .*, got"):
        open_store(chunked)


def test_a_manifest_of_version_1_still_opens(chunked: Path) -> None:
    manifest = load_manifest(chunked)
    old = {name: FileEntry(entry.sha256, entry.bytes) for name, entry in manifest.files.items()}
    text = Manifest(files=old, chunks=manifest.chunks).to_bytes()
    assert json.loads(text)["version"] == 1
    (chunked / MANIFEST_NAME).write_bytes(text)
    assert open_store(chunked).rows == 48
    swap(chunked / "steps/observation/c.1.0", chunked / "steps/observation/c.4.0")
    open_store(chunked)  # nothing in such a manifest tells them apart without reading them
    with pytest.raises(StoreError, match="expected unchanged bytes"):
        verify_store(chunked)


def test_a_chunk_that_declares_more_than_it_should_is_refused(
    tmp_path: Path, schema: Schema, make_episodes: Callable[..., Iterator[Episode]]
) -> None:
    path = write_store(tmp_path / "packed", make_episodes([20]), schema, {}, compression="zstd").path
    chunk = path / "steps/observation/c.0.0"
    bomb = np.frombuffer(Zstd().encode(bytes(2**28)), np.uint8)
    chunk.write_bytes(bomb.tobytes() + google_crc32c.value(bomb.tobytes()).to_bytes(4, "little"))
    reseal(path)
    with pytest.raises(StoreError, match=r"c\.0\.0: expected a chunk of 524288 bytes, got one of 268435456"):
        open_store(path)
