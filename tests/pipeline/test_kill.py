"""The whole chain, killed at random moments and started again, must end with the digests of one that never stopped."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from supple.errors import RunError
from supple.pipeline import testing_kills
from supple.pipeline.cli import main
from supple.pipeline.keys import load_record
from supple.pipeline.stage import Work
from supple.pipeline.testing_kills import COMPARED, DEMO, Child, Kills, kill_chain, kill_once, run_whole
from supple.robots import maze_family
from supple.robots.planner import play

KILLS = 4
"""In each stage."""

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_killed_at_random_moments_equals_uninterrupted(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    counts = kill_chain(tmp_path, tiny_options, KILLS, np.random.default_rng(0))
    printed = (tmp_path / "killed.log").read_text()
    assert list(counts) == list(DEMO)
    for stage, kills in counts.items():
        assert (kills.silent, kills.crashed, kills.hung) == (0, 0, 0), f"{stage}: {kills}\n{printed}"
        assert kills.injected >= kills.detected == KILLS, f"{stage}: {kills}"
    for stage in DEMO:
        one, two = load_record(tiny_run / stage), load_record(tmp_path / "killed" / stage)
        assert [name for name in COMPARED if one[name] != two[name]] == [], stage
    assert main(["verify", str(tmp_path / "killed")]) == 0


def test_a_result_that_depends_on_the_process_is_silent_damage(
    tiny_options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing_kills, "DEMO", ("generate",))
    monkeypatch.setattr(maze_family, "play", lambda *given, **named: play(*given, **(named | {"seed": os.getpid()})))
    kills = kill_chain(tmp_path, tiny_options, 1, np.random.default_rng(0))["generate"]
    assert kills.silent >= 1
    assert (kills.detected, kills.crashed, kills.hung) == (1, 0, 0)


def test_a_start_that_fails_is_a_crash(
    tiny_options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(work: Work) -> None:
        raise RunError("this stage cannot clear what it finds")

    monkeypatch.setattr(Work, "start_afresh", refuse)
    command = ["run", "demo", "--out", str(tmp_path / "run"), "--until", "generate", *tiny_options]
    kills = Kills()
    kill_once(command, tmp_path / "run" / "generate", 10**6, 0.0, kills, limit=60.0)
    assert kills == Kills(crashed=1)
    assert "cannot clear what it finds" in (tmp_path / "run.log").read_text()


def test_a_start_without_a_sign_of_life_hangs_and_is_ended(tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    command = ["run", "demo", "--out", str(tmp_path / "run"), "--until", "generate", *tiny_options]
    kills = Kills()
    kill_once(command, tmp_path / "run" / "generate", 10**6, 0.0, kills, limit=0.0)
    assert kills == Kills(hung=1)
    with pytest.raises(RunError, match=r"generate: expected a sign of life every 0\.0 s, got none"):
        run_whole(command, tmp_path / "run" / "generate", limit=0.0)


def test_a_whole_run_that_fails_is_refused(tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a run that ends with 0, got 2"):
        run_whole(["run", "nothing"], tmp_path / "run" / "generate", limit=60.0)
    assert "expected one of demo" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "run"
    command = ["run", "demo", "--out", str(out), "--reuse", str(tiny_run), "--until", "extract", *tiny_options]
    command += ["--extract.skill.num-updates", "100000", "--checkpoint-period", "1e9"]
    child = Child(command, out / "extract.partial", tmp_path / "log")
    metrics = out / "extract.partial" / "metrics.jsonl"
    begin = time.monotonic()
    while not metrics.exists() and time.monotonic() - begin < 60:
        time.sleep(0.005)
    os.kill(child.process, number)
    assert child.finish() == code
    assert "go on with: supple run demo" in (tmp_path / "log").read_text()
    assert len(list((out / "extract.partial" / "checkpoint").iterdir())) == 1
    assert not (out / "extract").exists()
