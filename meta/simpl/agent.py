"""The networks of one SiMPL agent, and how it acts.

Axes: R rows, M tasks, B transitions, Q = 2 critics, O observation, Z latent, E task embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...skills.gaussian import Gaussian
from ...skills.network import MLP
from ..space import ActionSpace
from .config import SimplConfig
from .networks import ENCODERS, StackedMLP, context_tokens, residual_policy
from .pool import Transitions


class SimplAgent(nn.Module):
    """Residual policy, twin critics, their targets, the task encoder and its reward head."""

    def __init__(
        self, space: ActionSpace, observation_dim: int, config: SimplConfig, generator: torch.Generator
    ) -> None:
        """Draws all weights from `generator`, on the CPU."""
        super().__init__()
        latent, embedding = space.latent_dim, config.embedding_dim
        self.space = space
        self.embedding_dim = embedding
        self.observation_dim = observation_dim
        self.policy = MLP((observation_dim + embedding, *config.hidden, 2 * latent), generator=generator)
        critic_sizes = (observation_dim + latent + embedding, *config.hidden, 1)
        self.critic, self.target_critic = (
            StackedMLP(2, critic_sizes, generator, norm=config.critic_norm) for _ in range(2)
        )
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        features = 2 * observation_dim + latent + 2
        self.encoder = nn.ModuleDict(
            {
                "context": ENCODERS[config.encoder](features, config.encoder_hidden, embedding, generator),
                "reward": MLP((embedding + observation_dim, 128, 128, 1), generator=generator),
            }
        )

    def policy_at(self, observation: Tensor, embedding: Tensor, prior: Gaussian) -> Gaussian:
        """pi(z | s, e), each (..., Z); `observation` (..., O) is on the networks' scale."""
        residual = self.policy(torch.cat((observation, embedding), dim=-1))
        return residual_policy(residual.float(), prior)

    def value(self, critic: StackedMLP, observation: Tensor, latent: Tensor, embedding: Tensor) -> Tensor:
        """Q_j(s, z, e), shape (Q, M, B); inputs (M, B, .)."""
        flat = torch.cat((observation, latent, embedding), dim=-1).flatten(0, 1)
        value: Tensor = critic(flat.expand(2, -1, -1))
        return value.view(2, *observation.shape[:-1])

    def encode(self, context: Transitions) -> Gaussian:
        """q(e | c), each (M, E)."""
        output: Gaussian = self.encoder["context"](context_tokens(context, self.space.normalise))
        return output

    def predict_reward(self, embedding: Tensor, next_observation: Tensor) -> Tensor:
        """Logit that reaching s' is rewarded, shape (M, B); `next_observation` is on the networks' scale."""
        output: Tensor = self.encoder["reward"](torch.cat((embedding, next_observation), dim=-1))
        return output.squeeze(-1)

    @torch.no_grad()
    def act(
        self,
        observation: Tensor,
        prior: Gaussian,
        embedding: Tensor,
        generator: torch.Generator,
        greedy: bool | Sequence[bool] | Tensor = False,
    ) -> Tensor:
        """A latent for each row, shape (r, Z): a sample of the policy, or its mean where `greedy`.

        Args:
            observation: Raw, shape (r, O).
            prior: At `observation`, each (r, Z).
            embedding: Shape (r, E).
            generator: Source of the sample; drawn from for greedy rows too.
            greedy: One flag for all rows, or one per row.
        """
        policy = self.policy_at(self.space.normalise(observation), embedding, prior)
        flags = torch.as_tensor(greedy, device=observation.device).reshape(-1, 1)
        return torch.where(flags, policy.loc, policy.sample(generator))
