"""`supple ingest` of many sources: one store, whoever made its parts and however often somebody was killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.datasets import Episode, EpisodeStore, Feature, Schema, open_store, write_d4rl, write_store
from supple.datasets.bags.writer import write_episode
from supple.datasets.store import _BLOCK_ROWS
from supple.datasets.store_source import read_episodes
from supple.pipeline.cli import main
from supple.pipeline.executors import LocalExecutor, Outcome
from supple.pipeline.stages import ingest as stage
from supple.pipeline.verbs import data

BAG = Schema(
    features=tuple(
        Feature(name=name, shape=(2,), units=("rad", "rad"), role=name, axes=("a", "b"))
        for name in ("observation", "action")
    ),
    control_period=0.02,
)
FILES = 4


def write_file(path: Path, seed: int, width: int = 3, *, bad: bool = False) -> None:
    rng = np.random.default_rng(seed)
    rows = 40 + 20 * seed
    arrays = {
        "observations": rng.normal(size=(rows, width)).cumsum(0).astype(np.float32),
        "actions": np.full((rows, 1), seed, np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": np.arange(rows) % 20 == 19,
    }
    path.unlink(missing_ok=True)
    write_d4rl(path, arrays, None)
    if bad:
        with h5py.File(path, "r+") as file:
            file["observations"][7] = np.nan


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for seed in range(FILES):
        write_file(folder / f"log{seed}.hdf5", seed)
    (folder / "README.md").write_text("no recording")
    return folder


def ingest(out: Path, *sources: Path, options: tuple[str, ...] = ()) -> EpisodeStore:
    assert main(["ingest", *map(str, sources), "--out", str(out), *options]) == 0
    assert not list(out.parent.glob("*.parts"))
    return open_store(out)


def require_like_the_files(store: EpisodeStore, files: Path) -> None:
    """The files one behind the other, as each of them is read by itself."""
    alone = [ingest(files.parent / path.stem, path) for path in sorted(files.glob("*.hdf5"))]
    for name in store.schema.names:
        np.testing.assert_array_equal(store.load(name), np.concatenate([one.load(name) for one in alone]))
    for index in ("length", "terminated", "truncated"):
        both = np.concatenate([getattr(one.episodes, index) for one in alone])
        np.testing.assert_array_equal(getattr(store.episodes, index), both)
    digests = [one.provenance["sha256"] for one in alone]
    assert [source["sha256"] for source in store.provenance["sources"]] == digests
    assert [source["name"] for source in store.provenance["sources"]] == [f"log{seed}.hdf5" for seed in range(FILES)]


def test_a_folder_of_files_is_one_store_whoever_reads_it(files: Path, tmp_path: Path) -> None:
    local = ingest(tmp_path / "local", files)
    require_like_the_files(local, files)
    paths = sorted(files.glob("*.hdf5"))
    processes = ingest(tmp_path / "processes", *paths, options=("--executor", "processes", "--workers", "2"))
    assert processes.digest == local.digest
    assert ingest(tmp_path / "other-order", *paths[::-1]).digest != local.digest


def test_a_recording_that_stands_twice_is_said(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy-of-log1.hdf5"
    copy.write_bytes((files / "log1.hdf5").read_bytes())
    store = ingest(tmp_path / "twice", files / "log1.hdf5", copy, files / "log2.hdf5")
    many = len(store.episodes.start)
    repeats = len(ingest(tmp_path / "once", copy).episodes.start)
    assert f"ingest: {repeats} of {many} episodes stand there more than once" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_named(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["ingest", str(files), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "out: expected nothing there or an output of this stage, got a file; pass another --out" in told
    assert (tmp_path / "out").read_text() == "mine"


def test_the_order_in_which_files_end_does_not_matter(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = ingest(tmp_path / "local", files)

    class Backwards(LocalExecutor):
        def run(self, function, jobs):  # type: ignore[no-untyped-def]
            for number in reversed(range(len(jobs))):
                function(jobs[number])  # a worker that died after its work, before it said so
                yield Outcome(number=number, value=function(jobs[number]))

    monkeypatch.setattr(data, "make_executor", lambda config, stop: Backwards(stop))
    assert ingest(tmp_path / "backwards", files).digest == local.digest


def test_bags_beside_each_other_are_read_as_the_first_one(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    for seed in range(3):
        rows = np.random.default_rng(seed).normal(size=(100 + seed, 2)).cumsum(0).astype(np.float32)
        write_episode(
            tmp_path / "bags" / f"log{seed}.mcap", Episode({"observation": rows, "action": -rows}, True, False), BAG
        )
    store = ingest(tmp_path / "made", tmp_path / "bags")
    assert store.episodes.length.tolist() == [100, 101, 102]
    assert store.provenance["mapping_drafted"] is False
    assert [entry["bag"] for entry in store.provenance["quality"]] == ["log0.mcap", "log1.mcap", "log2.mcap"]
    assert [source["name"] for source in store.provenance["sources"]] == ["log0.mcap", "log1.mcap", "log2.mcap"]
    broken = tmp_path / "bags" / "log1.mcap"
    broken.write_bytes(broken.read_bytes()[:-40])
    assert main(["ingest", str(tmp_path / "bags"), "--out", str(tmp_path / "recovered")]) == 3
    (loss,) = open_store(tmp_path / "recovered").provenance["recovered"]
    assert loss["bag"] == "log1.mcap"


def test_one_bad_file_is_named_and_the_others_are_kept(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ingest(tmp_path / "whole", files)
    write_file(files / "log1.hdf5", 1, bad=True)
    command = ["ingest", str(files), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "got 1 of 4 that are not, first log1.hdf5: " in err
    assert len(list((tmp_path / "out.parts").glob("*.json"))) == FILES - 1
    write_file(files / "log1.hdf5", 1)
    assert main(command) == 0
    assert "ingest: 3 of 4 files were done before" in capsys.readouterr().err
    assert open_store(tmp_path / "out").digest == whole.digest


def test_a_part_that_was_changed_is_made_again(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ingest(tmp_path / "whole", files)

    def stop_at_once(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "joining", stop_at_once)
        assert main(["ingest", str(files), "--out", str(tmp_path / "out")]) == 130
    chunk = next((tmp_path / "out.parts").glob("*/steps/observation/c.*"))
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    assert ingest(tmp_path / "out", files).digest == whole.digest


def test_other_options_make_other_parts(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_file(files / "log1.hdf5", 1, bad=True)
    assert main(["ingest", str(files), "--out", str(tmp_path / "out")]) == 2
    write_file(files / "log1.hdf5", 1)
    capsys.readouterr()
    ingest(tmp_path / "out", files, options=("--compression", "zstd"))
    assert "done before" not in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*sources: Path) -> str:
        assert main(["ingest", *map(str, sources), "--out", str(tmp_path / "out")]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert "got " + str(files / "log0.hdf5") + " twice" in refusal(files / "log0.hdf5", files / "log0.hdf5")
    write_file(files / "log9.hdf5", 1, width=4)
    assert "log9.hdf5, which has to be like log0.hdf5: expected observation axes" in refusal(files)
    (files / "log9.hdf5").write_bytes(b"")
    assert "log9.hdf5: expected a recording of a format that is read, got an empty file" in refusal(files)
    assert "ingest: expected a source, got none" in refusal()


def test_files_of_one_name_are_told_apart_by_their_folders(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "more"
    other.mkdir()
    write_file(other / "log0.hdf5", 7)
    store = ingest(tmp_path / "out", files / "log0.hdf5", other / "log0.hdf5")
    assert [one["name"] for one in store.provenance["sources"]] == ["logs/log0.hdf5", "more/log0.hdf5"]


@pytest.mark.parametrize("lengths", [[3, 1, 4], [_BLOCK_ROWS - 1, 2, _BLOCK_ROWS, 5], [2 * _BLOCK_ROWS + 3, 1]])
def test_streamed_episodes_are_those_of_the_store(lengths: list[int], tmp_path: Path) -> None:
    features = tuple(
        Feature(name=name, shape=(1,), units=("m",), role=name, axes=("x",)) for name in ("observation", "action")
    )
    rows = np.arange(sum(lengths), dtype=np.float32)[:, None]
    episodes = [
        Episode({"observation": part, "action": -part}, index % 2 == 0, index % 2 == 1)
        for index, part in enumerate(np.split(rows, np.cumsum(lengths)[:-1]))
    ]
    store = write_store(tmp_path / "store", episodes, Schema(features=features, control_period=0.1), {})
    for found, episode in zip(read_episodes(store), episodes, strict=True):
        assert (found.terminated, found.truncated) == (episode.terminated, episode.truncated)
        for name, array in episode.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array)


def start(out: Path, files: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "supple", "ingest", str(files), "--out", str(out)]
    return subprocess.Popen([*command, "--executor", "processes", "--workers", "2"], stderr=subprocess.PIPE)


def list_workers(pid: int) -> list[int]:
    """Those that are there at this moment; a child may end while it is looked at."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def kill_one(pid: int) -> bool:
    """Whether a worker of this process was there to be killed."""
    for worker in list_workers(pid):
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            return True
    return False


def wait_until(done: object, running: subprocess.Popen[bytes]) -> None:
    while not done():  # type: ignore[operator]
        assert running.poll() is None
        time.sleep(0.005)


def test_a_killed_worker_and_a_killed_driver_change_nothing(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(FILES, 8):
        write_file(files / f"log{seed}.hdf5", seed)
    whole, out = ingest(tmp_path / "whole", files), tmp_path / "out"
    with start(out, files) as running:
        try:
            wait_until(lambda: kill_one(running.pid), running)
            wait_until(lambda: list((tmp_path / "out.parts").glob("*.json")), running)
        finally:
            running.kill()
            running.communicate()
    assert 1 <= len(list((tmp_path / "out.parts").glob("*.json"))) < len(list(files.glob("*.hdf5")))
    assert not out.exists()
    assert ingest(out, files).digest == whole.digest
    assert "of 8 files were done before" in capsys.readouterr().err
