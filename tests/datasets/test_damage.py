"""Damaged recordings of every format are read or refused in one line: no other exception, no crash, no hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.datasets.make_sources import MAKERS

ROOT = Path(__file__).parents[2]
MUTANTS = 60


def test_damaged_recordings_are_read_or_refused(tmp_path: Path) -> None:
    script = Path(__file__).with_name("mutate_sources.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(MUTANTS), "0"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["layout"] for result in results] == list(MAKERS)
    for result in results:
        assert (result["crashed"], result["hung"]) == (0, 0), result["faults"]
        assert result["injected"] == sum(result[name] for name in ("detected", "same", "silent"))
        assert result["detected"] > 0.4 * result["injected"]
    # a zip member ends with its checksum
    assert next(result for result in results if result["layout"] == "ogbench")["silent"] == 0
