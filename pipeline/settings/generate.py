"""Settings of the stage `generate`."""

from dataclasses import dataclass

from ...bounds import Batch, Bounded, Count


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig(Bounded):
    """How much play data; how it is made is the robot's, see `--robot`."""

    steps: Count = 1_000_000
    """Low-level steps in all."""
    rows: Batch = 100
    """Robots that wander side by side; part of the recipe, since each has its own goals."""
