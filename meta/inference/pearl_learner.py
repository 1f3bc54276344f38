"""The PEARL learner: owns the networks, the optimisers, both replay buffers and every random generator.

Rakelly et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019,
Algorithm 1. Visited tasks are collected in by agents as they act at test time: each row begins with z from the prior,
then draws z from the belief that its own episodes led to. All transitions go to the replay buffer of the task. Its
context buffer is emptied at the begin of a visit and gets the episodes with z from the prior: context is drawn from a
policy that does not know the task, as it is at test time, while SAC learns from everything.

Where gradients go: the critic's loss and the KL train the encoder; neither the policy's loss nor targets do.

Axes: N train tasks, V visited tasks, R = V x rollouts rows, M tasks of an update, B transitions, C context, G goal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError
from ...robots.robot import RobotBatch
from ..baselines.config import TaskSacConfig
from ..baselines.sac import sac_critic_loss, sac_policy_loss
from ..baselines.sac_networks import SacNetworks
from ..collect import Episodes
from ..config import Trial
from ..distribution import Distribution
from ..iterative import IterativeLearner, running_means
from ..policy import Params
from ..replay import TaskReplay, steps_of
from ..simpl.simpl import soft_update
from ..space import ActionSpace
from ..state import join_parts, named_part
from .config import PearlConfig
from .pearl import encoder_kl
from .pearl_agent import PearlAgent, PearlNetworks
from .pearl_finetune import FineTunedPearlAgent

Float = NDArray[np.float32]
ShapedReward = Callable[[Float, Float], Float]
"""(observations (..., O), goals (N, G)) -> what each task pays for reaching them, (..., N)."""


class PearlLearner(IterativeLearner[PearlConfig, None]):
    """Meta-trains a PEARL agent on the train tasks of one robot.

    The first iteration visits all train tasks. `return_prior` is the mean return of episodes with z from the prior,
    `return_last` that of the last episode of a visit.
    """

    name = "PEARL"

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: Float,
        config: PearlConfig,
        *,
        shaped_reward: ShapedReward | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """See `IterativeLearner`.

        `shaped_reward` is what SAC learns from in place of the robot's reward, which contexts keep: a dense reward that
        only meta-training has (published, where the reward is sparse). The `compute_reward` of a robot that differs in
        its reward alone gives it.
        """
        self.shaped_reward = shaped_reward
        super().__init__(space, robot, goals, config, seed=seed, device=device)

    def _build(self, source: torch.Generator) -> None:
        config, space, robot, goals = self.config, self.space, self.robot, self.goals
        self._decisions = -(-robot.spec.episode_steps // space.horizon)
        in_context = config.prior_episodes + config.posterior_episodes * config.posterior_in_context
        visit = config.rollouts * self._decisions * (config.prior_episodes + config.posterior_episodes)
        if robot.rows < config.tasks * config.rollouts or config.replay < visit:
            raise ConfigError(
                f"PEARL: expected {config.tasks * config.rollouts} robot rows for tasks x rollouts, and room for a "
                f"visit of {visit} transitions, got {robot.rows} rows and PearlConfig.replay {config.replay}; raise "
                "them or lower rollouts"
            )
        dim = robot.spec.observation.shape[0]
        sac = SacNetworks(space, dim, config.sac.hidden, source, embedding_dim=config.embedding_dim)
        self.sac = sac.to(self.device)
        self.networks = PearlNetworks(space, dim, config, self.sac.policy, source).to(self.device)
        self._anchor = copy.deepcopy(self.sac.policy).requires_grad_(False) if config.anchored else None
        self._policy = list(self.sac.policy.parameters())
        self._critic, self._target = list(self.sac.critic.parameters()), list(self.sac.target.parameters())
        self._inferring = [*self._critic, *self.networks.encoder.parameters()]
        self.optimisers = {
            "critic": torch.optim.Adam(self._inferring, lr=config.sac.learning_rate, fused=True),
            "policy": torch.optim.Adam(self._policy, lr=config.sac.learning_rate, fused=True),
        }
        width = self.sac.code.width
        self.replay = TaskReplay(len(goals), config.replay, dim, width, self.device)
        self.contexts = TaskReplay(len(goals), config.rollouts * self._decisions * in_context, dim, width, self.device)

    def start_from(self, params: Params) -> None:
        """Begins with this policy, and stays close to it where `anchored`."""
        with torch.no_grad():
            for name, value in self.sac.policy.named_parameters():
                value.copy_(params[name])
        if self._anchor is not None:
            self._anchor.load_state_dict(self.sac.policy.state_dict())

    def _first_policy(self, observation: Tensor, embedding: Tensor) -> Distribution:
        assert self._anchor is not None
        return self.sac.code.distribution(self._anchor(torch.cat((observation, embedding), dim=-1)))

    def _collect(self) -> tuple[None, dict[str, float]]:
        """Visits tasks drawn anew; all of them, in groups, before the first update."""
        config, count = self.config, len(self.goals)
        if self.iteration == 0:
            groups: Sequence[NDArray[np.int64]] = [
                np.arange(start, min(start + config.tasks, count)) for start in range(0, count, config.tasks)
            ]
        else:
            groups = [self.rng.permutation(count)[: config.tasks]]
        returns = np.concatenate([self._visit(group) for group in groups])
        return None, {
            "return_prior": float(returns[:, : config.prior_episodes].mean()),
            "return_last": float(returns[:, -1].mean()),
        }

    def _visit(self, tasks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Collects in the tasks (V,); returns of the episodes, shape (R, episodes)."""
        config = self.config
        owner = torch.from_numpy(tasks.repeat(config.rollouts)).to(self.device)
        self.contexts.clear(owner)
        actor = PearlAgent(self.networks, self.space, self.generator, prior_episodes=config.prior_episodes)
        trial = Trial(episodes=config.prior_episodes + config.posterior_episodes)
        rounds = self.play_trials(actor, self.goals[owner.cpu().numpy()], trial)
        for index, episodes in enumerate(rounds):
            steps, valid = steps_of(episodes, self.space)
            if index < config.prior_episodes or config.posterior_in_context:
                self.contexts.add(owner, steps, valid)
            if self.shaped_reward is not None:
                steps = steps._replace(reward=self._shape(episodes, self.goals[tasks]))
            self.replay.add(owner, steps, valid)
        return np.stack([episodes.reward.double().sum(1).cpu().numpy() for episodes in rounds], axis=1)

    def _shape(self, episodes: Episodes, goals: Float) -> Tensor:
        """The shaped reward of each decision in the row's own task, summed over its low-level steps, (R, K)."""
        assert self.shaped_reward is not None
        path = episodes.path.cpu().numpy()
        everyone = self.shaped_reward(path, goals)
        own = np.arange(len(path)) // self.config.rollouts
        reward = torch.from_numpy(everyone[np.arange(len(path)), :, own]).to(self.device)
        taken = torch.arange(reward.shape[1], device=self.device) < episodes.steps[:, None]
        counted = torch.where(taken, reward, torch.zeros_like(reward))
        return counted.view(len(path), self._decisions, -1).sum(2)

    def _learn(self, batch: None) -> dict[str, float]:
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = self.config.sac.learning_rate * (self.left if self.config.anneal else 1.0)
        return running_means(self.update() for _ in range(self.config.updates))

    def update(self) -> dict[str, Tensor]:
        """One step of critics and encoder, then one of the policy; metrics are scalars on the device."""
        config = self.config
        task = torch.randint(len(self.goals), (config.batch_tasks,), generator=self.generator, device=self.device)
        posterior = self.networks.infer(self.contexts.sample(task, config.context, self.generator))
        batch = self.replay.sample(task, config.sac.batch, self.generator)
        drawn = posterior.sample(self.generator)[:, None]
        embedding = drawn.expand(-1, config.sac.batch, -1)

        prior = self._first_policy if config.anchored else None
        loss_critic = sac_critic_loss(self.sac, batch, embedding, self.generator, config.sac, prior)
        divergence = encoder_kl(posterior)
        self._step("critic", loss_critic + config.kl_weight * divergence, self._inferring)
        soft_update(self._target, self._critic, config.sac.target_rate)

        loss_policy, policy_kl = sac_policy_loss(
            self.sac, batch.observation, embedding, self.generator, config.sac, prior
        )
        self._step("policy", loss_policy, self._policy)
        return {
            "loss_critic": loss_critic.detach(),
            "loss_policy": loss_policy.detach(),
            "embedding_kl": divergence.detach() / config.batch_tasks,
            "policy_kl": policy_kl,
        }

    def _step(self, name: str, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimisers[name].step()

    def agent(self, *, prior_episodes: int | None = None, greedy: bool = False, seed: int = 0) -> PearlAgent:
        """An agent with the present weights; None takes the prior episodes of the training. See `PearlAgent`."""
        return self._make_agent(prior_episodes, greedy, seed)

    def _make_agent(self, prior_episodes: int | None, greedy: bool, seed: int) -> PearlAgent:
        return PearlAgent(
            copy.deepcopy(self.networks),
            self.space,
            torch.Generator(self.device).manual_seed(seed),
            prior_episodes=self.config.prior_episodes if prior_episodes is None else prior_episodes,
            greedy=greedy,
        )

    def fine_tuned_agent(
        self,
        config: TaskSacConfig,
        *,
        inference_episodes: int,
        prior_episodes: int | None = None,
        greedy: bool = False,
        greedy_tuning: bool = False,
        seed: int = 0,
    ) -> FineTunedPearlAgent:
        """An agent that goes on learning by SAC from the present weights; see `FineTunedPearlAgent`.

        `greedy` acts by the mode while it infers, `greedy_tuning` afterwards.
        """
        return FineTunedPearlAgent(
            self._make_agent(prior_episodes, greedy, seed),
            copy.deepcopy(self.sac),
            self.space,
            self.robot.spec.observation.shape[0],
            config,
            inference_episodes=inference_episodes,
            greedy=greedy_tuning,
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        networks = {"sac": self.sac.state_dict(), "encoder": self.networks.encoder.state_dict()}
        if self._anchor is not None:
            networks["anchor"] = self._anchor.state_dict()
        return join_parts(**networks, replay=self.replay.state(), contexts=self.contexts.state()), {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.sac.load_state_dict(named_part(tensors, "sac."))
        self.networks.encoder.load_state_dict(named_part(tensors, "encoder."))
        if self._anchor is not None:
            self._anchor.load_state_dict(named_part(tensors, "anchor."))
        self.replay.load_state(named_part(tensors, "replay."))
        self.contexts.load_state(named_part(tensors, "contexts."))
