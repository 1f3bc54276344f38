"""A pytest session that shows faults of functions to the tests, without another import or collection.

Tests are collected once. A first run notes which functions each test runs, and for how long. Each fault then is a new
`__code__` of one function in a forked process, which repeats the tests that run this function until one fails: first
those that noticed other faults of the file, then the fast ones.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest

PATIENCE = 8.0
"""Times the processor time of a test without a fault, after which it counts as hung."""
SHORTEST = 10.0
"""Seconds that every test has."""
_ELSEWHERE = 3
"""Exit status where a fault cannot be put into a loaded function; an import has to bring it."""


class Case(NamedTuple):
    """A fault of a function."""

    name: str
    """The module's file below the tree."""
    function: str
    """Its qualified name."""
    mutated: str
    """The module's source with the fault."""
    tests: tuple[str, ...]
    """Test files that are asked."""
    report: Callable[[str, float], None]
    """Gets the outcome, detected, silent or hung, and the seconds that it took."""


class Reach(NamedTuple):
    """What a test does without a fault."""

    seconds: float
    """Processor time."""
    functions: tuple[str, ...]
    """Functions of the rooms that it runs, `<file>:<qualified name>`."""


def read_seconds(baseline: Path) -> dict[str, float]:
    """Processor time of each test file without a fault, as a session measured it."""
    files = json.loads(baseline.read_text())
    return {file: sum(seconds for seconds, _ in found["tests"].values()) for file, found in files.items()}


def find_function(source: str, line: int) -> str | None:
    """The qualified name of the function whose body a line belongs to; None where it is run by the import."""

    def search(body: Sequence[ast.stmt], prefix: str) -> str | None:
        for node in body:
            if isinstance(node, ast.ClassDef) and (found := search(node.body, f"{prefix}{node.name}.")):
                return found
            if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
                return prefix + node.name
        return None

    return search(ast.parse(source).body, "")


