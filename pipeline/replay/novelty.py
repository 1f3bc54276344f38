"""How unknown the logged states are to the policy: a score per step, with a threshold from the data of its training.

Where the store that the skills or the policy were learned from is there (`--training`, or the stage `ingest` beside the
bundle), a model of its motion is fitted to one half of its episodes and its thresholds are set on the other half, see
`adapt/novelty.py`. A step is unknown if its score of motion or of state is above the threshold: of new episodes like
those of the training, at most a share `alpha` has such a step for one of the two.

Without that store, a step is unknown if an observation axis is more than `FAR` standard deviations from its mean in the
training, which the bundle has where its policy normalises. That finds foreign units and places, and no foreign motion.

Axes: T steps, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.novelty import NoveltyModel, Signal, calibrate, fit
from ...datasets.episode import Episode
from ...datasets.store import EpisodeStore
from ..nominal import to_motion
from ..settings.replay import OpenLoopConfig
from .section import Replay

PART = "novelty"
SIGNALS: tuple[Signal, ...] = ("motion", "state")
FAR = 5.0
"""Standard deviations."""
MOST_EPISODES = 400
"""Of the training that the model is fitted to and set by, evenly spread."""
MOST_STEPS = 400_000
"""The same in steps."""
LEAST_EPISODES = 4
Record = Mapping[str, Any]


class Known(NamedTuple):
    """What scores are computed with."""

    model: NoveltyModel | None
    """None where the training data are not there."""
    alpha: float
    """Share of known episodes with an unknown step, at most; of the model."""
    mean: NDArray[np.float64]
    """Of observations in the training, (O,); empty where nobody says."""
    std: NDArray[np.float64]

    @property
    def says_something(self) -> bool:
        """Whether there is a score."""
        return self.model is not None or len(self.mean) > 0


def learn_known(replay: Replay, config: OpenLoopConfig, training: EpisodeStore | None) -> Known:
    """What the policy knows; without training data, what its bundle says of them."""
    weights = replay.bundle.weights
    mean, std = (weights.get(f"space.{name}", np.zeros(0)).astype(np.float64) for name in ("mean", "std"))
    # nothing moves in an episode of one row, as where play began at its goal
    moved = np.zeros(0, np.int64) if training is None else np.flatnonzero(training.episodes.length > 1)
    if training is None or len(moved) < LEAST_EPISODES:
        return Known(None, FAR, mean, std)
    length = float(training.episodes.length[moved].mean())
    most = int(min(MOST_EPISODES, max(LEAST_EPISODES, MOST_STEPS / length), len(moved)))
    chosen = moved[np.linspace(0, len(moved) - 1, most).round().astype(np.int64)]
    episodes = [to_motion(training.episode(int(number))) for number in chosen]
    fitted, held = episodes[::2], episodes[1::2]
    # both signals are looked at, so that each has half of the share
    alpha = max(config.alpha, 2.0 / (len(held) + 1))
    return Known(calibrate(fit(fitted), held, alpha / 2.0), alpha, mean, std)


def measure_novelty(replay: Replay, known: Known) -> list[dict[str, Any]]:
    """The record of every episode: share of unknown steps, the largest scores and where they are."""

    def compute(number: int, episode: Episode) -> dict[str, Any]:
        scores = score(known, episode)
        unknown = (scores > 1.0).any(axis=0)
        step = int(scores.max(axis=0).argmax())
        return {
            "unknown": float(unknown.mean()),
            "alarm": bool(unknown.any()),
            "largest": [min(float(value), 1e30) for value in scores.max(axis=1)],
            "step": step,
            "axis": find_axis(known, episode, step),
        }

    return replay.map_episodes(PART, compute)


def score(known: Known, episode: Episode) -> NDArray[np.float64]:
    """Scores of each step as multiples of their thresholds, (signals, T).

    Signals are motion and state with a model, else the distance from the mean alone.
    """
    observation = np.asarray(episode.arrays["observation"], np.float64)
    if known.model is None:
        far: NDArray[np.float64] = np.abs((observation - known.mean) / known.std).max(axis=1)[None] / FAR
        return far
    if episode.length < 2:
        return np.zeros((len(SIGNALS), episode.length))
    motion = to_motion(episode)
    found = np.stack([known.model.score_episode(motion, signal) for signal in SIGNALS])
    scaled = found / np.maximum(known.model.threshold[: len(SIGNALS), None], 1e-12)
    return np.concatenate([np.zeros((len(SIGNALS), 1)), np.nan_to_num(scaled, posinf=math.inf)], axis=1)


def find_axis(known: Known, episode: Episode, step: int) -> int | None:
    """The observation axis that is farthest from its mean at a step; None where nobody says the mean."""
    if not len(known.mean):
        return None
    seen = np.asarray(episode.arrays["observation"][step], np.float64)
    return int(np.abs((seen - known.mean) / known.std).argmax())
