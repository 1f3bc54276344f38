"""Configuration of MLSH. The source stands with the algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from ...bounds import Batch, Bounded, Count, CountFromZero, Layers, NonNegative, Positive, Share, Width
from ..config import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoPasses(Bounded):
    """How one of the levels is updated; numbers of the authors' code are those of the master's defaults."""

    learning_rate: Positive = 0.01
    """Of Adam."""
    epochs: Count = 10
    """Passes over the samples."""
    minibatches: Count = 4
    """Parts into which a pass divides the samples of each network."""
    clip: Positive = 0.2
    """PPO's clip of the ratio (published)."""
    entropy_weight: NonNegative = 0.0
    """Of the mean entropy, in units of the standardised advantage (published: 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshConfig(Bounded):
    """MLSH. With one sub-policy and no warm-up it is PPO on all tasks by one policy that never adapts."""

    sub_policies: Width = 2
    """K (published: 2 for MovementBandits, 4 for FourRooms)."""
    hold: Count = 10
    """N, decisions for which the master's choice is held (published: 10 for MovementBandits)."""
    groups: Batch = 40
    """Tasks side by side, each with a master of its own (published: 10 groups of 12 workers)."""
    rollouts: Count = 40
    """Episodes of a group before each update (published: 2000 decisions)."""
    warmup: CountFromZero = 9
    """W, updates of a new master before the sub-policies learn with it (published: 9)."""
    joint: Count = 1
    """U, updates of a master and the sub-policies, after which the task ends (published: 1)."""
    iterations: Count = 400
    """Updates of every group in the whole training."""
    hidden: Layers = (64, 64)
    """Widths of all networks: masters, sub-policies and their value functions (published)."""
    activation: Activation = "tanh"
    """Of all networks."""
    discount: Share = 0.99
    """gamma of both levels, each per its own transition."""
    trace: Share = 0.98
    """lambda of both levels."""
    random_choice: Share = 0.1
    """Share of the master's choices in training that are uniform; they are learned from like all others (the code)."""
    master: PpoPasses = PpoPasses()
    """Updates of the masters."""
    sub_policy: PpoPasses = PpoPasses(learning_rate=3e-4)
    """Updates of the sub-policies."""

    @property
    def period(self) -> int:
        """W + U, updates of a group in one task."""
        return self.warmup + self.joint
