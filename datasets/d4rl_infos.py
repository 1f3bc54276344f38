"""Addresses and reference scores of the published D4RL data sets, from the `d4rl` package where it is installed.

Only the package's `infos.py` is loaded, a file of constants: importing `d4rl` itself needs gym and mujoco_py.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class D4RLInfo:
    """What is published about one data set."""

    name: str
    """Such as `maze2d-large-v1`."""
    url: str
    """Where its HDF5 file lies."""
    reference_min_score: float | None
    """Return of a random policy, which `d4rl` normalises to 0; None where none is published."""
    reference_max_score: float | None
    """Return of an expert, which `d4rl` normalises to 100."""


def load_d4rl_info(name: str) -> D4RLInfo:
    """Looks up one data set.

    Raises:
        SourceError: `d4rl` is not installed, or does not know the name; the message lists the nearest ones.
    """
    infos = _load_infos()
    urls: dict[str, str] = infos.DATASET_URLS
    if name not in urls:
        near = ", ".join(difflib.get_close_matches(name, urls, n=8, cutoff=0.0))
        raise SourceError(f"d4rl: expected one of {len(urls)} data sets such as {near}, got {name!r}; choose one")
    return D4RLInfo(
        name=name,
        url=urls[name],
        reference_min_score=infos.REF_MIN_SCORE.get(name),
        reference_max_score=infos.REF_MAX_SCORE.get(name),
    )


def _load_infos() -> ModuleType:
    package = importlib.util.find_spec("d4rl")
    for location in (package.submodule_search_locations or []) if package else []:
        spec = importlib.util.spec_from_file_location("d4rl_infos", Path(location) / "infos.py")
        if spec and spec.loader and Path(location, "infos.py").is_file():
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise SourceError(
        "d4rl: expected the package d4rl for the address of its data sets, got none installed; "
        "run `pip install --no-deps d4rl`, or give the address of the file"
    )
