"""A user's Python file as a module: under its own name, or under its whole path where that name is another's.

A file `platform.py` cannot be the module `platform`, and neither can the second of two files `robot.py`. Such a file is
the module `%2Fhome%2Fme%2Fplatform%2Epy`. Any process that has loaded this module can import it by that name, so that
objects of its classes can be sent to workers.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, unquote

from ..errors import ConfigError

_ENDING = "%2Epy"
_STANDARD = [
    folder / part
    for folder in {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    for part in ("", "lib-dynload")
]


class QuotedFinder(MetaPathFinder):
    """Finds modules by names that are quoted paths."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        return spec_from_file_location(fullname, unquote(fullname)) if fullname.endswith(_ENDING) else None


if not any(isinstance(finder, QuotedFinder) for finder in sys.meta_path):
    sys.meta_path.append(QuotedFinder())


def run_file(path: Path) -> ModuleType:
    """Imports a file, with its folder on the path as `python FILE.py` has it.

    Raises:
        ConfigError: A file in its folder has the name of a library of Supple.
    """
    name = choose_name(path)
    look_in(path.parent)
    spec = spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None, "a file that ends in .py has a loader"
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def look_in(folder: Path) -> None:
    """Puts a folder first on the path; behind Python's own where it has a file of the name of a module of these.

    Python has loaded that module here, and has yet to load it in a worker, which would find the file.

    Raises:
        ConfigError: It has a module of the name of a library that Supple needs, which would not be found any more.
    """
    if str(folder) in sys.path:
        return
    for library in _list_libraries():
        for file in (folder / f"{library}.py", folder / library / "__init__.py"):
            if file.is_file() and _is_found(library, file):
                raise ConfigError(
                    f"{file}: expected another name than that of a library of Supple, got '{library}', which would be "
                    "taken for it; rename it"
                )
    names = {file.stem for file in folder.glob("*.py")} & sys.stdlib_module_names & set(sys.modules)
    own = [index for index, place in enumerate(sys.path) if Path(place) in _STANDARD]
    sys.path.insert(max(own, default=-1) + 1 if names else 0, str(folder))


def choose_name(path: Path) -> str:
    """The name of a file's module: its own, where nothing else has that."""
    taken = path.stem in sys.modules or "." in path.stem or _is_found(path.stem, path)
    return quote(str(path), safe="").replace(".", "%2E") if taken else path.stem


def _is_found(name: str, file: Path) -> bool:
    """Whether a module of that name, other than the file, is found by its name; a folder without `__init__` is none."""
    for finder in list(sys.meta_path):
        found = finder.find_spec(name, None)
        if found is not None and (found.origin is not None or found.submodule_search_locations is None):
            return found.origin is None or not file.exists() or Path(found.origin).resolve() != file.resolve()
    return False


def _list_libraries() -> list[str]:
    """Names of what Supple imports of others, nearly: those of distributions."""
    try:
        asked = importlib.metadata.requires("supple") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in asked if 'extra == "dev"' not in one}
    return sorted(name.replace("-", "_") for name in names | {"supple"})
