"""Steps as a control loop logged them: one row for each, at the times that it really took, with how its episode ended.

The log of `supple adapt` (`pipeline/cell_log.py`) has a topic of flags, of which each message ends a step. Every event
has a time of its own, later than the one before it:

    reset      observation
    step j     command  <  observation, reward and flags, all at s_j

Pictures have the times of the observations that they go with. Row j is the observation before the command, the command
that was sent, and the reward and the flags at s_j. So nothing is resampled, and a policy that is shown these rows sees
what it saw then. A step of which a part is missing ends its episode: it was not sent, or a damaged log lost it.

Legend: n messages, T steps of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .steps import Times

FLAGS = ("taken_over", "clamped", "terminated", "truncated", "success", "index", "evaluation")
"""Of each step, numbers in this order: 0 or 1; success is -1 where nobody tells, and index counts the steps of the
episode from 0. A feature of one of these names is read from them."""
READ_FLAGS = ("terminated", "truncated", "index")
"""Those that cut episodes."""
NEVER = -1
"""Time of what was never seen: that of row -1, behind all others."""
Rows = npt.NDArray[np.int64]


class Stretch(NamedTuple):
    """Steps that follow each other."""

    rows: Rows
    """Of the flags, (t,)."""
    terminated: bool
    truncated: bool


def rows_before(time: Times, at: Times) -> Rows:
    """The last message before each of some times, (T,); -1 where there is none."""
    return np.searchsorted(time, at, "left") - 1


def rows_at(time: Times, at: Times) -> Rows:
    """The message at each of some times, (T,); -1 where there is none."""
    if not len(time):
        return np.full(len(at), -1)
    found = np.minimum(np.searchsorted(time, at, "left"), len(time) - 1)
    return np.where(time[found] == at, found, -1)


def find_whole(
    step: Times, observed: list[Times], commanded: list[Times], rewarded: list[Times]
) -> npt.NDArray[np.bool_]:
    """Which steps have all their parts, (T,).

    Args:
        step: s_j, (T,).
        observed: Times of each topic of observations, and of pictures.
        commanded: Of each topic of commands.
        rewarded: Of each topic that has a message at s_j.
    """
    whole = np.ones(len(step), np.bool_)
    starts = []
    for time in observed:
        row = rows_before(time, step)
        starts.append(np.append(time, NEVER)[row])
        # where the step led has to be there too: else what follows would begin elsewhere
        whole &= (row >= 0) & (rows_at(time, step) >= 0)
    before = np.min(starts, axis=0)
    whole &= np.all([time == before for time in starts], axis=0)
    for time in commanded:
        row = rows_before(time, step)
        whole &= (row >= 0) & (np.append(time, NEVER)[row] >= before)
    for time in rewarded:
        whole &= rows_at(time, step) >= 0
    return whole


def cut_steps(
    whole: npt.NDArray[np.bool_],
    index: npt.NDArray[np.float64],
    terminated: npt.NDArray[np.bool_],
    truncated: npt.NDArray[np.bool_],
) -> Iterator[Stretch]:
    """Episodes: runs of whole steps, whose index counts on from one to the next.

    A run that begins within an episode is one too: of a robot's state, nothing before it is missing.

    Args:
        whole: See `find_whole`, (T,).
        index: Of each step in its episode, (T,).
        terminated: The task ended with it, (T,).
        truncated: Its episode was cut off behind it, (T,).
    """
    if not len(whole):
        return
    joined = whole[1:] & whole[:-1] & (index[1:] == index[:-1] + 1) & ~(terminated | truncated)[:-1]
    for run in np.split(np.arange(len(whole)), np.flatnonzero(~joined) + 1):
        if whole[run[0]]:
            ended = bool(terminated[run[-1]])
            yield Stretch(run, ended, not ended)
