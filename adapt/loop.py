"""The few-episode adaptation loop, as a generator of one round of episodes at a time.

Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3: explore with a random task embedding,
infer the embedding from what was seen, then fine-tune policy and critics with it by KL-constrained SAC. Departures,
each a field of `AdaptConfig`: later exploration episodes may use what earlier ones found, and the explored episodes are
also learned from.

N tasks are adapted side by side, one row of the robot each, without influencing each other. One row is the case of a
real robot. A state taken between two rounds resumes exactly.

Axes: N tasks, R rows, C context, E task embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConfigError, RunError
from ..meta.agent import SimplAgent
from ..meta.collect import Episodes, collect
from ..meta.context import context_of
from ..meta.finetune import FinetuneConfig, Finetuner, named_part
from ..robots.robot import RobotBatch
from ..robots.task import Task, goals_of
from ..skills.gaussian import Gaussian

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptConfig:
    """Budgets and settings of the adaptation loop."""

    episodes: int = 100
    """Episodes per task in all, exploration included."""
    exploration_episodes: int = 20
    """Episodes before the task embedding is inferred (published)."""
    blind: bool = False
    """Explore with e ~ N(0, I) only (published: True); False lets later episodes draw e ~ q(e | what was seen)."""
    context: int = 256
    """Transitions of the context (published: all)."""
    learn_from_exploration: bool = True
    """The explored episodes are also learned from (published: False)."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def __post_init__(self) -> None:
        """Refuses impossible budgets.

        Raises:
            ConfigError: Naming the field.
        """
        if self.exploration_episodes < 1 or self.episodes < self.exploration_episodes:
            raise ConfigError(
                f"AdaptConfig: expected 1 <= exploration_episodes <= episodes, got {self.exploration_episodes} and "
                f"{self.episodes}; raise --episodes or lower --exploration-episodes"
            )
        if self.context < self.exploration_episodes:
            raise ConfigError(
                f"AdaptConfig.context: expected at least one transition per exploration episode "
                f"({self.exploration_episodes}), got {self.context}; raise it"
            )


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
        self.finetuner: Finetuner | None = None

    def run(self) -> Iterator[list[Record]]:
        """Runs to `config.episodes`, yielding one record per task for every round of episodes."""
        while self.episode < self.config.episodes:
            yield self.explore_round() if self.finetuner is None else self.finetune_round()

    def explore_round(self) -> list[Record]:
        """One episode per task with a random embedding; after the last one the embedding is inferred."""
        config = self.config
        embedding = torch.randn(
            (len(self.tasks), self.agent.embedding_dim), generator=self.generator, device=self.device
        )
        if self.explored and not config.blind:
            posterior = self.infer()
            embedding = posterior.loc + posterior.scale * embedding
        episodes = self._run(self.goals, embedding, self.rng, self.generator)
        self.explored.append(episodes)
        self.episode += 1
        if self.episode == config.exploration_episodes:
            self.finetuner = self._make_finetuner(self.infer().loc)
        return self._records("explore", episodes, 0)

    def infer(self) -> Gaussian:
        """q(e | all episodes so far), each (N, E)."""
        with torch.no_grad():
            return self.agent.encode(context_of(self.explored, self.config.context, self.generator))

    def finetune_round(self) -> list[Record]:
        """One episode per task with the current policies, then their updates."""
        tuner = self._require_finetuner()
        episodes = self._run_tuned(self.goals, np.arange(len(self.tasks)), self.rng, self.generator, greedy=False)
        tuner.add(episodes)
        updates = tuner.updates_due(int(episodes.length.sum()))
        for _ in range(updates):
            tuner.update()
        self.episode += 1
        return self._records("finetune", episodes, updates)

    def evaluate(self, repeats: int, *, greedy: bool) -> NDArray[np.float32]:
        """Success of `repeats` extra episodes per task with the policies as they stand, shape (N, repeats).

        For simulators: the loop itself is not disturbed, its random state included. Before the first episode the
        embedding is random; during exploration it is inferred from the episodes so far.
        """
        tag = np.random.SeedSequence([self.seed, self.episode, int(greedy)])
        rng = np.random.default_rng(tag)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        which = np.repeat(np.arange(len(self.tasks)), repeats)
        results = []
        for chunk in np.array_split(which, -(-len(which) // self.robot.rows)):
            if self.finetuner is None:
                embedding = torch.randn((len(chunk), self.agent.embedding_dim), generator=generator, device=self.device)
                if self.explored:
                    with torch.no_grad():
                        context = context_of(self.explored, self.config.context, generator)
                        embedding = self.agent.encode(context).loc[torch.from_numpy(chunk).to(self.device)]
                episodes = self._run(self.goals[chunk], embedding, rng, generator, greedy=greedy)
            else:
                episodes = self._run_tuned(self.goals[chunk], chunk, rng, generator, greedy=greedy)
            results.append(_succeeded(episodes))
        return np.concatenate(results).reshape(len(self.tasks), repeats)

    def _run(
        self,
        goals: NDArray[np.float32],
        embedding: Tensor,
        rng: np.random.Generator,
        generator: torch.Generator,
        *,
        greedy: bool = False,
    ) -> Episodes:
        def choose(observation: Tensor, prior: Gaussian, rows: NDArray[np.int64]) -> Tensor:
            return self.agent.act(observation, prior, embedding[torch.from_numpy(rows)], generator, greedy)

        return collect(self.robot, self.agent.space, choose, goals, rng, device=self.device)

    def _run_tuned(
        self,
        goals: NDArray[np.float32],
        which: NDArray[np.int64],
        rng: np.random.Generator,
        generator: torch.Generator,
        *,
        greedy: bool,
    ) -> Episodes:
        tuner = self._require_finetuner()
        policy_of_row = torch.from_numpy(which).to(self.device)

        def choose(observation: Tensor, prior: Gaussian, rows: NDArray[np.int64]) -> Tensor:
            return tuner.act(observation, prior, policy_of_row[torch.from_numpy(rows)], generator, greedy)

        return collect(self.robot, self.agent.space, choose, goals, rng, device=self.device)

    def _make_finetuner(self, embedding: Tensor) -> Finetuner:
        agent = self.agent
        decisions = -(-self.robot.spec.episode_steps // agent.space.horizon)
        hidden = tuple(int(bias.shape[-1]) for bias in agent.critic.biases[:-1])
        tuner = Finetuner(
            agent.space,
            self.robot.spec.observation.shape[0],
            decisions,
            embedding,
            hidden,
            self.config.finetune,
            self.seed,
        )
        policy = [(layer.weight.T, layer.bias) for layer in agent.policy.layers if isinstance(layer, nn.Linear)]
        critic = [(w, b[:, 0]) for w, b in zip(agent.critic.weights, agent.critic.biases, strict=True)]
        tuner.start_from(policy, critic, self.alpha)
        if self.config.learn_from_exploration:
            for episodes in self.explored:
                tuner.add(episodes)
        return tuner

    def _require_finetuner(self) -> Finetuner:
        assert self.finetuner is not None, "exploration ends before fine-tuning begins"
        return self.finetuner

    def _records(self, stage: str, episodes: Episodes, updates: int) -> list[Record]:
        succeeded = _succeeded(episodes)
        return [
            {
                "stage": stage,
                "episode": self.episode,
                "task": task.name,
                "goal": list(task.goal),
                "success": bool(succeeded[row]),
                "return": float(episodes.reward[row].sum()),
                "steps": int(episodes.steps[row]),
                "updates": updates,
            }
            for row, task in enumerate(self.tasks)
        ]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next round depends on."""
        tensors = {"generator": self.generator.get_state()}
        for index, episodes in enumerate(self.explored):
            tensors |= {f"explored.{index}.{name}": value for name, value in _flatten(episodes).items()}
        facts: dict[str, Any] = {
            "episode": self.episode,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
            "tasks": [task.goal for task in self.tasks],
        }
        if self.finetuner is not None:
            inner, facts["finetune"] = self.finetuner.state()
            tensors |= {f"finetune.{name}": value for name, value in inner.items()}
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
            self.rng.bit_generator.state = facts["rng"]
            self.episode = facts["episode"]
            rounds = min(self.episode, self.config.exploration_episodes)
            self.explored = [_unflatten(named_part(tensors, f"explored.{index}.")) for index in range(rounds)]
            if "finetune" in facts:
                self.finetuner = self._make_finetuner(tensors["finetune.module.embedding"])
                self.finetuner.load_state(named_part(tensors, "finetune."), facts["finetune"])
        except (KeyError, RuntimeError) as error:
            raise RunError(f"adaptation checkpoint: expected a whole state, got {error}; start again") from error


def _succeeded(episodes: Episodes) -> NDArray[np.float32]:
    return (episodes.reward.sum(1) > 0.0).float().cpu().numpy()


def _flatten(episodes: Episodes) -> dict[str, Tensor]:
    """An episode's tensors without the low-level path, which adaptation does not use."""
    fields = episodes._asdict()
    prior = fields.pop("prior")
    del fields["path"]
    return fields | {"prior_loc": prior.loc, "prior_scale": prior.scale}


def _unflatten(tensors: dict[str, Tensor]) -> Episodes:
    prior = Gaussian(tensors.pop("prior_loc"), tensors.pop("prior_scale"))
    return Episodes(prior=prior, path=tensors["observation"].new_zeros(0), **tensors)
