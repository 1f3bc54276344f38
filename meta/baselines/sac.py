"""Soft actor-critic for many tasks side by side: the configuration and the losses, as pure functions.

Sources: Haarnoja, Zhou, Abbeel, Levine, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with
a Stochastic Actor", ICML 2018; Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (twin target
critics, no value network); Pertsch et al., "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL 2020
(KL to a skill prior in place of the entropy); Christodoulou, "Soft Actor-Critic for Discrete Action Settings", 2019.

Departure: the regulariser is the KL to the space's prior in every space, not the entropy of a policy squashed by tanh.
In units of the prior that is KL(pi || N(0, I)), or the KL to uniform choices. It rewards entropy as published, and also
keeps means where the robot's limits are, so that nothing needs squashing; robots clip. Targets, the critic's loss and
the policy's loss are those of `simpl`, which has the same maths with multipliers that are learned.

Axes: M tasks, B transitions of a task, Q = 2 critics, E embedding (0 where there is none).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...skills.gaussian import standard_like
from ..distribution import Categorical, Distribution, entropy, kl
from ..replay import Steps
from ..simpl.simpl import critic_loss, policy_loss, td_target
from .config import SacConfig
from .sac_networks import SacNetworks

Prior = Callable[[Tensor, Tensor], Distribution]
"""(observations (M, B, O), embeddings (M, B, E)) -> the distributions that a policy is to stay close to."""


def prior_kl(policy: Distribution, prior: Distribution | None = None) -> Tensor:
    """KL(pi || prior) in nats, shape (M, B).

    None is the space's prior: N(0, I) in units of it, or log C - H to C uniform choices.
    """
    if prior is not None:
        return kl(policy, prior)
    if isinstance(policy, Categorical):
        return math.log(policy.logits.shape[-1]) - entropy(policy)
    return kl(policy, standard_like(policy))


def sac_critic_loss(
    networks: SacNetworks,
    batch: Steps,
    embedding: Tensor,
    generator: torch.Generator,
    config: SacConfig,
    prior: Prior | None = None,
) -> Tensor:
    """Sum over critics of the mean of (Q_j(s, a, e) - y)^2, a scalar (Eq. 5 of Haarnoja et al., "Applications").

    y = r + gamma (1 - terminated) (min_j Q'_j(s', a', e) - alpha KL(pi || prior)(s')), a' ~ pi. It is constant: a
    gradient reaches critics and embedding through Q_j(s, a, e) alone.

    Args:
        networks: Policy, critics and targets.
        batch: Each (M, B, ...).
        embedding: Shape (M, B, E).
        generator: Source of a'.
        config: Discount and temperature.
        prior: See `prior_kl`.
    """
    with torch.no_grad():
        policy = networks.policy_at(batch.next_observation, embedding)
        following = networks.value_under(networks.target, batch.next_observation, embedding, policy, generator)
        alpha = torch.full_like(batch.reward[:, :1], config.temperature)
        divergence = prior_kl(policy, prior and prior(batch.next_observation, embedding))
        target = td_target(batch.reward, batch.terminated, following, divergence, alpha, config.discount, math.inf)
    value = networks.value(networks.critic, batch.observation, embedding, batch.action)
    return len(value) * critic_loss(value, target)


def sac_policy_loss(
    networks: SacNetworks,
    observation: Tensor,
    embedding: Tensor,
    generator: torch.Generator,
    config: SacConfig,
    prior: Prior | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean of alpha KL(pi || prior) - min_j Q_j(s, a ~ pi, e), and the mean KL, scalars (Eq. 7, ibid.).

    The embedding is taken as constant: the policy does not train the encoder. See `prior_kl` for `prior`.
    """
    fixed = embedding.detach()
    policy = networks.policy_at(observation, fixed)
    value = networks.value_under(networks.critic, observation, fixed, policy, generator)
    divergence = prior_kl(policy, prior and prior(observation, fixed))
    alpha = torch.full_like(divergence[:, :1], config.temperature)
    return policy_loss(value, divergence, alpha), divergence.detach().mean()
