"""A policy that goes on learning by PPO in each task: fine-tuning, or learning from scratch where the policy is a draw.

Axes: R rows (tasks x rollouts), N tasks, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, RunError
from ..collect import Episodes, Seen
from ..policy import MlpPolicy, Params, RowActor, for_tasks
from ..space import ActionSpace
from ..state import episodes_tensors, load_episodes, named_part
from ..task_batch import make_task_batch
from .config import PpoSteps
from .ppo import Moments, improve


class PpoAgent:
    """Acts in R rows; `adapt` improves the policy of each task with all episodes since the last."""

    def __init__(
        self,
        policy: MlpPolicy,
        first: Params,
        space: ActionSpace,
        steps: PpoSteps,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the parameters.

        Args:
            policy: What the parameters belong to.
            first: Of every new task, without a task axis.
            space: What the policy chooses.
            steps: How each `adapt` improves it.
            rollouts: Rows that share one task and its policy, task-major; 1 gives each row its own task.
            greedy: Act by the mode. Learning wants samples, so this is for the last episodes only.
            seed: Seed of the exploration and the minibatches.
            device: Where the parameters live.
        """
        self.device = torch.device(device)
        self._policy, self._space, self._steps = policy, space, steps
        self._first = {name: value.detach().clone().to(self.device) for name, value in first.items()}
        self._rollouts, self._greedy = rollouts, greedy
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._params = for_tasks(self._first, 0)
        self._moments = Moments.zeros(self._params)
        self._seen: list[Episodes] = []

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._rollouts

    @property
    def params(self) -> Params:
        """The parameters of every task, (N, ...)."""
        return self._params

    def begin_task(self, rows: int) -> None:
        """Forgets everything: new tasks in R rows.

        Raises:
            ConfigError: R is not a multiple of the rollouts per task.
        """
        if rows < 1 or rows % self._rollouts:
            raise ConfigError(
                f"PpoAgent: expected a multiple of rollouts = {self._rollouts} rows, got {rows}; change either"
            )
        self._params = for_tasks(self._first, rows // self._rollouts)
        self._moments, self._seen = Moments.zeros(self._params), []

    def begin_episode(self) -> None:
        """See `Actor`; nothing changes between episodes."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(self._policy, self._params, self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes for the next `adapt`."""
        self._seen.append(episodes)

    def adapt(self) -> None:
        """One iteration of PPO in each task from the episodes since the last one; none without episodes."""
        if not self._seen:
            return
        steps = self._steps
        batch = make_task_batch(
            self._seen,
            self._policy,
            self._params,
            self._space,
            discount=steps.discount,
            trace=steps.trace,
            normalise=True,
        )
        self._params, self._moments, _ = improve(
            self._policy, self._params, self._moments, batch, steps, self.generator
        )
        self._seen = []

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """First policy, the tasks' policies and optimisers, the episodes not yet learned from, the random generator."""
        tensors = {f"first.{name}": value for name, value in self._first.items()}
        tensors |= {f"params.{name}": value.contiguous() for name, value in self._params.items()}
        tensors |= self._moments.tensors()
        tensors["generator"] = self.generator.get_state()
        tensors |= {f"seen.{name}": value for name, value in episodes_tensors(self._seen).items()}
        return tensors, {"steps": self._moments.steps, "seen": len(self._seen)}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            first = {name: tensors[f"first.{name}"].clone().view_as(value) for name, value in self._first.items()}
            params = {name: tensors[f"params.{name}"].clone().view(-1, *value.shape) for name, value in first.items()}
            moments = Moments.load(tensors, params, int(facts["steps"]))
            seen = load_episodes(named_part(tensors, "seen."), int(facts["seen"]))
            self.generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"PPO agent: expected a whole state, got {error}; adapt again") from error
        self._first, self._params, self._moments, self._seen = first, params, moments, seen
