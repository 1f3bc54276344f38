"""The few-episode adaptation loop, as a generator of one round of episodes at a time.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3: explore with a random task embedding,
infer the embedding from what was seen, then fine-tune policy and critics with it by KL-constrained SAC. Departures,
each a field of `AdaptConfig`: later exploration episodes may use what earlier ones found, and the explored episodes are
also learned from.

N tasks are adapted side by side, one row of the robot each; each learns from its own episodes only. One row is the case
of a real robot. A state taken between two rounds resumes exactly.

Axes: N tasks, R rows, C context, E task embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import RunError
from ..meta.collect import Episodes, Seen, collect
from ..meta.simpl.agent import SimplAgent
from ..meta.simpl.context import context_of
from ..meta.simpl.finetune import Finetuner
from ..meta.space import ActionSpace, RawSpace
from ..meta.state import named_part
from ..robots.robot import RobotBatch
from ..robots.task import Task, goals_of
from ..skills.gaussian import Gaussian
from .config import AdaptConfig

Record = dict[str, Any]

AT_ONCE = 256
"""Visited states that all candidates are judged by in one pass of the reward head, which bounds the memory."""


class Adapter:
    """Adapts one agent to N tasks; see the module's docstring."""

    def __init__(
        self,
        agent: SimplAgent,
        alpha: float,
        robot: RobotBatch,
        tasks: Sequence[Task],
        config: AdaptConfig,
        *,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        """Starts before the first episode.

        Args:
            agent: Meta-trained, frozen.
            alpha: KL multiplier at the end of meta-training.
            robot: At least N rows.
            tasks: What to adapt to.
            config: Budgets.
            seed: Seed of exploration, sampling and resets.
            device: Where the networks live.
        """
        self.agent, self.alpha, self.robot, self.config = agent, alpha, robot, config
        self.tasks, self.goals = tuple(tasks), goals_of(tasks)
        self.device = device or torch.device("cpu")
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.episode = 0
        self.explored: list[Episodes] = []
        self.visited = torch.zeros((len(self.tasks), 0, robot.spec.observation.shape[0]), device=self.device)
        """Where the episodes of a directed search have been, shape (N, V, O); see `AdaptConfig.visited`."""
        self.rewarded = np.zeros(len(self.tasks), np.bool_)
        """Tasks that were rewarded at least once, shape (N,)."""
        self.space = self._choose_space()
        self.finetuners: list[Finetuner | None] = [None] * len(self.tasks)
        if config.method != "simpl":
            nothing = torch.zeros(0, device=self.device)
            self.finetuners = [self._make_finetuner(index, nothing) for index in range(len(self.tasks))]

    def run(self) -> Iterator[list[Record]]:
        """Runs to `config.episodes`, yielding one record per task for every round of episodes."""
        while self.episode < self.config.episodes:
            yield self.round()

    def round(self) -> list[Record]:
        """One episode per task: exploring, or with the task's own policy, which then learns from it."""
        config = self.config
        tuned = np.array([tuner is not None for tuner in self.finetuners])
        everyone = np.arange(len(self.tasks))
        embedding = self._exploration() if not tuned.all() else None
        episodes = self._run(self.goals, everyone, embedding, self.rng, self.generator)
        self.episode += 1
        self.rewarded |= _succeeded(episodes) > 0
        if not tuned.all():
            self.explored = [*self.explored, episodes][-config.exploration_episodes :]
            if config.search == "directed":
                states = context_of([episodes], config.visited, self.generator).next_observation
                self.visited = torch.cat([self.visited, states], 1)
        updates = [0] * len(self.tasks)
        for index, tuner in enumerate(self.finetuners):
            if tuner is not None:
                updates[index] = tuner.updates_due(tuner.add(_row(episodes, index)))
                for _ in range(updates[index]):
                    tuner.update()
        if self.episode >= config.exploration_episodes and not tuned.all():
            self._begin_finetuning()
        return self._records(tuned, episodes, updates)

    def _choose_space(self) -> ActionSpace:
        if self.config.method != "sac":
            return self.agent.space
        # The skill space's scale of observations, x -> (x - mean) / std, read off two points.
        zero = torch.zeros(self.robot.spec.observation.shape, device=self.device)
        at_zero = self.agent.space.normalise(zero)
        std = 1.0 / (self.agent.space.normalise(zero + 1.0) - at_zero)
        return RawSpace(self.robot.spec, -at_zero * std, std)

    def infer(self, generator: torch.Generator) -> Gaussian:
        """q(e | the last exploring episodes), each (N, E)."""
        with torch.no_grad():
            return self.agent.encode(context_of(self.explored, self.config.context, generator))

    def _exploration(self) -> Tensor:
        """Embeddings of this round's exploring episodes, shape (N, E)."""
        embedding = torch.randn(
            (len(self.tasks), self.agent.embedding_dim), generator=self.generator, device=self.device
        )
        if self.config.search == "blind" or not self.explored:
            return embedding
        posterior = self.infer(self.generator)
        known = torch.from_numpy(self.rewarded).to(self.device)[:, None]
        wider = self.config.wider if self.episode >= self.config.exploration_episodes else 1.0
        unknown = self._unsearched() if self.episode % 2 else wider * embedding
        return torch.where(known, posterior.loc + posterior.scale * embedding, unknown)

    @torch.no_grad()
    def _unsearched(self) -> Tensor:
        """Embeddings, (N, E), of N(0, I) resampled by the likelihood that no visited state was rewarded.

        Those of tasks that were rewarded are not searched for, and plain draws.
        """
        count, agent, generator = self.config.candidates, self.agent, self.generator
        candidate = torch.randn((count, agent.embedding_dim), generator=generator, device=self.device)
        chosen = torch.randn((len(self.tasks), agent.embedding_dim), generator=generator, device=self.device)
        states = agent.space.normalise(self.visited)
        for row in np.flatnonzero(~self.rewarded):
            likelihood = candidate.new_zeros(count)
            for part in torch.split(states[row], AT_ONCE):
                shape = (count, len(part), -1)
                logit = agent.predict_reward(candidate[:, None].expand(shape), part.expand(shape))
                likelihood += torch.nn.functional.logsigmoid(-logit).sum(1)
            weight = (self.config.evidence / states.shape[1] * likelihood).softmax(0)
            chosen[row] = candidate[torch.multinomial(weight, 1, generator=generator)[0]]
        return chosen

    def _begin_finetuning(self) -> None:
        """Fixes the embedding of each task that is ready, and gives it a policy of its own."""
        ready = [
            index
            for index, tuner in enumerate(self.finetuners)
            if tuner is None and (self.rewarded[index] or not self.config.keep_searching)
        ]
        if ready:
            embedding = self.infer(self.generator).loc
            for index in ready:
                self.finetuners[index] = self._make_finetuner(index, embedding[index])

    def _make_finetuner(self, index: int, embedding: Tensor) -> Finetuner:
        agent = self.agent
        tuner = Finetuner(
            self.space,
            self.robot.spec.observation.shape[0],
            -(-self.robot.spec.episode_steps // self.space.horizon),
            embedding,
            tuple(int(bias.shape[-1]) for bias in list(agent.critic.biases)[:-1]),
            self.config.finetune,
            self.seed + index,
        )
        if self.config.method == "simpl":
            tuner.start_from(agent.policy, agent.critic, self.alpha)
        if self.config.learn_from_exploration:
            for episodes in self.explored:
                tuner.add(_row(episodes, index))
        return tuner

    def evaluate(self, repeats: int, *, greedy: bool) -> NDArray[np.float32]:
        """Success of `repeats` extra episodes per task with the policies as they stand, shape (N, repeats).

        For simulators: the loop itself is not disturbed, its random state included. Before the first episode the
        embedding is random; during exploration it is inferred from the episodes so far.
        """
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.episode, int(greedy)]))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        which = np.repeat(np.arange(len(self.tasks)), repeats)
        results = []
        for chunk in np.array_split(which, -(-len(which) // self.robot.rows)):
            embedding: Tensor | None = None
            if None in self.finetuners:
                embedding = torch.randn((len(chunk), self.agent.embedding_dim), generator=generator, device=self.device)
            if embedding is not None and self.explored:
                embedding = self.infer(generator).loc[torch.from_numpy(chunk).to(self.device)]
            episodes = self._run(self.goals[chunk], chunk, embedding, rng, generator, greedy=greedy)
            results.append(_succeeded(episodes))
        return np.concatenate(results).reshape(len(self.tasks), repeats)

    def _run(
        self,
        goals: NDArray[np.float32],
        which: NDArray[np.int64],
        embedding: Tensor | None,
        rng: np.random.Generator,
        generator: torch.Generator,
        *,
        greedy: bool = False,
    ) -> Episodes:
        """One episode per row, with the own policy of task `which`, (R,), or the meta-policy at `embedding`, (R, E).

        The embedding may be None where every task has its own policy.
        """

        def choose(seen: Seen) -> Tensor:
            observation, prior, rows = seen.observation, seen.prior, seen.rows
            task_of_row = which[rows]
            latent = torch.empty_like(prior.loc)
            if embedding is not None:
                latent = self.agent.act(observation, prior, embedding[torch.from_numpy(rows)], generator, greedy)
            for index in np.unique(task_of_row):
                tuner = self.finetuners[index]
                if tuner is not None:
                    own = torch.from_numpy(task_of_row == index).to(self.device)
                    own_prior = Gaussian(prior.loc[own], prior.scale[own])
                    latent[own] = tuner.act(observation[own], own_prior, generator, greedy)
            return latent

        return collect(self.robot, self.space, choose, goals, rng, device=self.device)

    def _records(self, tuned: NDArray[np.bool_], episodes: Episodes, updates: list[int]) -> list[Record]:
        succeeded = _succeeded(episodes)
        return [
            {
                "stage": "finetune" if tuned[row] else "explore",
                "episode": self.episode,
                "task": task.name,
                "goal": list(task.goal),
                "success": bool(succeeded[row]),
                "return": float(episodes.reward[row].sum()),
                "steps": int(episodes.steps[row]),
                "updates": updates[row],
            }
            for row, task in enumerate(self.tasks)
        ]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next round depends on."""
        tensors = {"generator": self.generator.get_state(), "visited": self.visited}
        facts: dict[str, Any] = {
            "episode": self.episode,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
            "tasks": [task.goal for task in self.tasks],
            "rewarded": self.rewarded.tolist(),
            "explored": len(self.explored),
            "finetune": {},
        }
        for index, episodes in enumerate(self.explored):
            tensors |= {f"explored.{index}.{name}": value for name, value in _flatten(episodes).items()}
        for index, tuner in enumerate(self.finetuners):
            if tuner is not None:
                inner, facts["finetune"][str(index)] = tuner.state()
                tensors |= {f"finetune.{index}.{name}": value for name, value in inner.items()}
        return {name: value.detach().contiguous() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other tasks.
        """
        if [tuple(goal) for goal in facts.get("tasks", [])] != [task.goal for task in self.tasks]:
            raise RunError("adaptation checkpoint: expected this run's tasks, got others; start a new run folder")
        try:
            self.generator.set_state(tensors["generator"].cpu())
            self.visited = tensors["visited"].to(self.device)
            self.rng.bit_generator.state = facts["rng"]
            self.episode = facts["episode"]
            self.rewarded = np.array(facts["rewarded"], np.bool_)
            self.explored = [
                _unflatten(named_part(tensors, f"explored.{index}.")) for index in range(facts["explored"])
            ]
            self.finetuners = [None] * len(self.tasks)
            for index, inner in facts["finetune"].items():
                part = named_part(tensors, f"finetune.{index}.")
                tuner = self._make_finetuner(int(index), part["module.embedding"])
                tuner.load_state(part, inner)
                self.finetuners[int(index)] = tuner
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"adaptation checkpoint: expected a whole state, got {error}; start again") from error


def _succeeded(episodes: Episodes) -> NDArray[np.float32]:
    return (episodes.reward.sum(1) > 0.0).float().cpu().numpy()


def _row(episodes: Episodes, index: int) -> Episodes:
    """The episode of one row, as a batch of one."""
    return _unflatten({name: value[index : index + 1] for name, value in _flatten(episodes).items()})


def _flatten(episodes: Episodes) -> dict[str, Tensor]:
    """An episode's tensors without the low-level path, which adaptation does not use."""
    tensors = episodes._asdict()
    prior = tensors.pop("prior")
    del tensors["path"]
    tensors = {name: value for name, value in tensors.items() if value is not None}
    return tensors | {"prior_loc": prior.loc, "prior_scale": prior.scale}


def _unflatten(tensors: dict[str, Tensor]) -> Episodes:
    prior = Gaussian(tensors.pop("prior_loc"), tensors.pop("prior_scale"))
    return Episodes(prior=prior, path=tensors["observation"].new_zeros(0), **tensors)
