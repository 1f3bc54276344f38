"""Packages whose modules are loaded when one of their names is asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def make_getattr(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        package: Its `__name__`.
        homes: The module below it that has a name, by name.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find
