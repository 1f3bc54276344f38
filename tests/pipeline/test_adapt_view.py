"""The live screen: it fits 80 columns, and shows what the records say."""

import io
import math

import pytest
from rich.console import Console

from supple.adapt.guards import Signals
from supple.pipeline.adapt_view import AdaptView

GUARDED = {"step_kl": 0.031, "prior_kl": 1.2, "updates": 7, "rollbacks": 1, "fallen": 0, "robot_seconds": 83.0}


def make_view(width: int) -> tuple[AdaptView, io.StringIO]:
    shown = io.StringIO()
    return AdaptView(io.StringIO(), Console(file=shown, width=width, force_terminal=True, color_system=None)), shown


def render(view: AdaptView, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view.render())
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_screen_fits_and_tells_the_records(width: int) -> None:
    view, _ = make_view(width)
    view.start("adapt", 40, 0, "episode")
    for number in range(1, 13):
        for row in (0.0, 1.0):
            view.record("episode", {"episode": number, "return": row, "success": bool(row), "steps": 5}, "")
        view.show(Signals(0.25, 1.5, 3), [0.001, 0.002, math.nan], 4.0)
        view.update(number, {})
    view.record("guarded", GUARDED, "")
    view.record("guard", {"episode": 12, "event": "rollback", "reason": "return 0 after 1 " * 9}, "")
    text = render(view, width)
    view.close()
    assert max(map(len, text.splitlines())) <= min(width, 80)
    for part in (
        "12 of 40",
        "0.5   last 10: 0.5 [0.5, 0.5]",
        "robot 1:23",
        "0.031 nats, 1.2 from",
        "7   rolled back 1",
    ):
        assert part in text
    if width >= 80:
        for part in (
            "25.0 % of commands   unknown states 1.50",
            "36 steps",
            "1.50 ms",
            "12  rollback: return 0",
        ):
            assert part in text


def test_a_screen_says_when_the_prior_policy_acts() -> None:
    view, _ = make_view(80)
    view.record("guarded", {**GUARDED, "fallen": 1}, "")
    assert "THE PRIOR POLICY ACTS" in render(view, 80)


def test_results_stand_below_the_screen() -> None:
    view, shown = make_view(80)
    view.start("adapt", 2, 0, "episode")
    view.record("folder", {}, "a table")
    view.finish("adapt", "made", "runs/x", 3.0)
    view.close()
    assert "adapt: made in 0:03, runs/x" in shown.getvalue()


def test_the_last_line_of_the_panel_ends_where_there_is_no_terminal() -> None:
    shown = io.StringIO()
    view = AdaptView(io.StringIO(), Console(file=shown, width=80, color_system=None))
    view.start("adapt", 2, 0, "episode")
    view.finish("adapt", "made", "runs/x", 3.0)
    assert shown.getvalue().splitlines()[-1] == "adapt: made in 0:03, runs/x"
