"""Arrays beside observation, action and reward: which are wanted, under which name and in which type they are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from .layout import find_missing
from .schema import VALID

_WIDER = {
    "int8": "int16",
    "uint8": "int16",
    "int16": "int32",
    "uint16": "int32",
    "int32": "int64",
    "uint32": "int64",
}


_EXACT = 2**24
"""Integers up to this size are exact in float32."""
TOO_FINE = "expected numbers that float32 tells apart, as integers within 2^24 are"
"""What is wrong with a row of `find_rounded`, for messages."""


def identify(source: str) -> str:
    """The name of a feature for an entry of a source: lower case, with `_` for what no identifier has."""
    name = re.sub(r"[^a-z0-9_]+", "_", source.removeprefix("infos/").lower()).strip("_")
    return name if name[:1].isalpha() else f"info_{name}"


def name_side(source: str) -> str:
    """The name of a side array: `identify`, but never that of the store's own mark of steps."""
    name = identify(source)
    return f"info_{name}" if name == VALID else name


def choose_side(names: Sequence[str], only: Sequence[str] | None, skip: Sequence[str], path: Path) -> set[str]:
    """The side arrays that are wanted, of those that there are.

    Raises:
        SourceError: a name that was given is not in the source.
    """
    known = ", ".join(names) or "(there are none)"
    for name in (*(only or ()), *skip):
        if name not in names:
            raise SourceError(f"{path}: expected one of the side arrays {known}, got {name!r}; choose one of these")
    return set(names if only is None else only) - set(skip)


def find_rounded(values: npt.NDArray[Any]) -> int | None:
    """First row with a number that float32 would change beyond use: counters, identifiers, times since 1970.

    An integer is exact or it is none. A large float may lose digits that nobody needs, such as of a pressure; but not
    where it mostly changes by less than the distance between two numbers of float32.

    Args:
        values: Shape (rows,) or (rows, dim), consecutive.
    """
    if values.dtype.kind not in "fiu" or values.dtype.itemsize <= 2 or values.dtype == np.float32 or not values.size:
        return None
    if not max(abs(float(values.min())), abs(float(values.max()))) > _EXACT:  # or NaN, which is refused elsewhere
        return None
    columns = values.reshape(len(values), -1)
    rounded = cast(columns, "float32")
    with np.errstate(invalid="ignore", over="ignore"):
        large = np.isfinite(rounded) & (np.abs(columns.astype(np.float64)) > _EXACT)
        if values.dtype.kind == "f" and large.any():
            large &= rounded != columns
            steps = np.abs(np.diff(columns.astype(np.float64), axis=0))
            for axis in np.flatnonzero(large.any(0)):
                moved = steps[steps[:, axis] > 0, axis]
                gap = float(np.spacing(np.abs(rounded[:, axis]).max()))
                large[:, axis] &= len(moved) > 0 and float(np.median(moved)) < gap
    return int(np.argwhere(large)[0][0]) if large.any() else None


def cast(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """The values in another type; those too large for it become infinite, which is refused later."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype, copy=False)


def choose_dtype(source: np.dtype[Any], blocks: Iterable[npt.NDArray[Any]]) -> tuple[str | None, str]:
    """The type in which a side array is carried over, None if in none, and then why.

    It is the array's own, so that time stamps in nanoseconds and long identifiers stay what they are. Integers get the
    next wider type where they hold the value that stands for missing data in their own; booleans become bytes.

    Args:
        source: Type of the array.
        blocks: The array in consecutive pieces.
    """
    own = {"b": "uint8", "f": "float32" if source.itemsize <= 4 else "float64"}.get(source.kind, source.name)
    row = 0
    for block in blocks:
        bad = find_missing(cast(block, own))
        if bad is not None and own in _WIDER and source.kind in "iu":
            return _WIDER[own], ""
        if bad is not None:
            return None, f"holds {block[bad]} in row {row + bad}"
        row += len(block)
    return own, ""
