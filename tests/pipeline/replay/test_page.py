"""The page: text is text, every section is there, ids are distinct, nothing is cut off in a browser."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.pipeline.replay.drawings import draw_commands, draw_novelty, draw_responses
from supple.pipeline.replay.page import BundleView, write_report
from supple.pipeline.replay.section import Ground, Replay, Section, TitledTable
from supple.pipeline.replay.verdict import decide
from supple.pipeline.report.tables import Table

from ..report.test_in_chromium import CHROMIUM, measure
from .conftest import SPEC, make_bundle

HOSTILE = '<img src=x onerror="window.hacked=1">\u202e'
LONG = "a_joint_with_a_very_long_name_that_has_no_place_to_break_anywhere_in_it"


def make_sections() -> list[Section]:
    rng = np.random.default_rng(0)
    logged, wanted = rng.normal(size=(2, 50, 2)).astype(np.float32)
    head = ("action axis", "unit", ">RMSE", ">MAE", ">nearest of 8, RMSE", ">spread of the log")
    row = (LONG, "100 N", "69.7 (68.9 to 70.5)", "44.1 (43.4 to 44.7)", "34.7 (34 to 35.3)", "12345")
    return [
        Section(
            name="open_loop",
            title="Open loop",
            findings=[HOSTILE, "A finding."],
            tables=[TitledTable("Departure", Table(head, {"Over 1 step, 0.1 s, 6 k windows": [row, row]}))],
            figures=draw_commands(SPEC, 0.1, logged, wanted, wanted[None]),
            data={"error_share": 0.5},
            grounds=[Ground("do not use", f"{HOSTILE} {LONG}"), Ground("trust", "fine")],
            warnings=["Alike is not good."],
        ),
        Section(
            name="known_states",
            title="Known states",
            findings=["x"],
            figures=[draw_novelty(np.abs(rng.normal(size=(2, 40))) + 0.01, ("motion", "state"), 0.1, 3)],
        ),
        Section(name="latency", title="Latency", findings=[], figures=[draw_responses({10: 5, 400: 3, 700: 1}, 0.1)]),
        Section(name="skills", title="Skills", findings=[], skipped=f"Not done: {HOSTILE}"),
    ]


@pytest.fixture
def written(replay_of: Callable[..., Replay], tmp_path: Path) -> Callable[[int], Path]:
    """Writes the report of so many bundles, and returns the page."""

    def write(count: int) -> Path:
        replay = replay_of([(np.zeros((3, 2)), np.zeros((3, 2)), None)])
        sections = make_sections()
        views = [
            BundleView(
                label=f"policy_{number}",
                bundle=replace(make_bundle(), digest=f"{number}" * 64),
                folder=tmp_path,
                sections=sections,
                verdict=decide(sections),
            )
            for number in range(count)
        ]
        out = tmp_path / f"report-{count}"
        out.mkdir()
        page, record = write_report(out, views, replay.store)
        assert json.loads(record.read_text())["bundles"][0]["verdict"] == "do not use"
        return page

    return write


@pytest.mark.parametrize("count", [1, 2])
def test_every_name_is_text_and_every_id_is_one_of_its_own(count: int, written: Callable[[int], Path]) -> None:
    page = written(count).read_text()
    assert "<img" not in page
    assert "\u202e" not in page
    assert page.count("Alike is not good.") == count
    assert ("Which bundle to take first" in page) == (count == 2)
    ids = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    targets = {part.partition('"')[0] for part in page.split('href="#')[1:]}
    assert targets <= set(ids)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_nothing_is_cut_off_at_any_width(written: Callable[[int], Path], tmp_path: Path) -> None:
    for shown in measure(written(2), tmp_path):
        assert shown["wrong"] == [], shown["width"]
        assert shown["words"] > 40
        assert shown["hacked"] is None
        assert shown["active"] == 1, "the script that measures, and nothing else"
        assert shown["ids"]
        assert "Do not use" in shown["text"]
