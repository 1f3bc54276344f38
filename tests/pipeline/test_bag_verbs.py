"""Verbs on bags, as they are typed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import Episode, Feature, Schema, open_store, write_store
from supple.datasets.bags.writer import write_episode
from supple.pipeline.cli import main

SCHEMA = Schema(
    features=tuple(
        Feature(name=name, shape=(2,), units=("rad", "rad"), role=name, axes=("a", "b"))
        for name in ("observation", "action")
    ),
    control_period=0.02,
)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    rows = np.arange(400, dtype=np.float32).reshape(200, 2)
    write_episode(tmp_path / "log.mcap", Episode({"observation": rows, "action": rows + 1}, True, False), SCHEMA)
    return tmp_path / "log.mcap"


def test_a_mapping_is_drafted_and_used(bag: Path, tmp_path: Path, capsys: Any) -> None:
    mapping = tmp_path / "map.toml"
    assert main(["inspect", str(bag), "--write-mapping", str(mapping), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["episodes"]["rows"] == 200
    assert facts["lost"] == []
    assert main(["inspect", str(bag), "--write-mapping", str(mapping)]) == 2
    assert "expected no file at" in capsys.readouterr().err
    changed = mapping.read_text().replace('axes = ["a", "b"]\nunits', 'axes = ["b", "a"]\nunits', 1)
    mapping.write_text(changed.replace('elements = ["a", "b"]', 'elements = ["b", "a"]', 1))
    assert main(["ingest", str(bag), "--mapping", str(mapping), "--out", str(tmp_path / "made")]) == 0
    store = open_store(tmp_path / "made")
    np.testing.assert_array_equal(store.load("observation")[:, ::-1], np.arange(400).reshape(200, 2))
    assert store.provenance["mapping"]["signal"][0]["axes"] == ["b", "a"]
    record = json.loads((tmp_path / "made" / "stage.json").read_text())
    assert set(record["inputs"]) == {"source", "mapping"}


def test_a_cut_off_bag_is_ingested_with_exit_code_3(bag: Path, tmp_path: Path, capsys: Any) -> None:
    bag.write_bytes(bag.read_bytes()[:-40])
    for _ in ("made", "skipped"):
        assert main(["ingest", str(bag), "--out", str(tmp_path / "made")]) == 3
    assert "recovered 400 messages" in capsys.readouterr().err
    assert open_store(tmp_path / "made").provenance["recovered"][0]["messages_read"] == 400
    assert main(["inspect", str(bag)]) == 3
    assert "damaged: " in capsys.readouterr().out


def test_a_store_goes_out_and_comes_back(bag: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["ingest", str(bag), "--out", str(tmp_path / "made")]) == 0
    assert main(["export-bag", str(tmp_path / "made"), "--out", str(tmp_path / "bags")]) == 0
    assert [file.name for file in (tmp_path / "bags").iterdir()] == ["episode-000000.mcap"]
    assert main(["ingest", str(tmp_path / "bags"), "--out", str(tmp_path / "again")]) == 0
    first, second = open_store(tmp_path / "made"), open_store(tmp_path / "again")
    assert first.schema == second.schema
    assert first.episodes.terminated.tolist() == second.episodes.terminated.tolist() == [True]
    for name in first.schema.names:
        np.testing.assert_array_equal(first.load(name), second.load(name))
    assert main(["export-bag", str(tmp_path / "made"), "--out", str(tmp_path / "bags")]) == 2
    assert main(["export-bag", str(tmp_path / "made"), "--out", str(tmp_path / "more"), "--episodes", "7"]) == 2
    assert "expected an episode from 0 to 0, got 7" in capsys.readouterr().err


def test_a_store_without_a_control_period_says_how_to_get_one(tmp_path: Path, capsys: Any) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    schema = replace(SCHEMA, control_period=None)
    write_store(tmp_path / "store", [Episode({"observation": rows, "action": rows}, True, False)], schema, {})
    assert main(["export-bag", str(tmp_path / "store"), "--out", str(tmp_path / "bags")]) == 2
    told = capsys.readouterr().err
    assert "expected a store whose control period is known, got none; ingest the recording with --robot" in told
    assert "partial" not in told


def test_what_is_ambiguous_is_not_ingested(tmp_path: Path, capsys: Any, bag: Path) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text("period = 0.1\n")
    assert main(["ingest", str(bag), "--mapping", str(mapping), "--out", str(tmp_path / "made")]) == 2
    assert "map.toml: expected the fields" in capsys.readouterr().err
    assert main(["ingest", str(mapping), "--mapping", str(mapping)]) == 2