class FaultSession:
    """A plugin of pytest whose test loop shows each fault to the tests that run its function."""

    def __init__(self, tree: Path, rooms: Sequence[str], cases: Sequence[Case], baseline: Path) -> None:
        self._tree, self._rooms, self._cases, self._baseline = tree, rooms, cases, baseline
        self._session: pytest.Session
        self._loaded: dict[tuple[str, str], list[FunctionType]] = {}
        self._noticed: set[tuple[str, str]] = set()
        self._failed = baseline.with_suffix(".failed")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measures the tests without a fault, then reports each case."""
        self._session = session
        reached = self.measure()
        self._loaded = find_functions({str(self._tree / case.name) for case in self._cases})
        gc.freeze()  # what all forks share is not copied by collecting garbage
        for case in self._cases:
            wanted = f"{case.name}:{case.function}"
            timed = [
                (reached[item.nodeid].seconds, item)
                for item in session.items
                if self._file(item) in case.tests and wanted in reached[item.nodeid].functions
            ]
            # a test that noticed one fault of a file is likely to notice others
            timed.sort(key=lambda one: ((case.name, one[1].nodeid) not in self._noticed, one[0]))
            began = time.perf_counter()
            outcome = _fork(partial(self._run, timed, case))
            if outcome == "detected" and self._failed.exists():
                self._noticed.add((case.name, self._failed.read_text()))
            if outcome:
                case.report(outcome, time.perf_counter() - began)
        return True

    def measure(self) -> dict[str, Reach]:
        """What each test does; of a file that is the same as in an earlier run, as it was then.

        Raises:
            SystemExit: a test fails without a fault.
        """
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            known = json.loads(self._baseline.read_text())
        files: dict[str, list[pytest.Item]] = {}
        for item in self._session.items:
            files.setdefault(self._file(item), []).append(item)
        sources = hashlib.sha256()
        for source in sorted(one for room in self._rooms for one in self._tree.glob(f"{room}/**/*.py")):
            sources.update(source.read_bytes())
        for file, items in files.items():
            key = hashlib.sha256(sources.digest() + (self._tree / file).read_bytes()).hexdigest()
            if known.get(file, {}).get("key") != key:
                part = self._baseline.with_suffix(".part")
                if _fork(partial(self._watch, items, part)) != "silent":
                    raise SystemExit(f"{file}: expected tests that pass without a fault, got one that fails")
                known[file] = {"key": key, "tests": json.loads(part.read_text())}
                self._baseline.write_text(json.dumps(known))
        return {
            node: Reach(seconds, tuple(functions))
            for file in files
            for node, (seconds, functions) in known[file]["tests"].items()
        }

    def _file(self, item: pytest.Item) -> str:
        return str(item.path.relative_to(self._tree))

    def _watch(self, items: Sequence[pytest.Item], part: Path) -> None:
        """Runs tests of a file, and writes the functions that each runs."""
        found: dict[str, tuple[float, list[str]]] = {}
        names: dict[CodeType, str | None] = {}
        seen: set[CodeType] = set()

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                seen.add(frame.f_code)

        for number, item in enumerate(items):
            seen.clear()
            began = time.process_time()
            sys.setprofile(note)
            self._protocol(item, items[number + 1] if number + 1 < len(items) else None)
            sys.setprofile(None)
            for code in seen - names.keys():
                names[code] = self._name(code)
            functions = sorted({name for code in seen if (name := names[code])})
            found[item.nodeid] = (time.process_time() - began, functions)
        part.write_text(json.dumps(found))

    def _name(self, code: CodeType) -> str | None:
        with suppress(ValueError):
            file = Path(code.co_filename).relative_to(self._tree)
            if file.parts[0] in self._rooms:
                return f"{file}:{code.co_qualname.partition('.<locals>')[0]}"
        return None

    def _run(self, timed: Sequence[tuple[float, pytest.Item]], case: Case) -> None:
        """Runs tests on a fault, and ends this process at the first that fails."""
        self._failed.unlink(missing_ok=True)
        file = str(self._tree / case.name)
        replace_code(self._loaded[file, case.function], file, case.mutated)
        for number, (seconds, item) in enumerate(timed):
            limit_time(seconds)
            self._protocol(item, timed[number + 1][1] if number + 1 < len(timed) else None)

    def _protocol(self, item: pytest.Item, following: pytest.Item | None) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if self._session.testsfailed:
            self._failed.write_text(item.nodeid)
            os._exit(1)


def limit_time(seconds: float) -> None:
    """Ends this process as hung after many times the processor time that its work takes without a fault."""
    signal.setitimer(signal.ITIMER_PROF, SHORTEST + PATIENCE * seconds)


def _fork(work: Callable[[], None]) -> str | None:
    """Outcome of a process that does some work; None where the work itself fails."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as pytest
            traceback.print_exc()
        finally:
            os._exit(_ELSEWHERE)
    return wait_for(child)


def wait_for(child: int) -> str | None:
    """Outcome of a process: `silent`, `detected`, `hung` where its timer ended it, None where it says so."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hung" if os.WTERMSIG(status) == signal.SIGPROF else "detected"
    return {0: "silent", _ELSEWHERE: None}.get(os.WEXITSTATUS(status), "detected")


def find_functions(files: Collection[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """The loaded functions of files, by file and qualified name; a property's three have one name."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in files:
            found.setdefault((one.__code__.co_filename, one.__code__.co_qualname), []).append(one)
    return found


def replace_code(functions: Sequence[FunctionType], file: str, mutated: str) -> None:
    """Gives functions of a loaded file the code that they have in another source of as many lines.

    Raises:
        LookupError: no function of this name stands in this line of the other source.
        ValueError: the code needs other variables of the functions around it.
    """
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _list_codes(compile(mutated, file, "exec"))}
    for one in functions:
        one.__code__ = codes[one.__code__.co_qualname, one.__code__.co_firstlineno]


def _list_codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _list_codes(inner)
