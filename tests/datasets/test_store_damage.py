"""Every way to damage a store is found, named and explained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from supple.datasets import EpisodeStore, open_store, verify_store
from supple.datasets.manifest import MANIFEST_NAME, FileEntry, Manifest, hash_file
from supple.errors import StoreError


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_a_flipped_byte_in_any_file_is_found(store: EpisodeStore) -> None:
    rng = np.random.default_rng(0)
    for file in files_of(store.path):
        whole = file.read_bytes()
        for position in {0, len(whole) - 1, *map(int, rng.integers(len(whole), size=3))}:
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(StoreError) as caught:
                verify_store(store.path)
            assert str(file) in str(caught.value)
            assert "\n" not in str(caught.value)
        file.write_bytes(whole)
    verify_store(store.path)


def test_a_missing_truncated_or_grown_file_is_found_on_opening(store: EpisodeStore) -> None:
    for file in files_of(store.path):
        whole = file.read_bytes()
        file.unlink()
        with pytest.raises(StoreError) as caught:
            open_store(store.path)
        assert str(file) in str(caught.value)
        for wrong in (b"", whole[:-1], whole + b"\0"):
            file.write_bytes(wrong)
            with pytest.raises(StoreError) as caught:
                open_store(store.path)
            assert str(file) in str(caught.value)
        file.write_bytes(whole)
    open_store(store.path)


@pytest.mark.parametrize("name", ["extra", "steps/action/c.1.0", "steps/new/zarr.json"])
def test_an_extra_file_is_found_on_opening(store: EpisodeStore, name: str) -> None:
    (store.path / name).parent.mkdir(exist_ok=True)
    (store.path / name).write_bytes(b"")
    with pytest.raises(StoreError, match=f"{name}: expected no such file in the store, got one; remove it"):
        open_store(store.path)


def test_a_link_is_found_on_opening(store: EpisodeStore, tmp_path: Path) -> None:
    chunk = store.path / "steps/action/c.0.0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"c\.0\.0: expected a plain file, got a link"):
        open_store(store.path)


def test_reading_checks_the_checksum_even_after_opening(store: EpisodeStore) -> None:
    chunk = store.path / "steps/action/c.0.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    opened = open_store(store.path)  # same size: opening does not read chunks
    with pytest.raises(StoreError, match=r"steps/action: expected whole chunks, got a damaged one .*checksum"):
        opened.load("action")
    chunk.unlink()
    with pytest.raises(StoreError, match=r"steps/action: expected data in every chunk, .* in row 0 \(chunk 0\)"):
        opened.load("action")


def forge(store: EpisodeStore, **body: Any) -> None:
    """Writes a manifest that is consistent in itself."""
    value = json.loads((store.path / MANIFEST_NAME).read_bytes()) | body
    forged = Manifest(
        files={name: FileEntry(**entry) for name, entry in value["files"].items()},
        chunks=value["chunks"],
    )
    (store.path / MANIFEST_NAME).write_bytes(forged.to_bytes())


def test_a_manifest_that_forgets_a_chunk_is_found(store: EpisodeStore) -> None:
    files = json.loads((store.path / MANIFEST_NAME).read_bytes())["files"]
    del files["steps/action/c.0.0"]
    (store.path / "steps/action/c.0.0").unlink()
    forge(store, files=files)
    with pytest.raises(StoreError, match="action: expected 1 chunks, got 0 files and 1 in the manifest"):
        verify_store(store.path)


def test_a_manifest_that_points_outside_is_refused(store: EpisodeStore) -> None:
    files = json.loads((store.path / MANIFEST_NAME).read_bytes())["files"]
    forge(store, files=files | {"../outside": {"sha256": "0", "bytes": 0}})
    with pytest.raises(StoreError, match=r"expected paths within the store, got '\.\./outside'"):
        open_store(store.path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"files": 3}', "\udce9", "[" * 100_000])
def test_any_text_for_a_manifest_is_refused(store: EpisodeStore, text: str) -> None:
    (store.path / MANIFEST_NAME).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError, match="expected an unchanged manifest, got a damaged one; ingest"):
        open_store(store.path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema_version", 99, "schema: expected schema_version 1, 2 or 3, got 99; install the version of supple"),
        ("features", [], "expected at least one feature"),
        ("robot", "cart", "expected a number and a robot, got 0.01 s and 'cart'"),
    ],
)
def test_another_schema_is_refused(store: EpisodeStore, field: str, value: object, message: str) -> None:
    root = store.path / "zarr.json"
    metadata = json.loads(root.read_bytes())
    metadata["attributes"]["schema"][field] = value
    root.write_bytes(json.dumps(metadata).encode())
    reseal(store, "zarr.json")
    with pytest.raises(StoreError, match=message):
        open_store(store.path)


def test_an_index_with_gaps_is_refused(store: EpisodeStore) -> None:
    group = zarr.open_group(store.path, mode="r+")
    group["episodes/start"][:] = np.array([0, 5, 6])
    reseal(store, "episodes/start/c.0")
    with pytest.raises(StoreError, match="episodes: expected an index without gaps"):
        open_store(store.path)


def reseal(store: EpisodeStore, name: str) -> None:
    """Makes the manifest agree with a file that was changed."""
    files = json.loads((store.path / MANIFEST_NAME).read_bytes())["files"]
    path = store.path / name
    forge(store, files=files | {name: {"sha256": hash_file(path), "bytes": path.stat().st_size}})


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent: expected an episode store, got no folder there"):
        open_store(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"MANIFEST.json: expected the manifest of an episode store, got No such file"):
        open_store(tmp_path)
