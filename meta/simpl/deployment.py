"""How a SiMPL agent explores a new task, infers it and fine-tunes; published values stand in `maze-published`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...bounds import Count, NonNegative, Positive, require_bounds
from ...errors import ConfigError
from .config import FinetuneConfig, SimplConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConfig:
    """What a SiMPL agent does in a new task, Nam et al. 2022, section 4.3."""

    exploration_episodes: Count = 20
    """Episodes before the task embedding is inferred (published)."""
    search: Literal["blind", "directed"] = "directed"
    """How to explore. `blind` draws e ~ N(0, I) to the end (published). `directed` draws every second e among many such
    candidates by how well they explain that the states visited so far were not rewarded, as the reward head predicts
    it; once a task is known, it draws e ~ q(e | what was seen). It needs an agent that was meta-trained with
    `reward_prediction` > 0."""
    candidates: Count = 256
    """Candidates of the directed search."""
    visited: Count = 12
    """States of each explored episode, its last among them, that the candidates are judged by. Those of all episodes
    count: a search that forgot its early ones would go back to where it was."""
    evidence: NonNegative = 256.0
    """How many independent states all visited ones together weigh as. States of an episode follow from each other; a
    search that took each for a fact of its own was soon sure, and proposed much the same embeddings again and again."""
    keep_searching: bool = True
    """A task that is not known yet goes on exploring after the exploration episodes; its embedding is inferred as soon
    as it is known. A task is known once its rewards differ from each other: rewards that are all equal tell nothing
    (published: False, the embedding is inferred from whatever was seen)."""
    wider: Positive = 2.0
    """Standard deviation, per axis, of the embeddings drawn at random in such a search, where it is `directed`: what
    N(0, I) has not found by then may lie outside of what meta-training made likely."""
    context: Count = 256
    """Transitions of the context (published: all)."""
    learn_from_exploration: bool = True
    """The explored episodes are also learned from (published: False)."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def __post_init__(self) -> None:
        """Refuses impossible settings.

        Raises:
            ConfigError: Naming the field.
        """
        require_bounds(self)
        if self.context < self.exploration_episodes:
            raise ConfigError(
                f"DeploymentConfig.context: expected at least one transition per exploration episode "
                f"({self.exploration_episodes}), got {self.context}; raise it"
            )

    def require_reward_head(self, simpl: SimplConfig) -> None:
        """Checks that a directed search has something to ask.

        Args:
            simpl: What the agent is or will be meta-trained with.

        Raises:
            ConfigError: The search is directed, but the reward head was never trained, so that its answers are noise.
        """
        if self.search == "directed" and simpl.reward_prediction == 0.0:
            raise ConfigError(
                "DeploymentConfig.search: expected 'blind' for an agent that was meta-trained with reward_prediction = "
                "0, got 'directed', which asks the reward head; search blindly, or meta-train with reward prediction"
            )
