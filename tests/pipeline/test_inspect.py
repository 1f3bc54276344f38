"""`supple inspect` and `supple ingest` on every format: what is shown, what is asked for, that nothing is written."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.datasets import open_store, write_d4rl
from supple.pipeline.cli import main
from tests.datasets.make_sources import make_d4rl, make_lerobot_3, make_minari, record


def files_below(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def inspect(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert main(["inspect", str(path), "--json", *options]) == 0
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_it_says_what_is_inside_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_minari(tmp_path, record())
    before = files_below(tmp_path)
    facts = inspect(path, capsys)
    assert files_below(tmp_path) == before
    assert facts["format"] == "minari"
    assert facts["refused"] is None
    episodes = facts["episodes"]
    assert isinstance(episodes, dict)
    assert (episodes["count"], episodes["rows"], episodes["lengths"]) == (3, 20, [5, 3, 12])
    assert (episodes["shortest"], episodes["median"], episodes["longest"]) == (3, 5, 12)
    features = facts["features"]
    assert isinstance(features, list)
    assert features[0]["axes"][0] | {"mean": 0, "std": 0} == {
        "name": "observation_0", "unit": "", "low": 0.0, "high": 21.0, "mean": 0, "std": 0, "constant": False
    }  # fmt: skip
    assert main(["inspect", str(path)]) == 0
    assert "episodes  3 of 3 .. 12 (median 5) steps, 20 in all; 0 terminated, 3 truncated" in capsys.readouterr().out


def test_what_ingest_refuses_is_a_fact_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = record()
    episodes[1].observation[1, 0] = np.nan
    facts = inspect(make_minari(tmp_path, episodes), capsys)
    assert "expected finite float32 values" in str(facts["refused"])
    assert "in row 6 (episode 1)" in str(facts["refused"])


def test_inspect_refuses_for_the_reason_for_which_ingest_does(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "beyond.hdf5"
    shutil.copy(tiny_run / "generate" / "play.hdf5", path)
    with h5py.File(path, "a") as file:
        file["actions"][::20] = 3.0
        rows = len(file["actions"])
    facts = inspect(path, capsys)
    assert main(["ingest", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"supple: {facts['refused']}"
    assert facts["actions_beyond_limits"] == -(-rows // 20)
    assert facts["episodes"]["rows"] == rows == sum(facts["episodes"]["lengths"])  # type: ignore[index]


def test_ingest_asks_for_units_that_inspect_shows_as_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = make_lerobot_3(tmp_path, record()), tmp_path / "out"
    questions = inspect(path, capsys)["questions"]
    assert isinstance(questions, list)
    assert len(questions) == 2
    assert main(["ingest", str(path), "--out", str(out)]) == 2
    assert "observation: expected a unit for each of the axes pan.pos, lift.pos, grip.pos" in capsys.readouterr().err
    assert not out.exists()
    units = ("--observation-units", "deg", "--action-units", "deg")
    assert main(["ingest", str(path), "--out", str(out), *units]) == 0
    schema = open_store(out).schema
    assert schema.feature("observation").units == ("deg",) * 3
    assert schema.control_period == 0.1
    # the same again is found, a source that changed since is another one
    assert main(["ingest", str(path), "--out", str(out), *units]) == 0
    (path / "note.txt").write_text("more")
    assert main(["ingest", str(path), "--out", str(out), *units]) == 2
    assert "inputs.source" in capsys.readouterr().err


def test_a_format_can_be_named_and_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_d4rl(tmp_path, record())
    assert main(["inspect", str(path), "--format", "lerobot"]) == 2
    assert "expected a LeRobotDataset of version 2 or 3, got an HDF5 file" in capsys.readouterr().err
    (tmp_path / "video.hdf5").write_bytes(b"\0\0\0\x20ftypisom" + bytes(50))
    assert main(["ingest", str(tmp_path / "video.hdf5")]) == 2
    assert "got an MP4 video, a kind that is known and not read" in capsys.readouterr().err


@pytest.mark.parametrize(("outside", "code"), [(3, 0), (4, 2)])
def test_actions_beyond_the_limits_are_counted(
    outside: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of 3000 steps are one in a thousand."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1.0, 1.0, (3000, 2)).astype(np.float32)
    action[np.arange(outside) * 700, 0] = 5.0
    arrays = {
        "observations": rng.uniform(0.0, 9.0, (3000, 4)).astype(np.float32),
        "actions": action,
        "rewards": np.zeros(3000, np.float32),
        "terminals": np.zeros(3000, np.bool_),
        "timeouts": np.arange(3000) % 100 == 99,
    }
    write_d4rl(tmp_path / "log.hdf5", arrays)
    assert main(["ingest", str(tmp_path / "log.hdf5"), "--robot", "maze", "--out", str(tmp_path / "out")]) == code
    said = capsys.readouterr().err
    if code:
        assert "in row 0 (episode 0)" in said
        assert "4 of 3000 steps have such an action, and without --clip-actions at most 3 may" in said
    else:
        assert "clipped the actions of 3 of 3000 steps" in said
        stored = open_store(tmp_path / "out").load("action")
        np.testing.assert_array_equal(stored, np.clip(action, -1.0, 1.0))


def test_the_files_of_a_folder_are_looked_at_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in "ab":
        make_d4rl(folder, record()).rename(folder / f"{name}.hdf5")
    (folder / "notes.txt").write_text("x")
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "a D4RL HDF5 file" in line] == [
        f"{folder / name}.hdf5: a D4RL HDF5 file" for name in "ab"
    ]
    (folder / "c.bin").write_bytes(b"\0\1\2")
    assert main(["inspect", str(folder)]) == 2
    assert "c.bin: expected a recording of a format that is read" in capsys.readouterr().err


def test_play_data_hide_no_other_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of `generate` is its play.hdf5; any other folder is all that is in it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    make_d4rl(folder, record())
    shutil.copy(folder / "play.hdf5", folder / "more.hdf5")
    assert main(["ingest", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert open_store(tmp_path / "out" / "store").rows == 40
    capsys.readouterr()


def test_names_in_a_file_are_no_codes_of_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_lerobot_3(tmp_path, record())
    info = (path / "meta/info.json").read_text()
    (path / "meta/info.json").write_text(info.replace("pan.pos", "pan\\n\\u001b[31m"))
    options = ("--observation-units", "deg", "--action-units", "deg")
    assert main(["inspect", str(path), *options]) == 0
    assert main(["ingest", str(path), *options, "--out", str(tmp_path / "out")]) == 0
    assert main(["info", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "pan\\n\\x1b[31m" in captured.out


def test_episodes_that_nobody_read_have_no_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = record()
    episodes[1].observation[1, 0] = np.nan
    assert main(["inspect", str(make_minari(tmp_path, episodes))]) == 0
    assert "episodes  3, 20 steps in all\n" in capsys.readouterr().out
