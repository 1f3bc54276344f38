"""Nominal episodes of a store as motion of a robot, for the score of unknown states (`adapt/novelty.py`)."""

from __future__ import annotations

import numpy as np

from ..adapt.novelty import Motion, NoveltyModel, learn_nominal
from ..datasets.episode import Episode
from ..datasets.store import EpisodeStore
from ..robots.spec import RobotSpec

MOST_NOMINAL = 2000
"""Nominal episodes that a model of motion is learned from, evenly spread."""


def to_motion(episode: Episode) -> Motion:
    """An episode of T rows as T - 1 steps between observations."""
    observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
    return Motion(observation, action[:-1])


def learn_motion(store: EpisodeStore, spec: RobotSpec, false_alarms: float) -> NoveltyModel:
    """The model of the motion in a store of nominal episodes.

    An episode counts if it is as long as one of the robot, or ended by itself, and all its steps are valid.

    Raises:
        SpecError: There are too few.
    """
    index, last = store.episodes, spec.episode_steps
    whole = (index.length > last) | ((index.terminated > 0) & (index.length > 1))
    chosen = np.flatnonzero(whole & np.logical_and.reduceat(store.load_valid(), index.start))
    most = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_NOMINAL)).round().astype(np.int64)]
    return learn_nominal([to_motion(store.episode(int(number))) for number in most], last, false_alarms)
