"""An MLSH agent: sub-policies as they were meta-trained, and a master of each task that learns by PPO.

Axes: R rows (S tasks x E rollouts), O observation, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, RunError
from ..collect import Episodes, Seen
from ..space import ActionSpace
from ..state import episodes_tensors, load_episodes, named_part
from .config import MlshConfig
from .mlsh_actor import HierarchyActor, Played, make_stacks, master_samples


class MlshAgent:
    """Acts in R rows; `adapt` is one PPO update of each task's master, from all episodes since the last.

    Sub-policies never change. The first masters of `begin_task` are the same at each call: they follow from the seed.
    """

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
        self.device = torch.device(device)
        self._space, self._observation_dim, self._config = space, observation_dim, config
        self._rollouts, self._random_choice, self._greedy, self._seed = rollouts, random_choice, greedy, seed
        self.generator = torch.Generator(self.device).manual_seed(seed)
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

    @property
    def rollouts(self) -> int:
        """See `AdaptiveAgent.rollouts`."""
        return self._rollouts

    def begin_task(self, rows: int) -> None:
        """Forgets everything: new tasks in R rows, each with a new master.

        Raises:
            ConfigError: R is not a multiple of the rollouts per task.
        """
        if rows < 1 or rows % self._rollouts:
            raise ConfigError(
                f"MlshAgent: expected a multiple of rollouts = {self._rollouts} rows, got {rows}; change either"
            )
        tasks = rows // self._rollouts
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Sub-policies, masters with their optimisers, the episodes not yet learned from, and the generator."""
        tensors = {f"masters.{name}": value for name, value in self.masters.tensors().items()}
        tensors |= {f"sub_policies.{name}": value for name, value in self.sub_policies.tensors().items()}
        tensors["generator"] = self.generator.get_state()
        seen = episodes_tensors([played.episodes for played in self._seen])
        tensors |= {f"seen.{name}": value for name, value in seen.items()}
        tensors |= {f"macro.{index}": played.macro for index, played in enumerate(self._seen)}
        return tensors, {"seen": len(self._seen)}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            rounds = load_episodes(named_part(tensors, "seen."), facts["seen"])
            seen = [Played(episodes, tensors[f"macro.{index}"].clone()) for index, episodes in enumerate(rounds)]
            self.masters.load(named_part(tensors, "masters."))
            self.sub_policies.load(named_part(tensors, "sub_policies."))
            self.generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"MLSH agent: expected a whole state, got {error}; adapt again") from error
        self.return_scale = (self.masters.return_mean, self.masters.return_variance)
        self._seen = seen
        self._actor = self._make_actor()
