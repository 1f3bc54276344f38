"""Reads robomimic's HDF5 files, which MimicGen, LIBERO and others write too: `data/demo_<k>` with `obs/<key>`.

A. Mandlekar et al., "What Matters in Learning from Offline Human Demonstrations for Robot Manipulation", CoRL 2021;
layout: the documentation of robomimic 0.5, "Dataset contents and structure".
Demos are read in the order of their numbers. The observation is the named arrays of `obs` in the order of their names;
that order is part of the schema, as the axes' names. The state behind the last action is the last row of `next_obs`.
`dones` ends a demo at success, at its last row, or both, as the writer chose, and the file does not say which: a set
flag in the last row counts as terminated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..plain_files import sort_naturally
from ..robots.spec import RobotSpec
from ..strict_json import parse_json
from .episode import Reader, ReadOptions
from .episode_groups import (
    GroupedSource,
    GroupSurvey,
    Place,
    load_groups,
    mark_rows,
    require_rows,
    require_steps,
    survey_groups,
)
from .hdf5 import list_top, open_hdf5, read_text, require_plain
from .keyed import Column, KeyedReader, Survey
from .picture_files import find_shape

_OBS, _NEXT_OBS = "obs/", "next_obs/"
_STEPS = ("actions", "rewards", "dones")
"""Have a row for each step, as the arrays of `obs` do; another array may be anything."""
_KEPT_ENV = ("env_name", "env_version", "type")


def probe(path: Path) -> bool:
    """Whether an HDF5 file has demos."""
    if "data" not in list_top(path, datasets=False):
        return False
    with open_hdf5(path) as file:
        return any(name.startswith("demo") for name in file["data"])


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    source = RobomimicDemos(path, options.filter, options.only or (), find_shape(robot))
    return KeyedReader("robomimic-hdf5", source, options, robot)


class RobomimicDemos(GroupedSource):
    """The demos of one file, or those in one of its lists; see `GroupedSource`."""

    def __init__(
        self,
        path: Path,
        chosen: str | None,
        wanted: Sequence[str] = (),
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(path, wanted, shape)
        self._chosen = chosen

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        with open_hdf5(self.path) as file:
            if not isinstance(file.get("data"), h5py.Group):
                got = ", ".join(file)[:200] or "an empty file"
                raise SourceError(
                    f"{self.path}: expected the group data with demos, got {got}; choose another --format"
                )
            demos = sort_naturally(name for name in file["data"] if isinstance(file["data"].get(name), h5py.Group))
            masks, wanted = self._read_masks(file, demos)
            environment = self._read_environment(file)
        if not wanted:
            where, cure = (
                ("data", "record some") if self._chosen is None else (f"mask/{self._chosen}", "choose another")
            )
            raise SourceError(f"{self.path}: expected demos in {where}, got none; {cure}")
        self._places = [Place(self.path, f"data/{name}") for name in wanted]
        found = survey_groups(self._places, self.path, lambda name, data: "")
        self._lengths = lengths = require_steps(found, "actions", self._places)
        columns = {name: column for name, column in found.columns.items() if not column.problem}
        for name in columns:
            if name.startswith(_OBS) or name in _STEPS:
                require_rows(found, name, lengths, self._places, "actions")
        marked = mark_rows(found, lengths, self._places, "actions")
        terminated, notes = self._read_ends(found)
        marked = self._open_cameras(marked)
        return Survey(
            columns={**marked, **{name: self._mark(found, name) for name in marked if name == "states"}},
            lengths=lengths,
            terminated=terminated,
            truncated=~terminated,
            observation=[name for name in columns if name.startswith(_OBS)],
            action=["actions"],
            reward="rewards" if "rewards" in columns else None,
            following=self._find_following(found),
            hidden={"dones": "the store keeps the ends of episodes itself"} if "dones" in found.columns else {},
            control_period=self._find_period(environment),
            provenance={"environment": {name: environment[name] for name in _KEPT_ENV if name in environment}},
            contents={
                **{f"mask/{name}": f"a list of {len(listed)} demos" for name, listed in masks.items()},
                **self._describe_cameras(marked),
            },
            notes=notes,
        )

    def _read_masks(self, file: h5py.File, demos: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
        """The lists of demos in the file, and the demos that are wanted."""
        masks: dict[str, list[str]] = {}
        for name in file.get("mask", ()):
            entry = file["mask"][name]
            if isinstance(entry, h5py.Dataset):
                require_plain(entry, f"mask/{name}", self.path)
                masks[name] = [str(one, "utf-8", "replace") for one in np.asarray(entry[()]).reshape(-1).astype("S")]
        if self._chosen is None:
            return masks, list(demos)
        if self._chosen not in masks:
            raise SourceError(
                f"{self.path}: expected a list of demos of {', '.join(masks) or '(there are none)'}, got "
                f"{self._chosen!r}; choose with --filter"
            )
        missing = [name for name in masks[self._chosen] if name not in demos]
        if missing:
            raise SourceError(
                f"{self.path}: mask/{self._chosen}: expected demos of this file, got {missing[0]!r}; correct the list"
            )
        return masks, sort_naturally(set(masks[self._chosen]))

    def _read_environment(self, file: h5py.File) -> dict[str, Any]:
        text = read_text(file["data"], "env_args", self.path)
        if text is None:
            return {}
        return parse_json(text, dict, f"{self.path}: data: env_args", SourceError, "write the file again")

    def _find_period(self, environment: Mapping[str, Any]) -> float | None:
        """Seconds between two steps, from the control frequency of the environment."""
        settings = environment.get("env_kwargs")
        rate = settings.get("control_freq") if isinstance(settings, dict) else None
        known = isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1e6
        return 1 / rate if known and rate is not None else None

    def _read_ends(self, found: GroupSurvey) -> tuple[npt.NDArray[np.bool_], list[str]]:
        """Whether each demo reached its end, and notes."""
        lengths = self._lengths
        if "dones" not in found.columns or found.columns["dones"].problem or (lengths < 1).any():
            return np.zeros(len(lengths), np.bool_), ["the file has no dones: every demo is taken as truncated"]
        (dones,) = load_groups(self._places, [("dones", 0)], lengths)
        flags = dones.reshape(len(dones), -1)[:, 0].astype(bool)
        terminated = flags[np.cumsum(lengths) - 1]
        notes = []
        if terminated.any():
            notes.append(
                f"dones is set in the last row of {int(terminated.sum())} of {len(lengths)} demos, which are taken as "
                "terminated; the file does not say whether dones means success or only the end of a recording"
            )
        return terminated, notes

    def _mark(self, found: GroupSurvey, name: str) -> Column:
        """The states of the simulator, one per step; a last one behind the last action is left out."""
        column = found.columns[name]
        short = (found.rows[name] < self._lengths).any()
        flaw = column.flaw or ("has fewer rows than actions" if short else "")
        return Column(dtype=column.dtype, shape=column.shape, role="state", flaw=flaw)

    def _find_following(self, found: GroupSurvey) -> dict[str, str]:
        """For each array of `obs`, that of `next_obs`, where every demo has it whole: pictures, too."""
        return {
            name: later
            for name in found.columns
            if name.startswith(_OBS)
            and (later := _NEXT_OBS + name.removeprefix(_OBS)) in found.columns
            and (found.columns[later].is_picture or found.columns[later].encoded or not found.columns[later].problem)
            and (found.rows[later] == self._lengths).all()
            and found.columns[later].shape == found.columns[name].shape
        }
