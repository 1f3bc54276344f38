"""Puts single faults into `meta/` and `skills/` and looks which of them the tests notice.

    make mutants                                        a sample of 40 faults in each file that differs from main
    make mutants FILES="meta/simpl/simpl.py" SAMPLE=0   every fault of a file

The faults are those of Cosmic Ray: another operator, another number, a comparison turned around, a loop that does not
run, and so on. Faults in annotations change nothing and are left out, and so are those of which
`benchmarks/equivalent_faults.toml` says why they change nothing. A fault in a function is put into the loaded function,
and shown to the tests that run it, of the test files that import the module or a module that imports it:
`fault_session.py`. Any other fault is put into a copy of the checkout, in a process forked from one that has torch
loaded already, and shown to the test files that import the module. Tests run until one fails. A fault survives where
all of them pass, and where no test runs its function. Progress lies in `runs/mutants/`, and a later run goes on from
there. Survivors are printed with their line, and stand with the counts in docs/results/mutants.json.

The idea: DeMillo, Lipton and Sayward, "Hints on Test Data Selection: Help for the Practicing Programmer", IEEE Computer
1978.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from .fault_session import Case, FaultSession, find_function, limit_time, read_seconds, wait_for
from .recording import make_records
from .results.records import replace_records

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("meta", "skills")
RECORDS = Path("docs/results/mutants.json")
PROGRESS = ROOT / "runs/mutants"
BASELINE = PROGRESS / "baseline.json"
"""What each test runs, and for how long."""
EQUIVALENT = ROOT / "benchmarks/equivalent_faults.toml"
"""Faults that change nothing that anybody can observe, each with its reason."""
LEFT_OUT = ("core/ExceptionReplacer", "core/RemoveDecorator", "core/NoOp")
"""Operators that touch nothing of an algorithm."""

_QUIET = ("--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Plugins are loaded before the fork, so that assertions in them are not explained."""


class Fault(NamedTuple):
    """One change of a file."""

    operator: str
    occurrence: int
    line: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """Its name in the progress of its file."""
        return f"{self.operator} {self.occurrence}"

    def apply(self, source: str) -> str:
        """The file with this change."""
        return str(mutate_code(source, get_operator(self.operator)(), self.occurrence))


