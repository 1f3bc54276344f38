import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supple.errors import RunError
from supple.pipeline.folder import (
    SEAL_NAME,
    SETTLED_NS,
    compute_marks,
    compute_path_digest,
    find_published,
    lock_folder,
    require_published,
    write_record,
)
from supple.pipeline.interrupt import Interrupted, StopRequest
from supple.pipeline.keys import compute_digest, load_record
from supple.pipeline.progress import PlainProgress
from supple.pipeline.stage import Machine, Stage, Work, run_stage
from supple.pipeline.testing import WalkConfig, make_stage, run_toy
from supple.pipeline.verbs.look import verify_chain
from supple.plain_files import require_place, write_durably


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A published stage that was looked at once, so that its seal is there."""
    folder = tmp_path / "source"
    run_toy(folder, WalkConfig(steps=5))
    time.sleep(2 * SETTLED_NS / 1e9)
    require_published(folder)
    assert (folder / SEAL_NAME).is_file()
    return folder


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def make_pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def edit_in_place(folder: Path) -> None:
    """Other bytes of the same size, with the time of change put back."""
    path = folder / "end.txt"
    before = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_with_another(folder: Path) -> None:
    """The file of another run, moved into place with its times."""
    run_toy(folder.parent / "other", WalkConfig(steps=5), seed=1)
    os.replace(folder.parent / "other" / "end.txt", folder / "end.txt")


def forge(folder: Path) -> None:
    """A changed artefact and a record that lists it, with all digests but the record's own made to agree."""
    (folder / "end.txt").write_text("0.0")
    record = json.loads((folder / "stage.json").read_text())
    record["outputs"]["end.txt"] = compute_path_digest(folder.parent / "zero.txt")
    record["output_digest"] = compute_digest(record["outputs"])
    (folder / "stage.json").write_text(json.dumps(record))


