"""The table of departures: what differs is found by path, and its docstring is shown."""

import re
from dataclasses import dataclass, field

import pytest

from benchmarks.results.departures import clean, list_departures, load_field_texts, render_departures


@dataclass(frozen=True)
class Inner:
    """Not a field's text."""

    width: int = 2
    """Width of it
    all (published: 3). More."""
    silent: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    same: str = "a"
    """The same."""


def test_differing_fields_are_found_at_any_depth() -> None:
    found = list(list_departures(Outer(), Outer(inner=Inner(width=3, silent=4))))
    assert found == [("inner.width", 2, 3, "Width of it all"), ("inner.silent", 1, 4, "")]
    assert list(list_departures(Outer(), Outer())) == []


def test_field_texts_belong_to_their_fields() -> None:
    assert load_field_texts(Inner) == {"width": "Width of it all (published: 3). More."}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gamma per decision (published).", "gamma per decision"),
        ("Epochs (published: 1000); each costs.", "Epochs; each costs"),
        ("A rate of .5 per s.", "A rate of .5 per s"),
    ],
)
def test_clean_keeps_one_sentence_without_the_published_value(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_presets_do_depart() -> None:
    table = render_departures()
    assert "| `learner.config.batch` |" in table
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table.splitlines())
