"""Learning each task from scratch by KL-constrained SAC, without meta-training: what SiMPL is compared with.

Over skills this is SPiRL: Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL
2020. Over raw actions it is soft actor-critic (Haarnoja et al., "Soft Actor-Critic", 2018) that stays close to a broad
Gaussian instead of maximising entropy.

Axes: R rows, each a task of its own, r rows still running, Z latent, N train tasks, G goal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes, Seen
from ..rehearsal import Rehearsal
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part
from .config import SpirlConfig
from .finetune import Finetuner
from .task_tuners import TaskTuners


class SpirlAgent(RowAgent):
    """Acts in R rows; each has a policy and critics of its own, and learns from every episode."""

    name = "SPiRL agent"

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        decisions: int,
        config: SpirlConfig,
        *,
        first: dict[str, Tensor] | None = None,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Before the first task.

        Args:
            space: What is chosen; a Gaussian space.
            observation_dim: O.
            decisions: Most decisions in an episode, K.
            config: See `SpirlConfig`.
            first: Weights that every task begins with, as `Finetuner.state_dict` names them; None draws them for each.
            greedy: Act by the mean of the policy.
            seed: Seed of weights, exploration and minibatches.
            device: Where the networks live.
        """
        super().__init__(space, torch.Generator(device).manual_seed(seed), greedy=greedy)
        self._decisions = decisions

        def start(tuner: Finetuner) -> None:
            if first is not None:
                tuner.load_state_dict(first)

        self._tuners = TaskTuners(
            space,
            observation_dim,
            config.hidden,
            config.finetune,
            critic_norm=config.critic_norm,
            start=start,
            seed=seed,
        )

    @property
    def tuners(self) -> list[Finetuner | None]:
        """Policy and critics of each row."""
        return self._tuners.tuners

    def _begin(self, tasks: int) -> None:
        """Fresh networks in each row."""
        self._tuners.begin_task(tasks)
        for row in range(tasks):
            self._tuners.begin(row, torch.zeros(0, device=self.device), self._decisions)

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        policy = self._tuners.policy_at(seen, Gaussian(*seen.prior))
        return policy.loc if self._greedy else policy.sample(self.generator)

    def observe(self, episodes: Episodes) -> None:
        """Learns from the episode of each row."""
        self._tuners.observe(episodes)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = self._tuners.state()
        return join_parts(tuner=tensors), {"tuners": facts}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self._tuners.load_state(named_part(tensors, "tuner."), facts["tuners"])


class SpirlLearner(Rehearsal):
    """Has nothing to meta-train; it rehearses the first train tasks, an episode of each in an iteration."""

    name = "SPiRL"
    config: SpirlConfig

    @property
    def observation_dim(self) -> int:
        """O."""
        return self.robot.spec.observation.shape[0]

    @property
    def decisions(self) -> int:
        """Most decisions in an episode, K."""
        return math.ceil(self.robot.spec.episode_steps / self.space.horizon)

    def _rehearsed(self) -> tuple[SpirlAgent, NDArray[np.float32]]:
        return self.agent(seed=self.seed), self.goals[: self.config.tasks]

    def agent(self, *, greedy: bool = False, seed: int = 0) -> SpirlAgent:
        """An agent that learns from scratch; see `SpirlAgent`."""
        return SpirlAgent(
            self.space,
            self.observation_dim,
            self.decisions,
            self.config,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )
