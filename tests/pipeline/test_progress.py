import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from supple.pipeline import progress
from supple.pipeline.progress import JsonProgress, LiveProgress, PlainProgress, Rate, format_duration, make_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (151, "2:31"), (3725, "1:02:05"), (-1, "-:--")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 9e7))
def test_durations_read_back(seconds: float) -> None:
    parts = [int(part) for part in format_duration(seconds).split(":")]
    assert sum(part * 60**place for place, part in enumerate(reversed(parts))) == round(seconds)


def test_rate_and_time_left(clock: list[float]) -> None:
    rate = Rate(100, 200)
    assert rate.compute_eta(100) == -1
    for step in range(100, 151, 10):
        clock[0] += 1.0
        rate.update(step)
    # 10 steps per second but for the first, which brought none; 50 steps are left
    assert 8 < rate.per_s <= 10
    assert rate.compute_eta(150) == pytest.approx(50 / rate.per_s)


def test_plain_lines_come_every_few_seconds(clock: list[float]) -> None:
    stream, results = io.StringIO(), io.StringIO()
    view = PlainProgress(stream, results, period=5.0)
    view.start("extract", 100, 0, "update")
    for step in range(1, 101):
        clock[0] += 0.2
        view.update(step, {"step": step, "kl": 0.5})
    view.finish("extract", "made", "runs/x", 20.0)
    view.record("skills", {"kl": 0.5}, "kl 0.5")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "extract: starts, 100 updates"
    assert len(lines) == 2 + 4
    assert lines[1].startswith("extract: 25/100 updates  5.0 updates/s  0:15 left")
    assert lines[-1] == "extract: made in 0:20, runs/x"
    assert results.getvalue() == "kl 0.5\n"


def test_json_is_one_record_per_line(clock: list[float]) -> None:
    stream = io.StringIO()
    view = JsonProgress(stream)
    view.start("adapt", 100, 20, "episode")
    for step in range(21, 41):
        clock[0] += 0.25
        view.update(step, {"step": step, "success": 0.5})
    view.note("a note")
    view.record("episode", {"task": "t0"}, "text for people")
    view.finish("adapt", "resumed", "runs/x", 5.0)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [record["event"] for record in records] == ["start", *["progress"] * 5, "note", "episode", "finish"]
    assert records[1]["per_s"] == pytest.approx(4.0)
    assert records[5]["step"] == 40
    assert records[5]["eta_s"] == pytest.approx(15.0)
    assert "text for people" not in stream.getvalue()


def test_the_live_line_leaves_the_terminal_clean(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    results = io.StringIO()
    view = LiveProgress(results)
    view.start("extract", 10, 0, "update")
    clock[0] += 1.0
    view.update(5, {"step": 5, "kl": 0.5})
    view.finish("extract", "made", "runs/x", 3.0)
    view.record("skills", {}, "kl 0.5")
    view.close()
    assert "extract: made in 0:03, runs/x" in capsys.readouterr().err
    assert results.getvalue() == "kl 0.5\n"


def test_the_view_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_progress("json"), JsonProgress)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(make_progress("auto"), PlainProgress)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_lines_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, clock: list[float], width: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=screen, width=width, force_terminal=True, color_system=None)
    )
    view = LiveProgress(io.StringIO())
    view.start("meta-train", 480_000, 0, "update")
    clock[0] += 1.0
    metrics = {"step": 120_000, **{f"policy_kl_posterior_{index}": 0.123456 for index in range(8)}}
    view.update(120_000, metrics)
    view._live.refresh()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in screen.getvalue().replace("\r", "\n").split("\n")]
    view.close()
    bars = [line for line in lines if "meta-train" in line]
    assert re.search(r"meta-train [━╸╺ ]{6,} 120000/480000 updates  0:03 left", bars[-1])
    assert re.search(r"120000\.0 updates/s  policy kl posterior 0 0\.1235", lines[lines.index(bars[-1]) + 1])
    assert max(map(len, lines)) <= width
    assert "_" not in "".join(lines)
