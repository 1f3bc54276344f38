"""Python files as the digest of their syntax trees and the imports in them, remembered beside the compiled modules.

A text that reads like the name of a module counts as an import of it: environments are registered by such texts, as in
`entry_point="my_package.cart:Cart"`, and loaded when they are first made.

Parsing all that a stage depends on takes seconds, a look at the files milliseconds. A file counts as unchanged while
its size, times and inode are those of the last look; where the memory cannot be read or written, files are parsed.
"""

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple
from uuid import uuid4

from ..errors import RunError
from ..strict_json import load_json

SETTLED_NS = 20_000_000
"""The clock of a file system ticks more often than this: an older file cannot change without a trace."""

NAMES_MODULE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)+|[^\W\d]\w*(?=:))(?::[^\W\d][\w.]*)?")
"""`package.module`, `package.module:NAME` or `module:NAME`."""
IMPORTING = frozenset({"import_module", "__import__"})
"""Functions whose first argument names a module, with dots or without."""


class Import(NamedTuple):
    """One import statement, or the texts of a file that may name modules."""

    level: int
    """Dots of a relative import; 0 for `from a import b`, -1 for `import a, b` and for texts."""
    module: str
    names: tuple[str, ...]


class Source(NamedTuple):
    """What a file says, whatever its layout, comments and docstrings."""

    digest: str
    """sha256 of the syntax tree."""
    imports: tuple[Import, ...]


class _WithoutText(ast.NodeTransformer):
    """Drops docstrings and other bare strings, so that prose does not change a key."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A bare string is dropped; any other expression stays."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)


def parse_source(content: bytes) -> Source:
    """What the text of a file says."""
    tree = ast.parse(content)
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imports.append(Import(node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Import):
            imports.append(Import(-1, "", tuple(alias.name for alias in node.names)))
    named = tuple(sorted({name for node in ast.walk(tree) for name in _list_named(node)}))
    if named:
        imports.append(Import(-1, "", named))
    text = ast.dump(_WithoutText().visit(tree))
    return Source(hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), tuple(imports))


def _list_named(node: ast.AST) -> Iterator[str]:
    """Modules that a text may name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        found = NAMES_MODULE.fullmatch(node.value)
        if found:
            yield found[1]
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in IMPORTING and isinstance(node.args[0].value, str) and node.args[0].value.isidentifier():
            yield node.args[0].value


class SourceMemory:
    """Sources by file; see the module."""

    def __init__(self, folder: Path) -> None:
        """Reads what is remembered in `folder`, for this Python and this version of the module."""
        mine = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
        self._path = folder / f"sources-{sys.implementation.cache_tag}-{mine}.json"
        self._changed = False
        try:
            self._entries: dict[str, Any] = load_json(self._path, dict, RunError, "parse again")
        except RunError:
            self._entries = {}

    def load(self, file: Path) -> Source:
        """What a file says."""
        found = file.stat()
        mark = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        with suppress(KeyError, TypeError, ValueError):
            entry = self._entries[str(file)]
            if entry["mark"] == mark:
                imports = (Import(level, module, tuple(names)) for level, module, names in entry["imports"])
                return Source(entry["digest"], tuple(imports))
        settled = found.st_ctime_ns < time_ns() - SETTLED_NS
        source = parse_source(file.read_bytes())
        if settled:
            self._entries[str(file)] = {"mark": mark, **source._asdict()}
            self._changed = True
        return source

    def save(self) -> None:
        """Writes what is new."""
        if not self._changed:
            return
        self._changed = False
        beside = self._path.with_name(f".{uuid4().hex}.tmp")
        with suppress(OSError):  # a package that cannot be written to is parsed each time
            self._path.parent.mkdir(exist_ok=True)
            beside.write_text(json.dumps(self._entries))
            os.replace(beside, self._path)
