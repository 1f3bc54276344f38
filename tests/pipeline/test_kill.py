"""The whole chain, killed at random times and started again, must end with the digests of one that never stopped."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from supple.pipeline.cli import main
from supple.pipeline.keys import load_record

STAGES = ["generate", "ingest", "extract", "meta-train", "export", "adapt"]
KILLS = 20


def start(arguments: list[str]) -> int:
    """Runs the command in a child process, a fork, so that torch is not loaded anew; returns its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            code = main(arguments)
        finally:
            os._exit(code)
    return child


def finish(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def under_way(run: Path) -> str:
    found = [stage for stage in STAGES if (run / f"{stage}.partial").exists()]
    return found[0] if found else "between stages"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_at_random_times_equals_uninterrupted(tiny_run: Path, tiny_options: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["run", "demo", "--out", str(out), "--checkpoint-period", "0", *tiny_options]
    rng = random.Random(0)
    sites: Counter[str] = Counter()
    for stage in STAGES:
        for _ in range(KILLS // len(STAGES) + 1):
            child = start([*command, "--until", stage])
            begin = time.monotonic()
            while not (out / f"{stage}.partial").exists() and time.monotonic() - begin < 60:
                if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
            killed = finish(child) == -signal.SIGKILL
            sites[under_way(out)] += killed
        assert finish(start([*command, "--until", stage])) == 0, stage
    assert sum(sites.values()) >= KILLS // 2, sites
    for stage in STAGES:
        one, two = load_record(tiny_run / stage), load_record(out / stage)
        for name in ("key", "outputs", "output_digest", "metrics_digest"):
            assert one[name] == two[name], f"{stage} after kills in {dict(sites)}"
    assert main(["verify", str(out)]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    tiny_run: Path, tiny_options: list[str], tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "run"
    command = ["run", "demo", "--out", str(out), "--reuse", str(tiny_run), "--until", "extract", *tiny_options]
    command += ["--extract.skill.num-updates", "100000", "--checkpoint-period", "1e9"]
    child = start(command)
    metrics = out / "extract.partial" / "metrics.jsonl"
    begin = time.monotonic()
    while not metrics.exists() and time.monotonic() - begin < 60:
        time.sleep(0.005)
    os.kill(child, number)
    assert finish(child) == code
    assert len(list((out / "extract.partial" / "checkpoint").iterdir())) == 1
    assert not (out / "extract").exists()
