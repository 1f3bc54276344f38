"""A meta-trained policy that learns a task by moving the distribution of its z; nothing here needs autograd.

Source and names: `maesn`. Axes: R rows (tasks x rollouts), N tasks, E rollouts, Z choice, L axes of z.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..episode_agent import EpisodeAgent
from ..policy import ConditionedPolicy, MlpPolicy, Params, RowActor, for_tasks
from ..space import ActionSpace
from ..state import clone_like, join_parts, named_part
from ..task_batch import make_task_batch
from .config import MaesnConfig
from .maesn import TaskLatent, episode_advantage, latent_step, prior_latent


class MaesnAgent(EpisodeAgent):
    """Acts in R rows with one z per episode; `adapt` takes one latent step in each task.

    A new task starts from z ~ N(0, I). With one rollout per task, episodes of a task have to be played one after the
    other before `adapt`: a single one has nothing to be compared with, and changes nothing.
    """

    name = "MAESN agent"

    def __init__(
        self,
        policy: MlpPolicy,
        meta: Params,
        space: ActionSpace,
        config: MaesnConfig,
        *,
        rollouts: int = 1,
        greedy: bool = False,
        later_scale: float = 0.5,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Copies the weights and the step sizes; the table belongs to the train tasks and stays behind.

        Args:
            policy: Of inputs [observation, z].
            meta: At least `policy.*` and `rule.*`.
            space: What the policy chooses.
            config: Of the learner.
            rollouts: Rows that share one task and its knowledge, task-major; 1 gives each row its own task.
            greedy: Act by the mode at z = mu. Adaptation wants samples, so this is for the last episodes only.
            later_scale: The step sizes are multiplied by this after every step but the first (released: 0.5), so that
                the first two steps are whole.
            seed: Seed of the exploration.
            device: Where the parameters live.
        """
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=rollouts, greedy=greedy)
        self._policy, self._config, self._later_scale = policy, config, later_scale
        kept = {name: value for name, value in meta.items() if name.startswith(("policy.", "rule."))}
        self._meta = {name: value.detach().clone().to(self.device) for name, value in kept.items()}
        self._begin(0)

    def _begin(self, tasks: int) -> None:
        super()._begin(tasks)
        self._latent = prior_latent(tasks, self._meta["rule.log_step.mean"])
        self._z = self._latent.mean.new_zeros(tasks, self._rollouts, self._latent.mean.shape[1])
        self._seen_z: list[Tensor] = []
        self._steps = 0

    @property
    def latent(self) -> TaskLatent:
        """The distribution of z in every task, each (N, L)."""
        return self._latent

    def begin_episode(self) -> None:
        """Draws the z of each row's next episode."""
        noise = torch.zeros_like(self._z)
        if not self._greedy:
            noise = torch.randn(noise.shape, generator=self.generator, device=self.device)
        self._z = self._latent.draw(noise)

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        actor = RowActor(*self._acting(self._z), self._space, self._rollouts, self.generator, greedy=self._greedy)
        return actor(seen)

    def _acting(self, z: Tensor) -> tuple[ConditionedPolicy, Params]:
        """The policy at z (N, E, L), and its parameters for every task."""
        return ConditionedPolicy(self._policy, z), for_tasks(named_part(self._meta, "policy."), len(z))

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes and their z for the next `adapt`."""
        super().observe(episodes)
        self._seen_z.append(self._z)

    def _improve(self) -> None:
        """One latent step in each task."""
        z = torch.cat(self._seen_z, dim=1)
        samples = make_task_batch(
            self._seen,
            *self._acting(z),
            self._space,
            discount=self._config.discount,
            trace=self._config.trace,
            normalise=True,
        )
        scale = self._later_scale ** max(self._steps - 1, 0)
        rule, natural = named_part(self._meta, "rule."), self._config.natural
        self._latent = latent_step(self._latent, rule, z, episode_advantage(samples), scale, natural=natural)
        self._seen_z, self._steps = [], self._steps + 1

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen, facts = super()._state()
        seen_z = {str(index): value for index, value in enumerate(self._seen_z)}
        known = join_parts(meta=self._meta, latent=self._latent._asdict(), seen_z=seen_z)
        return seen | known | {"z": self._z}, facts | {"steps": self._steps}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        meta = clone_like(self._meta, named_part(tensors, "meta."))
        axes = self._latent.mean.shape[1]
        latent = TaskLatent(*(tensors[f"latent.{name}"].clone().view(-1, axes) for name in TaskLatent._fields))
        z = tensors["z"].clone().view(len(latent.mean), self._rollouts, axes)
        seen_z = [tensors[f"seen_z.{index}"].clone().view_as(z) for index in range(facts["seen"])]
        steps = int(facts["steps"])
        super()._load(tensors, facts)
        self._meta, self._latent, self._z = meta, latent, z
        self._seen_z, self._steps = seen_z, steps