def damage_seal(folder: Path) -> None:
    """A seal for the changed file without the record's digest."""
    edit_in_place(folder)
    (folder / SEAL_NAME).write_text('{"record": "", "files": {}}')


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "edited": (lambda folder: (folder / "end.txt").write_text("0.0"), "end.txt"),
    "edited in place": (edit_in_place, "end.txt"),
    "edited with a seal": (damage_seal, "end.txt"),
    "swapped": (swap_with_another, "end.txt"),
    "removed": (lambda folder: (folder / "end.txt").unlink(), "end.txt"),
    "added": (lambda folder: (folder / "more.txt").write_text("x"), "more.txt"),
    "added below": (lambda folder: [(folder / "a").mkdir(), (folder / "a" / "b").write_text("x")], "a/b"),
    "linked": (
        lambda folder: (
            [shutil.copy(folder / "end.txt", folder.parent / "zero.txt"), (folder / "end.txt").unlink()]
            and (folder / "end.txt").symlink_to(folder.parent / "zero.txt")
        ),
        "end.txt",
    ),
    "linked folder": (lambda folder: (folder / "more").symlink_to(folder.parent), "more"),
    "pipe": (make_pipe("end.txt"), "end.txt"),
    "pipe for a record": (make_pipe("stage.json"), "stage.json"),
    "metrics edited": (edit("metrics.jsonl", '"step": 5', '"step": 6'), "metrics.jsonl"),
    "metrics removed": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl"),
    "seed edited": (edit("stage.json", '"seed": 0', '"seed": 1'), "stage.json"),
    "clock edited": (edit("stage.json", '"threads": 1', '"threads": 2'), "stage.json"),
    "output digest edited": (edit("stage.json", '"output_digest": "', '"output_digest": "0'), "stage.json"),
    "forged": (forge, "stage.json"),
    "field removed": (edit("stage.json", '"clock"', '"clocks"'), "stage.json"),
    "field of another type": (edit("stage.json", '"clock": {', '"clock": 3, "clocks": {'), "stage.json"),
    "no JSON": (lambda folder: (folder / "stage.json").write_text("{"), "stage.json"),
    "nested": (lambda folder: (folder / "stage.json").write_text("[" * 300_000), "stage.json"),
    "huge number": (edit("stage.json", '"seed": 0', f'"seed": {"9" * 400}'), "stage.json"),
    "infinite number": (edit("stage.json", '"seed": 0', '"seed": 1e400'), "stage.json"),
    "given twice": (edit("stage.json", '"seed": 0', '"seed": 0, "seed": 0'), "stage.json"),
    "not UTF-8": (lambda folder: (folder / "stage.json").write_bytes(b'{"a": "\xff"}'), "stage.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_wherever_the_stage_is_used(tmp_path: Path, source: Path, damage: str) -> None:
    (tmp_path / "zero.txt").write_text("0.0")
    change, named = DAMAGES[damage]
    change(source)
    uses = (
        lambda: run_toy(tmp_path / "next", WalkConfig(steps=5), source=source),
        lambda: run_toy(source, WalkConfig(steps=5)),
        lambda: run_stage(
            make_stage(tmp_path / "reused", WalkConfig(steps=5)),
            Machine(tensorboard=False),
            PlainProgress(sys.stderr, sys.stdout, 1e9),
            reuse=[source],
        ),
    )
    for use in uses:
        with pytest.raises(RunError, match=named):
            use()
    assert not (tmp_path / "next").exists()
    assert not (tmp_path / "reused").exists()


def test_a_file_within_a_damaged_stage_is_refused_too(tmp_path: Path, source: Path) -> None:
    assert compute_path_digest(source / "end.txt") == load_record(source)["outputs"]["end.txt"]
    (source / "more.txt").write_text("x")
    with pytest.raises(RunError, match=r"more\.txt: expected sha256 nothing"):
        run_toy(tmp_path / "next", WalkConfig(steps=5), source=source / "end.txt")


def test_unfinished_work_is_no_input(tmp_path: Path) -> None:
    partial = tmp_path / "walk.partial"
    partial.mkdir()
    (partial / "key.json").write_text("{}")
    with pytest.raises(RunError, match=r"walk\.partial: expected the result of a stage, got unfinished work"):
        compute_path_digest(partial)


def test_a_whole_stage_is_read_once_and_then_known_by_its_marks(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr("supple.pipeline.folder.verify_stage", read.append)
    require_published(source)
    assert read == []
    moved = source.rename(source.with_name("moved"))
    require_published(moved)
    assert read == []
    copied = Path(shutil.copytree(moved, moved.with_name("copied")))
    require_published(copied)
    assert read == [copied]


def test_a_file_that_has_just_changed_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_toy(tmp_path / "walk", WalkConfig(steps=5))
    now = max(changed for _, _, changed, _ in compute_marks(tmp_path / "walk").values())
    monkeypatch.setattr("supple.pipeline.folder.time_ns", lambda: now)
    require_published(tmp_path / "walk")
    assert not (tmp_path / "walk" / SEAL_NAME).exists()


def test_a_record_of_the_first_schema_is_checked_by_its_digests(source: Path) -> None:
    record = json.loads((source / "stage.json").read_text())
    del record["record_digest"]
    record["schema"] = 1
    (source / "stage.json").write_text(json.dumps(record))
    assert find_published(source, record["fields"]) is not None
    (source / "stage.json").write_text(json.dumps({**record, "schema": 2}))
    with pytest.raises(RunError, match="got an edited one"):
        find_published(source, record["fields"])


def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw.txt"
    raw.write_text("a")

    def body(work: Work) -> None:
        raw.write_text("b")
        (work.folder / "end.txt").write_text("made of a or b")

    stage = Stage(
        name="walk",
        folder=tmp_path / "walk",
        config=WalkConfig(),
        inputs={"raw": raw},
        seed=0,
        module="errors.py",
        libraries=(),
        body=body,
    )
    with pytest.raises(RunError, match=r"raw\.txt: expected no change while walk reads it"):
        run_stage(stage, Machine(tensorboard=False), PlainProgress(sys.stderr, sys.stdout, 1e9))
    assert not (tmp_path / "walk").exists()


@pytest.mark.parametrize(
    ("out", "named"),
    [
        ("source/inner", "got one in the stage"),
        ("source/a/b/c", "got one in the stage"),
        ("walk.partial", "got the work folder"),
        ("work.partial/inner", "got the work folder"),
        ("raw/inner", "got one in .*raw"),
        ("raw", "got one in .*raw"),
        ("linked/inner", "got one in the stage"),
    ],
)
def test_a_place_that_would_change_something_else_is_refused(
    tmp_path: Path, source: Path, out: str, named: str
) -> None:
    (tmp_path / "work.partial").mkdir()
    (tmp_path / "work.partial" / "key.json").write_text("{}")
    (tmp_path / "raw").mkdir()
    (tmp_path / "linked").symlink_to(source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=f"{named}.*; pass another --out"):
        run_toy(tmp_path / out, WalkConfig(steps=5), raw=tmp_path / "raw")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_work_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "walk.partial").write_text("mine")
    with pytest.raises(RunError, match=r"walk\.partial: expected a work folder or nothing, got a file"):
        run_toy(tmp_path / "walk", WalkConfig(steps=5))
    assert (tmp_path / "walk.partial").read_text() == "mine"


HOLD = """
import sys, time
from pathlib import Path
from supple.pipeline.folder import lock_folder
from supple.pipeline.interrupt import StopRequest
with lock_folder(Path(sys.argv[1]), print, StopRequest()):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_dies_with_its_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        stop, told = StopRequest(), []

        def tell(text: str) -> None:
            told.append(text)
            stop.signal = 2

        with pytest.raises(Interrupted, match="run: stopped"), lock_folder(tmp_path / "run", tell, stop):
            raise AssertionError("the other process has the lock")
        assert told == [f"{tmp_path / 'run'}: another process works on it; waiting"]
    finally:
        process.kill()
        process.communicate()
    with lock_folder(tmp_path / "run", told.append, StopRequest()):
        assert len(told) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_whole_whoever_else_writes_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from supple.pipeline.folder import write_record\n"
    code += "for _ in range(40): write_record(Path(sys.argv[1]), {'text': sys.argv[2] * 20_000})"
    path = tmp_path / "run.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    found = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            found.add(json.loads(path.read_text())["text"])
    assert [writer.returncode for writer in writers] == [0, 0]
    assert found <= {"a" * 20_000, "b" * 20_000}
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
    write_record(path, [{"a": 1}])
    assert json.loads(path.read_text()) == [{"a": 1}]


def test_a_place_that_no_file_can_be_written_to_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the work, where that can be known; and never by the name of a file that nobody asked for."""
    (tmp_path / "file").touch()
    require_place(tmp_path / "new" / "page.html", RunError)
    with pytest.raises(RunError, match="expected the name of a file, got a folder; pass a file in it as --out"):
        require_place(tmp_path, RunError)
    with pytest.raises(RunError, match=r"page\.html: expected a place to write to, got .*file"):
        require_place(tmp_path / "file" / "page.html", RunError)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match=r"page\.html: expected a place to write to"):
        require_place(tmp_path / "page.html", RunError)
    for path in (tmp_path, tmp_path / "none" / "a"):
        with pytest.raises(OSError) as error:
            write_durably(path, b"")
        assert error.value.filename == str(path)


