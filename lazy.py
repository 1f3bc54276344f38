"""Packages (PEP 562) and tables whose modules are loaded when one of their names is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


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


class LazyTable(Mapping[str, T]):
    """Objects by name, each of a module of `package`, or made by calling a class of it, when it is first asked for."""

    def __init__(self, package: str, homes: Mapping[str, tuple[str, str]]) -> None:
        """Keeps the module of each name, and the object or the class there."""
        self._package, self._homes = package, homes
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """The object of that name."""
        if name not in self._made:
            module, home = self._homes[name]
            found = getattr(importlib.import_module(f"{self._package}.{module}"), home)
            self._made[name] = found() if isinstance(found, type) else found
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """The names in the order of the table; nothing is loaded for them."""
        return iter(self._homes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._homes)
