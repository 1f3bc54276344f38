"""Faults that are the user's or the machine's: one line that says so, exit code 2, no traceback, nothing hung."""

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supple.pipeline import cli
from supple.pipeline.metrics import MetricsLog

SUPPLE = shlex.join([sys.executable, "-m", "supple"])


def run_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command line in a shell that stands in `folder`; `supple` is this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", command.replace("supple ", f"{SUPPLE} ", 1)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("supple --help > /dev/full", "expected room to write, got 'No space left on device'"),
        ("supple info --json > /dev/full", "expected room to write, got 'No space left on device'"),
        ("supple --help >&-", "stdout: expected an open stream, got a closed one"),
        ("supple info 2>&-", "stderr: expected an open stream, got a closed one"),
        ("supple info >&- 2>&-", ""),
        ("supple nonsense 2> /dev/full", ""),
        ("supple verify $'\\xff'", "expected UTF-8 text, got other bytes"),
    ],
)
def test_streams_and_names(tmp_path: Path, command: str, said: str) -> None:
    result = run_shell(command, tmp_path)
    printed = result.stderr + (result.stdout if "2>&-" in command else "")
    assert result.returncode == 2
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) == (1 if said else 0)


def test_play_data_that_no_disk_has_room_for_are_one_line(tmp_path: Path) -> None:
    """HDF5's own driver failed again at the exit of the process, with a crash."""
    result = run_shell("ulimit -f 60; supple generate --steps 3000 --rows 3 --out play", tmp_path)
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("supple: ")]
    assert "/play.partial/play.hdf5: expected room to write, got 'File too large'; free some" in said[0]
    assert len(said) == 1
    assert not any(word in result.stderr for word in ("Traceback", "HDF5", "Segmentation"))
    assert not (tmp_path / "play").exists()


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    result = run_shell("supple info | head -1; exit ${PIPESTATUS[0]}", tmp_path)
    assert result.returncode in (0, 141)
    assert result.stderr == ""


LONG = "x" * 300
PLACES: dict[str, Callable[[Path], list[str]]] = {
    "long": lambda at: ["generate", "--steps", "10", "--rows", "1", "--out", str(at / LONG)],
    "long input": lambda at: ["verify", str(at / LONG)],
    "long store": lambda at: ["extract", str(at / LONG), "--out", str(at / "new")],
    "long bundle": lambda at: ["adapt", str(at / LONG), "--out", str(at / "new")],
    "null": lambda at: ["verify", str(at / "a\0b")],
    "below a file": lambda at: ["generate", "--steps", "10", "--rows", "1", "--out", str(at / "file" / "new")],
    "work folder": lambda at: ["generate", "--steps", "10", "--rows", "1", "--out", str(at / "taken")],
    "links in a circle": lambda at: ["generate", "--steps", "10", "--rows", "1", "--out", str(at / "circle" / "new")],
    "folder for a source": lambda at: ["ingest", str(at), "--out", str(at / "new")],
    "pipe for a record": lambda at: ["info", str(at / "piped")],
    "no preset": lambda at: ["run"],
    "negative seed": lambda at: ["generate", "--seed", "-1", "--out", str(at / "new")],
    "huge seed": lambda at: ["generate", "--seed", str(2**64), "--out", str(at / "new")],
    "no threads": lambda at: ["generate", "--threads", "0", "--out", str(at / "new")],
    "nan": lambda at: ["generate", "--checkpoint-period", "nan", "--out", str(at / "new")],
    "infinite": lambda at: ["generate", "--robot.planner.jitter", "inf", "--out", str(at / "new")],
    "too wide": lambda at: ["extract", str(at), "--skill.skill-dim", "1000000000", "--out", str(at / "new")],
}


@pytest.mark.parametrize("place", PLACES)
def test_places_and_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken.partial").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "stage.json")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(PLACES[place](tmp_path)) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("supple: ")
    assert "; " in printed[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_errors_of_the_system_are_refused_and_bugs_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> Callable[[object], int]:
        def dispatch(_: object) -> int:
            raise error

        return dispatch

    known = (
        OSError(28, "No space left on device", "a.bin"),
        PermissionError(13, "Permission denied", "a.bin"),
        IsADirectoryError(21, "Is a directory", "a.bin"),
        OSError(40, "Too many levels of symbolic links", "a.bin"),
        MemoryError("Unable to allocate 8 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    )
    for error in known:
        monkeypatch.setattr(cli, "dispatch", fail(error))
        assert cli.main(["info"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    for bug in (KeyError("x"), RuntimeError("shapes differ"), OSError("no number"), AssertionError()):
        monkeypatch.setattr(cli, "dispatch", fail(bug))
        with pytest.raises(type(bug)):
            cli.main(["info"])


def test_a_renderer_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mujoco

    name = next(name for name in sys.modules if name.startswith(mujoco.__name__) and name.endswith(".gl_context"))
    monkeypatch.setenv("MUJOCO_GL", "paper")

    def import_anew(_: object) -> int:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.loader is not None
        found.loader.exec_module(importlib.util.module_from_spec(found))
        return 0

    monkeypatch.setattr(cli, "dispatch", import_anew)
    assert cli.main(["info"]) == 2
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "MUJOCO_GL: expected a renderer of this computer, got 'paper' (RuntimeError" in printed


@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_an_error_of_the_call_that_writes(
    tmp_path: Path, full: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = MetricsLog(tmp_path)
    log.append({"step": 1, "loss": 0.5})
    assert log._writer is not None
    writer = log if full == "metrics.jsonl" else log._writer
    writer._file.close()
    log._written = float("-inf")
    with open("/dev/full", "wb", buffering=0) as device:
        writer._file = device
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/{full}"):
            log.append({"step": 2, "loss": 0.25})
    log._file.close()
    log._writer.close()
    assert "Traceback" not in capfd.readouterr().err
