"""Stage keys: which runs of a stage are the same run.

key = sha256 of the canonical JSON of {stage, config after defaults, seed, inputs by digest, code, library versions,
device class}. Wall-clock facts, paths and thread counts stay outside, so a folder that was moved is still the same one.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..strict_json import load_json
from .evidence import advise_again
from .sources import Source, SourceMemory

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
RUNNER = frozenset(
    f"pipeline/{name}.py"
    for name in (
        *(
            "checkpoints",
            "executors",
            "folder",
            "interrupt",
            "keys",
            "learners",
            "metrics",
            "presets",
            "progress",
            "robots",
            "sharded_robots",
            "sources",
            "stage",
            "user_modules",
        ),
        "__init__",
    )
) | {"robots/families.py"}
"""Modules that decide how a stage is stored and shown, and tables of what can be named; not part of the code version.

What was chosen from a table counts by a digest of its own, see `robots.RobotChoice.record`."""

RECORD_NAME = "stage.json"
RECORD_FIELDS = {
    "schema": int,
    "stage": str,
    "key": str,
    "output_digest": str,
    "fields": dict,
    "inputs": dict,
    "outputs": dict,
    "clock": dict,
}
"""What every stage.json has, and of which type."""

BESIDE = frozenset({"benchmarks", "examples", "tests"})
"""Folders of a checkout that are no part of the package: what lies there is a user's."""

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed distributions."""
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def compute_plain(value: Any, where: str) -> Any:
    """The JSON form of a config value: dataclasses become objects, tuples become lists, paths become strings.

    Raises:
        ConfigError: a value of a type that has no stable text form, or a non-finite number.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: compute_plain(getattr(value, name), f"{where}.{name}") for name in names}
    if isinstance(value, Mapping):
        return {str(name): compute_plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [compute_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise ConfigError(f"{where}: expected a finite number, got {value}; choose a finite value")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{where}: expected a number, text, path, tuple or frozen dataclass, got {type(value).__name__}; "
        "keep other objects out of the config"
    )


def compute_canonical(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def compute_digest(value: Any) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(compute_canonical(value)).hexdigest()


def compute_file_digest(path: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_record(folder: Path) -> dict[str, Any]:
    """The stage.json of a published stage folder.

    Raises:
        RunError: it is missing, is no record of a stage, or was edited.
    """
    path = folder / RECORD_NAME
    if not os.path.lexists(path):
        raise RunError(f"{folder}: expected a stage folder with {RECORD_NAME}, got none; name the output of a stage")
    remedy = advise_again(folder)
    record = load_json(path, dict, RunError, remedy)
    for name, kind in RECORD_FIELDS.items():
        if type(record.get(name)) is not kind:
            raise RunError(f"{path} {name}: expected {kind.__name__}, got {record.get(name)!r:.40}; {remedy}")
    # a record of schema 1 has no digest of its own, only those of its fields and outputs
    whole = record["schema"] == 1 or record.get("record_digest") == compute_record_digest(record)
    if not whole or [compute_digest(record[name]) for name in ("fields", "outputs")] != [
        record["key"],
        record["output_digest"],
    ]:
        raise RunError(f"{path}: expected the record as it was published, got an edited one; {remedy}")
    return record


def compute_record_digest(record: Mapping[str, Any]) -> str:
    """Digest of all that a stage.json says, but for this digest."""
    return compute_digest({name: value for name, value in record.items() if name != "record_digest"})


def compute_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of the named distributions, without importing them."""
    versions = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "absent"
    return versions


def _find_imports(source: Source, file: Path, root: Path) -> Iterator[Path]:
    """Files that a module imports: of the package at `root`, and for a user's `file` also of the user's own."""
    own = _is_packaged(file, root)
    suffixes = (".py",) if own else tuple(all_suffixes())
    for level, module, names in source.imports:
        if level > 0:
            base = file.parents[level - 1].joinpath(*module.split(".")) if module else file.parents[level - 1]
            candidates = [base, *(base / name for name in names)]
            found = [path for candidate in candidates for path in _list_files(candidate, suffixes)]
            yield from (path for path in found if path.is_relative_to(root) or not own)
        elif not own:
            for name in names:
                yield from _find_module(name if level < 0 else f"{module}.{name}", file, root)
    if not own:
        yield from (path for folder in _list_packages(file, root) for path in _list_files(folder, suffixes))


def _is_packaged(file: Path, root: Path) -> bool:
    """Whether a file is a module of the package at `root`, and no user's file or example."""
    return file.is_relative_to(root) and file.relative_to(root).parts[0] not in BESIDE


def _list_files(base: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """The files of a module without its suffix, or of a package."""
    for stem in (base, base / "__init__"):
        yield from (path for suffix in suffixes if (path := stem.with_name(stem.name + suffix)).is_file())


def _list_packages(file: Path, root: Path) -> Iterator[Path]:
    """Folders of the packages that a user's file is in, the innermost first: to import it is to import them."""
    for folder in file.parents:
        if not (folder / "__init__.py").is_file() or _is_packaged(folder / "__init__.py", root):
            return
        yield folder


def _find_module(name: str, file: Path, root: Path) -> Iterator[Path]:
    """Files of a module and its packages that a user's file imports by its full name: of this package, or a user's.

    A module that is loaded says itself where it is; any other is looked for as Python does, and beside the file. No
    module is run for it. What came with Python or is an installed distribution is none of the user's, unless `file` is
    of the same.
    """
    first, *rest = name.split(".")
    if first == "supple":
        yield from _list_files(root.joinpath(*rest), (".py",))
        return
    package = [*_list_packages(file, root)][-1:]
    for place in _find_top(first, file.parent):
        if place not in package and (_is_installed(place) or _is_packaged(place, root)):
            continue
        for depth in range(len(rest) + 1):
            yield from _list_files(place.joinpath(*rest[:depth]), all_suffixes())


def _find_top(name: str, beside: Path) -> list[Path]:
    """Where a module or package without dots in its name is, without its suffix; several places for a namespace."""
    module = sys.modules.get(name)
    with suppress(Exception):  # finders of others fail in ways of their own
        spec = module.__spec__ if module is not None else None
        if spec is None:
            spec = next((found for finder in sys.meta_path if (found := finder.find_spec(name, None))), None)
        if spec is not None and spec.submodule_search_locations is not None:
            return [Path(place) for place in spec.submodule_search_locations]
        if spec is not None and spec.has_location and spec.origin is not None:
            file = Path(spec.origin)
            return [file.with_name(file.name.partition(".")[0])]
        if spec is not None:
            return []  # part of Python itself
    return [beside / name]


def _is_installed(file: Path) -> bool:
    """Whether a file came with Python, or is of an installed distribution, whose version counts instead."""
    return bool(INSTALLED.intersection(file.parts)) or any(file.is_relative_to(folder) for folder in _STANDARD)


@cache
def _load_tree(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
    try:
        if file.suffix != ".py":
            raise SyntaxError  # a compiled module counts by its bytes
        source = _open_memory().load(file)
    except (SyntaxError, ValueError):  # of a user, and never run
        return compute_file_digest(file), ()
    return source.digest, tuple(sorted({path.resolve() for path in _find_imports(source, file, root)} - {file}))


@cache
def _open_memory() -> SourceMemory:
    return SourceMemory(PACKAGE_ROOT / "__pycache__")


@cache
def compute_code_digest(modules: str | tuple[str, ...], root: Path = PACKAGE_ROOT) -> str:
    """Digest of the syntax trees of modules and of all that they import by relative imports, transitively.

    Comments, docstrings and layout do not count, nor do the modules in `RUNNER`.

    Args:
        modules: files below the package root, such as `pipeline/stages/extract.py`, or a user's files, whose imports of
            this package and of all other files of the user count too, and what the texts in them name.
        root: folder of the package.
    """
    digest = compute_digest(dict(_walk_code(modules, root)))
    _open_memory().save()
    return digest


def list_code(modules: str | tuple[str, ...], root: Path = PACKAGE_ROOT) -> list[str]:
    """The files of `compute_code_digest`, relative to the package root, sorted."""
    names = sorted(name for name, _ in _walk_code(modules, root))
    _open_memory().save()
    return names


def _walk_code(modules: str | tuple[str, ...], root: Path) -> Iterator[tuple[str, str]]:
    """Each file once, with the digest of its syntax tree."""
    seen: set[Path] = set()
    users: dict[str, list[str]] = {}
    root = root.resolve()
    waiting = [root / module for module in ((modules,) if isinstance(modules, str) else modules)]
    while waiting:
        file = waiting.pop().resolve()
        packaged = _is_packaged(file, root)
        if file in seen or (packaged and str(file.relative_to(root)) in RUNNER):
            continue
        seen.add(file)
        digest, imports = _load_tree(file, root)
        if packaged:
            yield str(file.relative_to(root)), digest
        else:
            users.setdefault(_name_users(file, root), []).append(digest)
        waiting.extend(imports)
    for name, digests in users.items():  # files of several folders may have one name
        yield name, digests[0] if len(digests) == 1 else compute_digest(sorted(digests))


def _name_users(file: Path, root: Path) -> str:
    """The name of a user's file wherever its folder is: as its packages have it, behind `./`, which is none of ours."""
    folders = len([*_list_packages(file, root)])
    return f"./{'/'.join(file.parts[-1 - folders :])}"


def flatten(value: Any, where: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists count as values."""
    if not isinstance(value, dict):
        return {where: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(flatten(item, f"{where}.{name}" if where else str(name)))
    return flat


def find_first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field, in the order of `new`, that differs: (name, old value, new value); None where all agree."""
    flat_old, flat_new = flatten(dict(old)), flatten(dict(new))
    for name in [*flat_new, *(name for name in flat_old if name not in flat_new)]:
        old_value, new_value = flat_old.get(name, "nothing"), flat_new.get(name, "nothing")
        if old_value != new_value:
            return name, old_value, new_value
    return None
