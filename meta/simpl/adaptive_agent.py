"""SiMPL in a new task: it explores, infers the task from what it saw, and fine-tunes a policy of the task's own.

Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3. While a row explores,
each episode has an embedding e of its own, see `DeploymentConfig.search`. After the exploration episodes the embedding
of a task that is known is the mean of q(e | c), for ever, and policy and critics learn from every episode by
KL-constrained SAC. All of it happens while episodes are observed; `adapt` has nothing to do.

Departures, each a field of `DeploymentConfig`: the directed search, which goes on until a task is known, and learning
from the explored episodes too.

Axes: R rows, each a task of its own, r rows still running, O observation, Z latent, E task embedding, C candidates, V
visited states.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes, Seen, reward_range_of
from ..distribution import Categorical, sample
from ..row_agent import RowAgent
from ..state import episodes_tensors, join_parts, load_episodes, named_part
from .agent import SimplAgent
from .context import context_of
from .deployment import DeploymentConfig
from .finetune import Finetuner
from .task_tuners import TaskTuners

AT_ONCE = 256
"""Visited states that all candidates are judged by in one pass of the reward head, which bounds the memory."""


class SimplAdaptiveAgent(RowAgent):
    """Acts in R rows; each row explores, infers and learns for itself. Fine-tuning draws from generators of its own."""

    name = "SiMPL agent"

    def __init__(
        self,
        agent: SimplAgent,
        config: DeploymentConfig,
        *,
        multiplier: float | None = None,
        greedy: bool = False,
        seed: int = 0,
    ) -> None:
        """Copies the weights.

        Args:
            agent: Meta-trained, with its action space.
            config: How it explores and learns.
            multiplier: KL multiplier at the end of meta-training, with which fine-tuning starts; None takes that of
                `config.finetune`.
            greedy: Act by the mean of the policy; e is drawn all the same.
            seed: Seed of exploration, contexts and fine-tuning.
        """
        self._agent = copy.deepcopy(agent).requires_grad_(False)
        generator = torch.Generator(next(self._agent.parameters()).device).manual_seed(seed)
        super().__init__(agent.space, generator, greedy=greedy)
        self._config = config
        first = config.finetune.multiplier if multiplier is None else multiplier
        critic = self._agent.critic

        def start(tuner: Finetuner) -> None:
            tuner.start_from(self._agent.policy, critic, first)

        hidden = tuple(int(bias.shape[-1]) for bias in list(critic.biases)[:-1])
        self._tuners = TaskTuners(
            agent.space,
            self._agent.observation_dim,
            hidden,
            config.finetune,
            critic_norm=critic.norm,
            start=start,
            seed=seed,
        )
        self._begin(0)

    @property
    def embedding(self) -> Tensor:
        """By which each row acts or learns, (R, E)."""
        return self._embedding

    @property
    def tuners(self) -> list[Finetuner | None]:
        """The policy and critics of each row, once it has its own."""
        return self._tuners.tuners

    @property
    def known(self) -> NDArray[np.bool_]:
        """Tasks whose rewards differ from each other, (R,)."""
        known: NDArray[np.bool_] = (self._reward_range[:, 1] > self._reward_range[:, 0]).cpu().numpy()
        return known

    def _begin(self, tasks: int) -> None:
        self._embedding = torch.zeros(tasks, self._agent.embedding_dim, device=self.device)
        self._reward_range = torch.tensor([(torch.inf, -torch.inf)] * tasks, device=self.device).view(tasks, 2)
        self._visited = torch.zeros((tasks, 0, self._agent.observation_dim), device=self.device)
        self._explored: list[Episodes] = []
        self._episodes = 0
        self._tuners.begin_task(tasks)

    def begin_episode(self) -> None:
        """Draws the embeddings of rows that explore; inferred ones stay."""
        searching = torch.tensor([tuner is None for tuner in self.tuners], device=self.device)
        if bool(searching.any()):
            self._embedding = torch.where(searching[:, None], self._draw_embedding(), self._embedding)

    def _draw_embedding(self) -> Tensor:
        """Embeddings to explore by, (R, E)."""
        drawn = torch.randn(self._embedding.shape, generator=self.generator, device=self.device)
        if self._config.search == "blind" or not self._explored:
            return drawn
        posterior = self._infer()
        wider = self._config.wider if self._episodes >= self._config.exploration_episodes else 1.0
        unknown = self._draw_unsearched() if self._episodes % 2 else wider * drawn
        known = torch.from_numpy(self.known).to(self.device)[:, None]
        return torch.where(known, posterior.loc + posterior.scale * drawn, unknown)

    @torch.no_grad()
    def _infer(self) -> Gaussian:
        """q(e | the last exploring episodes), each (R, E)."""
        return self._agent.encode(context_of(self._explored, self._config.context, self.generator))

    @torch.no_grad()
    def _draw_unsearched(self) -> Tensor:
        """Embeddings, (R, E), of N(0, I) resampled by the likelihood that no visited state was rewarded.

        Tasks that are known are not searched for, and get plain draws.
        """
        rows, agent, config = len(self._embedding), self._agent, self._config
        shape = (config.candidates, agent.embedding_dim)
        candidate = torch.randn(shape, generator=self.generator, device=self.device)
        states = agent.space.normalise(self._visited)
        likelihood = candidate.new_zeros(rows, config.candidates)
        for row in np.flatnonzero(~self.known):
            for part in torch.split(states[row], AT_ONCE):
                pairs = (config.candidates, len(part), -1)
                logit = agent.predict_reward(candidate[:, None].expand(pairs), part.expand(pairs))
                likelihood[row] += torch.nn.functional.logsigmoid(-logit).sum(1)
        logits = Categorical(config.evidence / max(states.shape[1], 1) * likelihood)
        return candidate[sample(logits, self.generator)[:, 0].long()]

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        rows = torch.from_numpy(seen.rows).to(self.device)
        normalised = self._agent.space.normalise(seen.observation)
        policy = self._tuners.policy_at(seen, self._agent.policy_at(normalised, self._embedding[rows], seen.prior))
        return policy.loc if self._greedy else policy.sample(self.generator)

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes of rows that explore, learns from all others, and infers tasks that are ready."""
        config, found = self._config, reward_range_of(episodes)
        low, high = self._reward_range.unbind(1)
        self._reward_range = torch.stack((torch.minimum(low, found[:, 0]), torch.maximum(high, found[:, 1])), dim=1)
        self._episodes += 1
        if None in self.tuners:
            kept = episodes._replace(path=episodes.observation.new_zeros(len(low), 0), reward_range=None, success=None)
            self._explored = [*self._explored, kept][-config.exploration_episodes :]
            if config.search == "directed":
                states = context_of([kept], config.visited, self.generator).next_observation
                self._visited = torch.cat((self._visited, states), dim=1)
        self._tuners.observe(episodes)
        ready = [row for row, tuner in enumerate(self.tuners) if tuner is None and self._is_ready(row)]
        if ready:
            self._embedding = self._embedding.clone()
            inferred, seen = self._infer().loc, self._explored if config.learn_from_exploration else []
            for row in ready:
                self._embedding[row] = inferred[row]
                self._tuners.begin(row, inferred[row], episodes.latent.shape[1], seen)

    def _is_ready(self, row: int) -> bool:
        enough = self._episodes >= self._config.exploration_episodes
        return enough and (bool(self.known[row]) or not self._config.keep_searching)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tuners, of_tuners = self._tuners.state()
        explored = episodes_tensors(self._explored)
        tensors = join_parts(agent=self._agent.state_dict(), explored=explored, tuner=tuners)
        found = {"embedding": self._embedding, "reward_range": self._reward_range, "visited": self._visited}
        return tensors | found, {"explored": len(self._explored), "episodes": self._episodes, "tuners": of_tuners}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self._agent.load_state_dict(named_part(tensors, "agent."))
        moved = {name: value.to(self.device) for name, value in tensors.items() if name != "generator"}
        embedding = moved["embedding"].clone().view(-1, self._agent.embedding_dim)
        reward_range, visited = moved["reward_range"].clone(), moved["visited"]
        explored = load_episodes(named_part(moved, "explored."), facts["explored"])
        episodes = int(facts["episodes"])
        self._tuners.load_state(named_part(tensors, "tuner."), facts["tuners"])
        self._embedding, self._reward_range, self._visited = embedding, reward_range, visited
        self._explored, self._episodes = explored, episodes
