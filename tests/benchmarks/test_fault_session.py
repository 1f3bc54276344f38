"""Which faults of functions the tests of a small package notice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fault_session import find_function, find_functions, replace_code

SOURCE = """\
HALF = 2


class Number:
    def __init__(self, value: float) -> None:
        self.value = value

    @property
    def half(self) -> float:
        return self.value / HALF

    @half.setter
    def half(self, value: float) -> None:
        self.value = value * HALF


def count(last: int) -> int:
    number = 0
    while number < last:
        number += 1
    return number


def forgotten() -> int:
    return [one for one in range(3)][1]
"""
TESTS = """\
from supple_room.number import Number, count

def test_half() -> None:
    number = Number(6.0)
    assert number.half == 3.0
    number.half = 5.0
    assert number.value == 10.0

def test_count() -> None:
    assert count(3) == 3

def test_nothing() -> None:
    assert Number(0.0).half == 0.0
"""
SESSION = """\
import json, sys
from pathlib import Path
import pytest
from benchmarks import fault_session
tree = Path.cwd()
sys.path.insert(0, str(tree))
fault_session.SHORTEST = 0.2
source, outcomes = Path("supple_room/number.py").read_text(), []
cases = [
    fault_session.Case("supple_room/number.py", name, source.replace(*change), ("test_number.py",),
                       lambda outcome, seconds: outcomes.append(outcome))
    for name, change in json.loads(sys.argv[1])
]
session = fault_session.FaultSession(tree, ("supple_room",), cases, tree / "baseline.json")
status = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_number.py"], plugins=[session])
Path("outcomes.json").write_text(json.dumps([int(status), outcomes]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "supple_room").mkdir()
    (tmp_path / "supple_room/__init__.py").write_text("")
    (tmp_path / "supple_room/number.py").write_text(SOURCE)
    (tmp_path / "test_number.py").write_text(TESTS)
    return tmp_path


def run_session(tree: Path, *changes: tuple[str, tuple[str, str]]) -> list[object]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SESSION, json.dumps(changes)]
    subprocess.run(command, cwd=tree, check=True, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True)
    return list(json.loads((tree / "outcomes.json").read_text()))


def test_a_fault_is_noticed_where_a_test_fails_that_runs_its_function(tree: Path) -> None:
    found = run_session(
        tree,
        ("Number.half", ("value / HALF", "value * HALF")),
        ("Number.half", ("value * HALF", "value / HALF")),  # the setter
        ("count", ("number += 1", "number += 2")),
        ("count", ("number < last", "number != last")),  # nobody can tell
        ("count", ("number += 1", "number += 0")),  # never ends
        ("forgotten", ("[1]", "[2]")),  # no test runs it
    )
    assert found == [0, ["detected", "detected", "detected", "silent", "hung", "silent"]]
    known = json.loads((tree / "baseline.json").read_text())["test_number.py"]["tests"]
    reached = {
        node.partition("::")[2]: [name.partition(":")[2] for name in names] for node, (_, names) in known.items()
    }
    assert reached["test_count"] == ["count"]
    assert reached["test_nothing"] == ["Number.__init__", "Number.half"]


def test_a_fault_that_does_not_fit_a_loaded_function_is_left_to_an_import(tree: Path) -> None:
    assert run_session(tree, ("count", ("def count(", "def other("))) == [0, []]


def test_without_a_fault_every_test_passes_or_nothing_is_measured(tree: Path) -> None:
    (tree / "test_number.py").write_text(TESTS.replace("== 3.0", "== 4.0"))
    status, outcomes = run_session(tree, ("count", ("number += 1", "number += 2")))
    assert status
    assert outcomes == []


def test_a_line_of_a_function_is_found_and_one_that_an_import_runs_is_not() -> None:
    lines = SOURCE.splitlines()
    place = {text: lines.index(text) + 1 for text in lines if text}
    assert find_function(SOURCE, place["        return self.value / HALF"]) == "Number.half"
    assert find_function(SOURCE, place["    return number"]) == "count"
    assert find_function(SOURCE, place["def count(last: int) -> int:"]) is None
    assert find_function(SOURCE, place["HALF = 2"]) is None


def test_a_loaded_function_gets_other_code() -> None:
    here = str(Path(__file__))
    found = find_functions([here])[here, "run_session"]
    assert found == [run_session]
    with pytest.raises(KeyError):
        replace_code(found, here, "def run_session():\n    return 1\n")  # stands in another line
