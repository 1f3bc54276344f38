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
    """States one skill apart within an episode."""

    state: NDArray[np.float32]
    """Raw observations, (N, O)."""
    skill: NDArray[np.float32]
    """That led to the next state, (N, Z); 0 at the last state of an episode, where none did."""
    start: NDArray[np.int64]
    """First row of each episode, (E,)."""


@torch.no_grad()
def encode_log(
    model: SkillModel,
    observation: NDArray[np.float32],
    action: NDArray[np.float32],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
) -> LogTransitions:
    """Encodes the windows of all episodes.

    Args:
        model: On the CPU.
        observation: Of all steps, (T, O).
        action: Taken in them, (T, A).
        start: First step of each episode, (E,).
        length: Steps of each, (E,).

    Raises:
        SpecError: No episode holds a window and the state behind it.
    """
    horizon = model.config.skill_horizon
    windows = (length - 1) // horizon
    start, windows = start[windows > 0], windows[windows > 0]
    if not len(start):
        longest = int(length.max(initial=0))
        raise SpecError(
            f"encode_log: expected an episode of more than {horizon} steps, one skill, got {longest} at most; bring "
            "longer logs"
        )
    first = np.cumsum(windows + 1) - (windows + 1)
    total = int((windows + 1).sum())
    step = np.repeat(start - first * horizon, windows + 1) + horizon * np.arange(total)
    led = np.ones(total, np.bool_)
    led[first + windows] = False
    skill = np.zeros((total, model.config.skill_dim), np.float32)
    within = np.arange(horizon)
    for part in np.array_split(np.flatnonzero(led), -(-int(led.sum()) // AT_ONCE)):
        window = step[part, None] + within
        posterior = model.encode(torch.from_numpy(observation[window]), torch.from_numpy(action[window]))
        skill[part] = posterior.loc.numpy()
    return LogTransitions(observation[step], skill, first)
