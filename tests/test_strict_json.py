import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.errors import RunError, StoreError
from supple.strict_json import MOST_DEPTH, load_json, load_json_lines, parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aZ \n"\\é\u2028\U0001f600'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc"), VALUES))
def test_reads_what_json_writes(record: dict[str, object]) -> None:
    assert parse_json(json.dumps(record), dict, "x", RunError, "stop") == record
    assert parse_json(json.dumps([record], ensure_ascii=False).encode(), list, "x", RunError, "stop") == [record]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ('{"a": 1} {"b": 2}', "Extra data"),
        ("[]", "an object, got a list"),
        ("3", "an object, got 3"),
        ("null", "an object, got None"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"b": [{"a": 1, "c": 0, "a": 1}]}', "the key 'a' twice"),
        ('{"a": NaN}', "the number NaN"),
        ('{"a": -Infinity}', "the number -Infinity"),
        ('{"a": 1e400}', "the number 1e400"),
        ('{"a": -1e400}', "the number -1e400"),
        ('{"a": 1' + "0" * 400 + "}", r"the number 10000000000000000000\.\.\."),
        ('{"a": 1' + "0" * 9000 + ".5}", r"the number 10000000000000000000\.\.\."),
        ('{"a": ' + "[" * 300_000 + "]" * 300_000 + "}", "strict JSON, got maximum recursion depth exceeded"),
        ('{"a":' * 300_000 + "1" + "}" * 300_000, "strict JSON, got maximum recursion depth exceeded"),
        ('{"a": ' + "[" * MOST_DEPTH + "]" * MOST_DEPTH + "}", f"nested deeper than {MOST_DEPTH}"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        ('{"a": "x\\u0000y"}', "a text with NUL"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"\xff\xfe{\x00}\x00", "can't decode byte 0xff"),
    ],
)
def test_refuses_on_one_line_with_place_and_remedy(text: str | bytes, named: str) -> None:
    with pytest.raises(StoreError, match=f"^place: expected .*{named}.*; go home$") as caught:
        parse_json(text, dict, "place", StoreError, "go home")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_deepest_value_that_is_read(tmp_path: Path) -> None:
    text = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert json.dumps(parse_json(text, list, "x", RunError, "stop")) == text


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, named in (
        (tmp_path, "expected a JSON file, got a folder, pipe or device"),
        (tmp_path / "pipe", "expected a JSON file, got a folder, pipe or device"),
        (Path("/dev/zero"), "expected a JSON file, got a folder, pipe or device"),
        (tmp_path / "none", "expected a JSON file, got No such file or directory"),
        (tmp_path / ("x" * 300), "expected a JSON file, got File name too long"),
        (tmp_path / "a\0b", "expected a JSON file, got 'embedded null byte'"),
    ):
        with pytest.raises(RunError, match=f"{named}; stop$"):
            load_json(path, dict, RunError, "stop")


def test_a_file_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match=r"expected at most 1073741824 bytes, got 1099511627776; stop$"):
        load_json(path, dict, RunError, "stop")


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert load_json_lines(path, RunError, "stop", growing=True) == [{"a": 1}, {"a": 2}]
    with pytest.raises(RunError, match=r"lines, line 3: expected strict JSON, got .*; stop$"):
        load_json_lines(path, RunError, "stop")
    path.write_text('{"a": "x\u2028y\x85z"}\n', encoding="utf-8")
    assert load_json_lines(path, RunError, "stop") == [{"a": "x\u2028y\x85z"}]
