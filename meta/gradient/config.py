"""Configuration of the learners that adapt by gradients. Sources stand with the algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...bounds import Count, CountFromZero, Layers, NonNegative, Positive, Share, Width, require_bounds
from ...errors import ConfigError
from ..config import Activation, TrustRegion

Correction = Literal["none", "lvc", "dice"]
StepSizes = Literal["fixed", "scalar", "tensor", "parameter"]
Outer = Literal["trpo", "ppo", "reinforce"]
Curvature = Literal["full", "first-order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MamlConfig:
    """Meta-training of MAML; the defaults are the published ones of 2D navigation."""

    hidden: Layers = (100, 100)
    """Widths of the policy (published)."""
    activation: Activation = "relu"
    """Of the policy (published)."""
    iterations: Count = 100
    """Meta-updates (published)."""
    tasks: Count = 20
    """Tasks of a meta-update (published; the later code has 40)."""
    episodes: Count = 20
    """Episodes of a task before each inner step, and after the last (published)."""
    inner_steps: Count = 1
    """Inner steps that the outer loop sees through (published)."""
    step_size: Positive = 0.5
    """alpha of the inner step (published), or the value from which it is learned."""
    step_sizes: StepSizes = "fixed"
    """Whether alpha is learned and at what grain (published: fixed); see `GradientDescent`."""
    correction: Correction = "none"
    """The inner loss: `none` is REINFORCE (published), the right one for E-MAML; `lvc` or `dice` for the gradient of
    the expected update."""
    first_order: bool = False
    """No gradient flows through the inner gradient (published: False)."""
    exploration: NonNegative = 0.0
    """Weight of the score of the samples of the inner steps; E-MAML at 1 (Finn et al.: 0). Only with
    `normalise_advantage` off and as many decisions in every episode is 1 the exact gradient; else it has the scale of
    the standardised advantages."""
    outer: Outer = "trpo"
    """How the outer loss is descended (published)."""
    trust_region: TrustRegion = field(default_factory=TrustRegion)
    """For `trpo`."""
    curvature: Curvature = "full"
    """For `trpo`: `full` differentiates the KL through the inner steps (published); `first-order` leaves the inner
    gradients out of the Hessian, at a fraction of the time. The line search keeps to the whole KL in any case. On 2D
    navigation, one seed each, the held-out return after one step was -29 after 40 updates with `first-order` and 5
    episodes a task, -11 after 25 updates with `full`, 10 tasks and 20 episodes."""
    curvature_tasks: CountFromZero = 0
    """For `trpo`: number of tasks that give the Hessian; 0 takes all (published)."""
    learning_rate: Positive = 1e-3
    """Adam, for `ppo` and `reinforce` (Rothfuss et al.: 1e-3)."""
    outer_steps: Count = 5
    """Steps of Adam on the same samples, for `ppo` (Rothfuss et al.: 5); `reinforce` takes one."""
    ppo_clip: Positive = 0.3
    """Clip of the ratio, for `ppo` (Rothfuss et al.: .3)."""
    discount: Share = 0.99
    """gamma per decision (published)."""
    trace: Share = 1.0
    """lambda of GAE (published)."""
    normalise_advantage: bool = True
    """Standardise advantages within each task (published)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.curvature_tasks > self.tasks:
            raise ConfigError(
                f"MamlConfig.curvature_tasks: expected 0 to tasks = {self.tasks}, got {self.curvature_tasks}; correct "
                "it"
            )
        if self.exploration > 0.0 and self.correction != "none":
            raise ConfigError(
                f"MamlConfig.exploration: expected 0 with correction '{self.correction}', got {self.exploration}; both "
                "count the samples of the inner step, so take one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaesnConfig:
    """Meta-training of MAESN."""

    hidden: Layers = (100, 100)
    """Widths of the policy (published)."""
    activation: Activation = "relu"
    """Of the policy (published)."""
    latent_dim: Width = 2
    """L, axes of z (published)."""
    iterations: Count = 500
    """Meta-updates (published)."""
    tasks: Count = 20
    """Tasks of a meta-update (published)."""
    episodes: Count = 20
    """Episodes of a task before each inner step, and after the last (published: 20 to 50)."""
    inner_steps: CountFromZero = 1
    """Inner steps that the outer loop sees through (published). 0 is the paper's baseline without fast adaptation, a
    table that is trained directly; its agents adapt with `step_size`, which is then not learned."""
    natural: bool = False
    """Step along the natural gradient of the latents (published: the plain one). The plain gradient of mu grows as
    1 / sigma, so that the steps of a task whose z is found, whose sigma is small, are the wildest."""
    step_size: Positive = 1.0
    """The value from which the step sizes alpha are learned (released: 0.5 to 1)."""
    largest_step: Positive | None = None
    """Step sizes are put back to this after every meta-update; None lets them grow (published). On the dense semicircle
    they grow to 8: train tasks are then told apart far from where N(0, I) draws z, and what agents that start there
    find in a sparse reward is little."""
    table_scale: NonNegative = 1.0
    """Standard deviation of the first rows mu (released: 1). From 0, rows find their places by their own gradients
    instead of the policy having to learn a random order."""
    kl_weight: NonNegative = 0.1
    """Of KL(N(mu_i, sigma_i^2) || N(0, I)) in the outer loss (released: 0.1 to 0.5)."""
    kl_weight_after: NonNegative = 0.0
    """Of the same divergence after the inner steps (published: 0). Without it, train tasks on the semicircle are told
    apart at |z| of 4 and more, and goals whose z lies out there are not met by draws from N(0, I), with which a new
    task begins."""
    trust_region: TrustRegion = field(default_factory=TrustRegion)
    """Of the meta-update (published)."""
    curvature_episodes: CountFromZero = 0
    """Number of episodes of each task that give the Hessian of the trust region; 0 takes all (published). All tasks
    have to be in it: a row of the table without curvature would take a step of its own size."""
    discount: Share = 0.99
    """gamma per decision (published)."""
    trace: Share = 1.0
    """lambda of GAE (published)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.largest_step is not None and not self.largest_step >= self.step_size:
            raise ConfigError(
                f"MaesnConfig.largest_step: expected at least step_size = {self.step_size}, got {self.largest_step}; "
                "raise it"
            )
        if self.curvature_episodes > self.episodes:
            raise ConfigError(
                f"MaesnConfig.curvature_episodes: expected 0 to episodes = {self.episodes}, got "
                f"{self.curvature_episodes}; correct it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRuleConfig:
    """How a learned update begins; see `learned_rule`."""

    step_size: float = 0.5
    """alpha of the gradient descent that it starts as."""
    hidden: int = 16
    """Width of the one hidden layer, U (Andrychowicz et al.: two LSTM layers of 20)."""
    embedding: int = 4
    """K, numbers learned for each parameter tensor."""
    addition: float = 1e-2
    """exp(b) at first."""
    through_features: bool = False
    """Outer gradients also flow through the features (Andrychowicz et al.: they do not)."""
