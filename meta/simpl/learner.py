"""The SiMPL learner: owns networks, optimisers, multipliers, the episode pool and every random generator.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022; the losses stand in `simpl.py`.

Axes: N train tasks, M tasks of an update (the first `prior_tasks` with the small context), B transitions, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...robots.robot import compute_path_reward
from ...skills.device import update_precision
from ...skills.gaussian import Gaussian, kl
from ..collect import Episodes, Seen
from ..iterative import IterativeLearner, running_means
from ..state import join_parts, named_part, refuse_parts
from .adaptive_agent import SimplAdaptiveAgent
from .agent import SimplAgent
from .config import SimplConfig
from .deployment import DeploymentConfig
from .networks import inverse_softplus
from .pool import EpisodePool, view_of_all_tasks, view_of_own_task
from .simpl import (
    critic_loss,
    embedding_kl,
    multiplier_loss,
    only_increase,
    policy_loss,
    reward_prediction_loss,
    soft_update,
    td_target,
)


class Multiplier(nn.Module):
    """softplus(parameter) >= 0, one or one per task."""

    def __init__(self, initial: float, shape: tuple[int, ...] = ()) -> None:
        """Starts at `initial`."""
        super().__init__()
        self.parameter = nn.Parameter(inverse_softplus(torch.full(shape, initial, dtype=torch.float64)).float())

    def forward(self) -> Tensor:
        """The value."""
        return nn.functional.softplus(self.parameter)


class SimplLearner(IterativeLearner[SimplConfig, float]):
    """Meta-trains a SiMPL agent on the train tasks of one robot; an iteration is an epoch."""

    name = "SiMPL"

    def _build(self, source: torch.Generator) -> None:
        config, space, robot, tasks = self.config, self.space, self.robot, len(self.goals)
        self.num_tasks = tasks
        rows = max(config.episodes_per_task) * tasks
        if robot.rows < rows or config.pool_episodes < sum(config.episodes_per_task) * tasks:
            raise ConfigError(
                f"meta-training on {tasks} tasks: expected {rows} robot rows and room for a round of "
                f"{sum(config.episodes_per_task) * tasks} episodes, got {robot.rows} rows and pool_episodes "
                f"{config.pool_episodes}; raise them or lower episodes_per_task"
            )
        dim = robot.spec.observation.shape[0]
        self.networks = SimplAgent(space, dim, config, source).to(self.device)
        self.multipliers = nn.ModuleDict(
            {
                "embedding_prior": Multiplier(config.embedding_kl_prior[0]),
                "embedding_posterior": Multiplier(config.embedding_kl_posterior[0], (self.num_tasks,)),
                "policy_prior": Multiplier(config.policy_kl_prior[0]),
                "policy_posterior": Multiplier(config.policy_kl_posterior[0]),
            }
        ).to(self.device)
        self._policy = list(self.networks.policy.parameters())
        self._critic = list(self.networks.critic.parameters())
        self._target = list(self.networks.target_critic.parameters())
        self._encoder = list(self.networks.encoder.parameters())
        self._multipliers = list(self.multipliers.parameters())
        self.optimisers = {
            "critic": torch.optim.Adam([*self._critic, *self._encoder], lr=config.learning_rate, fused=True),
            "policy": torch.optim.Adam(self._policy, lr=config.learning_rate, fused=True),
            "multiplier": torch.optim.Adam(self._multipliers, lr=config.multiplier_learning_rate),
        }
        decisions = -(-robot.spec.episode_steps // space.horizon)
        self.pool = EpisodePool(config.pool_episodes, decisions, dim, space.latent_dim, self.num_tasks, self.device)
        self.updates = 0

    def _learn(self, batch: float) -> dict[str, float]:
        means = running_means(self.update() for _ in range(self._updates_due(batch)))
        return means | {"updates": float(self.updates)}

    def _updates_due(self, collected: float) -> int:
        """Number of updates after so many new transitions."""
        config = self.config
        if self.iteration < config.warmup_epochs:
            return 0
        if config.updates_per_epoch > 0:
            return config.updates_per_epoch
        transitions = (config.prior_tasks + config.posterior_tasks) * config.batch
        return max(int(config.reuse_rate * collected / transitions), 1)

    def _collect(self) -> tuple[float, dict[str, float]]:
        """Every task: episodes with e ~ N(0, I), which also serve as context, then episodes with e ~ q(e | c)."""
        explore, exploit = self.config.episodes_per_task
        task = torch.arange(self.num_tasks, device=self.device)
        noise = torch.randn(
            (self.num_tasks * explore, self.networks.embedding_dim), generator=self.generator, device=self.device
        )
        collected = {"explore": self._play(task.repeat(explore), noise, explored=True)}
        if exploit:
            chosen = task.repeat(exploit)
            with torch.no_grad():
                posterior = self.networks.encode(self._posterior_context(chosen))
            collected["posterior"] = self._play(chosen, posterior.sample(self.generator), explored=False)
        metrics = {"transitions": float(sum(episodes.length.sum() for episodes, _ in collected.values()))}
        for name in ("explore", "posterior"):
            episodes, returns = collected.get(name, collected["explore"])
            metrics[f"return_{name}"] = float(returns.mean())
            if episodes.success is not None:
                metrics[f"success_{name}"] = float(episodes.success.float().mean())
        return metrics["transitions"], metrics

    def _posterior_context(self, task: Tensor) -> Any:
        config = self.config
        episodes = None
        if config.context_episodes > 0:
            episodes = torch.randint(
                1, config.context_episodes + 1, (len(task),), generator=self.generator, device=self.device
            )
        return self.pool.sample_context(task, config.posterior_context, episodes, self.generator)

    def _play(self, task: Tensor, embedding: Tensor, *, explored: bool) -> tuple[Episodes, Tensor]:
        """One episode for each of the tasks (R,), kept in the pool; and what each returned to its own task, (R,)."""

        def choose(seen: Seen) -> Tensor:
            return self.networks.act(
                seen.observation, seen.prior, embedding[torch.from_numpy(seen.rows)], self.generator
            )

        relabel = self.config.relabel
        episodes = self.play(choose, self.goals[task.cpu().numpy()], stop_at_goal=not (relabel and explored))
        if relabel:
            reward, terminated = compute_path_reward(self.robot, episodes.path.cpu().numpy(), self.goals)
            view = view_of_all_tasks(
                episodes, torch.from_numpy(reward).to(self.device), torch.from_numpy(terminated).to(self.device)
            )
        else:
            view = view_of_own_task(episodes, task, self.num_tasks)
        self.pool.add(episodes, view, explored=explored)
        own = view.reward[torch.arange(len(task), device=self.device), :, task]
        return episodes, own.sum(1)

    def update(self) -> dict[str, Tensor]:
        """One step of critics, encoder, multipliers and, when due, policy; metrics are scalars on the device."""
        config, agent = self.config, self.networks
        few = config.prior_tasks
        task = torch.randint(
            self.num_tasks, (few + config.posterior_tasks,), generator=self.generator, device=self.device
        )
        batch = self.pool.sample(task, config.batch, config.success_batch, self.generator)
        observation, next_observation = (
            self.space.normalise(batch.observation),
            self.space.normalise(batch.next_observation),
        )
        alpha = torch.cat(
            (
                self.multipliers["policy_prior"]().expand(few),
                self.multipliers["policy_posterior"]().expand(config.posterior_tasks),
            )
        )[:, None].detach()

        # Critics and encoder: one embedding sample per transition, the same for s and s'.
        small = agent.encode(self.pool.sample_context(task[:few], config.prior_context, None, self.generator))
        large = agent.encode(self._posterior_context(task[few:]))
        posterior = Gaussian(torch.cat((small.loc, large.loc)), torch.cat((small.scale, large.scale)))
        shape = (len(task), config.batch, agent.embedding_dim)
        embedding = Gaussian(posterior.loc[:, None].expand(shape), posterior.scale[:, None].expand(shape)).sample(
            self.generator
        )
        fixed = embedding.detach()
        with torch.no_grad(), self._precision():
            policy = agent.policy_at(next_observation, fixed, batch.next_prior)
            next_value = agent.value(agent.target_critic, next_observation, policy.sample(self.generator), fixed)
            target = td_target(
                batch.reward,
                batch.terminated,
                next_value,
                kl(policy, batch.next_prior),
                alpha,
                config.discount,
                config.kl_clip,
            )
        with self._precision():
            value = agent.value(agent.critic, observation, batch.latent, embedding)
        loss_critic = critic_loss(value, target)
        divergence = embedding_kl(posterior)
        weight = torch.cat(
            (
                self.multipliers["embedding_prior"]().expand(few),
                self.multipliers["embedding_posterior"]()[task[few:]],
            )
        )
        loss = loss_critic + (weight.detach() * divergence).mean()
        loss_reward = loss.new_zeros(())
        if config.reward_prediction > 0.0:
            share = self.pool.reward_share(batch.reward)
            loss_reward = reward_prediction_loss(agent.predict_reward(embedding, next_observation), share)
            loss = loss + config.reward_prediction * loss_reward
        self._step("critic", loss, [*self._critic, *self._encoder])
        soft_update(self._target, self._critic, config.target_rate)

        metrics = {
            "loss_critic": loss_critic.detach(),
            "loss_reward": loss_reward.detach(),
            "embedding_kl_prior": divergence[:few].detach().mean(),
            "embedding_kl_posterior": divergence[few:].detach().mean(),
        }
        loss_multiplier = multiplier_loss(
            self.multipliers["embedding_prior"](), divergence[:few], config.embedding_kl_prior[1]
        ) + multiplier_loss(
            self.multipliers["embedding_posterior"]()[task[few:]], divergence[few:], config.embedding_kl_posterior[1]
        )

        # Policy: its gradient reaches neither the encoder nor the critics' weights.
        if self.updates % config.policy_every == 0:
            with self._precision():
                policy = agent.policy_at(observation, fixed, batch.prior)
                prior_kl = kl(policy, batch.prior)
                value = agent.value(agent.critic, observation, policy.sample(self.generator), fixed)
            self._step("policy", policy_loss(value, prior_kl, alpha), self._policy)
            loss_multiplier = (
                loss_multiplier
                + multiplier_loss(self.multipliers["policy_prior"](), prior_kl[:few], config.policy_kl_prior[1])
                + multiplier_loss(self.multipliers["policy_posterior"](), prior_kl[few:], config.policy_kl_posterior[1])
            )
            metrics |= {
                "value": value.detach().mean(),
                "policy_kl_prior": prior_kl[:few].detach().mean(),
                "policy_kl_posterior": prior_kl[few:].detach().mean(),
                "alpha_prior": alpha[0, 0],
                "alpha_posterior": alpha[-1, 0],
            }
        self._step("multiplier", loss_multiplier, self._multipliers)
        self.updates += 1
        return metrics

    def _precision(self) -> torch.autocast:
        return update_precision(self.device, self.config.bfloat16)

    def _step(self, name: str, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        if name == "multiplier" and self.config.only_increase:
            for parameter in parameters:
                only_increase(parameter)
        self.optimisers[name].step()

    @property
    def multiplier(self) -> float:
        """Of the KL to the skill prior where much was seen; fine-tuning starts with it."""
        return float(self.multipliers["policy_posterior"]().detach())

    def agent(
        self, deployment: DeploymentConfig | None = None, *, greedy: bool = False, seed: int = 0
    ) -> SimplAdaptiveAgent:
        """An agent as meta-trained so far; see `SimplAdaptiveAgent`.

        Raises:
            ConfigError: The search is directed, and the reward head was not trained.
        """
        config = DeploymentConfig() if deployment is None else deployment
        config.require_reward_head(self.config)
        return SimplAdaptiveAgent(self.networks, config, multiplier=self.multiplier, greedy=greedy, seed=seed)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        pool, place = self.pool.state()
        kept = join_parts(agent=self.networks.state_dict(), multiplier=self.multipliers.state_dict())
        return kept | join_parts(pool=pool), {"pool": place, "updates": self.updates}

    def load_kept(self, tensors: dict[str, Tensor]) -> None:
        """Takes networks and multipliers of a state, all that agents are made of; not enough to train on.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        with refuse_parts("meta-trained SiMPL", "train it again"):
            self._load_kept(tensors)

    def _load_kept(self, tensors: dict[str, Tensor]) -> None:
        self.networks.load_state_dict(named_part(tensors, "agent."))
        self.multipliers.load_state_dict(named_part(tensors, "multiplier."))

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self._load_kept(tensors)
        self.pool.load_state(named_part(tensors, "pool."), facts["pool"])
        self.updates = facts["updates"]
