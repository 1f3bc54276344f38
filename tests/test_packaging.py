"""What the package promises before any algorithm runs: pinned versions, fast imports, no unsafe loading."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import supple
from supple.pipeline.cli import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("robots", "datasets", "skills", "meta", "adapt", "pipeline")
# CUDA builds of torch bring packages that a CPU build does not have; their versions are fixed by torch's own metadata.
FIXED_BY_TORCH = re.compile(r"^(nvidia-|cuda-|triton)")


def read_constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def iterate_closure(name: str, extras: frozenset[str]) -> Iterator[str]:
    """Names of all distributions that `name` with its extras needs here, markers evaluated for this interpreter."""
    todo, seen = [(name, extras)], set()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        yield item[0]
        for line in metadata.requires(item[0]) or ():
            requirement = Requirement(line)
            wanted = item[1] or frozenset({""})
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in wanted):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))


def source_files() -> list[Path]:
    return [ROOT / "__init__.py", ROOT / "errors.py"] + [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]


def run_python(code: str) -> str:
    """What `code` prints in a fresh interpreter that finds `supple` where it is installed, not beside itself."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_every_needed_package_is_installed_in_the_pinned_version() -> None:
    pins = read_constraints()
    closure = set(iterate_closure("supple", frozenset({"dev"}))) - {"supple"}
    assert len(closure) > 40
    needed = {name for name in closure if not FIXED_BY_TORCH.match(name)}
    assert needed <= pins.keys()
    # "2.13.0+cpu" and "2.13.0" are two builds of one version, so only the public part is compared
    different = {
        name: (metadata.version(name), str(pins[name]))
        for name in sorted(needed)
        if Version(metadata.version(name)).public != pins[name].public
    }
    assert different == {}


def test_a_missing_package_of_the_extra_is_known_by_the_name_that_is_imported() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        brought = {canonicalize_name(Requirement(line).name) for line in extras[extra]} - {"supple"}
        assert {canonicalize_name(distributions[name][0]) for name in modules} == brought


def test_a_verb_without_its_extra_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tyro'] = None; from supple.pipeline.cli import main; "
        f"sys.exit(main(['generate', '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "supple: generate: expected the package tyro, got none installed; run pip install 'supple[train]'"
    )


def test_constraints_name_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9._]+", line)] == []


def test_version_is_the_same_in_code_and_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert supple.__version__ == project["version"] == metadata.version("supple")


def test_only_supple_lands_in_site_packages() -> None:
    tops = metadata.distribution("supple").read_text("top_level.txt")
    assert tops is not None
    assert tops.split() == ["supple"]


def test_every_package_folder_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = {
        ".".join(("supple", *path.parent.relative_to(ROOT).parts))
        for name in PACKAGES
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert on_disk | {"supple"} == set(listed)


@pytest.mark.parametrize(
    "module",
    [
        "supple",
        "supple.robots",
        "supple.datasets",
        "supple.adapt.numpy_policy",
        "supple.adapt.bundle",
        "supple.adapt.loop",
    ],
)
def test_module_loads_without_torch(module: str) -> None:
    loaded = run_python(f"import sys, {module}; print('torch' in sys.modules, '{module}' in sys.modules)")
    assert loaded == "False True"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "--help"],
        ["meta-train", "--help"],
        ["meta-train", "--learner", "learned-update", "--help"],
        ["adapt", "--help"],
        ["info"],
    ],
    ids=" ".join,
)
def test_help_and_info_wait_for_no_heavy_package(arguments: list[str]) -> None:
    code = (
        "import sys; from supple.pipeline.cli import main; m = sys.modules\n"
        f"try: code = main({arguments!r})\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, [name for name in ('torch', 'mujoco', 'zarr', 'h5py', 'matplotlib', 'gymnasium') if name in m])"
    )
    assert run_python(code).splitlines()[-1] == "0 []"


def test_package_itself_loads_nothing_of_ours() -> None:
    loaded = run_python("import sys, supple; print([m for m in sys.modules if m.startswith('supple.')])")
    assert loaded == "[]"


def find_unsafe(tree: ast.AST) -> Iterator[str]:
    """What can run code from a file: pickle in any guise, torch.load, yaml.load, eval, exec, a shell."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.split(".")[0] in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in UNSAFE_MODULES:
                yield module
            case ast.ImportFrom(module="torch" | "yaml" as module, names=names):
                yield from (f"{module}.{a.name}" for a in names if a.name in {"load", "unsafe_load"})
            case ast.Call(func=ast.Name(id="eval" | "exec" | "__import__" as name)):
                yield name
            case ast.Attribute(value=ast.Name(id="torch" | "yaml" as owner), attr="load" | "unsafe_load" | "full_load"):
                yield f"{owner}.load"
            case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen" as name):
                yield f"os.{name}"
            case ast.keyword(arg="allow_pickle" | "shell" as name, value=ast.Constant(value=False)):
                continue
            case ast.keyword(arg="allow_pickle" | "shell" as name):
                yield name
            case ast.keyword(arg="weights_only", value=ast.Constant(value=False)):
                yield "weights_only=False"


UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "pickletools"}


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_can_run_code_from_a_file(path: Path) -> None:
    assert list(find_unsafe(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import os, cloudpickle as c",
        "from pickle import loads",
        "from torch import load",
        "import torch; torch.load('x')",
        "reader = torch.load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "os.system('ls')",
        "subprocess.run(command, shell=True)",
        "f(weights_only=False)",
    ],
)
def test_the_search_finds_each_unsafe_call(code: str) -> None:
    assert len(list(find_unsafe(ast.parse(code)))) == 1


def test_the_search_passes_safe_calls() -> None:
    code = "np.load(path, allow_pickle=False); model.eval(); from torch import nn; re.compile('x'); json.load(file)"
    assert list(find_unsafe(ast.parse(code))) == []
