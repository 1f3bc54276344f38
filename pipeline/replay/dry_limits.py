"""What the safety limits would have done to commands that nobody sends: which limit, in which axis, at which step.

The limits are those of `adapt/action_limits.py`, which a robot has too. Commands of an episode are passed through them
one after the other, from the robot at rest where the episode was logged to begin.

Axes: T steps, A action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.action_limits import ActionLimits
from ...robots.limits import RobotLimits
from ...robots.robot import Float

NONE, BRAKING = -1, 4
"""Of a kind: no clamp; or a command that keeps every limit, and from which the robot could not brake within them."""


class Clamps(NamedTuple):
    """What the limits did to the commands of one episode."""

    kind: NDArray[np.int8]
    """Shape (T, A): order of the first limit that the command breaks (0 its value, 1 its change, 2 the change of that,
    3 the jerk), or `NONE` or `BRAKING`."""
    excess: NDArray[np.float64]
    """|requested - sent| in the unit of the axis, shape (T, A)."""


def name_kinds(limits: RobotLimits, axis: int) -> tuple[str, ...]:
    """Names of the kinds of an action axis in their order, such as position, velocity, acceleration, jerk, braking."""
    chain = limits.chains[axis]
    return (*chain, *("unknown",) * (BRAKING - len(chain)), "braking")


def find_clamps(limits: ActionLimits, resting: Float, requested: NDArray[np.floating]) -> Clamps:
    """Passes commands through the limits; the state of the limits follows what they would have sent.

    Args:
        limits: Of the robot.
        resting: Where the robot rests at first, (A,), see `RobotSpec.compute_resting`. A place outside of the limits
            is put on them: a robot is not started there.
        requested: Finite, shape (T, A).
    """
    start = np.clip(resting.astype(np.float64), limits.low, limits.high).astype(np.float32)
    history = limits.start(start[None])
    kind, excess = np.full(requested.shape, NONE, np.int8), np.zeros(requested.shape)
    if not limits.rated:  # each step for itself
        excess = np.maximum(np.maximum(limits.low - requested, requested - limits.high), 0.0)
        return Clamps(np.where(excess > 0.0, 0, NONE).astype(np.int8), excess)
    for step, wanted in enumerate(requested.astype(np.float64)):
        last = history.commands[0].astype(np.float64)
        sent, clamped = limits.apply(wanted[None], history)
        if clamped.any():
            kind[step] = np.where(clamped[0], _find_kind(limits, wanted, last), NONE)
            excess[step] = np.where(clamped[0], np.abs(wanted - sent[0]), 0.0)
    return Clamps(kind, excess)


def _find_kind(limits: ActionLimits, wanted: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.int8]:
    """The first limit that a command (A,) breaks after the last three, newest first, (3, A)."""
    change = wanted - last[0]
    bend = change - (last[0] - last[1])
    jump = bend - ((last[0] - last[1]) - (last[1] - last[2]))
    broken = [
        (wanted < limits.low) | (wanted > limits.high),
        np.abs(change) > limits.change,
        np.abs(bend) > limits.acceleration,
        np.abs(jump) > limits.jerk,
    ]
    return np.select(broken, [0, 1, 2, 3], BRAKING).astype(np.int8)


def count_clamps(clamps: Clamps, limits: RobotLimits) -> dict[str, dict[str, int]]:
    """Clamped commands by axis and kind, those that there are."""
    found: dict[str, dict[str, int]] = {}
    for axis, name in enumerate(limits.spec.action.names):
        kinds = name_kinds(limits, axis)
        counts = {kinds[order]: int((clamps.kind[:, axis] == order).sum()) for order in range(BRAKING + 1)}
        if any(counts.values()):
            found[name] = {kind: count for kind, count in counts.items() if count}
    return found


def list_clamps(clamps: Clamps, limits: RobotLimits, requested: Float, most: int) -> list[dict[str, Any]]:
    """The largest clamp of each axis and kind as JSON, largest first, at most so many."""
    found: list[dict[str, Any]] = []
    for axis, one in enumerate(limits.spec.action.axes):
        kinds = name_kinds(limits, axis)
        for order in range(BRAKING + 1):
            excess = np.where(clamps.kind[:, axis] == order, clamps.excess[:, axis], -1.0)
            step = int(np.argmax(excess)) if len(excess) else 0
            if len(excess) and excess[step] >= 0.0:
                row = {"axis": one.name, "unit": one.unit, "kind": kinds[order], "step": step}
                found.append(row | {"requested": float(requested[step, axis]), "excess": float(excess[step])})
    width = {axis.name: axis.high - axis.low for axis in limits.spec.action.axes}
    return sorted(found, key=lambda row: -row["excess"] / width[row["axis"]])[:most]
