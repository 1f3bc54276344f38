"""The verbs that make stores of stores, as they are typed."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from supple.datasets import open_store, write_d4rl
from supple.pipeline.cli import main


@pytest.fixture
def play(tmp_path: Path) -> Path:
    """Four episodes; the observation of a row is its number."""
    rows = np.arange(40)
    arrays = {
        "observations": np.stack([rows, rows + 0.5], axis=1),
        "actions": np.sin(rows)[:, None],
        "rewards": rows,
        "terminals": rows % 10 == 9,
        "timeouts": rows < 0,
    }
    return write_d4rl(tmp_path / "play.hdf5", arrays)


def test_stores_are_appended_to_merged_and_split(play: Path, tmp_path: Path, capsys: Any) -> None:
    stage, store, parts = tmp_path / "ingest", tmp_path / "all", tmp_path / "parts"
    assert main(["ingest", str(play), "--out", str(stage)]) == 0
    assert main(["merge", str(stage), str(stage), "--out", str(store)]) == 0
    assert "4 of 8 episodes stand there more than once" in capsys.readouterr().err
    assert main(["append", str(store), str(play), str(stage), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["episodes"], record["rows"], record["parts"]) == (16, 160, 4)
    assert record["digest"] == open_store(store).digest
    origins = [part["store"] for part in open_store(store).provenance["parts"]]
    assert origins == [open_store(stage).digest] * 2 + [None, open_store(stage).digest]
    assert main(["split", str(store), "--out-dir", str(parts), "--fraction", "0.25", "--seed", "3"]) == 0
    train, validation = (open_store(parts / name) for name in ("train", "validation"))
    assert (len(train.episodes.start), len(validation.episodes.start)) == (12, 4)
    firsts = [part.load("observation")[part.episodes.start, 0] % 40 for part in (train, validation)]
    assert sorted(np.concatenate(firsts).tolist()) == sorted([0.0, 10.0, 20.0, 30.0] * 4)
    ranges = str(tmp_path / "ranges")
    assert main(["split", str(store), "--out-dir", ranges, "--episodes", "0:3", "2:4"]) == 0
    assert open_store(tmp_path / "ranges" / "episodes-2-4").load("observation")[0, 0] == 20.0
    assert main(["verify", str(store), "--deep", "--sources", str(play)]) == 0
    assert f"unchanged sources: {play}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["append", "ingest", "play.hdf5"], "expected a place of its own, got one in the stage"),
        (["append", "nothing", "play.hdf5"], "nothing: expected an episode store, got no folder there"),
        (["merge", "ingest", "nothing", "--out", "new"], "nothing: expected an episode store, got no folder there"),
        (["split", "ingest", "--out-dir", "new"], "expected either --fraction or --episodes"),
        (["split", "ingest", "--out-dir", "new", "--fraction", "0.9", "--episodes", "0:1"], "expected either"),
        (["split", "ingest", "--out-dir", "new", "--episodes", "0:5"], "expected episodes from 0 to 3"),
        (["split", "ingest", "--out-dir", "new", "--episodes", "2:1"], "expected first < end, got 2:1"),
        (["split", "ingest", "--out-dir", "new", "--episodes", "1-2"], "expected ranges such as 0:100, got '1-2'"),
        (["split", "ingest", "--out-dir", "new", "--fraction", "0"], "--fraction"),
        (["verify", "ingest", "--sources", "play.hdf5"], "--sources: expected --deep with it"),
    ],
)
def test_what_makes_no_store_is_refused_in_one_line(
    arguments: list[str], message: str, play: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ingest", "play.hdf5", "--out", "ingest"]) == 0
    digest = open_store("ingest").digest
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert open_store("ingest").digest == digest
    assert not (tmp_path / "new").exists()


def test_a_source_that_changed_since_is_named(play: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["ingest", str(play), "--out", str(tmp_path / "ingest")]) == 0
    play.write_bytes(play.read_bytes() + b"\0")
    assert main(["verify", str(tmp_path / "ingest")]) == 0
    assert main(["verify", str(tmp_path / "ingest"), "--deep"]) == 2
    assert "play.hdf5 as it was when it was read, got another content" in capsys.readouterr().err
    play.unlink()
    assert main(["verify", str(tmp_path / "ingest"), "--deep"]) == 0


def test_a_log_that_was_taken_out_of_its_folder_is_named(play: Path, tmp_path: Path, capsys: Any) -> None:
    logs, out = tmp_path / "logs", str(tmp_path / "ingest")
    logs.mkdir()
    for name in ("a", "b", "c"):
        (logs / f"{name}.hdf5").write_bytes(play.read_bytes())
        with h5py.File(logs / f"{name}.hdf5", "r+") as file:
            file.attrs["session"] = name
    assert main(["ingest", str(logs), "--out", out]) == 0
    assert main(["verify", out, "--deep"]) == 0
    assert "no longer" not in capsys.readouterr().out
    (logs / "b.hdf5").unlink()
    assert main(["verify", out, "--deep"]) == 3
    assert "1 of 3 recordings are no longer where the others are: b.hdf5" in capsys.readouterr().err
    (logs / "b.hdf5").write_bytes(play.read_bytes())
    assert main(["verify", out, "--deep"]) == 2
    assert "got another content" in capsys.readouterr().err
