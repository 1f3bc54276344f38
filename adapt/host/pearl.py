"""PEARL from the trainer to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.inference.pearl_learner import PearlLearner
from ...skills.network import MLP
from ..agents.pearl import PearlSettings
from .exported import Exported, add_prefix, write_settings


def export_pearl(learner: PearlLearner, *, prior_episodes: int | None, greedy: bool) -> Exported:
    """Encoder and policy; critics stay behind.

    Raises:
        BundleError: The policy is no plain network that all tasks share.
    """
    agent = learner.agent(prior_episodes=prior_episodes, greedy=greedy)
    networks = agent.networks.cpu()
    if not isinstance(networks.policy, MLP):
        raise BundleError(
            f"export: expected a policy that all tasks share, got {type(networks.policy).__name__}; export PEARL "
            "before it is fine-tuned"
        )

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_belief(*acting.state())

    return Exported(
        kind="pearl",
        learner=write_settings(
            PearlSettings,
            embedding_dim=networks.embedding_dim,
            encoder_hidden=hidden_widths(networks.encoder),
            policy_hidden=hidden_widths(networks.policy),
            next_observation=networks.next_observation,
            prior_episodes=agent.prior_episodes,
            greedy=greedy,
        ),
        weights={
            **add_prefix("encoder.", networks.encoder.state_dict()),
            **add_prefix("policy.", networks.policy.state_dict()),
        },
        agent=agent,
        space=learner.space,
        read_state=read_state,
    )


def read_belief(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of a PEARL agent by the names of the numpy agent."""
    embedding = tensors["embedding"]
    return {
        "precision": tensors["belief.precision"],
        "weighted": tensors["belief.weighted"],
        "embedding": embedding,
        "episodes": torch.full((len(embedding),), float(facts["episodes"])),
    }


def hidden_widths(net: MLP) -> list[int]:
    """Widths of the hidden layers."""
    return [layer.out_features for layer in net.layers if isinstance(layer, nn.Linear)][:-1]
