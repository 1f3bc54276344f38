"""An MLSH agent: sub-policies as they were meta-trained, and a master of each task that learns by PPO.

Axes: R rows (S tasks x E rollouts), O observation, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import episodes_tensors, join_parts, load_episodes, named_part
from .config import MlshConfig
from .mlsh_actor import HierarchyActor, Played, make_stacks, master_samples


class MlshAgent(RowAgent):
    """Acts in R rows; `adapt` is one PPO update of each task's master, from all episodes since the last.

    Sub-policies never change. The first masters of `begin_task` are the same at each call: they follow from the seed.
    """

    name = "MLSH agent"

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        config: MlshConfig,
        *,
        rollouts: int = 1,
        random_choice: float = 0.0,
        greedy: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Sub-policies are to be loaded; see `MlshLearner.agent`.

        Args:
            space: What sub-policies choose.
            observation_dim: O.
            config: Of the learner.
            rollouts: Rows that share one task and its master, task-major; 1 gives each row its own.
            random_choice: Share of the master's choices that are uniform instead.
            greedy: Both levels act by their modes. Adaptation wants samples, so this is for the last episodes only.
            seed: Seed of the first masters and of the exploration.
            device: Where the networks live.
        """
        generator = torch.Generator(device).manual_seed(seed)
        super().__init__(space, generator, rollouts=rollouts, greedy=greedy)
        self._observation_dim, self._config = observation_dim, config
        self._random_choice, self._seed = random_choice, seed
        self.return_scale = (0.0, 1.0)
        """Mean and variance of macro returns in training, on whose scale the masters' value functions learn."""
        self.masters, self.sub_policies = make_stacks(space, observation_dim, config, 0, self.device)
        self._seen: list[Played] = []
        self._actor = self._make_actor()

    def _make_actor(self) -> HierarchyActor:
        return HierarchyActor(
            self.masters,
            self.sub_policies,
            self._space,
            self._config,
            self._rollouts,
            self.generator,
            random_choice=self._random_choice,
            greedy=self._greedy,
        )

    def _begin(self, tasks: int) -> None:
        self.masters, _ = make_stacks(self._space, self._observation_dim, self._config, tasks, self.device)
        self.masters.draw(list(range(tasks)), torch.Generator().manual_seed(self._seed))
        self.masters.return_mean, self.masters.return_variance = self.return_scale
        self._seen = []
        self._actor = self._make_actor()

    def begin_episode(self) -> None:
        """The masters choose at the next decision."""
        self._actor.begin_episode()

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        return self._actor.act(seen)

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes, and who acted in them, for the next `adapt`."""
        self._seen.append(self._actor.finish(episodes))

    def adapt(self) -> None:
        """One PPO update of each master from the episodes since the last update; none without episodes."""
        if not self._seen:
            return
        samples = master_samples(self._seen, self.masters, self._space, self._config)
        self.masters.update(samples, self._config.master, self.generator)
        self._seen = []

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen = episodes_tensors([played.episodes for played in self._seen])
        macro = {str(index): played.macro for index, played in enumerate(self._seen)}
        stacks = join_parts(masters=self.masters.tensors(), sub_policies=self.sub_policies.tensors())
        return stacks | join_parts(seen=seen, macro=macro), {"seen": len(self._seen)}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        rounds = load_episodes(named_part(tensors, "seen."), facts["seen"])
        seen = [Played(episodes, tensors[f"macro.{index}"].clone()) for index, episodes in enumerate(rounds)]
        self.masters.load(named_part(tensors, "masters."))
        self.sub_policies.load(named_part(tensors, "sub_policies."))
        self.return_scale = (self.masters.return_mean, self.masters.return_variance)
        self._seen = seen
        self._actor = self._make_actor()
