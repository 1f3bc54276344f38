import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.pipeline.report.safety import Stop, load_safety
from supple.robots.maze_family import Maze


def write_log(folder: Path, records: Sequence[object]) -> None:
    (folder / "audit.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_the_log_of_a_real_run_is_counted_by_axis(tmp_path: Path) -> None:
    maze = Maze(layout_size=8)
    audit = AuditLog(tmp_path / "audit.jsonl")
    robot = SafetyLimits(maze.make(2), audit)
    rows, goals = np.arange(2), np.full((2, 2), -1.0, np.float32)
    for command in (4.0, 1.5):
        robot.reset(rows, np.ones_like(goals), np.random.default_rng(0))
        robot.step(rows, np.array([[command, 0.0], [0.0, 0.5]], np.float32))
    robot.stop("a person pressed the button")
    robot.rearm(*audit.issue_codes(1))
    robot.close()
    audit.close()
    safety = load_safety(tmp_path, maze.spec())
    assert safety is not None
    assert safety.commands == 4
    # of the first axis: 4.0 was cut to 1.0, and 1.5 to 1.0
    assert [(limits.axis.name, limits.clamped, limits.largest) for limits in safety.limits] == [
        ("force_x", 2, 3.0),
        ("force_y", 0, 0.0),
    ]
    assert safety.stops == [Stop("a person pressed the button", ended=True)]


def test_a_stop_after_the_last_rearm_is_latched(tmp_path: Path) -> None:
    events: list[dict[str, object]] = [
        {"event": "stop", "reason": "nan"},
        {"event": "rearm"},
        {"event": "stop", "reason": "stale"},
    ]
    write_log(tmp_path, events)
    safety = load_safety(tmp_path, Maze().spec())
    assert safety is not None
    assert safety.stops == [Stop("nan", ended=True), Stop("stale", ended=False)]


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    assert load_safety(tmp_path, Maze().spec()) is None
    good = {"event": "clamps", "commands": 5, "axes": {"force_x": {"clamped": 2, "largest": 0.5}}}
    write_log(
        tmp_path, [good, {"event": "clamps"}, [1], {"event": "clamps", "commands": 1, "axes": {"other": {}}}, "x"]
    )
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'[[[[[[[[[[\n\xff\n{"event": "clamps", "comm')
    safety = load_safety(tmp_path, Maze().spec())
    assert safety is not None
    assert safety.limits[0].clamped == 2
    assert safety.stops == []
