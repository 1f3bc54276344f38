"""The log of a robot cell: what is in it, what a kill leaves of it, and who opens it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap, Watch
from supple.datasets.store import find_store, open_store
from supple.errors import RobotFault, SourceError
from supple.meta.testing import PointBatch
from supple.pipeline.cell_log import CHUNK_BYTES, CellLog
from supple.pipeline.cli import main

pytest.importorskip("mcap")
from supple.datasets.bags.reader import BagReader

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
    assert counts == steps | {"/observation": 4, "/goal": 1, "/event": 1}
    asked, sent = (next(m for t, m in messages if t == topic) for topic in ("/command/asked", "/action"))
    assert (list(asked.position), list(sent.position)) == ([9.0, 0.25], [1.0, 0.25])
    assert list(sent.name) == ["dx", "dy"]
    flags = next(m for t, m in messages if t == "/step")
    assert list(flags.data) == [0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    assert flags.layout.dim[0].label == "taken_over, clamped, terminated, truncated, success, index, evaluation"


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


class Played(NamedTuple):
    """What a loop saw of one episode."""

    observation: list[Any]
    action: list[Any]
    reward: list[float]
    terminated: bool


def play(folder: Path, robot: Any, watch: Watch, episodes: int, steps: int, seed: int = 0) -> list[Played]:
    """Episodes of row 0 as a loop plays them; every row moves."""
    rng, found = np.random.default_rng(seed), []
    rows, goals = np.arange(robot.rows), np.repeat(GOAL, robot.rows, axis=0)
    for _ in range(episodes):
        now = watch.reset(rows, goals, rng)
        seen, told, paid, ended = [], [], [], False
        for _ in range(steps):
            action = rng.uniform(-0.2, 0.9, (robot.rows, 2)).astype(np.float32)
            step = watch.step(rows, action)
            seen.append(now[0].copy())
            told.append(action[0].copy())
            paid.append(float(step.reward[0]))
            now, ended = step.observation.copy(), bool(step.terminated[0])
            if ended:
                break
        found.append(Played(seen, told, paid, ended))
    return found


def record(folder: Path, episodes: int = 3, steps: int = 8, *, rows: int = 1, simulated: bool = True) -> list[Played]:
    robot = CommandTap(PointBatch(rows, episode_steps=steps))
    with CellLog(folder / "log", robot.spec, ABOUT, simulated=simulated) as cell:
        watch = Watch(robot, robot, sink=cell)
        played = play(folder, robot, watch, min(episodes, 2), steps)
        watch.evaluating = True
        return [*played, *play(folder, robot, watch, episodes - 2, steps, seed=1)]


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_log_becomes_the_episodes_that_were_played(tmp_path: Path, rows: int, *, simulated: bool) -> None:
    played = record(tmp_path, rows=rows, simulated=simulated)
    assert main(["ingest", str(tmp_path / "log" / "0001.mcap"), "--out", str(tmp_path / "store")]) == 0
    store = open_store(find_store(tmp_path / "store"))
    assert [one.name for one in store.schema.features] == [
        *("observation", "action", "goal", "reward", "success", "taken_over", "evaluation", "time")
    ]
    assert store.schema.robot == PointBatch(1, episode_steps=8).spec
    assert len(store.episodes.length) == 3
    assert rows > 1 or {True, False} == {one.terminated for one in played}  # both ends are there
    for number, one in enumerate(played):
        episode = store.episode(number)
        for name in ("observation", "action", "reward"):
            np.testing.assert_array_equal(episode.arrays[name], np.array(getattr(one, name), np.float32))
        assert (episode.terminated, episode.truncated) == (one.terminated, not one.terminated)
        assert (episode.arrays["goal"] == GOAL).all()
        assert (episode.arrays["success"] == -1.0).all()
        assert (episode.arrays["evaluation"] == float(number == 2)).all()
        assert (np.diff(episode.arrays["time"]) > 0).all()


def test_skills_and_their_densities_are_those_of_each_decision(tmp_path: Path) -> None:
    """A skill of two numbers lasts two steps; nobody knows the density of the second decision."""
    tap = CommandTap(PointBatch(2, episode_steps=6, radius=0.01))
    rng, rows = np.random.default_rng(0), np.arange(2)
    skills = rng.standard_normal((3, 2, 2)).astype(np.float32)
    with CellLog(tmp_path / "log", tap.spec, ABOUT, simulated=True, skill_dim=2) as cell:
        watch = Watch(tap, tap, sink=cell)
        watch.reset(rows, np.repeat(GOAL, 2, axis=0), rng)
        for step in range(6):
            if step % 2 == 0:
                density = np.array([-1.5 if step != 2 else np.nan, 0.25])
                watch.note_choice(rows, skills[step // 2], density)
            watch.step(rows, np.full((2, 2), 0.1, np.float32))
    assert main(["ingest", str(cell.path), "--out", str(tmp_path / "store")]) == 0
    episode = open_store(find_store(tmp_path / "store")).episode(0)
    np.testing.assert_array_equal(episode.arrays["skill"], np.repeat(skills[:, 0], 2, axis=0))
    assert episode.arrays["skill_log_prob"].tolist() == [-1.5, -1.5, 0.0, 0.0, -1.5, -1.5]
    assert episode.arrays["skill_known"].tolist() == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


def test_a_clock_that_is_set_back_mixes_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(10**18 - 10**8 * np.arange(10**4))  # each later reading is earlier
    monkeypatch.setattr(time, "time_ns", lambda: int(next(times)))
    played = record(tmp_path, simulated=False)
    monkeypatch.undo()
    episodes = list(BagReader(tmp_path / "log" / "0001.mcap").episodes())
    assert [one.length for one in episodes] == [len(one.reward) for one in played]
    np.testing.assert_array_equal(episodes[1].arrays["action"], np.array(played[1].action, np.float32))


def test_starts_are_read_together_and_one_without_a_step_is_left_out(tmp_path: Path) -> None:
    first, second = record(tmp_path, 1), record(tmp_path, 2)
    robot = CommandTap(PointBatch(1, episode_steps=8))
    with CellLog(tmp_path / "log", robot.spec, ABOUT) as cell:
        Watch(robot, robot, sink=cell).reset(ROW, GOAL, np.random.default_rng(0))
    reader = BagReader(tmp_path / "log")
    assert reader.describe().episodes == 3
    assert any("0003.mcap: no step was taken" in note for note in reader.describe().notes)
    for episode, one in zip(reader.episodes(), [*first, *second], strict=True):
        np.testing.assert_array_equal(episode.arrays["reward"], np.array(one.reward, np.float32))
    with pytest.raises(SourceError, match="expected steps with all measurements and a command, got none"):
        BagReader(tmp_path / "log" / "0003.mcap").describe()


def test_a_dry_run_has_no_steps_to_learn_from(tmp_path: Path) -> None:
    robot = PointBatch(1, episode_steps=8)
    tap = CommandTap(robot)
    with CellLog(tmp_path / "log", robot.spec, ABOUT) as cell:
        play(tmp_path, robot, Watch(robot, tap, sink=cell), 1, 4)  # nothing goes through the tap
    with pytest.raises(SourceError, match="topic /action: expected a topic of one type, got none"):
        BagReader(tmp_path / "log" / "0001.mcap").describe()


def test_a_step_that_lost_its_command_cuts_its_episode(tmp_path: Path) -> None:
    robot = CommandTap(PointBatch(1, episode_steps=20, radius=0.01))

    with CellLog(tmp_path / "log", robot.spec, ABOUT, simulated=True) as cell:
        kept = cell.write

        def write(event: str, **facts: Any) -> None:
            lost = event == "step" and cell._index.get(0) == 4
            kept(event, **{**facts, **({"sent": None} if lost else {})})

        cell.write = write  # type: ignore[method-assign]
        (played,) = play(tmp_path, robot, Watch(robot, robot, sink=cell), 1, 10)
    first, second = BagReader(tmp_path / "log" / "0001.mcap").episodes()
    assert (first.length, second.length) == (4, 5)
    np.testing.assert_array_equal(second.arrays["observation"], np.array(played.observation[5:], np.float32))
    assert first.truncated
    assert not first.terminated


def test_a_killed_log_gives_the_steps_that_were_flushed(tmp_path: Path) -> None:
    played = record(tmp_path, 3, 60)
    path = tmp_path / "log" / "0001.mcap"
    path.write_bytes(path.read_bytes()[: int(0.4 * path.stat().st_size)])
    reader = BagReader(path)
    assert reader.describe().losses
    episodes = list(reader.episodes())
    assert episodes
    for episode, one in zip(episodes, played, strict=False):
        np.testing.assert_array_equal(episode.arrays["action"], np.array(one.action[: episode.length], np.float32))
        np.testing.assert_array_equal(episode.arrays["reward"], np.array(one.reward[: episode.length], np.float32))
    assert episodes[-1].truncated


def test_inspect_opens_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = drive(tmp_path, 30, 0.5)
    assert main(["inspect", str(path)]) == 0
    shown = capfd.readouterr().out
    assert "/observation" in shown
    assert "/action" in shown
