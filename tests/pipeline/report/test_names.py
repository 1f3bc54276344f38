import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from supple.pipeline.report.names import LONGEST, shorten, show, with_unit


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("goal 7", "goal 7"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\x00b\x1b[31m", r"a\x00b\x1b[31m"),
        ("half \ud800", r"half \ud800"),
        ("line\nbreak\ttab", "line\nbreak\ttab"),
        ("\U0001f469\u200d\U0001f467 \u4f60\u597d \u0645", "\U0001f469\u200d\U0001f467 \u4f60\u597d \u0645"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_code(name: str, shown: str) -> None:
    assert show(name) == shown


def test_markup_and_numbers_stay_as_they_are() -> None:
    svg = Markup("<svg>\u202e</svg>")
    assert show(svg) is svg
    assert show(3) == 3


@given(st.text(), st.integers(3, 40))
def test_short_names_are_one_line_and_can_be_saved(name: str, most: int) -> None:
    short = shorten(name, most)
    assert len(short) <= most
    assert len(short.splitlines()) <= 1
    short.encode()


def test_a_long_name_keeps_both_ends() -> None:
    assert shorten("left_gripper_finger_joint_position") == "left_grippe…int_position"
    assert len(shorten("x" * 300)) == LONGEST
    assert with_unit("x", "m", 3.0) == "x (m)"
    assert with_unit("count", "", 3.0) == "count"
    assert with_unit("x" * 300, "m", 1.8) == "xxxxxxx…xxxxxxxx (m)"  # 20 characters of .09 inches