def main() -> int:
    """Prints survivors, and writes the counts of each file; 1 where less than the wanted share was noticed."""
    parser = argparse.ArgumentParser(description="Single faults in the learners, and whether the tests notice.")
    parser.add_argument("files", nargs="*", help="modules of meta/ and skills/; by default those that differ")
    parser.add_argument("--since", default="main", help="commit that changed files are found by")
    parser.add_argument("--sample", type=int, default=40, help="faults of each file, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.95, help="of faults that have to be noticed")
    parser.add_argument("--records", type=Path, default=RECORDS, help="JSON file that gets the records")
    options = parser.parse_args()
    names = options.files or find_changed(options.since)
    for name in names:
        if not (ROOT / name).is_file() or Path(name).parts[0] not in ROOMS:
            parser.error(f"expected modules of {' and '.join(ROOMS)}, got {name}; name one from the repository root")
    tree = copy_tree(PROGRESS / "tree")
    began = time.perf_counter()
    warm_up()
    modules = [plan_module(tree, name, options.sample, options.seed) for name in names]
    run_functions(tree, modules)
    injected = detected = 0
    for module in modules:
        found = run_module(tree, module)
        injected += len(found)
        detected += sum(outcome != "silent" for _, outcome in found)
        command = f"python -m benchmarks.mutants {module.name} --sample {options.sample} --seed {options.seed}"
        record = {"method": module.name, "metric": "faults noticed", "seeds": [options.seed]} | summarise(found)
        record["wall_s"] = round(module.read_progress()[1], 1)
        replace_records(options.records, make_records("mutants", command, began, [record]), ("benchmark", "method"))
    print(f"{detected} of {injected} faults noticed", file=sys.stderr)
    return int(detected < options.share * injected)


def find_changed(since: str) -> list[str]:
    """Modules of the rooms that differ from a commit."""
    changed = subprocess.run(
        ["git", "diff", "--name-only", "--diff-filter=d", since, "--", *ROOMS],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in changed.stdout.split() if name.endswith(".py") and "/testing" not in name]


def copy_tree(folder: Path) -> Path:
    """The tracked files as they are now, as a package `supple` below `folder`; the checkout itself is never changed."""
    shutil.rmtree(folder, ignore_errors=True)
    tree = (folder / "supple").absolute()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def warm_up() -> None:
    """Loads what every test process needs, once; a process with threads must not be forked."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)


class Module(NamedTuple):
    """A module with the faults that are put into it."""

    name: str
    source: str
    tests: list[str]
    """Those that import it, or else those of `wider`."""
    wider: list[str]
    """Those that import it or a module that imports it: asked where it is known which functions they run."""
    faults: list[Fault]
    progress: Path

    def read_progress(self) -> tuple[dict[str, str], float]:
        """Outcomes so far, of an earlier run on the same source as well, and the seconds that they took."""
        with suppress(OSError, ValueError):
            found = json.loads(self.progress.read_text())
            if found["source"] == self.source:
                return dict(found["outcomes"]), float(found["seconds"])
        return {}, 0.0

    def report(self, fault: Fault, outcome: str, seconds: float) -> None:
        """Keeps the outcome of a fault, and how long its tests took."""
        outcomes, before = self.read_progress()
        found = {"source": self.source, "outcomes": outcomes | {fault.key: outcome}, "seconds": before + seconds}
        self.progress.parent.mkdir(parents=True, exist_ok=True)
        self.progress.write_text(json.dumps(found))


def plan_module(tree: Path, name: str, sample: int, seed: int) -> Module:
    """The faults of a sample.

    Raises:
        SystemExit: no test names the module.
    """
    tests, further = find_tests(tree, name)
    if not tests:
        raise SystemExit(f"{name}: expected a test that imports it, got none; write one")
    source = (tree / name).read_text()
    known = {(one["file"], one["before"], one["after"]) for one in tomllib.loads(EQUIVALENT.read_text())["fault"]}
    # left out after the lot was drawn: a fault that is found to change nothing brings no other one in
    drawn = islice(find_faults(source, random.Random(seed)), sample or None)
    found = [fault for fault in drawn if (name, fault.before, fault.after) not in known]
    faults = sorted(found, key=lambda fault: (fault.line, fault.operator, fault.occurrence))
    progress = PROGRESS / f"{name.replace('/', '.')}-{sample}-{seed}.json"
    return Module(name, source, tests, sorted({*tests, *further}), faults, progress)


def run_functions(tree: Path, modules: Sequence[Module]) -> None:
    """Runs the faults of functions, and keeps their outcomes.

    Raises:
        SystemExit: the tests do not pass without a fault.
    """
    cases: list[Case] = []
    tests: set[str] = set()
    for module in modules:
        done, _ = module.read_progress()
        for fault in (one for one in module.faults if one.key not in done):
            function = find_function(module.source, fault.line)
            tests |= set(module.wider if function else module.tests)
            if function:
                report = partial(module.report, fault)
                cases.append(Case(module.name, function, fault.apply(module.source), tuple(module.wider), report))
    if tests:
        child = os.fork()
        if child == 0:
            _run_child(tree, sorted(tests), [FaultSession(tree, ROOMS, cases, BASELINE)])
        if wait_for(child) != "silent":
            raise SystemExit(f"expected tests that pass without a fault, got {tree.parent / 'last.log'}; mend it first")


def run_module(tree: Path, module: Module) -> list[tuple[Fault, str]]:
    """Every fault with its outcome: detected, silent or hung; runs those that have none yet."""
    outcomes, _ = module.read_progress()
    for number, fault in enumerate(module.faults, 1):
        if fault.key not in outcomes:
            file, began = tree / module.name, time.perf_counter()
            try:
                file.write_text(fault.apply(module.source))
                outcomes[fault.key] = run_tests(tree, module.name, module.tests)
            finally:
                file.write_text(module.source)
            module.report(fault, outcomes[fault.key], time.perf_counter() - began)
        if outcomes[fault.key] == "silent":
            print(f"{module.name}:{fault.line}: survives\n  - {fault.before}\n  + {fault.after}", flush=True)
        print(f"{module.name}: {number}/{len(module.faults)}", end="\r", file=sys.stderr)
    return [(fault, outcomes[fault.key]) for fault in module.faults]


def find_tests(tree: Path, name: str) -> tuple[list[str], list[str]]:
    """Test files of the rooms that import a module, and those that import a module which imports it.

    Where none imports the module, those of the second kind stand for the first.
    """
    tests = "tests/{}/**/test_*.py"
    near = _find_importers(tree, tests, {name})
    far = _find_importers(tree, tests, set(_find_importers(tree, "{}/**/*.py", {name})))
    return near or far, far


def _find_importers(tree: Path, pattern: str, names: set[str]) -> list[str]:
    """Files of a pattern, for each room, that import one of these modules."""
    dotted = {"supple." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in names}
    wanted = dotted | {":".join(one.rsplit(".", 1)) for one in dotted}
    files = [file for room in ROOMS for file in sorted(tree.glob(pattern.format(room)))]
    return [str(file.relative_to(tree)) for file in files if wanted & _list_imports(file, tree)]


def _list_imports(file: Path, tree: Path) -> set[str]:
    """Modules that a file imports, `package:module` for each name of a `from` as well."""
    package = ("supple", *file.relative_to(tree).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            found |= {module} | {f"{module}:{alias.name}" for alias in node.names}
    return found


def find_faults(source: str, lot: random.Random) -> Iterator[Fault]:
    """All faults of a file by lot, but those that only change annotations, or no meaning at all."""
    meaning, lines = _dump(source), source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    places: list[tuple[str, int, int]] = []
    for name in sorted({*operator_names()} - {*LEFT_OUT}):
        operator = get_operator(name)
        if not operator.arguments():
            positions = (place for node in nodes for place in operator().mutation_positions(node))
            places += [(name, occurrence, line) for occurrence, ((line, _), _) in enumerate(positions)]
    lot.shuffle(places)
    for name, occurrence, line in places:
        with suppress(SyntaxError):
            mutated = mutate_code(source, get_operator(name)(), occurrence)
            if mutated is not None and _dump(mutated) != meaning:
                after = mutated.splitlines()[line - 1].strip()
                yield Fault(name, occurrence, line, lines[line - 1].strip(), after)


def _dump(source: str) -> str:
    """The meaning of a file: its syntax tree without annotations."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def run_tests(tree: Path, name: str, tests: Sequence[str]) -> str:
    """`silent` where all tests pass on the tree, `hung` where they take far too long, else `detected`."""
    # a compiled file of the same size and second would be taken for the new one
    for compiled in (tree / name).parent.glob(f"__pycache__/{Path(name).stem}.*"):
        compiled.unlink()
    seconds = read_seconds(BASELINE)
    child = os.fork()
    if child == 0:
        sys.dont_write_bytecode = True
        limit_time(sum(seconds[test] for test in tests))
        _run_child(tree, sorted(tests, key=seconds.__getitem__))
    return wait_for(child) or "detected"


def _run_child(tree: Path, tests: Sequence[str], plugins: Sequence[object] = ()) -> None:
    """Runs the tests in this process, which ends with their exit status."""
    import pytest

    status = 1
    try:
        os.setsid()
        os.chdir(tree)
        quiet = os.open(tree.parent / "last.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path[:0] = [str(tree.parent), str(tree)]
        for loaded in [one for one in sys.modules if one.partition(".")[0] in ("supple", "benchmarks", "tests")]:
            del sys.modules[loaded]
        arguments = [*tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *_QUIET]
        status = pytest.main(arguments, plugins=list(plugins))
    finally:
        os._exit(int(status != 0))


def summarise(found: Sequence[tuple[Fault, str]]) -> dict[str, object]:
    """Counts as of a reliability record, and the survivors."""
    outcomes = [outcome for _, outcome in found]
    survivors = [
        {"line": fault.line, "before": fault.before, "after": fault.after}
        for fault, outcome in found
        if outcome == "silent"
    ]
    counts = {name: outcomes.count(name) for name in ("detected", "silent", "hung")}
    return {"injected": len(found), **counts, "crashed": 0, "survivors": survivors}


if __name__ == "__main__":
    sys.exit(main())
