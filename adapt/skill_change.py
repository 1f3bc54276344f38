"""Which skills an agent chooses after its adaptation, and which it would have chosen before, in the same states.

Both are asked in states of the last episode. A skill is a latent without a meaning of its own. So each change is also
told by what the robot is commanded: the decoder turns the mean skill before and after into a command.

Axes: R rows, M states of each row, O observation, Z latent, C choices, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..robots.spec import RobotSpec
from .networks import Array
from .policy_change import MakeAgent, PolicyChange
from .runtime_agent import Arrays, RandomNoise
from .spaces import RowSpace

Double = NDArray[np.float64]


def describe_change(
    make_agent: MakeAgent, before: Arrays, after: Arrays, states: Array, spec: RobotSpec, tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """One record for each task.

    A record has the `task`, the distance `kl` of the policies (KL of after from before, nats of one decision, mean over
    the states), and `commands`: by action axis, the mean and the largest |after - before| of the first command of the
    mean choices, in the unit of the axis. Skills and actions have `axes`: by axis of the latent, mean and standard
    deviation over states and draws, before and after, and the `shift`, mean |after - before|. The unit is one standard
    deviation of the skill prior, with its mean at 0. Named choices have `choices`: how often each is made, in shares.

    Args:
        make_agent: Of the bundle.
        before: State of the agent before its first episode.
        after: State at the end.
        states: Where they are compared, raw observations, shape (R, M, O).
        spec: Of the robot.
        tasks: Names, R.
    """
    change = PolicyChange(make_agent, states)
    kl = change.compute_kl(after, before)
    space: RowSpace = make_agent(RandomNoise(np.random.default_rng(0))).space
    found = [change.describe(state) for state in (before, after)]
    flat = states.reshape(-1, states.shape[-1])
    if space.choices:
        latents = [shares.argmax(axis=1)[:, None].astype(np.float32) for (shares,) in found]
        parts = [_describe_choices(spec.choices, rows) for rows in _split([shares for (shares,) in found], len(states))]
    else:
        latents = [mean.astype(np.float32) for mean, _ in found]
        prior = space.prior_of(flat)
        scaled = [((mean - prior.loc) / prior.scale, scale / prior.scale) for mean, scale in found]
        rows = zip(*(_split(list(pair), len(states)) for pair in scaled), strict=True)
        parts = [_describe_axes(*row) for row in rows]
    commands = [space.hold(latent)(flat).astype(np.float64) for latent in latents]
    moved = np.abs(commands[1] - commands[0]).reshape(len(states), -1, len(spec.action.axes))
    return [
        {"task": task, "kl": float(kl[row]), **parts[row], "commands": _describe_commands(spec, moved[row])}
        for row, task in enumerate(tasks)
    ]


def _split(pair: list[Double], rows: int) -> list[tuple[Double, Double]]:
    """The states of each row, of two arrays (R M, ...)."""
    one, other = (array.reshape(rows, -1, array.shape[-1]) for array in pair)
    return list(zip(one, other, strict=True))


def _describe_choices(names: Sequence[str], shares: tuple[Double, Double]) -> dict[str, Any]:
    before, after = (one.mean(axis=0) for one in shares)
    pairs = zip(names, before.tolist(), after.tolist(), strict=True)
    return {"choices": [{"choice": name, "before": one, "after": other} for name, one, other in pairs]}


def _describe_axes(before: tuple[Double, Double], after: tuple[Double, Double]) -> dict[str, Any]:
    """Of means and scales, each (M, Z).

    The variance over states and draws is that of the means, and the mean of that of the draws.
    """
    spread = [np.sqrt(mean.var(axis=0) + (scale**2).mean(axis=0)) for mean, scale in (before, after)]
    shift = np.abs(after[0] - before[0]).mean(axis=0)
    numbers = (before[0].mean(axis=0), spread[0], after[0].mean(axis=0), spread[1], shift)
    names = ("before", "before_std", "after", "after_std", "shift")
    return {"axes": [dict(zip(names, map(float, axis), strict=True)) for axis in zip(*numbers, strict=True)]}


def _describe_commands(spec: RobotSpec, moved: Double) -> list[dict[str, Any]]:
    """Of |after - before|, (M, A)."""
    ends = zip(spec.action.axes, moved.mean(axis=0).tolist(), moved.max(axis=0).tolist(), strict=True)
    return [{"axis": axis.name, "unit": axis.unit, "mean": mean, "largest": largest} for axis, mean, largest in ends]
