"""A mapping comes back from its file as it was, and what is wrong with one is named."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets.bags.mapping import (
    EpisodeRule,
    Mapping,
    Signal,
    TopicClock,
    load_mapping,
    parse_mapping,
    write_mapping,
)
from supple.errors import ConfigError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
GOOD = """
period = 0.1
[[topic]]
name = "/j"
[[signal]]
feature = "observation"
topic = "/j"
field = "position"
axes = ["a"]
units = ["rad"]
"""


@given(topic=TEXT, axes=st.lists(TEXT, min_size=1, max_size=4, unique=True), unit=TEXT, age=st.floats(1e-3, 1e3))
def test_a_mapping_comes_back_as_it_was(topic: str, axes: list[str], unit: str, age: float) -> None:
    mapping = Mapping(
        period=1 / 30,
        action_source="delta",
        extras=(),
        episodes=EpisodeRule(by="table", table=((0.0, age), (age, 2 * age))),
        topic=(TopicClock(name=topic, clock="log", latency=-0.25, max_age=age),),
        signal=(
            Signal(
                feature="observation", topic=topic, axes=tuple(axes), units=(unit,) * len(axes), interpolate="angle"
            ),
        ),
    )
    assert parse_mapping(write_mapping(mapping, ("a note\nof two lines",)), "map") == mapping


def test_a_short_mapping_takes_the_defaults() -> None:
    mapping = parse_mapping(GOOD, "map")
    assert mapping.period_ns == 100_000_000
    assert mapping.topic[0].clock == "header.stamp"
    assert [feature.name for feature in mapping.schema().features] == ["observation", "valid", "age", "time"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("period = 0.1", "", r"map: expected the fields .*'period'.* without period; draft"),
        ("period = 0.1", "period = 0.0", r"period: expected a number from 1e-06 to 3600, got 0.0"),
        ("period = 0.1", "perod = 0.1", r"expected the fields .*got .*'perod'.*, where perod is unknown; draft"),
        ('name = "/j"', 'name = "/j"\nmax_ag = 1', r"topic\[0\]: expected the fields .*, where max_ag is unknown"),
        ("period = 0.1", "period = true", r"map.period: expected float, got True"),
        ("period = 0.1", "period = 0.1\nversion = 2", r"version: expected a whole number from 1 to 1, got 2"),
        ('name = "/j"', 'name = "/k"', r"signal: expected a topic of /k, got '/j'; add \[\[topic\]\]"),
        ('units = ["rad"]', "units = []", r"expected 1 units, got 0; give one per axis"),
        ('axes = ["a"]', 'axes = ["a", "a"]', r"expected distinct names in axes, got \['a', 'a'\]"),
        ('feature = "observation"', 'feature = "action"', r"expected one with feature = 'observation', got none"),
        ('name = "/j"', 'name = "/j"\nmax_age = -1', r"max_age: expected a number above 0 to 1e\+12, got -1"),
        ('name = "/j"', 'name = "/j"\n[[topic]]\nname = "/j"', r"expected each topic once, got \['/j', '/j'\]"),
        ("period = 0.1", "period = 0.1\n[episodes]\nby = 'marker'", r"a topic with by = 'marker' or 'steps' only"),
        ("period = 0.1", "period = 0.1\n[episodes]\nby = 'table'\ntable = [[2, 1]]", r"expected a table of"),
        ("period = 0.1", "period =", r"map: expected TOML, got Invalid value"),
        ('field = "position"', 'field = "position"\ninterpolate = "quaternion"', r"expected 4 axes of a quat"),
        ('field = "position"', 'field = "position"\nscalar = true\ndtype = "float16"', r"dtype: expected .*'float16'"),
        ('field = "position"', 'field = "position"\ninterpolate = "lin"', r"of hold, linear, .*, got 'lin'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as error:
        parse_mapping(GOOD.replace(old, new), "map")
    assert re.match(r"map[:.](?! map)", str(error.value))  # the file is named, once


def test_parts_of_one_feature_agree() -> None:
    other = GOOD + GOOD[GOOD.index("[[signal]]") :].replace('"a"', '"b"') + 'dtype = "float64"\n'
    with pytest.raises(ConfigError, match="expected the same dtype, role and scalar for all of observation"):
        parse_mapping(other, "map")
    with pytest.raises(ConfigError, match=r"^map: feature 'observation': expected distinct axes"):
        parse_mapping(GOOD + GOOD[GOOD.index("[[signal]]") :], "map")
    extra = GOOD + GOOD[GOOD.index("[[signal]]") :].replace('"observation"', '"valid"')
    with pytest.raises(ConfigError, match=r"^map: schema: expected at least one feature and distinct names"):
        parse_mapping(extra, "map")


def test_a_file_of_windows_is_read() -> None:
    assert parse_mapping(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), "map") == parse_mapping(GOOD, "map")


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: expected a mapping of a bag.*--write-mapping"):
        load_mapping(tmp_path / "nothing.toml")


def test_a_folder_in_place_of_a_mapping_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_mapping(tmp_path)
    assert str(error.value).count("expected") == 1
