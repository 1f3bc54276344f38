"""Transitions of finished episodes as networks read them, in numpy.

Axes: R rows, K decisions, O observation, A encoded action, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .networks import Array
from .runtime_agent import RowEpisodes
from .spaces import RowSpace


def transitions_of(space: RowSpace, episodes: RowEpisodes) -> tuple[Array, NDArray[np.bool_]]:
    """[o, a, r, o', terminated] of each decision, (R, K, F), zeros in the padding; and what is no padding, (R, K)."""
    position = np.arange(episodes.latent.shape[1])
    valid = position < episodes.length[:, None]
    observation = space.normalise(episodes.observation)
    action = space.encode(space.to_choice(episodes.latent, episodes.observation[:, :-1]))
    ended = (position == episodes.length[:, None] - 1) & episodes.terminated[:, None]
    parts = (
        observation[:, :-1],
        action,
        episodes.reward[..., None],
        observation[:, 1:],
        ended[..., None].astype(np.float32),
    )
    value: Array = np.where(valid[..., None], np.concatenate(parts, axis=-1), np.float32(0.0))
    return value, valid
