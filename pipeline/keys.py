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
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
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
    """Files below `root`, or beside a user's `file`, that a module imports."""
    own = _is_packaged(file, root)
    for level, module, names in source.imports:
        if level > 0:
            base = file.parents[level - 1].joinpath(*module.split(".")) if module else file.parents[level - 1]
            candidates = [base, *(base / name for name in names)]
        elif own:
            continue
        else:
            candidates = [_find_module(name if level < 0 else f"{module}.{name}", file, root) for name in names]
            candidates += [_find_module(module, file, root)] if module else []
        for candidate in candidates:
            for path in (candidate.with_suffix(".py"), candidate / "__init__.py"):
                if path.is_file() and (path.is_relative_to(root) or not own):
                    yield path


def _is_packaged(file: Path, root: Path) -> bool:
    """Whether a file is a module of the package at `root`, and no user's file or example."""
    return file.is_relative_to(root) and file.relative_to(root).parts[0] not in BESIDE


def _find_module(name: str, file: Path, root: Path) -> Path:
    """Where a module that a user's file imports by its full name would be: in this package, or beside the file."""
    first, *rest = name.split(".")
    return root.joinpath(*rest) if first == "supple" else file.parent.joinpath(first, *rest)


@cache
def _load_tree(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
    source = _open_memory().load(file)
    return source.digest, tuple(sorted(set(_find_imports(source, file, root))))


@cache
def _open_memory() -> SourceMemory:
    return SourceMemory(PACKAGE_ROOT / "__pycache__")


@cache
def compute_code_digest(modules: str | tuple[str, ...], root: Path = PACKAGE_ROOT) -> str:
    """Digest of the syntax trees of modules and of all that they import by relative imports, transitively.

    Comments, docstrings and layout do not count, nor do the modules in `RUNNER`.

    Args:
        modules: files below the package root, such as `pipeline/stages/extract.py`, or a user's files, whose imports of
            this package and of what lies beside them count too.
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
    seen: set[str] = set()
    for module in (modules,) if isinstance(modules, str) else modules:
        waiting = [root / module]
        while waiting:
            file = waiting.pop()
            name = os.path.relpath(file, root if _is_packaged(file, root) else (root / module).parent)
            if name in seen or name in RUNNER:
                continue
            seen.add(name)
            digest, imports = _load_tree(file, root)
            yield name, digest
            waiting.extend(imports)


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
