"""What a meta-training took until it reached the gates of its cell.

The measure is the training's own metrics, so that nothing is run for it: a gate counts as reached at the first
iteration at which the mean over the last `WINDOW` iterations of the return that stands at the gate's place is the
gate's number or better. That return is of the train tasks and of the agent as it was then, exploring; the gate itself
is asked of test tasks after the training. A place that the training does not run, such as a second gradient step of a
learner that trains with one, has no such return, and its gate is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .cell import Cell, Gate

WINDOW = 10
"""Iterations in the mean; a shorter training is never said to have reached anything."""


class Reached(NamedTuple):
    """When a training first had all of its gates together."""

    environment_steps: float
    wall_s: float
    """Of the training, in all runs of it."""


def name_metric(gate: Gate, cell: Cell) -> str:
    """The name of the training metric that stands where the gate does; a training may not have it."""
    if gate.metric != "return":
        return gate.metric
    if cell.axis == "gradient_step":
        return f"return_{gate.place}"
    ends = {1: "return_first", cell.config.evaluation.trial.episodes: "return_last"}
    return ends.get(gate.place or 0, "")


def find_reached(cell: Cell, metrics: Sequence[Mapping[str, Any]]) -> Reached | None:
    """When a training reached the gates, as far as it runs their places; None where it did not, or runs none of them.

    Args:
        cell: With its gates.
        metrics: One record per iteration.
    """
    if len(metrics) < WINDOW:
        return None
    names = {gate: name_metric(gate, cell) for gate in cell.gates}
    names = {gate: name for gate, name in names.items() if name in metrics[0]}
    if not names:
        return None
    reached = np.ones(len(metrics) - WINDOW + 1, np.bool_)
    for gate, name in names.items():
        values = np.array([record[name] for record in metrics], np.float64)
        reached &= np.convolve(values, np.full(WINDOW, 1.0 / WINDOW), "valid") >= gate.at_least
    if not reached.any():
        return None
    record = metrics[int(reached.argmax()) + WINDOW - 1]
    return Reached(float(record["environment_steps"]), float(record["wall_s"]))
