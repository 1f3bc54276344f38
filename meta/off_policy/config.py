"""Settings of what is fitted; without torch, so that a command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass

from ...bounds import Batch, Bounded, Count, Layers, Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourConfig(Bounded):
    """How the behaviour is cloned."""

    hidden: Layers = (64, 64)
    """Widths of the network."""
    updates: Count = 1500
    """Steps of Adam."""
    batch: Batch = 256
    """Decisions of a step."""
    learning_rate: Positive = 2e-3
    """Of the first steps; it falls to zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedQConfig(Bounded):
    """How action values are fitted."""

    hidden: Layers = (64, 64)
    """Widths of the network; none: linear in the inputs, solved exactly."""
    iterations: Count = 100
    """Regressions, each on values of the one before."""
    updates: Count = 25
    """Steps of Adam of a regression."""
    batch: Batch = 256
    """Decisions of a step."""
    learning_rate: Positive = 1e-3
    """Of the first steps; it falls to a tenth."""
