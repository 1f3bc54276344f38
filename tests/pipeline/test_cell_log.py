"""The log of a robot cell: what is in it, what a kill leaves of it, and who opens it."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap, Watch
from supple.errors import RobotFault
from supple.meta.testing import PointBatch
from supple.pipeline.cell_log import CHUNK_BYTES, CellLog
from supple.pipeline.cli import main

pytest.importorskip("mcap")
ROW, GOAL = np.arange(1), np.array([[3.0, 3.0]], np.float32)
ABOUT = {"stage": "adapt"}


def read(path: Path) -> list[tuple[str, Any]]:
    from rosbags.typesys import Stores, get_typestore

    from supple.datasets.bags.mcap_recording import McapRecording

    recording, types = McapRecording(path), get_typestore(Stores.ROS2_HUMBLE)
    found = []
    for message in recording.messages(range(len(recording.topics))):
        topic = recording.topics[message.topic]
        found.append((topic.name, types.deserialize_cdr(message.payload, topic.type)))
    return found


def drive(folder: Path, steps: int, command: float = 9.0) -> Path:
    robot = CommandTap(PointBatch(1, episode_steps=100))
    log = AuditLog(folder / "audit.jsonl", simulator=True)
    with CellLog(folder / "log", robot.spec, ABOUT, simulated=True) as cell:
        watch = Watch(SafetyLimits(robot, log), robot, sink=cell)
        watch.reset(ROW, GOAL, np.random.default_rng(0))
        for _ in range(steps):
            watch.step(ROW, np.array([[command, 0.25]], np.float32))
    log.close()
    return cell.path


def test_a_log_has_every_observation_and_command_as_asked_and_as_sent(tmp_path: Path) -> None:
    messages = read(drive(tmp_path, 3))
    counts = Counter(topic for topic, _ in messages)
    steps = dict.fromkeys(("/action", "/command/policy", "/command/asked", "/reward", "/step"), 3)
    assert counts == steps | {"/observation": 4, "/event": 1}
    asked, sent = (next(m for t, m in messages if t == topic) for topic in ("/command/asked", "/action"))
    assert (list(asked.position), list(sent.position)) == ([9.0, 0.25], [1.0, 0.25])
    assert list(sent.name) == ["dx", "dy"]
    flags = next(m for t, m in messages if t == "/step")
    assert list(flags.data) == [0.0, 1.0, 0.0, 0.0, -1.0]
    assert flags.layout.dim[0].label == "taken_over, clamped, terminated, truncated, success"


def test_a_fault_is_the_last_event(tmp_path: Path) -> None:
    with pytest.raises(RobotFault, match="expected a finite command"):
        drive(tmp_path, 1, float("nan"))
    events = [json.loads(m.data) for t, m in read(tmp_path / "log" / "0001.mcap") if t == "/event"]
    assert [event["event"] for event in events] == ["reset", "fault"]
    assert "expected a finite command" in events[1]["reason"]
    assert events[1]["asked"] == [["nan", 0.25]]


def test_each_start_has_a_file_of_its_own(tmp_path: Path) -> None:
    first = drive(tmp_path, 2)
    before = first.read_bytes()
    second = drive(tmp_path, 2)
    assert (first.name, second.name) == ("0001.mcap", "0002.mcap")
    assert first.read_bytes() == before


KILLED = """
import os, sys, numpy as np
from pathlib import Path
from supple.pipeline.cell_log import CellLog
from supple.meta.testing import PointBatch
with CellLog(Path(sys.argv[1]), PointBatch(1).spec, {}) as log:
    for step in range(10_000):
        log.write("note", number=step)
        if step == 2000:
            print("ready", flush=True)
            os.read(0, 1)
"""


def test_a_log_can_be_read_up_to_the_last_flush_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGKILL)
    numbers = [json.loads(m.data)["number"] for _, m in read(tmp_path / "0001.mcap")]
    assert numbers == list(range(len(numbers)))
    lost = 2001 - len(numbers)
    assert lost * 60 < CHUNK_BYTES  # a message has more than 60 bytes


def test_inspect_opens_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = drive(tmp_path, 30, 0.5)
    assert main(["inspect", str(path)]) == 0
    shown = capfd.readouterr().out
    assert "/observation" in shown
    assert "/action" in shown
