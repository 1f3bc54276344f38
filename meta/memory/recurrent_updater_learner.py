"""The learner of the recurrent updater: owns first policy, updater, optimiser and every random generator.

Axes: N tasks of an iteration, R rows, G goal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..baselines.ppo import take
from ..collect import Episodes
from ..iterative import IterativeLearner
from ..policy import Params, for_tasks, make_policy
from ..recurrent import FIRST_POLICY, ActionCode
from ..state import copy_into, join_parts, named_part
from ..task_batch import TaskBatch, make_task_batch
from .config import RecurrentUpdaterConfig
from .recurrent_updater import Read, evaluate, later_objective, take_tasks
from .recurrent_updater_agent import RecurrentUpdaterAgent
from .updater_network import RecurrentUpdater, make_support


class RecurrentUpdaterLearner(IterativeLearner[RecurrentUpdaterConfig, tuple[list[Read], TaskBatch]]):
    """Meta-trains an updater on the train tasks of one robot.

    `return_<r>` is the mean undiscounted return on the train tasks after f has read r times; 0 is theta_0.
    """

    name = "recurrent updater"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.tasks * max(config.support, config.query), "tasks x episodes")
        observation = self.robot.spec.observation.shape[0]
        self.policy = make_policy(self.space, observation, config.hidden, config.activation)
        self.updater = RecurrentUpdater(
            inputs=2 * observation + ActionCode(self.space).width + 2,
            embedding=config.embedding,
            memory=config.memory,
            rank=config.rank,
        )
        first = self.policy.init(source)
        phi = self.updater.init(first, source)
        # the first policy explores: it hardly depends on what it sees
        first[f"layers.{len(config.hidden)}.weight"] *= FIRST_POLICY
        self.first: Params = {name: value.to(self.device) for name, value in first.items()}
        self.phi: Params = {name: value.to(self.device).requires_grad_() for name, value in phi.items()}
        if config.exploration > 0.0:
            self.first = {name: value.requires_grad_() for name, value in self.first.items()}
        self._leaves = [*(value for value in self.first.values() if value.requires_grad), *self.phi.values()]
        self.optimisers = {"meta": torch.optim.Adam(self._leaves, lr=config.learning_rate)}

    @torch.no_grad()
    def _collect(self) -> tuple[tuple[list[Read], TaskBatch], dict[str, float]]:
        """In tasks drawn anew the policy samples and f reads, round by round; the last policy samples the query."""
        config = self.config
        chosen = self.draw_tasks(config.tasks)
        params, memory = for_tasks(self.first, config.tasks), self.updater.begin(self.phi, config.tasks)
        supports, batches = [], []
        for _ in range(config.rounds):
            episodes = self._play(params, chosen, config.support)
            supports.append(make_support([episodes], self.space, config.tasks))
            batches.append(self._as_samples(episodes, params))
            memory = self.updater.read(self.phi, supports[-1], memory)
            params = self.updater.emit(self.phi, self.first, memory)
        batches.append(self._as_samples(self._play(params, chosen, config.query), params))
        later = [later_objective(batches[index + 1 :]) for index in range(config.rounds)]
        reads = [Read(*parts) for parts in zip(supports, batches[:-1], later, strict=True)]
        returns = {f"return_{index}": float(batch.returns().mean()) for index, batch in enumerate(batches)}
        return (reads, batches[-1]), returns

    def _play(self, params: Params, chosen: NDArray[np.int64], episodes: int) -> Episodes:
        return self.play_policy(self.policy, params, np.repeat(self.goals[chosen], episodes, axis=0))

    def _as_samples(self, episodes: Episodes, params: Params) -> TaskBatch:
        config = self.config
        return make_task_batch(
            [episodes],
            self.policy,
            params,
            self.space,
            discount=config.discount,
            trace=config.trace,
            normalise=True,
        )

    def _learn(self, batch: tuple[list[Read], TaskBatch]) -> dict[str, float]:
        """All steps of Adam of one iteration; metrics are means over them."""
        config, (reads, query) = self.config, batch
        for group in self.optimisers["meta"].param_groups:
            group["lr"] = config.learning_rate * self.left
        totals = []
        for _ in range(config.epochs):
            order, tasks = self.shuffle(config.support), self.shuffle(config.tasks)
            for index in torch.split(tasks, config.minibatch):
                part = [take_tasks(read, index, order) for read in reads]
                totals.append(self._update_minibatch(part, take(query, index, 0)))
        return dict(zip(("loss", "kl"), torch.stack(totals).mean(0).tolist(), strict=True))

    def _update_minibatch(self, reads: list[Read], query: TaskBatch) -> Tensor:
        found = evaluate(self.policy, self.updater, self.first, self.phi, reads, query, self.config)
        loss, kl = (value.mean() for value in found)
        optimiser = self.optimisers["meta"]
        for leaf, gradient in zip(self._leaves, torch.autograd.grad(loss, self._leaves), strict=True):
            leaf.grad = gradient
        torch.nn.utils.clip_grad_norm_(self._leaves, self.config.max_gradient_norm)
        optimiser.step()
        optimiser.zero_grad()
        return torch.stack((loss.detach(), kl.detach()))

    def agent(self, *, rollouts: int = 1, greedy: bool = False, seed: int = 0) -> RecurrentUpdaterAgent:
        """An agent with the present parameters; see `RecurrentUpdaterAgent`."""
        return RecurrentUpdaterAgent(
            self.policy,
            self.updater,
            self.first,
            self.phi,
            self.space,
            rollouts=rollouts,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return join_parts(first=self.first, phi=self.phi), {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        copy_into(self.first, named_part(tensors, "first."))
        copy_into(self.phi, named_part(tensors, "phi."))
