"""Meta-training with robots in other processes ends as in one process, whatever is killed on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supple.pipeline.cli import main
from supple.pipeline.keys import load_record
from supple.pipeline.testing_kills import COMPARED
from tests.pipeline.test_executors import require_gone

MAML = (
    *("meta-train", "--learner", "maml", "--robot", "point-navigation", "--action-space", "unit"),
    *("--learner.config.iterations", "2", "--learner.config.tasks", "2", "--learner.config.episodes", "5"),
    *("--learner.config.hidden", "8", "--learner.rollouts", "2"),
)
"""Ten rows side by side, which three workers cannot divide."""


@pytest.fixture(scope="module")
def before(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages before meta-training, to be taken over."""
    folder = tmp_path_factory.mktemp("before")
    for stage in ("generate", "ingest", "extract"):
        shutil.copytree(tiny_run / stage, folder / stage)
    return folder


def require_same(one: Path, two: Path) -> None:
    records = load_record(one), load_record(two)
    assert [name for name in COMPARED if records[0][name] != records[1][name]] == []


def test_simpl(tiny_run: Path, before: Path, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    command = ["run", "demo", "--reuse", str(before), "--until", "meta-train", *tiny_options]
    assert main([*command, "--out", str(tmp_path), "--executor", "processes", "--workers", "2"]) == 0
    require_same(tiny_run / "meta-train", tmp_path / "meta-train")


def test_maml(tmp_path: Path) -> None:
    assert main([*MAML, "--out", str(tmp_path / "local")]) == 0
    assert main([*MAML, "--out", str(tmp_path / "three"), "--executor", "processes", "--workers", "3"]) == 0
    require_same(tmp_path / "local", tmp_path / "three")


def test_a_killed_worker_and_a_killed_driver_change_nothing(
    tiny_run: Path, before: Path, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    command = ["run", "demo", "--reuse", str(before), "--until", "meta-train", *tiny_options, "--out", str(tmp_path)]
    command += ["--executor", "processes", "--workers", "3", "--checkpoint-period", "0"]
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen([sys.executable, "-m", "supple", *command], stdout=log, stderr=log)
        partial = tmp_path / "meta-train.partial"
        while len(workers := find_workers(driver.pid)) < 2 or not (partial / "metrics.jsonl").exists():
            assert driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.005)
        os.kill(workers[0], signal.SIGKILL)
        while not list(partial.glob("checkpoint/*")):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.005)
        workers = find_workers(driver.pid)
        driver.kill()
        driver.wait()
    for worker in workers:
        require_gone(worker)
    assert main(command) == 0
    require_same(tiny_run / "meta-train", tmp_path / "meta-train")


def find_workers(parent: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            owner = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if owner == parent and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found
