"""Settings of the adaptation loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..bounds import Batch, Count, NonNegative, Positive, require_bounds
from ..errors import ConfigError
from ..meta.simpl.config import FinetuneConfig, SimplConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptConfig:
    """Budgets and settings of the adaptation loop."""

    method: Literal["simpl", "spirl", "sac"] = "simpl"
    """`spirl` and `sac` are baselines by the same learner: from scratch, without meta-training or exploration, over the
    bundle's skills (Pertsch et al., CoRL 2020) or over raw actions (Haarnoja et al., "Soft Actor-Critic", 2018)."""
    episodes: Count = 100
    """Episodes per task in all, exploration included."""
    exploration_episodes: Count = 20
    """Episodes before the task embedding is inferred (published)."""
    search: Literal["blind", "directed"] = "directed"
    """How to explore. `blind` draws e ~ N(0, I) to the end (published). `directed` draws every second e among many such
    candidates by how well they explain that the states visited so far were not rewarded, as the reward head predicts
    it; once a task was rewarded, it draws e ~ q(e | what was seen). It needs an agent that was meta-trained with
    `reward_prediction` > 0."""
    candidates: Batch = 256
    """Candidates of the directed search."""
    visited: Count = 12
    """States of each explored episode, its last among them, that the candidates are judged by. Those of all episodes
    count: a search that forgot its early ones would go back to where it was."""
    evidence: NonNegative = 256.0
    """How many independent states all visited ones together weigh as. States of an episode follow from each other; a
    search that took each for a fact of its own was soon sure, and proposed much the same embeddings again and again."""
    keep_searching: bool = True
    """A task that was never rewarded goes on exploring after the exploration episodes; its embedding is inferred at its
    first reward (published: False, the embedding is inferred from whatever was seen)."""
    wider: Positive = 2.0
    """Standard deviation, per axis, of the embeddings drawn at random in such a search, where it is `directed`: what
    N(0, I) has not found by then may lie outside of what meta-training made likely."""
    context: Count = 256
    """Transitions of the context (published: all)."""
    learn_from_exploration: bool = True
    """The explored episodes are also learned from (published: False)."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def __post_init__(self) -> None:
        """Refuses impossible budgets.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.episodes < self.exploration_episodes:
            raise ConfigError(
                f"AdaptConfig: expected 1 <= exploration_episodes <= episodes, got {self.exploration_episodes} and "
                f"{self.episodes}; raise --episodes or lower --exploration-episodes"
            )
        if self.context < self.exploration_episodes:
            raise ConfigError(
                f"AdaptConfig.context: expected at least one transition per exploration episode "
                f"({self.exploration_episodes}), got {self.context}; raise it"
            )


def require_reward_head(simpl: SimplConfig, config: AdaptConfig) -> None:
    """Checks that a directed search has something to ask.

    Args:
        simpl: What the agent is or will be meta-trained with.
        config: How it explores.

    Raises:
        ConfigError: The search is directed, but the reward head was never trained, so that its answers are noise.
    """
    if config.method == "simpl" and config.search == "directed" and simpl.reward_prediction == 0.0:
        raise ConfigError(
            "AdaptConfig.search: expected 'blind' for an agent that was meta-trained with reward_prediction = 0, got "
            "'directed', which asks the reward head; pass --search blind, or meta-train with reward prediction"
        )
