"""Configuration of the learners that remember. Sources stand with the algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ...bounds import Batch, Bounded, Count, Layers, NonNegative, Positive, Range, Share, Width, require_bounds
from ...errors import ConfigError
from ..config import Activation, Trial, TrustRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Config:
    """RL2, or E-RL2 where the trial has exploration episodes."""

    trial: Trial = field(default_factory=Trial)
    """Episodes of a trial; exploration episodes are seen and do not count (E-RL2: 3 of 5 in Stadie et al.)."""
    exploration_from: Share = 0.0
    """Part of the training after which exploration episodes stop to count; before, all episodes do, as in RL2, so that
    there is something to learn from while nothing is known yet. 0: they never count (published)."""
    trials: Batch = 256
    """R, trials of an iteration, each in a task drawn anew; published: 250,000 decisions per iteration."""
    iterations: Count = 200
    """Iterations of the whole training."""
    hidden: Width = 64
    """Width of the GRU; published 256."""
    slots: Annotated[int, Range(0, 2**14)] = 0
    """K, slots of a memory beside the GRU (`SlotMemory`), for tasks of many places, as tabular MDPs; published: none,
    0."""
    slot_content: Width = 32
    """V, numbers in a slot."""
    separate_value: bool = False
    """The value function has a GRU of its own, as published; else it reads the policy's."""
    discount: Share = 0.99
    """gamma per decision (published)."""
    first_discount: Share | None = None
    """gamma of the first iteration, where it grows to `discount`; see `discount_at`. None: it is `discount` throughout
    (published)."""
    discount_growth: Annotated[float, Range(0.0, 1.0, above=True)] = 0.7
    """Part of the training in which gamma grows; (0, 1]."""
    trace: Share = 0.3
    """lambda (published, for RL2). Credit reaches back to exploration only near 1: E-RL2 was trained with 0.997."""
    update: Literal["ppo", "trpo"] = "ppo"
    """How the policy is updated; "trpo" (published) needs `separate_value`."""
    epochs: Count = 4
    """Passes over an iteration's trials."""
    minibatch: Batch = 64
    """Whole trials in a minibatch."""
    clip: Positive = 0.2
    """PPO's clip of the ratio."""
    entropy_weight: NonNegative = 0.03
    """Of the mean entropy, in units of the standardised advantage."""
    value_weight: NonNegative = 0.5
    """Of the value loss in units of the standardised return."""
    learning_rate: Positive = 4e-3
    """Of Adam, at the begin; falls linearly to 0 at the end of the training where `anneal` is set."""
    anneal: bool = True
    """Lower the learning rate to 0 over the iterations."""
    anneal_entropy: bool = False
    """Lower the weight of the entropy to 0 over the iterations, too."""
    max_gradient_norm: Positive = 0.5
    """Gradients of a minibatch are scaled down to this norm."""
    trust_region: TrustRegion = field(default_factory=TrustRegion)
    """Of TRPO (published: KL 0.01)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.first_discount is not None and not self.first_discount <= self.discount < 1.0:
            raise ConfigError(
                f"Rl2Config.first_discount: expected 0 <= first_discount <= discount < 1, got {self.first_discount} "
                f"and {self.discount}; correct them, or leave it out"
            )
        if self.update == "trpo" and not self.separate_value:
            raise ConfigError(
                "Rl2Config.separate_value: expected True for update 'trpo', got False; a trust region of the policy "
                "does not hold where the value loss moves the same weights"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterConfig(Bounded):
    """Meta-training of the recurrent updater. There are no published values for this objective; these are ours."""

    hidden: Layers = (64, 64)
    """Widths of the policy."""
    activation: Activation = "tanh"
    """Of the policy."""
    embedding: Width = 64
    """X, width of both layers that read a transition."""
    memory: Width = 64
    """H, width of the recurrent network."""
    rank: Width = 16
    """K, directions of change."""
    iterations: Count = 300
    """Of the whole training."""
    tasks: Count = 40
    """N, tasks of an iteration."""
    rounds: Count = 1
    """How often f reads and emits in training. More steps of adaptation at test time are none that it learned."""
    support: Count = 20
    """Episodes of a task that are read in each round."""
    query: Count = 20
    """Episodes of a task by the last policy, whose return is the objective."""
    epochs: Count = 4
    """Passes over an iteration's tasks; in each the episodes that are read come in another order."""
    minibatch: Count = 10
    """Tasks in a minibatch."""
    clip: Positive = 0.2
    """PPO's clip of the ratio."""
    learning_rate: Positive = 1e-3
    """Of Adam at the begin; falls linearly to 0 at the end of the training."""
    max_gradient_norm: Positive = 1.0
    """Gradients of a minibatch are scaled down to this norm."""
    discount: Share = 0.99
    """gamma per decision."""
    trace: Share = 0.95
    """lambda of GAE."""
    exploration: NonNegative = 0.0
    """Weight of the scores of the samples that are read. At 0 theta_0 stays untrained; above, it is learned. The
    signal is the later J standardised over the tasks, and is summed over the decisions of a round."""
