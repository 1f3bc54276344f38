"""Fine-tuning on new tasks: SAC with a KL constraint to the prior, for N tasks side by side.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3, after Pertsch et al., "Accelerating
Reinforcement Learning with Learned Skill Priors", CoRL 2020, Eq. 4-6. Each task has its own policy, critics and
multiplier, stacked so that one batched product serves all tasks; the tasks do not influence each other. With fresh
weights and no embedding the same learner is the SPiRL baseline (skills) or a KL-regularised SAC baseline (raw actions).

Axes: N tasks, B transitions, Q = 2 critics, O observation, Z latent, E task embedding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..skills.gaussian import Gaussian, kl
from .collect import Episodes
from .networks import StackedMLP, inverse_softplus, residual_policy
from .pool import EpisodePool, view_of_own_task
from .simpl import multiplier_loss, only_increase, soft_update, td_target
from .space import ActionSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """Fine-tuning of all tasks; published values in brackets."""

    learning_rate: float = 3e-4
    """Adam, policy and critics (published)."""
    multiplier_learning_rate: float = 3e-4
    """Adam, the KL multiplier (published)."""
    discount: float = 0.99
    """gamma per decision (published)."""
    target_rate: float = 0.005
    """tau of the target critics (published)."""
    batch: int = 256
    """Transitions per task and update (published)."""
    reuse_rate: float = 64.0
    """Uses of each collected transition (published: 256, one update per transition)."""
    min_transitions: int = 256
    """No update before a task has so many transitions (published)."""
    kl_target: float = 1.0
    """KL(pi || skill prior) per decision that the multiplier enforces (published maze)."""
    kl_clip: float = 5.0
    """Largest KL in the critic's target (published maze)."""
    multiplier: float = 1e-3
    """Initial KL multiplier of a policy from scratch; a meta-trained one brings its own (published: .05 for SPiRL)."""
    only_increase: bool = True
    """The multiplier can only grow (published for SiMPL; SPiRL: both ways)."""
    pool_episodes: int = 300
    """Episodes kept per task (published: 20,000 transitions)."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        for name in ("learning_rate", "batch", "reuse_rate", "multiplier", "pool_episodes"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"FinetuneConfig.{name}: expected a positive value, got {getattr(self, name)}; raise it"
                )


class Finetuner(nn.Module):
    """Policies, critics, multipliers, optimisers and episodes of N tasks."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        decisions: int,
        embedding: Tensor,
        hidden: tuple[int, ...],
        config: FinetuneConfig,
        seed: int,
    ) -> None:
        """Fresh weights; `start_from` replaces them by meta-trained ones.

        Args:
            space: What the policies choose.
            observation_dim: O.
            decisions: Most decisions in an episode, K.
            embedding: One per task, held for ever, shape (N, E); E = 0 from scratch.
            hidden: Widths of policy and critics.
            config: See `FinetuneConfig`.
            seed: Seed of weights and of all draws.
        """
        super().__init__()
        self.space, self.config, self.num_tasks = space, config, len(embedding)
        count, width, latent = len(embedding), embedding.shape[1], space.latent_dim
        device = embedding.device
        generator = torch.Generator().manual_seed(seed)
        sizes = (observation_dim + latent + width, *hidden, 1)
        self.policy = StackedMLP(count, (observation_dim + width, *hidden, 2 * latent), generator)
        self.critic = StackedMLP(2 * count, sizes, generator)
        self.target_critic = StackedMLP(2 * count, sizes, generator)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.multiplier = nn.Parameter(
            inverse_softplus(torch.full((count, 1), config.multiplier, dtype=torch.float64)).float()
        )
        self.register_buffer("embedding", embedding.clone())
        self.to(device)
        self._actor, self._critics = list(self.policy.parameters()), list(self.critic.parameters())
        self._targets = list(self.target_critic.parameters())
        self.optimisers = {
            "critic": torch.optim.Adam(self._critics, lr=config.learning_rate, fused=True),
            "policy": torch.optim.Adam(self._actor, lr=config.learning_rate, fused=True),
            "multiplier": torch.optim.Adam([self.multiplier], lr=config.multiplier_learning_rate),
        }
        self.pool = EpisodePool(config.pool_episodes * count, decisions, observation_dim, latent, count, device)
        self.generator = torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def start_from(
        self, policy: list[tuple[Tensor, Tensor]], critic: list[tuple[Tensor, Tensor]], multiplier: float
    ) -> None:
        """Copies meta-trained layers into every task's networks.

        Args:
            policy: (weight (in, out), bias (out,)) of each layer.
            critic: (weight (Q, in, out), bias (Q, out)) of each layer.
            multiplier: Initial KL multiplier.
        """
        for index, (weight, bias) in enumerate(policy):
            self.policy.weights[index].copy_(weight.expand_as(self.policy.weights[index]))
            self.policy.biases[index].copy_(bias.expand_as(self.policy.biases[index]))
        for stack in (self.critic, self.target_critic):
            for index, (weight, bias) in enumerate(critic):
                stack.weights[index].copy_(weight.repeat(self.num_tasks, 1, 1))
                stack.biases[index].copy_(bias[:, None].repeat(self.num_tasks, 1, 1))
        self.multiplier.copy_(inverse_softplus(torch.full_like(self.multiplier, multiplier)))

    def policy_at(self, observation: Tensor, prior: Gaussian) -> Gaussian:
        """pi_n(z | s), each (N, B, Z); `observation` (N, B, O) is on the networks' scale."""
        fixed = self.embedding[:, None].expand(-1, observation.shape[1], -1)
        return residual_policy(self.policy(torch.cat((observation, fixed), dim=-1)), prior)

    def value(self, critic: StackedMLP, observation: Tensor, latent: Tensor) -> Tensor:
        """Q_nj(s, z), shape (Q, N, B)."""
        fixed = self.embedding[:, None].expand(-1, observation.shape[1], -1)
        joint = torch.cat((observation, latent, fixed), dim=-1).repeat_interleave(2, dim=0)
        return critic(joint).view(self.num_tasks, 2, -1).transpose(0, 1)

    @torch.no_grad()
    def act(
        self, observation: Tensor, prior: Gaussian, task: Tensor, generator: torch.Generator, greedy: bool
    ) -> Tensor:
        """A latent for each row, shape (r, Z).

        Args:
            observation: Raw, shape (r, O).
            prior: At `observation`, each (r, Z).
            task: Which policy acts in each row, shape (r,).
            generator: Source of the sample.
            greedy: Take the mean instead.
        """
        hidden = torch.cat((self.space.normalise(observation), self.embedding[task]), dim=-1)[:, None]
        last = len(self.policy.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.policy.weights, self.policy.biases, strict=True)):
            hidden = torch.baddbmm(bias[task], hidden, weight[task])
            hidden = hidden.relu() if index < last else hidden
        policy = residual_policy(hidden[:, 0], prior)
        return policy.loc if greedy else policy.sample(generator)

    def add(self, episodes: Episodes) -> None:
        """Stores one episode per task, in task order."""
        task = torch.arange(self.num_tasks, device=episodes.length.device)
        self.pool.add(episodes, view_of_own_task(episodes, task, self.num_tasks), explored=False)

    def updates_due(self, new_transitions: int) -> int:
        """Updates after an episode of every task that brought so many transitions in all."""
        if int(self.pool.num_transitions().min()) < self.config.min_transitions:
            return 0
        return round(self.config.reuse_rate * new_transitions / self.num_tasks / self.config.batch)

    def update(self) -> dict[str, Tensor]:
        """One step of all tasks' critics, policies and multipliers; metrics are means over tasks, on the device."""
        config = self.config
        task = torch.arange(self.num_tasks, device=self.embedding.device)
        batch = self.pool.sample(task, config.batch, 0, self.generator)
        observation, following = self.space.normalise(batch.observation), self.space.normalise(batch.next_observation)
        multiplier = nn.functional.softplus(self.multiplier)
        alpha = multiplier.detach()
        with torch.no_grad():
            policy = self.policy_at(following, batch.next_prior)
            next_value = self.value(self.target_critic, following, policy.sample(self.generator))
            target = td_target(
                batch.reward,
                batch.terminated,
                next_value,
                kl(policy, batch.next_prior),
                alpha,
                config.discount,
                config.kl_clip,
            )
        value = self.value(self.critic, observation, batch.latent)
        # Means within a task, sums over tasks: every task gets the gradient that it would get alone.
        loss_critic = (value - target).square().mean((0, 2)).sum()
        self._step("critic", loss_critic, self._critics)
        soft_update(self._targets, self._critics, config.target_rate)

        policy = self.policy_at(observation, batch.prior)
        prior_kl = kl(policy, batch.prior)
        value = self.value(self.critic, observation, policy.sample(self.generator))
        loss_policy = (alpha * prior_kl - value.amin(0)).mean(1).sum()
        self._step("policy", loss_policy, self._actor)

        loss = multiplier_loss(multiplier, prior_kl.mean(1, keepdim=True), config.kl_target) * self.num_tasks
        self._step("multiplier", loss, [self.multiplier])
        return {
            "loss_critic": loss_critic.detach() / self.num_tasks,
            "policy_kl": prior_kl.detach().mean(),
            "value": value.detach().mean(),
            "alpha": alpha.mean(),
        }

    def _step(self, name: str, loss: Tensor, parameters: list[Tensor]) -> None:
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
        return {name: value.detach() for name, value in tensors.items()}, {"pool": facts, "config": asdict(self.config)}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken."""
        self.load_state_dict(named_part(tensors, "module."))
        self.pool.load_state(named_part(tensors, "pool."), facts["pool"])
        self.generator.set_state(tensors["generator"].cpu())
        load_optimisers(self.optimisers, tensors)


def named_part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimisers: dict[str, torch.optim.Adam]) -> dict[str, Tensor]:
    """Adam's moments and step counts, by `adam.<optimiser>.<parameter>.<field>`."""
    return {
        f"adam.{name}.{index}.{field}": value
        for name, optimiser in optimisers.items()
        for index, moments in optimiser.state_dict()["state"].items()
        for field, value in moments.items()
    }


def load_optimisers(optimisers: dict[str, torch.optim.Adam], tensors: dict[str, Tensor]) -> None:
    """Restores what `optimiser_tensors` gave."""
    for name, optimiser in optimisers.items():
        saved: dict[int, dict[str, Tensor]] = {}
        for key, value in named_part(tensors, f"adam.{name}.").items():
            index, field = key.split(".")
            saved.setdefault(int(index), {})[field] = value.clone()
        optimiser.load_state_dict({**optimiser.state_dict(), "state": saved})
