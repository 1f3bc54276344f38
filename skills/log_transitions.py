"""Logs as high-level experience: the states in which a skill was chosen, and the skill that led from each to the next.

The windows of an episode follow each other without overlap, H steps each; the skill of a window is the mean of
q(z | s_0:H, a_0:H), see `model.py`. Steps behind the last whole window are left out, and so are episodes without one.
Pertsch, Lee, Lim, CoRL 2020, encode such windows to train skills; Wilcoxson, Li, Frans, Levine, "Leveraging Skills from
Unlabeled Prior Data for Efficient Online Exploration" (SUPE), 2024, keep them as experience of the skill level.

Axes: N logged states, E episodes, T steps of the log, H skill horizon, O observation, A action, Z skill.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SpecError
from .model import SkillModel

AT_ONCE = 8192
"""Windows that are encoded in one pass, which bounds the memory."""


class LogTransitions(NamedTuple):
    """States one skill apart within an episode, or closer."""

    state: NDArray[np.float32]
    """Raw observations, (N, O)."""
    skill: NDArray[np.float32]
    """That led to the state one skill on, (N, Z); 0 where the episode ended before."""
    start: NDArray[np.int64]
    """First row of each episode, (E,)."""


@torch.no_grad()
def encode_log(
    model: SkillModel,
    observation: NDArray[np.float32],
    action: NDArray[np.float32],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    pace: int = 1,
) -> LogTransitions:
    """Encodes windows of all episodes, which begin one skill apart, or `pace` of them within a skill.

    Args:
        model: On the CPU.
        observation: Of all steps, (T, O).
        action: Taken in them, (T, A).
        start: First step of each episode, (E,).
        length: Steps of each, (E,).
        pace: Rows that a skill lasts; a divisor of the skill horizon.

    Raises:
        SpecError: No episode holds a window and the state behind it.
    """
    horizon = model.config.skill_horizon
    every = horizon // pace
    longest = int(length.max(initial=0))
    start, length = start[length > horizon], length[length > horizon]
    if not len(start):
        raise SpecError(
            f"encode_log: expected an episode of more than {horizon} steps, one skill, got {longest} at most; bring "
            "longer logs"
        )
    rows = (length - 1) // every + 1
    first = np.cumsum(rows) - rows
    total = int(rows.sum())
    step = np.repeat(start - first * every, rows) + every * np.arange(total)
    led = step + horizon < np.repeat(start + length, rows)
    skill = np.zeros((total, model.config.skill_dim), np.float32)
    within = np.arange(horizon)
    for part in np.array_split(np.flatnonzero(led), -(-int(led.sum()) // AT_ONCE)):
        window = step[part, None] + within
        posterior = model.encode(torch.from_numpy(observation[window]), torch.from_numpy(action[window]))
        skill[part] = posterior.loc.numpy()
    return LogTransitions(observation[step], skill, first)
