"""Reads Minari data sets: one HDF5 group, or one Arrow or Parquet folder, per episode.

Farama Foundation, "Minari: a dataset API for offline reinforcement learning", file format of its versions 0.4 and 0.5.
An episode has one observation more than actions. Counts come from the arrays, never from the metadata; an episode whose
last observation is missing is told apart by them. Nested `Dict` and `Tuple` spaces become columns such as
`observations/arm/_index_1`. Of a goal environment (`observation`, `achieved_goal`, `desired_goal`) only `observation`
is the observation, unless somebody chooses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..plain_files import sort_naturally
from ..robots.spec import RobotSpec
from ..strict_json import load_json
from .episode import Array, Reader, ReadOptions
from .episode_groups import (
    GroupedSource,
    GroupSurvey,
    Place,
    load_groups,
    mark_rows,
    require_rows,
    survey_groups,
)
from .hdf5 import list_top
from .keyed import Column, KeyedReader, Survey
from .picture_files import find_shape

MAIN = "main_data.hdf5"
METADATA = "metadata.json"
_GOALS = {"observations/achieved_goal": "other", "observations/desired_goal": "goal"}
"""They may be nested, such as `observations/desired_goal/kettle`."""
_STATES = {"infos/qpos", "infos/qvel", "infos/state"}
_FLAGS = ("terminations", "truncations")
_NEXT = "next "
"""Before the name of a column of the observation: its rows one step later."""


def probe(path: Path) -> bool:
    """Whether there are episodes as Minari writes them; a lone `main_data.hdf5` will do."""
    if path.is_dir():
        return (find_root(path) / METADATA).is_file()
    return any(name.startswith("episode_") for name in list_top(path, datasets=False))


def read(path: Path, options: ReadOptions, robot: RobotSpec | None) -> Reader:
    """A reader with these options."""
    root = find_root(path)
    if path.is_dir() and not (root / MAIN).exists():
        from .minari_arrow import MinariArrow

        return KeyedReader("minari-arrow", MinariArrow(path, root), options, robot)
    return KeyedReader("minari-hdf5", MinariHDF5(path, root, options.only or (), find_shape(robot)), options, robot)


def find_root(path: Path) -> Path:
    """The folder with `metadata.json`: the path itself, or `data` in it."""
    return path / "data" if (path / "data" / METADATA).is_file() else path


class MinariHDF5(GroupedSource):
    """The episodes of `main_data.hdf5`; see `GroupedSource`."""

    def __init__(
        self, path: Path, root: Path, wanted: Sequence[str] = (), shape: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__(path, wanted, shape)
        self._root = root

    def survey(self) -> Survey:
        """See `KeyedSource`."""
        file = self._root / MAIN if self._root.is_dir() else self._root
        names = [name for name in list_top(file, datasets=False) if name.startswith("episode_")]
        if not names:
            raise SourceError(f"{self.path}: expected groups episode_0, episode_1 and so on, got none; record some")
        self._places = [Place(file, name) for name in sort_naturally(names)]
        metadata = load_metadata(self._root) if self._root.is_dir() else {}
        found = survey_groups(self._places, self.path, lambda name, _: "")
        self._lengths, following, notes = count_steps(found, self._places)
        columns = self._open_cameras(mark_rows(found, self._lengths, self._places, "rewards", spare=1))
        survey = finish_survey(columns, self._lengths, following, self._read_flags(), metadata, notes)
        return replace(survey, contents=self._describe_cameras(columns))

    def _find_rows(self, name: str) -> tuple[str, int]:
        return name.removeprefix(_NEXT), int(name.startswith(_NEXT))

    def _read_flags(self) -> list[Array]:
        return load_groups(self._places, [(name, 0) for name in _FLAGS], self._lengths)


def count_steps(found: GroupSurvey, places: Sequence[Place]) -> tuple[npt.NDArray[np.int64], bool, list[str]]:
    """Steps of each episode by its rewards, whether all have the last observation, and notes.

    Raises:
        SourceError: arrays of an episode contradict each other; it is named.
    """
    if "rewards" not in found.rows:
        got = ", ".join(found.columns)[:200] or "an empty group"
        raise SourceError(f"{places[0]}: expected rewards, got {got}; write the file again")
    lengths = found.rows["rewards"]
    for name in found.columns:
        if name in _FLAGS or name.split("/")[0] == "actions":
            require_rows(found, name, lengths, places, "rewards")
    for name in _FLAGS:
        require_rows(found, name, lengths, places, "rewards")
    following, notes = True, []
    for name in [name for name in found.columns if name.split("/")[0] == "observations"]:
        extra = found.rows[name] - lengths
        wrong = np.flatnonzero((extra != 0) & (extra != 1))
        if len(wrong):
            number = int(wrong[0])
            raise SourceError(
                f"{places[number]}/{name}: expected {lengths[number] + 1} rows, one more than rewards, or "
                f"{lengths[number]}, got {found.rows[name][number]}; remove the episode or write it again"
            )
        short = np.flatnonzero(extra == 0)
        if len(short):
            following = False
            notes.append(
                f"{name}: {len(short)} of {len(lengths)} episodes, the first {places[int(short[0])].group}, lack the "
                "observation behind their last action; the next observations are left out"
            )
    return lengths, following, notes


def finish_survey(
    columns: Mapping[str, Column],
    lengths: npt.NDArray[np.int64],
    following: bool,
    flags: Sequence[Array],
    metadata: Mapping[str, Any],
    notes: list[str],
) -> Survey:
    """What both layouts have in common: roles, the ends of episodes, and what the metadata says otherwise.

    Args:
        columns: Of the source, with the flags.
        lengths: T of each episode, shape (E,).
        following: Whether every episode has the observation behind its last action.
        flags: `terminations` and `truncations` of all steps, shape (N,) each.
        metadata: Of the data set; may be empty.
        notes: So far.
    """
    ends = np.cumsum(lengths) - 1
    terminated, truncated = (np.asarray(flag).reshape(-1).astype(bool) for flag in flags)
    early = np.flatnonzero(np.delete(terminated | truncated, ends))
    if len(early):
        notes.append(
            f"terminations or truncations are set in {len(early)} steps before the end of their episode; only those of "
            "its last step count"
        )
    open_ends = int((~(terminated | truncated)[ends]).sum())
    if open_ends:
        notes.append(f"{open_ends} episodes end without a flag; they are taken as truncated")
    for name, count in (("total_episodes", len(lengths)), ("total_steps", int(lengths.sum()))):
        if name in metadata and metadata[name] != count:
            notes.append(f"{METADATA} says {name} = {metadata[name]!r:.40}, the arrays say {count}; the arrays count")
    named = {
        name: replace(
            column,
            role=_GOALS.get(_find_top(name), "state" if name in _STATES else "other"),  # type: ignore[arg-type]
        )
        for name, column in columns.items()
    }
    observation = [name for name in named if name.split("/")[0] == "observations" and not named[name].problem]
    if {"observations/observation", *_GOALS} <= set(map(_find_top, observation)):
        observation = [name for name in observation if _find_top(name) not in _GOALS]
    kept = {name: f"{_NEXT}{name}" for name in named if name.split("/")[0] == "observations"} if following else {}
    named |= {later: named[name] for name, later in kept.items()}
    action = [name for name in named if name.split("/")[0] == "actions"]
    return Survey(
        columns=named,
        lengths=lengths,
        terminated=terminated[ends],
        truncated=truncated[ends] | ~(terminated | truncated)[ends],
        observation=sort_naturally(observation),
        action=sort_naturally(action),
        reward="rewards",
        following=kept,
        hidden={name: "the store keeps the ends of episodes itself" for name in _FLAGS},
        provenance={
            key: metadata[key]
            for key in ("dataset_id", "minari_version", "algorithm_name", "author", "code_permalink", "data_format")
            if isinstance(metadata.get(key), str)
        },
        notes=notes,
    )


def _find_top(name: str) -> str:
    """`observations/desired_goal` of `observations/desired_goal/kettle`."""
    return "/".join(name.split("/")[:2])


def load_metadata(root: Path) -> dict[str, Any]:
    """`metadata.json`; raises SourceError."""
    return load_json(root / METADATA, dict, SourceError, "write the data set again with Minari")


def find_pictures(metadata: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Columns with pictures and their shapes, as the spaces in the metadata say: `uint8` of several dimensions."""
    found: dict[str, tuple[int, ...]] = {}
    for key, name in (("observation_space", "observations"), ("action_space", "actions")):
        text = metadata.get(key)
        if isinstance(text, str):
            try:
                _find_pictures(json.loads(text), name, found)  # limits at infinity make it more than strict JSON
            except (ValueError, RecursionError) as error:
                raise SourceError(
                    f"{METADATA}: {key}: expected JSON, got {str(error)[:160]}; write the data set again with Minari"
                ) from error
    return found


def _find_pictures(space: object, name: str, found: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(space, dict):
        return
    spaces = space.get("subspaces")
    if isinstance(spaces, dict):
        for key, inner in spaces.items():
            _find_pictures(inner, f"{name}/{key}", found)
    elif isinstance(spaces, list):
        for number, inner in enumerate(spaces):
            _find_pictures(inner, f"{name}/_index_{number}", found)
    elif space.get("dtype") == "uint8" and isinstance(space.get("shape"), list) and len(space["shape"]) > 1:
        found[name] = tuple(size for size in space["shape"] if type(size) is int)
