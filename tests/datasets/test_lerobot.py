"""LeRobotDataset: lengths equal to the frames, subsets, units that somebody has to give, rates that are checked."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from supple.datasets import arrow_columns
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.errors import ConfigError, FormatError, SourceError
from tests.datasets.make_sources import Recorded, make_lerobot_2, make_lerobot_3, record

UNITS = ReadOptions(observation_units=("deg", "deg", "percent"), action_units=("deg",))
Maker = Callable[[Path, Sequence[Recorded]], Path]
BOTH = pytest.mark.parametrize("make", [make_lerobot_2, make_lerobot_3])


def change_column(path: Path, name: str, change: Callable[[np.ndarray], object]) -> None:  # type: ignore[type-arg]
    table = pq.read_table(path)
    values = table[name].to_numpy()
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(change(values), table[name].type)), path)


@BOTH
def test_the_names_of_the_file_and_the_units_of_the_caller_are_kept(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    schema = open_source(path, UNITS).describe().schema
    assert schema.feature("observation").axes == ("pan.pos", "lift.pos", "grip.pos")
    assert schema.feature("observation").units == ("deg", "deg", "percent")
    assert schema.feature("action").axes == ("pan.pos", "lift.pos")
    assert schema.control_period == 0.1
    assert schema.feature("timestamp").dtype == "float32"


@BOTH
def test_units_are_asked_for_and_never_guessed(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    observation, action = open_source(path, ReadOptions()).describe().questions
    assert observation.startswith(
        "observation: expected a unit for each of the axes pan.pos, lift.pos, grip.pos, got none"
    )
    assert "--action-units" in action
    unknown = ReadOptions(observation_units=("unknown",), action_units=("unknown",))
    spec = open_source(path, unknown).describe()
    assert spec.questions == ()
    assert spec.schema.feature("observation").units == ("", "", "")
    with pytest.raises(ConfigError, match=r"--action-units: expected 1 or 2 units, for pan\.pos, lift\.pos, got 3"):
        open_source(path, ReadOptions(action_units=("deg",) * 3)).describe()


@BOTH
def test_videos_are_not_decoded_unasked_and_that_is_said(make: Maker, tmp_path: Path) -> None:
    spec = open_source(make(tmp_path, record()), UNITS).describe()
    assert spec.ignored["observation.images.top"] == "is a video; --only takes it by name"
    assert spec.contents["observation.images.top"] == "video [48, 64, 3], 0 files of 0 bytes"


def test_a_length_that_is_not_that_of_the_frames_is_refused(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    lines = (path / "meta/episodes.jsonl").read_text().replace('"length": 3', '"length": 4')
    (path / "meta/episodes.jsonl").write_text(lines)
    with pytest.raises(SourceError, match="episode 1: expected 4 frames as its metadata say, got 3"):
        open_source(path, UNITS).describe()
    for length in ("0", "-1", "9.5", '"3"'):
        (path / "meta/episodes.jsonl").write_text(lines.replace('"length": 4', f'"length": {length}'))
        with pytest.raises(SourceError, match="expected an episode_index and a length above 0, got 1 and"):
            open_source(path, UNITS).describe()


def test_a_subset_is_read_by_its_own_indices(tmp_path: Path) -> None:
    """Of version 3 only the second file is here: `index` counts on from the first one, rows do not."""
    path = make_lerobot_3(tmp_path, record())
    (path / "data/chunk-000/file-000.parquet").unlink()
    reader = open_source(path, UNITS)
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], np.arange(10, 22))
    spec = reader.describe()
    assert spec.provenance["episodes"] == [2]
    assert "2 of 3 episodes of the metadata have no frames here, the first 0" in spec.notes[0]


@pytest.mark.parametrize("frames", [[0, 1, 1], [0, 2, 1], [1, 2, 3]])
def test_frames_must_count_from_zero(frames: list[int], tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    change_column(path / "data/chunk-000/episode_000001.parquet", "frame_index", lambda _: np.array(frames))
    with pytest.raises(SourceError, match=r"episode_000001\.parquet: episode 1: expected its frames once, in order"):
        open_source(path, UNITS).describe()


def test_an_episode_twice_is_refused(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    change_column(path / "data/chunk-000/episode_000001.parquet", "episode_index", lambda rows: rows * 0)
    with pytest.raises(SourceError, match="episode 0: expected its frames once, in order and from 0, got them again"):
        open_source(path, UNITS).describe()


def test_the_rate_is_compared_with_the_time_stamps(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    assert open_source(path, UNITS).describe().notes == ()
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "fps": 30}))
    change_column(path / "data/chunk-000/episode_000002.parquet", "timestamp", lambda rows: rows + 0.3 * (rows > 0.45))
    notes = open_source(path, UNITS).describe().notes
    assert notes[0] == "info.json says 30 frames per second, the time stamps are 0.1 s apart: trust neither"
    assert notes[1].startswith("1 steps last longer than 1.5 usual ones, the longest 0.4 s")


def test_an_episode_of_another_rate_is_said(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    change_column(path / "data/chunk-000/episode_000002.parquet", "timestamp", lambda rows: 2 * rows)
    notes = open_source(path, UNITS).describe().notes
    (note,) = (note for note in notes if "another rate" in note)
    assert note.startswith("1 of 3 episodes have another rate than most: steps of 0.1 to 0.2 s; one control")


@pytest.mark.parametrize(
    ("name", "middle"),
    [("next.done", "once"), ("next.success", "once"), ("next.success", "held"), ("next.done", "held")],
)
def test_an_end_in_the_middle_of_an_episode_is_said(name: str, middle: str, tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    for file in sorted((path / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        frame = table["frame_index"].to_numpy()
        there = (table["episode_index"].to_numpy() == 2) & (frame >= 2 if middle == "held" else frame == 2)
        pq.write_table(table.append_column(name, pa.array(there)), file)
    notes = [note for note in open_source(path, UNITS).describe().notes if "in the middle of" in note]
    if (name, middle) == ("next.success", "held"):
        assert not notes  # what is solved stays so
    else:
        assert notes == [
            f"{name} is set in the middle of 1 of 3 episodes, the first of them number 2: only the last frame of an "
            "episode ends it here"
        ]


@pytest.mark.parametrize("rate", [0, -10, "10", True, None, 1e30])
def test_a_rate_that_is_none_is_refused(rate: object, tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "fps": rate}))
    with pytest.raises(SourceError, match="expected fps > 0, got"):
        open_source(path, UNITS).describe()


def test_other_versions_are_named(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v1.6"}))
    with pytest.raises(FormatError, match=r"expected codebase_version v2\.0, v2\.1, v3\.0, got 'v1\.6'"):
        open_source(path, UNITS).describe()


def test_a_file_that_was_never_finished_is_named(tmp_path: Path) -> None:
    path = make_lerobot_3(tmp_path, record())
    file = path / "data/chunk-000/file-001.parquet"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(SourceError, match=r"file-001\.parquet: expected a whole .*\(a file without its end was never"):
        open_source(path, UNITS).describe()


@BOTH
def test_done_and_success_end_an_episode(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path, record())
    for file in sorted((path / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        frame, episode = table["frame_index"].to_numpy(), table["episode_index"].to_numpy()
        ends = np.append(np.diff(episode) != 0, True)
        table = table.append_column("next.done", pa.array(ends)).append_column(
            "next.success", pa.array(ends & (episode == 1))
        )
        assert frame[0] == 0
        pq.write_table(table, file)
    flags = [(episode.terminated, episode.truncated) for episode in open_source(path, UNITS).episodes()]
    assert flags == [(False, True), (True, False), (False, True)]


def test_nulls_are_refused(tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    file = path / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(file)
    rows = table["action"].to_pylist()
    rows[1] = None
    pq.write_table(table.set_column(1, "action", pa.array(rows, table["action"].type)), file)
    with pytest.raises(SourceError, match="action: expected a value in every row, got none in row 1"):
        list(open_source(path, UNITS).episodes())


def test_rows_come_in_blocks_and_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_columns, "_BATCH_ROWS", 3)
    table = pa.table({"row": np.arange(20), "other": np.zeros(20)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    stream = arrow_columns.RowStream(tmp_path / "a.parquet", ["row"])
    ranges = [(0, 2), (2, 2), (2, 9), (11, 12), (11, 20), (18, 20), (1, 6), (0, 20), (19, 30)]  # also back, and too far
    for begin, end in ranges:
        assert stream.take(begin, end)["row"].to_pylist() == list(range(begin, min(end, 20)))


@BOTH
def test_hidden_files_are_none_of_the_recording(make: Maker, tmp_path: Path) -> None:
    """Some systems leave `._name` beside every file that they copy."""
    path = make(tmp_path, record())
    for file in [*(path / "data").rglob("*.parquet"), *(path / "meta").rglob("*.parquet")]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    assert open_source(path, UNITS).describe().episodes == 3


@pytest.mark.parametrize("names", [["a", "a", "b"], ["a", "b"], [1, 2, 3], {"x": ["a"], "y": [1, 2]}])
def test_names_that_are_not_one_for_each_axis_are_said(names: object, tmp_path: Path) -> None:
    path = make_lerobot_2(tmp_path, record())
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.state"]["names"] = names
    (path / "meta/info.json").write_text(json.dumps(info))
    spec = open_source(path, UNITS).describe()
    assert spec.notes == (
        "observation.state: the names of its axes in info.json are not one for each of 3: they are numbered",
    )
    assert spec.schema.feature("observation").axes[0] == "observation_0"
