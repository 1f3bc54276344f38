"""SIGKILL at twenty moments of a write: afterwards there is a whole store or none, and the next write succeeds."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from supple.datasets import Episode, Feature, Schema, open_store, verify_store, write_store

WRITE = """
import os, signal, sys, time
import numpy as np
from supple.datasets import Episode, Feature, Schema, write_store
folder, kills = sys.argv[1], int(sys.argv[2])
schema = Schema(features=(Feature(name="action", shape=(1,), units=("",), role="action", axes=("step",)),))
def episodes():
    for length in (70_000, 60_000, 80_000):
        time.sleep(0.1)  # a write lasts this long on the fastest machine
        yield Episode({"action": np.arange(length, dtype=np.float32)[:, None]}, True, False)
def write(name):
    child = os.fork()
    if child == 0:
        write_store(f"{folder}/{name}", episodes(), schema, {})
        os._exit(0)
    return child
os.waitpid(write("first"), 0)
begin = time.monotonic()
os.waitpid(write("whole"), 0)
duration = time.monotonic() - begin
for kill in range(kills):
    child = write(kill)
    time.sleep(1.1 * duration * kill / kills)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    kills = 20
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path), str(kills)], check=True, timeout=60)
    whole = verify_store(tmp_path / "whole")
    schema = Schema(features=(Feature(name="action", shape=(1,), units=("",), role="action", axes=("step",)),))
    unfinished = [kill for kill in range(kills) if not (tmp_path / str(kill)).exists()]
    assert len(unfinished) > kills // 4
    for kill in range(kills):
        if kill not in unfinished:
            assert verify_store(tmp_path / str(kill)).digest == whole.digest
    left = [entry for entry in tmp_path.iterdir() if ".partial-" in entry.name]
    assert left  # a kill leaves its folder behind, under a name that no reader opens
    for kill in unfinished[:: max(1, len(unfinished) // 4)]:
        episode = Episode({"action": np.ones((3, 1), np.float32)}, True, False)
        write_store(tmp_path / str(kill), [episode], schema, {})
        assert open_store(tmp_path / str(kill)).rows == 3
        assert not list(tmp_path.glob(f"{kill}.partial-*"))
