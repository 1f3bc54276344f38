"""Configuration of meta-training and fine-tuning. Published values stand in the preset `maze-published`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ...bounds import Batch, Bounded, Count, CountFromZero, NonNegative, Positive, Range, Width, Widths, require_bounds
from ...errors import ConfigError

EncoderName = Literal["mean-max", "set-transformer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplConfig:
    """Meta-training of SiMPL (Nam et al., ICLR 2022); the defaults are those of the preset `maze`."""

    embedding_dim: Width = 6
    """E, dimensions of the task embedding e (published maze: 5)."""
    hidden: Widths = (256, 256, 256)
    """Hidden widths of policy and critics (published)."""
    critic_norm: bool = False
    """Layer norm in the critics, also while fine-tuning (published: False)."""
    encoder: EncoderName = "mean-max"
    """Task encoder (published: set-transformer)."""
    encoder_hidden: Width = 128
    """Width of the encoder (published)."""
    learning_rate: Positive = 5e-4
    """Adam, policy, critics and encoder (published: 3e-4)."""
    multiplier_learning_rate: Positive = 5e-3
    """Adam, all Lagrange multipliers (published: 3e-4)."""
    only_increase: bool = False
    """Multipliers can only grow (published: True)."""
    policy_every: Count = 2
    """Updates of the critics per update of policy and policy multipliers (published: 1)."""
    bfloat16: bool = True
    """Run hidden layers in bfloat16 during updates if the processor multiplies in it (published: False)."""
    discount: Annotated[float, Range(0.0, 1.0, above=True, below=True)] = 0.99
    """gamma per decision (published)."""
    target_rate: Annotated[float, Range(0.0, 1.0, above=True)] = 0.02
    """tau of the target critics (published: .005)."""
    prior_tasks: Count = 4
    """Tasks per update with the small context (published)."""
    posterior_tasks: Count = 16
    """Tasks per update with the large context (published: 26)."""
    batch: Batch = 128
    """Transitions per task and update (published: 1024)."""
    success_batch: CountFromZero = 8
    """Of these, transitions that solved the task: they ended it with a reward (published: 0, uniform)."""
    prior_context: Count = 4
    """Transitions of the small context (published)."""
    posterior_context: Count = 128
    """Transitions of the large context (published: 8192)."""
    context_episodes: CountFromZero = 20
    """The large context holds the last transition of 1 to this many episodes, and others of them; 0 draws transitions
    of all episodes uniformly (published)."""
    embedding_kl_prior: tuple[Positive, Positive] = (1e-5, 1.0)
    """Small context: initial weight of KL(q(e|c) || N(0, I)), and its target (published)."""
    embedding_kl_posterior: tuple[Positive, Positive] = (3e-6, 10.0)
    """Large context: the same, one weight per task (published)."""
    policy_kl_prior: tuple[Positive, Positive] = (1e-2, 0.5)
    """Small context: initial weight of KL(pi || skill prior), and its target (published: 3e-3, .5)."""
    policy_kl_posterior: tuple[Positive, Positive] = (1e-2, 1.0)
    """Large context: the same (published: 1e-3, 1)."""
    kl_clip: Positive = 5.0
    """Largest KL in the critic's target (published)."""
    reward_prediction: NonNegative = 0.1
    """Weight of the encoder's reward prediction loss (published: 0)."""
    relabel: bool = True
    """Episodes count for every train task (published: False, for the task that they were run for)."""
    epochs: Count = 100
    """Rounds of collection and updates (published: 1000)."""
    episodes_per_task: tuple[Count, CountFromZero] = (1, 1)
    """Episodes per task and epoch with e ~ N(0, I), and with e ~ q(e|c) (published)."""
    warmup_epochs: CountFromZero = 2
    """Epochs without updates (published: until 8192 context transitions per task)."""
    updates_per_epoch: CountFromZero = 100
    """Updates after each collection; 0 follows `reuse_rate`."""
    reuse_rate: Positive = 256.0
    """Uses of each collected transition, where `updates_per_epoch` is 0 (published)."""
    pool_episodes: Count = 2400
    """Episodes kept (published: 20,000 transitions per task, at least 100 episodes each)."""

    @property
    def iterations(self) -> int:
        """Epochs."""
        return self.epochs

    def __post_init__(self) -> None:
        require_bounds(self)
        if self.success_batch >= self.batch:
            raise ConfigError(
                f"SimplConfig.success_batch: expected fewer than batch = {self.batch}, got {self.success_batch}; "
                "lower it"
            )
        if self.context_episodes > self.posterior_context:
            raise ConfigError(
                f"SimplConfig.context_episodes: expected at most posterior_context = {self.posterior_context}, got "
                f"{self.context_episodes}; lower it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig(Bounded):
    """Fine-tuning of one task; published values in brackets."""

    learning_rate: Positive = 1e-3
    """Adam, policy and critics (published: 3e-4)."""
    multiplier_learning_rate: Positive = 3e-4
    """Adam, the KL multiplier (published)."""
    discount: Annotated[float, Range(0.0, 1.0, above=True, below=True)] = 0.99
    """gamma per decision (published)."""
    target_rate: Annotated[float, Range(0.0, 1.0, above=True)] = 0.02
    """tau of the target critics (published: .005)."""
    batch: Batch = 256
    """Transitions per update (published)."""
    reuse_rate: Positive = 128.0
    """Uses of each collected transition (published: 256, one update per transition)."""
    min_transitions: CountFromZero = 256
    """Least number of transitions before the first update (published)."""
    critic_updates_first: CountFromZero = 300
    """First updates of a meta-trained learner that move its critics alone (published: 0). Critics that were trained for
    many tasks are wrong about this one at first, and the policy would follow them away from what it inferred."""
    kl_target: NonNegative = 1.0
    """KL(pi || skill prior) per decision that the multiplier enforces (published maze)."""
    kl_clip: Positive = 5.0
    """Largest KL in the critic's target (published maze)."""
    multiplier: Positive = 1e-3
    """Initial KL multiplier of a policy from scratch (published: .05 for SPiRL); a meta-trained one brings its own."""
    only_increase: bool = True
    """The multiplier can only grow (published for SiMPL; SPiRL: both ways)."""
    bfloat16: bool = True
    """Run hidden layers in bfloat16 during updates if the processor multiplies in it (published: False)."""
    pool_episodes: Count = 320
    """Episodes kept (published: 20,000 transitions)."""


SCRATCH = FinetuneConfig(multiplier=0.05, only_increase=False, multiplier_learning_rate=3e-3)
"""Of a task from scratch. Critics that know nothing lead a policy far from the prior before a multiplier that begins at
.001 and moves with 3e-4 can hold it: in the kitchen, to latents of 10^5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpirlConfig(Bounded):
    """Learning a task from scratch."""

    hidden: Widths = (256, 256, 256)
    """Widths of policy and critics (published)."""
    critic_norm: bool = False
    """Layer norm in the critics (published: False)."""
    finetune: FinetuneConfig = field(default_factory=lambda: SCRATCH)
    """How a task is learned."""
    tasks: Count = 4
    """Train tasks that are rehearsed, to see the curve; nothing of them is kept."""
    iterations: CountFromZero = 0
    """Episodes of each rehearsed task; there is nothing to train before a task is met."""