def test_somebody_who_asked_to_stop_ends_a_body_that_does_not_consume(tmp_path: Path) -> None:
    stop = StopRequest()
    stage = Stage(name="map-logs", folder=tmp_path, config={}, seed=0, module="x", libraries=(), body=print)
    work = Work(stage, Machine(), tmp_path, PlainProgress(sys.stderr, sys.stdout, 1e9), stop)
    work.stop_if_asked()
    stop.signal = 15
    with pytest.raises(Interrupted, match="map-logs: stopped"):
        work.stop_if_asked()


def test_a_run_from_the_data_of_another_run_is_whole_and_one_from_other_stages_is_not(tmp_path: Path) -> None:
    """`supple run --from-log OTHER/ingest`: the source has the name of the stage that reads it."""
    other, run, steps = tmp_path / "other", tmp_path / "run", WalkConfig(steps=2)
    run_toy(other / "ingest", steps, name="ingest")
    run_toy(run / "ingest", WalkConfig(steps=3), name="ingest", source=other / "ingest")
    run_toy(run / "extract", steps, name="extract", store=run / "ingest")
    verify_chain([run / "ingest", run / "extract"])
    with pytest.raises(RunError, match="extract: expected its store to be ingest with digest"):
        verify_chain([other / "ingest", run / "extract"])
