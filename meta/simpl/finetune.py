"""Fine-tuning on one new task: SAC with a KL constraint to the prior.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3, after Pertsch et al., "Accelerating
Reinforcement Learning with Learned Skill Priors", CoRL 2020, Eq. 4-6. From meta-trained weights and a task embedding
that is held for ever this is SiMPL's adaptation; with fresh weights and no embedding the same learner is the SPiRL
baseline (skills) or a KL-regularised SAC baseline (raw actions).

Axes: B transitions, Q = 2 critics, O observation, Z latent, E task embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ...skills.device import update_precision
from ...skills.gaussian import Gaussian, kl
from ...skills.network import MLP
from ..collect import Episodes
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from .config import FinetuneConfig
from .networks import StackedMLP, inverse_softplus, residual_policy
from .pool import EpisodePool, Transitions, view_of_own_task
from .simpl import critic_loss, multiplier_loss, only_increase, policy_loss, soft_update, td_target


class Finetuner(nn.Module):
    """Policy, critics, multiplier, optimisers and episodes of one task."""

    embedding: Tensor

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        decisions: int,
        embedding: Tensor,
        hidden: tuple[int, ...],
        config: FinetuneConfig,
        seed: int,
        *,
        critic_norm: bool = False,
    ) -> None:
        """Fresh weights; `start_from` replaces them by meta-trained ones.

        Args:
            space: What the policy chooses.
            observation_dim: O.
            decisions: Most decisions in an episode, K; episodes may be padded to fewer.
            embedding: Held for ever, shape (E,); E = 0 from scratch.
            hidden: Widths of policy and critics.
            config: See `FinetuneConfig`.
            seed: Seed of weights and of all draws.
            critic_norm: Layer norm in the critics.
        """
        super().__init__()
        self.space, self.config = space, config
        width, latent, device = len(embedding), space.latent_dim, embedding.device
        generator = torch.Generator().manual_seed(seed)
        sizes = (observation_dim + latent + width, *hidden, 1)
        self.policy = MLP((observation_dim + width, *hidden, 2 * latent), generator=generator)
        self.critic, self.target_critic = (StackedMLP(2, sizes, generator, norm=critic_norm) for _ in range(2))
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        initial = torch.tensor(config.multiplier, dtype=torch.float64)
        self.multiplier = nn.Parameter(inverse_softplus(initial).float())
        self.register_buffer("embedding", embedding.clone())
        self.to(device)
        self._actor, self._critics = list(self.policy.parameters()), list(self.critic.parameters())
        self._targets = list(self.target_critic.parameters())
        self.optimisers = {
            "critic": torch.optim.Adam(self._critics, lr=config.learning_rate, fused=True),
            "policy": torch.optim.Adam(self._actor, lr=config.learning_rate, fused=True),
            "multiplier": torch.optim.Adam([self.multiplier], lr=config.multiplier_learning_rate),
        }
        self.pool = EpisodePool(config.pool_episodes, decisions, observation_dim, latent, 1, device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.critic_updates_left = 0

    @torch.no_grad()
    def start_from(self, policy: MLP, critic: StackedMLP, multiplier: float) -> None:
        """Copies meta-trained networks of the same sizes; the critics are updated alone at first.

        Args:
            policy: pi(z | s, e).
            critic: Q(s, z, e), also the first target.
            multiplier: Initial KL multiplier.
        """
        self.policy.load_state_dict(policy.state_dict())
        self.critic.load_state_dict(critic.state_dict())
        self.target_critic.load_state_dict(critic.state_dict())
        self.multiplier.copy_(inverse_softplus(torch.full_like(self.multiplier, multiplier)))
        self.critic_updates_left = self.config.critic_updates_first

    def policy_at(self, observation: Tensor, prior: Gaussian) -> Gaussian:
        """pi(z | s), each (B, Z); `observation` (B, O) is on the networks' scale."""
        residual = self.policy(torch.cat((observation, self.embedding.expand(len(observation), -1)), dim=-1))
        return residual_policy(residual.float(), prior)

    def value(self, critic: StackedMLP, observation: Tensor, latent: Tensor) -> Tensor:
        """Q_j(s, z), shape (Q, B)."""
        joint = torch.cat((observation, latent, self.embedding.expand(len(observation), -1)), dim=-1)
        output: Tensor = critic(joint.expand(2, -1, -1))
        return output.squeeze(-1)

    @torch.no_grad()
    def act(self, observation: Tensor, prior: Gaussian, generator: torch.Generator, greedy: bool) -> Tensor:
        """A latent for each row, shape (r, Z): a sample of the policy, or its mean where `greedy`.

        Args:
            observation: Raw, shape (r, O).
            prior: At `observation`, each (r, Z).
            generator: Source of the sample.
            greedy: Take the mean instead.
        """
        policy = self.policy_at(self.space.normalise(observation), prior)
        return policy.loc if greedy else policy.sample(generator)

    def add(self, episodes: Episodes) -> int:
        """Stores episodes of this task; returns their transitions."""
        task = torch.zeros(len(episodes.length), dtype=torch.int64, device=episodes.length.device)
        episodes = pad_decisions(episodes, self.pool.tensors["latent"].shape[1])
        self.pool.add(episodes, view_of_own_task(episodes, task, 1), explored=False)
        return int(episodes.length.sum())

    def updates_due(self, new_transitions: int) -> int:
        """Number of updates after an episode with this many new transitions: reuse_rate * new / batch."""
        if int(self.pool.num_transitions()[0]) < self.config.min_transitions:
            return 0
        return round(self.config.reuse_rate * new_transitions / self.config.batch)

    def update(self) -> dict[str, Tensor]:
        """One step of critics, then of policy and multiplier unless they still wait; metrics are on the device."""
        task = torch.zeros(1, dtype=torch.int64, device=self.embedding.device)
        batch = Transitions(*(_first(v) for v in self.pool.sample(task, self.config.batch, 0, self.generator)))
        metrics = self._update_critics(batch)
        if self.critic_updates_left > 0:
            self.critic_updates_left -= 1
            return metrics
        return metrics | self._update_policy(batch)

    def _update_critics(self, batch: Transitions) -> dict[str, Tensor]:
        config, alpha = self.config, nn.functional.softplus(self.multiplier).detach()
        observation, following = self.space.normalise(batch.observation), self.space.normalise(batch.next_observation)
        with torch.no_grad(), self._precision():
            policy = self.policy_at(following, batch.next_prior)
            target = td_target(
                batch.reward,
                batch.terminated,
                self.value(self.target_critic, following, policy.sample(self.generator)),
                kl(policy, batch.next_prior),
                alpha,
                config.discount,
                config.kl_clip,
            )
        with self._precision():
            value = self.value(self.critic, observation, batch.latent)
        loss_critic = critic_loss(value, target)
        self._step("critic", loss_critic, self._critics)
        soft_update(self._targets, self._critics, config.target_rate)
        return {"loss_critic": loss_critic.detach(), "alpha": alpha}

    def _update_policy(self, batch: Transitions) -> dict[str, Tensor]:
        observation, multiplier = self.space.normalise(batch.observation), nn.functional.softplus(self.multiplier)
        with self._precision():
            policy = self.policy_at(observation, batch.prior)
            prior_kl = kl(policy, batch.prior)
            value = self.value(self.critic, observation, policy.sample(self.generator))
        self._step("policy", policy_loss(value, prior_kl, multiplier.detach()), self._actor)
        self._step("multiplier", multiplier_loss(multiplier, prior_kl.mean(), self.config.kl_target), [self.multiplier])
        return {"policy_kl": prior_kl.detach().mean(), "value": value.detach().mean()}

    def _precision(self) -> torch.autocast:
        return update_precision(self.embedding.device, self.config.bfloat16)

    def _step(self, name: str, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if name == "multiplier" and self.config.only_increase:
            only_increase(self.multiplier)
        self.optimisers[name].step()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on."""
        pool, facts = self.pool.state()
        tensors = {f"module.{name}": value for name, value in self.state_dict().items()}
        tensors |= {f"pool.{name}": value for name, value in pool.items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= optimiser_tensors(self.optimisers)
        return {name: value.detach() for name, value in tensors.items()}, {
            "tensors": len(tensors),
            "pool": facts,
            "critic_updates_left": self.critic_updates_left,
            "config": asdict(self.config),
        }

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken; a state that lacks a part raises KeyError."""
        if len(tensors) != facts["tensors"]:
            raise KeyError(f"{len(tensors)} of {facts['tensors']} tensors")
        self.load_state_dict(named_part(tensors, "module."))
        self.pool.load_state(named_part(tensors, "pool."), facts["pool"])
        self.generator.set_state(tensors["generator"].cpu())
        self.critic_updates_left = int(facts["critic_updates_left"])
        load_optimisers(self.optimisers, tensors)


def pad_decisions(episodes: Episodes, decisions: int) -> Episodes:
    """The episodes, padded with zeros to this many decisions."""
    missing = decisions - episodes.latent.shape[1]
    if missing == 0:
        return episodes
    pad, loc, scale = nn.functional.pad, *episodes.prior
    return episodes._replace(
        observation=pad(episodes.observation, (0, 0, 0, missing)),
        latent=pad(episodes.latent, (0, 0, 0, missing)),
        prior=Gaussian(pad(loc, (0, 0, 0, missing)), pad(scale, (0, 0, 0, missing))),
        reward=pad(episodes.reward, (0, missing)),
    )


def _first(value: Tensor | Gaussian) -> Any:
    """The only task of a batch: (1, B, ...) -> (B, ...)."""
    return Gaussian(value.loc[0], value.scale[0]) if isinstance(value, Gaussian) else value[0]
