"""Configuration of the learners that infer the task. Sources stand with the algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...bounds import Batch, Bounded, Count, CountFromZero, NonNegative, Positive, Share, Width, Widths
from ..baselines.config import SacConfig
from ..config import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlConfig(Bounded):
    """Meta-training of PEARL; sizes are small, for a CPU."""

    sac: SacConfig = field(default_factory=SacConfig)
    """Policy, critics and their losses."""
    embedding_dim: Width = 5
    """E (published)."""
    encoder_hidden: Widths = (64, 64)
    """Widths of the encoder (published: 200, 200, 200)."""
    kl_weight: NonNegative = 0.01
    """beta, of the KL summed over the tasks of an update and all dimensions, in squared units of the reward (published
    for rewards times 5: .1, which is .004 here)."""
    next_observation: bool = False
    """The encoder also reads s' (published: False; needed only where the dynamics differ between tasks)."""
    iterations: Count = 100
    """Rounds of collection and updates (published: 500)."""
    tasks: Count = 16
    """Train tasks visited in an iteration, all of them side by side (published: 5 to 10)."""
    rollouts: Count = 4
    """Rows per visited task, each of which infers the task by itself, as at test time."""
    prior_episodes: Count = 2
    """First episodes of a row, with z ~ N(0, I) each."""
    posterior_episodes: CountFromZero = 1
    """Further episodes of a row, with z ~ q(z | c) of all its episodes so far, drawn anew for each."""
    posterior_in_context: bool = False
    """Episodes with z ~ q(z | c) also serve as context (published: where the reward is sparse)."""
    updates: Count = 200
    """Updates of an iteration (published: 2000, and 1000 where the reward is sparse)."""
    anneal: bool = False
    """Lower the learning rate to 0 over the iterations (published: False)."""
    anchored: bool = False
    """SAC's KL is to the policy that meta-training begins with, as BC+PEARL has it (Nam et al., 2022, appendix A), and
    not to the space's prior."""
    batch_tasks: Count = 16
    """M, tasks of an update (published)."""
    context: Count = 64
    """C, transitions of a context (published: 64 to 1024), drawn from the latest visit to the task."""
    replay: Count = 5000
    """Transitions kept per task."""


RewardModel = Literal["bernoulli", "gaussian"]
"""What is predicted of a reward: whether it is above 0, or its mean (variance 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig(Bounded):
    """The encoder, the decoder and how they are trained; published values are those of GridNavi."""

    latent: Width = 5
    """M (published)."""
    hidden: Width = 64
    """Width of the encoder's GRU (published)."""
    embedding: Width = 16
    """Width of each embedding of action, reward and observation (published)."""
    decoder: Literal["cells", "state"] = "state"
    """`cells` has an output for each cell of an observation that takes few whole values (published, GridNavi); `state`
    reads the observation (published, MuJoCo)."""
    decoder_hidden: Widths = (32, 32)
    """Widths of the decoders' hidden layers (published)."""
    reward_model: RewardModel = "gaussian"
    """`bernoulli` (published, GridNavi) suits rewards of two values, one of them above 0."""
    reward_of: Literal["next", "transition"] = "next"
    """What a `state` decoder of rewards reads: s' (published), or s, a and s' (bandits, costs of actions)."""
    transition_weight: NonNegative = 0.0
    """Of log p(s' | s, a, m); 0 has no decoder of transitions (published: tasks differ in their rewards)."""
    kl_weight: NonNegative = 0.01
    """w (published)."""
    learning_rate: Positive = 1e-3
    """Of Adam (published)."""
    updates: Count = 3
    """Updates per iteration (published, there for 960 new decisions)."""
    batch: Batch = 25
    """Trials of an update (published)."""
    buffer_trials: Count = 4096
    """Trials that are kept; published 100,000, with fewer new ones per iteration."""
    elbo_terms: Count | None = None
    """Number of beliefs of a trial that have to predict, drawn anew for each update; None takes all (published,
    GridNavi; 50 in MuJoCo)."""
    decode_terms: Count | None = None
    """Number of decisions of a trial that are predicted, drawn anew for each update; None takes all (published, as
    above)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadConfig(Bounded):
    """variBAD: the policy's training; published values are those of GridNavi."""

    trial: Trial = field(default_factory=Trial)
    """Episodes of a trial (published 4)."""
    trials: Batch = 128
    """R, trials of an iteration, each in a task drawn anew (published 16)."""
    iterations: Count = 1000
    """Iterations of the whole training (published: 2e7 steps, 60 per trial)."""
    vae: VaeConfig = field(default_factory=VaeConfig)
    """Encoder and decoder."""
    policy_hidden: Widths = (32,)
    """Widths of the hidden layers of policy and value function, tanh (published)."""
    discount: Share = 0.95
    """gamma per decision (published)."""
    trace: Share = 0.95
    """lambda (published)."""
    epochs: Count = 2
    """Passes over an iteration's decisions (published)."""
    minibatches: Count = 4
    """Updates per pass (published)."""
    clip: Positive = 0.05
    """PPO's clip of the ratio (published)."""
    entropy_weight: NonNegative = 0.01
    """Of the mean entropy (published), here in units of the standardised advantage."""
    value_weight: NonNegative = 0.5
    """Of the value loss (published), here in units of the standardised return."""
    learning_rate: Positive = 7e-4
    """Of the policy's Adam (published)."""
    anneal: bool = True
    """Lower both learning rates linearly to 0 over the iterations (published: constant)."""
    anneal_entropy: bool = False
    """Lower the weight of the entropy in the same way (published: constant)."""
    max_gradient_norm: Positive = 0.5
    """Gradients of the policy are scaled down to this norm (published)."""
