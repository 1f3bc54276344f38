"""The documentation against the code: options exist; every verb, departure, cell and decision is written down.

`test_docs_run.py` carries out what the documentation shows.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.meta import cell_table
from benchmarks.results.departures import PAGE, SECTION, render_departures
from benchmarks.results.pages import fill_section
from supple.pipeline.cli import VERBS, main
from supple.pipeline.learners import LEARNERS
from supple.pipeline.presets import PRESETS
from supple.robots.families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load_help(verb: str, capture: pytest.CaptureFixture[str]) -> str:
    """The help text of one verb; of `run`, with a preset."""
    with pytest.raises(SystemExit, match="0"):
        main([verb, *(["demo"] if verb == "run" else []), "--help"])
    return capture.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_and_every_option_on_it_exists(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "verbs" / f"{verb}.md").read_text()
    assert page.startswith(f"# supple {verb}\n")
    assert f"verbs/{verb}.md" in (ROOT / "mkdocs.yml").read_text()
    known = set(re.findall(r"--[a-z][a-z.-]*", load_help(verb, capsys)))
    assert set(re.findall(r"`(--[a-z][a-z.-]*)`", page)) <= known


def test_every_preset_is_in_the_table_of_run() -> None:
    page = (ROOT / "docs" / "verbs" / "run.md").read_text()
    assert set(re.findall(r"^\| `([a-z][a-z-]*)` \|", page, re.MULTILINE)) == set(PRESETS)


@pytest.mark.parametrize(("page", "names"), [("learners.md", LEARNERS), ("robots.md", FAMILIES)])
def test_every_name_of_a_learner_or_a_robot_can_be_found(page: str, names: Iterable[str]) -> None:
    assert set(names) <= set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / page).read_text()))


def test_every_departure_from_the_published_run_is_written_down() -> None:
    page = (ROOT / PAGE).read_text()
    assert fill_section(page, SECTION, render_departures()) == page, "run: make results"


def test_every_cell_of_the_benchmark_is_written_down() -> None:
    page = (ROOT / cell_table.PAGE).read_text()
    assert fill_section(page, cell_table.SECTION, cell_table.render_cells()) == page, "run: make results"


def test_every_decision_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if page not in navigation] == []
