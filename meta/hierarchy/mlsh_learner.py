"""The MLSH learner: owns masters, sub-policies, their optimisers, and every random generator.

Axes: G groups, E rollouts of a group, R = G E rows, K sub-policies, N train tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..iterative import IterativeLearner
from ..state import join_parts, named_part
from .config import MlshConfig
from .mlsh import first_ages
from .mlsh_actor import HierarchyActor, Played, make_stacks, master_samples, sub_policy_samples
from .mlsh_agent import MlshAgent
from .mlsh_networks import ActorCritics

SCALE_RATE = 0.1
"""Weight of an update's samples in the running mean and variance of returns; the first samples set them."""


class MlshLearner(IterativeLearner[MlshConfig, Played]):
    """Meta-trains sub-policies on the train tasks of one robot.

    `return` is the mean undiscounted return of all groups, `return_fresh` and `return_adapted` those of the groups
    whose masters have been updated least and most often.
    """

    name = "MLSH"
    remedy = "smaller learning rates"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.groups * config.rollouts, "groups x rollouts")
        self.weights = source
        """Source of the first weights of all masters."""
        observation_dim = self.robot.spec.observation.shape[0]
        self.masters, self.sub_policies = make_stacks(self.space, observation_dim, config, config.groups, self.device)
        self.sub_policies.draw(list(range(config.sub_policies)), self.weights)
        self.ages = np.array(first_ages(config))
        self.updates = np.zeros(config.groups, np.int64)
        self.task = np.zeros(config.groups, np.int64)
        self._begin_tasks(list(range(config.groups)))

    def _begin_tasks(self, groups: list[int]) -> None:
        """New tasks for some groups, each with a new master; drawn without replacement as far as the tasks go."""
        rounds = -(-len(groups) // len(self.goals))
        drawn = np.concatenate([self.rng.permutation(len(self.goals)) for _ in range(rounds)])
        self.task[groups] = drawn[: len(groups)]
        self.updates[groups] = 0
        self.masters.draw(groups, self.weights)

    def _collect(self) -> tuple[Played, dict[str, float]]:
        """One episode in every row; groups that have come to the end of their period begin a new task."""
        config = self.config
        finished = np.flatnonzero(self.ages == config.period)
        if len(finished):
            self.ages[finished] = 0
            self._begin_tasks(finished.tolist())
        actor = HierarchyActor(
            self.masters,
            self.sub_policies,
            self.space,
            config,
            config.rollouts,
            self.generator,
            random_choice=config.random_choice,
        )
        goals = np.repeat(self.goals[self.task], config.rollouts, axis=0)
        played = actor.finish(self.play(actor.act, goals))
        returns = played.episodes.reward.sum(1).view(config.groups, -1).mean(1).cpu().numpy()
        adapted = self.updates == self.updates.max()
        macro = played.macro.view(config.groups, -1)
        most = torch.stack([(macro == index).float().mean(1) for index in range(config.sub_policies)]).amax(0)
        return played, {
            "return": float(returns.mean()),
            "return_fresh": float(returns[self.updates == self.updates.min()].mean()),
            "return_adapted": float(returns[adapted].mean()),
            "favourite_share": float(most.cpu().numpy()[adapted].mean()),
        }

    def _learn(self, batch: Played) -> dict[str, float]:
        metrics = self.update(batch, np.flatnonzero(self.ages >= self.config.warmup))
        self.ages += 1
        self.updates += 1
        return metrics

    def update(self, played: Played, joint: NDArray[np.int64]) -> dict[str, float]:
        """Updates all masters, and the sub-policies from the groups named by `joint`."""
        config = self.config
        samples = master_samples([played], self.masters, self.space, config)
        self._move_scale(self.masters, samples.target[samples.valid])
        found = self.masters.update(samples, config.master, self.generator)
        metrics = {f"master_{name}": value for name, value in found.items()}
        if len(joint):
            rows = (joint[:, None] * config.rollouts + np.arange(config.rollouts)).ravel()
            index = torch.from_numpy(rows).to(self.device)
            samples = sub_policy_samples(played, index, self.sub_policies, self.space, config)
            self._move_scale(self.sub_policies, samples.target[samples.valid])
            found = self.sub_policies.update(samples, config.sub_policy, self.generator)
            metrics |= {f"sub_policy_{name}": value for name, value in found.items()}
        return metrics

    def _move_scale(self, stack: ActorCritics, target: Tensor) -> None:
        unset = (stack.return_mean, stack.return_variance) == (0.0, 1.0)
        stack.move_scale(target, 1.0 if unset else SCALE_RATE)

    def agent(self, *, rollouts: int = 1, random_choice: float = 0.0, greedy: bool = False, seed: int = 0) -> MlshAgent:
        """An agent with the present sub-policies; see `MlshAgent`."""
        agent = MlshAgent(
            self.space,
            self.robot.spec.observation.shape[0],
            self.config,
            rollouts=rollouts,
            random_choice=random_choice,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )
        agent.sub_policies.load(self.sub_policies.tensors())
        agent.return_scale = (self.masters.return_mean, self.masters.return_variance)
        return agent

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = join_parts(masters=self.masters.tensors(), sub_policies=self.sub_policies.tensors())
        counts = {"ages": self.ages.tolist(), "updates": self.updates.tolist(), "task": self.task.tolist()}
        return tensors | {"weights": self.weights.get_state()}, counts

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.masters.load(named_part(tensors, "masters."))
        self.sub_policies.load(named_part(tensors, "sub_policies."))
        self.weights.set_state(tensors["weights"].cpu())
        self.ages, self.updates, self.task = (np.array(facts[name]) for name in ("ages", "updates", "task"))
