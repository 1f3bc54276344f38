"""Configuration of the baselines. Sources stand with the algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ...bounds import Batch, Bounded, Count, CountFromZero, Layers, NonNegative, Positive, Range, Share, Widths
from ..config import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class SacConfig(Bounded):
    """SAC; published values are those of PEARL's point robots (Rakelly et al., 2019, the authors' code)."""

    hidden: Widths = (64, 64)
    """Widths of policy and critics (published: 300, 300, 300)."""
    discount: Annotated[float, Range(0.0, 1.0, below=True)] = 0.9
    """gamma per decision (published: .99, and .9 where the reward is sparse)."""
    temperature: Positive = 0.2
    """alpha, the weight of the policy's KL to the prior, in units of the reward. Published is its inverse as a factor
    on rewards: 5, and 100 where the reward is sparse."""
    learning_rate: Positive = 1e-3
    """Of Adam (published: 3e-4)."""
    target_rate: Annotated[float, Range(0.0, 1.0, above=True)] = 0.01
    """tau of the target critics (published: .005)."""
    batch: Batch = 64
    """B, transitions per task and update (published: 256)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSacConfig(Bounded):
    """SAC in a test task."""

    sac: SacConfig = field(default_factory=SacConfig)
    """Networks and losses."""
    updates: Count = 50
    """Updates of one step of adaptation."""
    replay: Count = 5000
    """Transitions kept per task."""
    rollouts: Count = 1
    """Rows that share one task and its knowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSteps(Bounded):
    """How a policy is improved with the episodes of one round."""

    epochs: Count = 10
    """Passes over the episodes (published, MuJoCo)."""
    minibatches: Count = 4
    """Parts into which the episodes of a task are divided in each pass; published: 64 decisions in a minibatch."""
    clip: Positive = 0.2
    """Of the ratio (published)."""
    learning_rate: Positive = 3e-4
    """Of Adam (published, MuJoCo)."""
    entropy_weight: NonNegative = 0.0
    """Of the mean entropy (published, MuJoCo: none)."""
    max_gradient_norm: Positive = 0.5
    """Gradients of each task are scaled down to this norm."""
    discount: Share = 0.99
    """gamma per decision (published)."""
    trace: Share = 0.95
    """lambda of GAE (published)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoConfig(Bounded):
    """Training of one policy on all train tasks, which it cannot tell apart, and its fine-tuning in a test task."""

    hidden: Layers = (64, 64)
    """Widths of the policy (published)."""
    activation: Activation = "tanh"
    """Of the policy (published)."""
    iterations: CountFromZero = 100
    """Of the training on all train tasks. 0 leaves the policy untrained: test tasks are then learned from
    scratch."""
    tasks: Count = 20
    """Tasks of an iteration."""
    episodes: Count = 10
    """Episodes of a task in an iteration."""
    training: PpoSteps = field(default_factory=PpoSteps)
    """Of an iteration on all train tasks; the learning rate falls linearly to 0."""
    adaptation: PpoSteps = field(default_factory=PpoSteps)
    """Of a step of adaptation to one task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistralConfig(Bounded):
    """Training of task policies with their centroid, and the fine-tuning of the centroid in a test task."""

    hidden: Layers = (64, 64)
    """Widths of every policy."""
    activation: Activation = "tanh"
    """Of every policy."""
    iterations: Count = 100
    """Of the training."""
    tasks: Count = 20
    """N, tasks with a policy of their own: the first of the train tasks."""
    episodes: Count = 10
    """Episodes of every task in an iteration."""
    kl_weight: NonNegative = 0.01
    """c_KL, per decision, in units of the reward."""
    entropy_weight: NonNegative = 0.0
    """c_Ent, per decision, in units of the reward; 0 leaves the KL alone, alpha = 1."""
    training: PpoSteps = field(default_factory=PpoSteps)
    """Of the task policies in an iteration; learning rates fall linearly to 0."""
    distillation_steps: Count = 10
    """Steps of Adam of the centroid in an iteration."""
    distillation_rate: Positive = 1e-3
    """Learning rate of the centroid."""
    adaptation: PpoSteps = field(default_factory=PpoSteps)
    """Of a step of fine-tuning in one task."""
