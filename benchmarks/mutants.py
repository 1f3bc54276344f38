"""Puts single faults into `meta/` and `skills/` and looks which of them the tests notice.

    make mutants                                        a sample of 40 faults in each file that differs from main
    make mutants FILES="meta/simpl/simpl.py" SAMPLE=0   every fault of a file

The faults are those of Cosmic Ray: another operator, another number, a comparison turned around, a loop that does not
run, and so on. Faults in annotations change nothing and are left out, and so are those of which
`benchmarks/equivalent_faults.toml` says why they change nothing. Each fault is put into a copy of the checkout. Then
the tests that import the module run until one fails, or those of the modules that import it where no test does, in a
process forked from one that has torch loaded already. A fault survives where all of them pass. Progress lies in
`runs/mutants/`, and a later run goes on from there. Survivors are printed with their line, and stand with the counts in
docs/results/mutants.json.

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
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from .recording import make_records
from .results.records import replace_records

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("meta", "skills")
RECORDS = Path("docs/results/mutants.json")
PROGRESS = Path("runs/mutants")
EQUIVALENT = ROOT / "benchmarks/equivalent_faults.toml"
"""Faults that change nothing that anybody can observe, each with its reason."""
LEFT_OUT = ("core/ExceptionReplacer", "core/RemoveDecorator", "core/NoOp")
"""Operators that touch nothing of an algorithm."""
PATIENCE = 8.0
"""Times the duration of the tests without a fault, after which they count as hung."""


_QUIET = ("--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Plugins are loaded before the fork, so that assertions in them are not explained."""


class Fault(NamedTuple):
    """One change of a file."""

    operator: str
    occurrence: int
    line: int
    before: str
    after: str


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
    warm_up()
    injected = detected = 0
    for name in names:
        began = time.perf_counter()
        found = run_module(tree, name, options.sample, options.seed)
        injected += len(found)
        detected += sum(outcome != "silent" for _, outcome in found)
        command = f"python -m benchmarks.mutants {name} --sample {options.sample} --seed {options.seed}"
        record = {"method": name, "metric": "faults noticed", "seeds": [options.seed]} | summarise(found)
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


def run_module(tree: Path, name: str, sample: int, seed: int) -> list[tuple[Fault, str]]:
    """Every fault of a sample with its outcome: detected, silent or hung.

    Raises:
        SystemExit: the tests do not pass without a fault, or no test names the module.
    """
    tests = find_tests(tree, name)
    if not tests:
        raise SystemExit(f"{name}: expected a test that imports it, got none; write one")
    file = tree / name
    source = file.read_text()
    known = {(one["file"], one["before"], one["after"]) for one in tomllib.loads(EQUIVALENT.read_text())["fault"]}
    found = (fault for fault in find_faults(source) if (name, fault.before, fault.after) not in known)
    faults = sorted(found, key=lambda fault: (fault.line, fault.operator, fault.occurrence))
    if sample and len(faults) > sample:
        faults = sorted(random.Random(seed).sample(faults, sample), key=faults.index)
    began = time.perf_counter()
    if run_tests(tree, name, tests, 600.0) != "silent":
        raise SystemExit(f"{name}: expected tests that pass without a fault, got one that fails; mend it first")
    limit = 10.0 + PATIENCE * (time.perf_counter() - began)
    progress = PROGRESS / f"{name.replace('/', '.')}-{sample}-{seed}.json"
    done = read_progress(progress, source)
    for number, fault in enumerate(faults, 1):
        key = f"{fault.operator} {fault.occurrence}"
        if key not in done["outcomes"]:
            mutated = mutate_code(source, get_operator(fault.operator)(), fault.occurrence)
            try:
                file.write_text(mutated)
                done["outcomes"][key] = run_tests(tree, name, tests, limit)
            finally:
                file.write_text(source)
            progress.write_text(json.dumps(done))
        if done["outcomes"][key] == "silent":
            print(f"{name}:{fault.line}: survives\n  - {fault.before}\n  + {fault.after}", flush=True)
        print(f"{name}: {number}/{len(faults)}", end="\r", file=sys.stderr)
    return [(fault, done["outcomes"][f"{fault.operator} {fault.occurrence}"]) for fault in faults]


def read_progress(file: Path, source: str) -> dict[str, Any]:
    """Outcomes of an earlier run on the same source."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text())
        if found["source"] == source:
            return dict(found)
    return {"source": source, "outcomes": {}}


def find_tests(tree: Path, name: str) -> list[str]:
    """Test files of the rooms that import a module, or else those that import a module which imports it."""
    tests = "tests/{}/**/test_*.py"
    return _find_importers(tree, tests, {name}) or _find_importers(
        tree, tests, set(_find_importers(tree, "{}/**/*.py", {name}))
    )


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


def find_faults(source: str) -> Iterator[Fault]:
    """All faults of a file but those that only change annotations, or no meaning at all."""
    tree, meaning = get_ast(source), _dump(source)
    lines = source.splitlines()
    for operator_name in sorted({*operator_names()} - {*LEFT_OUT}):
        operator_class = get_operator(operator_name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, ((line, _), _) in enumerate(places):
            mutated = mutate_code(source, operator, occurrence)
            with suppress(SyntaxError):
                if mutated is not None and _dump(mutated) != meaning:
                    after = mutated.splitlines()[line - 1].strip()
                    yield Fault(operator_name, occurrence, line, lines[line - 1].strip(), after)


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


def run_tests(tree: Path, name: str, tests: Sequence[str], limit: float) -> str:
    """`silent` where all tests pass on the tree, `hung` after `limit` seconds, else `detected`."""
    # a compiled file of the same size and second would be taken for the new one
    for compiled in (tree / name).parent.glob(f"__pycache__/{Path(name).stem}.*"):
        compiled.unlink()
    child = os.fork()
    if child == 0:
        _run_child(tree, name, tests)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "silent" if status == 0 else "detected"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def _run_child(tree: Path, name: str, tests: Sequence[str]) -> None:
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
        sys.dont_write_bytecode = (tree / name).read_text() != (ROOT / name).read_text()
        status = pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *_QUIET])
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
