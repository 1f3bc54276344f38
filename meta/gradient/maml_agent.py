"""A meta-trained policy that adapts by inner steps from the episodes it saw.

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
from .config import MamlConfig
from .inner import UpdateRule, inner_step


class MamlAgent:
    """Acts in R rows; `adapt` takes one inner step in each task from all episodes since the last."""

    def __init__(
        self,
        policy: MlpPolicy,
        update: UpdateRule,
        meta: Params,
        space: ActionSpace,
        config: MamlConfig,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        later_scale: float = 1.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the meta-parameters.

        Args:
            policy: What the parameters belong to.
            update: The rule of the inner step.
            meta: `policy.*` and `rule.*`.
            space: What the policy chooses.
            config: Of the learner.
            rollouts: Rows that share one task and its knowledge, task-major; 1 gives each row its own task.
            greedy: Act by the mode. Adaptation wants samples, so this is for the last episodes only.
            later_scale: Length of a step over that of the step before it (Finn et al., 2D
                navigation: half as long after the first, then alike).
            seed: Seed of the exploration.
            device: Where the parameters live.
        """
        self.device = torch.device(device)
        self._policy, self._update, self._space, self._config = policy, update, space, config
        self._meta = {name: value.detach().clone().to(self.device) for name, value in meta.items()}
        self._rollouts, self._greedy, self._later_scale = rollouts, greedy, later_scale
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._params: Params = for_tasks(named_part(self._meta, "policy."), 0)
        self._seen: list[Episodes] = []
        self._steps = 0

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
                f"MamlAgent: expected a multiple of rollouts = {self._rollouts} rows, got {rows}; change either"
            )
        self._params = for_tasks(named_part(self._meta, "policy."), rows // self._rollouts)
        self._seen, self._steps = [], 0

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
        """One inner step in each task from the episodes since the last step; none without episodes."""
        if not self._seen:
            return
        config = self._config
        with torch.no_grad():
            batch = make_task_batch(
                self._seen,
                self._policy,
                self._params,
                self._space,
                discount=config.discount,
                trace=config.trace,
                normalise=config.normalise_advantage,
            )
            self._params = inner_step(
                self._policy,
                self._update,
                named_part(self._meta, "rule."),
                self._params,
                batch,
                correction=config.correction,
                first_order=True,
                scale=self._later_scale**self._steps,
            )
        self._seen, self._steps = [], self._steps + 1

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights, the parameters of the tasks, the episodes not yet learned from, and the random generator."""
        tensors = {f"meta.{name}": value for name, value in self._meta.items()}
        tensors |= {f"params.{name}": value.contiguous() for name, value in self._params.items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= {f"seen.{name}": value for name, value in episodes_tensors(self._seen).items()}
        return tensors, {"steps": self._steps, "seen": len(self._seen)}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            meta = {name: tensors[f"meta.{name}"].clone().view_as(value) for name, value in self._meta.items()}
            first = named_part(meta, "policy.")
            params = {name: tensors[f"params.{name}"].clone().view(-1, *value.shape) for name, value in first.items()}
            seen = load_episodes(named_part(tensors, "seen."), facts["seen"])
            steps = int(facts["steps"])
            self.generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"adapted agent: expected a whole state, got {error}; adapt again") from error
        self._meta, self._params = meta, params
        self._seen, self._steps = seen, steps
