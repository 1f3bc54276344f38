"""The learner of the recurrent updater: owns first policy, updater, optimiser and every random generator.

Axes: N tasks of an iteration, R rows, G goal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..adaptive import require_finite
from ..baselines.ppo import take
from ..collect import Episodes, collect
from ..policy import Params, RowActor, for_tasks, make_policy
from ..recurrent import FIRST_POLICY, ActionCode
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from ..task_batch import TaskBatch, make_task_batch
from .config import RecurrentUpdaterConfig
from .recurrent_updater import Read, evaluate, later_objective, take_tasks
from .recurrent_updater_agent import RecurrentUpdaterAgent
from .updater_network import RecurrentUpdater, make_support


class RecurrentUpdaterLearner:
    """Meta-trains an updater on the train tasks of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: RecurrentUpdaterConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `tasks` x the larger of `support` and `query` rows.
            goals: Train goals, shape (N_train, G).
            config: See `RecurrentUpdaterConfig`.
            seed: Seed of weights, exploration, tasks, minibatches and resets.
            device: Where the networks live.

        Raises:
            ConfigError: The robot has too few rows.
        """
        rows = config.tasks * max(config.support, config.query)
        if robot.rows < rows:
            raise ConfigError(
                f"recurrent updater: expected {rows} robot rows for tasks x episodes, got {robot.rows}; raise the rows "
                "or lower either"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        observation = robot.spec.observation.shape[0]
        self.policy = make_policy(space, observation, config.hidden, config.activation)
        self.updater = RecurrentUpdater(
            inputs=2 * observation + ActionCode(space).width + 2,
            embedding=config.embedding,
            memory=config.memory,
            rank=config.rank,
        )
        # first weights are drawn on the CPU, so that a seed means the same policy on every device
        source = torch.Generator().manual_seed(seed)
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
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.environment_steps = 0

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of each; resumes exactly at a yield.

        `return_<r>` is the mean undiscounted return on the train tasks after f has read r times; 0 is theta_0.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        config = self.config
        while self.iteration < config.iterations:
            begin = time.perf_counter()
            reads, query = self.sample()
            middle = time.perf_counter()
            for group in self.optimisers["meta"].param_groups:
                group["lr"] = config.learning_rate * (1.0 - self.iteration / config.iterations)
            metrics = self.update(reads, query)
            for index, batch in enumerate((*(read.samples for read in reads), query)):
                metrics[f"return_{index}"] = float(batch.returns().mean())
            require_finite(metrics, f"recurrent updater iteration {self.iteration}", "a smaller learning_rate")
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    @torch.no_grad()
    def sample(self) -> tuple[list[Read], TaskBatch]:
        """Draws tasks; in each round the policy samples and f reads, then the last policy samples the query."""
        config = self.config
        # without replacement where there are enough tasks
        chosen = self.rng.choice(len(self.goals), config.tasks, replace=config.tasks > len(self.goals))
        params, memory = for_tasks(self.first, config.tasks), self.updater.begin(self.phi, config.tasks)
        supports, batches = [], []
        for _ in range(config.rounds):
            episodes = self._collect(params, chosen, config.support)
            supports.append(make_support([episodes], self.space, config.tasks))
            batches.append(self._as_samples(episodes, params))
            memory = self.updater.read(self.phi, supports[-1], memory)
            params = self.updater.emit(self.phi, self.first, memory)
        batches.append(self._as_samples(self._collect(params, chosen, config.query), params))
        later = [later_objective(batches[index + 1 :]) for index in range(config.rounds)]
        return [Read(*parts) for parts in zip(supports, batches[:-1], later, strict=True)], batches[-1]

    def _collect(self, params: Params, chosen: NDArray[np.int64], episodes: int) -> Episodes:
        actor = RowActor(self.policy, params, self.space, episodes, self.generator)
        goals = np.repeat(self.goals[chosen], episodes, axis=0)
        found = collect(self.robot, self.space, actor, goals, self.rng, device=self.device)
        self.environment_steps += int(found.steps.sum())
        return found

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

    def update(self, reads: list[Read], query: TaskBatch) -> dict[str, float]:
        """All steps of Adam of one iteration; metrics are means over them."""
        config = self.config
        totals = []
        for _ in range(config.epochs):
            order = torch.randperm(config.support, generator=self.generator, device=self.device)
            tasks = torch.randperm(config.tasks, generator=self.generator, device=self.device)
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {f"first.{name}": value for name, value in self.first.items()}
        tensors |= {f"phi.{name}": value for name, value in self.phi.items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= optimiser_tensors(self.optimisers)
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return {name: value.detach() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            with torch.no_grad():
                for prefix, params in (("first.", self.first), ("phi.", self.phi)):
                    saved = named_part(tensors, prefix)
                    for name, value in params.items():
                        value.copy_(saved[name])
            self.generator.set_state(tensors["generator"].cpu())
            load_optimisers(self.optimisers, tensors)
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"recurrent updater checkpoint: expected a whole state, got {error}; start again") from error
