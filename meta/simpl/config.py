"""Configuration of meta-training and fine-tuning. Published values stand in the preset `maze-published`."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigError
from .networks import ENCODERS, EncoderName


def _require(condition: bool, where: str, expected: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{where}: expected {expected}, got {value}; correct the configuration")


_POSITIVE = (
    "embedding_dim",
    "encoder_hidden",
    "learning_rate",
    "multiplier_learning_rate",
    "policy_every",
    "target_rate",
    "prior_tasks",
    "posterior_tasks",
    "batch",
    "prior_context",
    "posterior_context",
    "kl_clip",
    "epochs",
    "reuse_rate",
    "pool_episodes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplConfig:
    """Meta-training of SiMPL (Nam et al., ICLR 2022); the defaults are those of the preset `maze`."""

    embedding_dim: int = 6
    """E, dimensions of the task embedding e (published maze: 5)."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Hidden widths of policy and critics (published)."""
    encoder: EncoderName = "mean-max"
    """Task encoder (published: set-transformer)."""
    encoder_hidden: int = 128
    """Width of the encoder (published)."""
    learning_rate: float = 5e-4
    """Adam, policy, critics and encoder (published: 3e-4)."""
    multiplier_learning_rate: float = 5e-3
    """Adam, all Lagrange multipliers (published: 3e-4)."""
    only_increase: bool = False
    """Multipliers can only grow (published: True)."""
    policy_every: int = 2
    """Updates of the critics per update of policy and policy multipliers (published: 1)."""
    bfloat16: bool = True
    """Run hidden layers in bfloat16 during updates (published: False)."""
    discount: float = 0.99
    """gamma per decision (published)."""
    target_rate: float = 0.02
    """tau of the target critics (published: .005)."""
    prior_tasks: int = 4
    """Tasks per update with the small context (published)."""
    posterior_tasks: int = 16
    """Tasks per update with the large context (published: 26)."""
    batch: int = 128
    """Transitions per task and update (published: 1024)."""
    success_batch: int = 8
    """Of these, transitions that solved the task: they ended it with a reward (published: 0, uniform)."""
    prior_context: int = 4
    """Transitions of the small context (published)."""
    posterior_context: int = 128
    """Transitions of the large context (published: 8192)."""
    context_episodes: int = 20
    """The large context holds the last transition of 1 to this many episodes, and others of them; 0 draws transitions
    of all episodes uniformly (published)."""
    embedding_kl_prior: tuple[float, float] = (1e-5, 1.0)
    """Small context: initial weight of KL(q(e|c) || N(0, I)), and its target (published)."""
    embedding_kl_posterior: tuple[float, float] = (3e-6, 10.0)
    """Large context: the same, one weight per task (published)."""
    policy_kl_prior: tuple[float, float] = (1e-2, 0.5)
    """Small context: initial weight of KL(pi || skill prior), and its target (published: 3e-3, .5)."""
    policy_kl_posterior: tuple[float, float] = (1e-2, 1.0)
    """Large context: the same (published: 1e-3, 1)."""
    kl_clip: float = 5.0
    """Largest KL in the critic's target (published)."""
    reward_prediction: float = 0.1
    """Weight of the encoder's reward prediction loss (published: 0)."""
    relabel: bool = True
    """Episodes count for every train task (published: False, for the task that they were run for)."""
    epochs: int = 100
    """Rounds of collection and updates (published: 1000)."""
    episodes_per_task: tuple[int, int] = (1, 1)
    """Episodes per task and epoch with e ~ N(0, I), and with e ~ q(e|c) (published)."""
    warmup_epochs: int = 2
    """Epochs without updates (published: until 8192 context transitions per task)."""
    updates_per_epoch: int = 100
    """Updates after each collection; 0 follows `reuse_rate`."""
    reuse_rate: float = 256.0
    """Uses of each collected transition, where `updates_per_epoch` is 0 (published)."""
    pool_episodes: int = 2400
    """Episodes kept (published: 20,000 transitions per task, at least 100 episodes each)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        for name in _POSITIVE:
            _require(getattr(self, name) > 0, f"SimplConfig.{name}", "a positive number", getattr(self, name))
        for name in ("reward_prediction", "success_batch", "context_episodes", "warmup_epochs", "updates_per_epoch"):
            _require(getattr(self, name) >= 0, f"SimplConfig.{name}", "zero or more", getattr(self, name))
        for name in ("embedding_kl_prior", "embedding_kl_posterior", "policy_kl_prior", "policy_kl_posterior"):
            _require(min(getattr(self, name)) > 0.0, f"SimplConfig.{name}", "positive numbers", getattr(self, name))
        known = " or ".join(ENCODERS)
        _require(self.encoder in ENCODERS, "SimplConfig.encoder", known, self.encoder)
        _require(min(self.hidden, default=0) > 0, "SimplConfig.hidden", "at least one positive width", self.hidden)
        _require(0.0 < self.discount < 1.0, "SimplConfig.discount", "a value in (0, 1)", self.discount)
        _require(self.target_rate <= 1.0, "SimplConfig.target_rate", "at most 1", self.target_rate)
        _require(
            self.success_batch < self.batch, "SimplConfig.success_batch", f"fewer than {self.batch}", self.success_batch
        )
        _require(
            self.context_episodes <= self.posterior_context,
            "SimplConfig.context_episodes",
            f"at most posterior_context = {self.posterior_context}",
            self.context_episodes,
        )
        explore, exploit = self.episodes_per_task
        _require(
            explore >= 1 and exploit >= 0,
            "SimplConfig.episodes_per_task",
            "at least 1 exploring episode and no negative number",
            self.episodes_per_task,
        )
