"""The policy's commands beside the logged ones, as an MCAP log for each episode: any viewer lays them over each other.

    /observation, /action, ...     as `supple export-bag` writes them
    /eval/<policy>/action          the policy's command on that observation, without its randomness
    /eval/<policy>/unknown         how unknown the state is: 1 and more is unknown; where that is known

All on the clock of the log. The files have checksums and are read again by `supple ingest`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...datasets.episode import Episode
from ...datasets.schema import Feature, Schema
from ...plain_files import sync
from .novelty import Known, score
from .open_loop import force_episode
from .section import Replay

FOLDER = "predictions"
UNFINISHED = ".unfinished"


def name_topic(label: str) -> str:
    """The part of a topic that names the policy: ROS takes letters, digits and `_`, and no digit first."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in label.lower())
    return name if name[:1].isalpha() else f"policy_{name}"


def write_predictions(replay: Replay, folder: Path, known: Known, numbers: Sequence[int]) -> None:
    """Writes the file of each episode that is not there yet; each appears whole or not at all.

    Raises:
        ModuleNotFoundError: The extra `ros` is not installed.
        Interrupted: Somebody asked to stop.
    """
    from ...datasets.bags.writer import find_start, write_episode

    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{UNFINISHED}"):
        left.unlink()
    schema, topics = extend_schema(replay, known)
    done = [number for number in numbers if (folder / name_file(number)).is_file()]
    replay.view.start("replay predictions", len(numbers), len(done), "episode")
    for place, number in enumerate(numbers):
        path = folder / name_file(number)
        if number in done:
            continue
        episode = replay.store.episode(number)
        unfinished = path.with_name(f"{path.name}{UNFINISHED}")
        write_episode(
            unfinished, extend_episode(replay, known, number, episode), schema, find_start(episode, schema), topics
        )
        os.replace(unfinished, path)
        sync(folder)
        replay.view.update(place + 1, {})
        replay.require_going_on("replay predictions", place + 1)


def name_file(number: int) -> str:
    """The file of an episode."""
    return f"episode-{number:06}.mcap"


def extend_schema(replay: Replay, known: Known) -> tuple[Schema, dict[str, str]]:
    """The schema of the log with what the policy adds, and the topics of that."""
    schema, name = replay.store.schema, name_topic(replay.label)
    action = schema.feature("action")
    wanted = replace(action, name=f"eval_{name}_action", dtype="float32", role="other")
    topics = {wanted.name: f"/eval/{name}/action"}
    added = [wanted]
    if known.says_something:
        unknown = f"eval_{name}_unknown"
        added.append(Feature(name=unknown, dtype="float32", shape=(), units=("",), role="other", axes=(unknown,)))
        topics[unknown] = f"/eval/{name}/unknown"
    period = schema.control_period or replay.spec.control_period
    return replace(schema, features=(*schema.features, *added), control_period=period), topics


def extend_episode(replay: Replay, known: Known, number: int, episode: Episode) -> Episode:
    """The episode with what the policy adds."""
    name = name_topic(replay.label)
    arrays = {**episode.arrays, f"eval_{name}_action": force_episode(replay, 0, number, episode).action}
    if known.says_something:
        with np.errstate(over="ignore"):
            arrays[f"eval_{name}_unknown"] = score(known, episode).max(axis=0).astype(np.float32)
    return replace(episode, arrays=arrays)
