"""PEARL, then SAC on the test task: inference first, gradients where inference leaves something to be gained.

Rakelly et al., 2019 (inference); Haarnoja et al., 2018 (SAC). In its first episodes the agent is a PEARL agent, and its
transitions are stored. The first `adapt` after them freezes the belief: z becomes its mean, an input that stays, and
policy and critics, which begin at their meta-trained weights, go on with SAC on the task's own transitions. The
published PEARL does not fine-tune; this is the comparison that Nam et al., "Skill-based Meta-Reinforcement Learning",
ICLR 2022, call PEARL-ft.

Axes: R rows, one task each, E embedding, Z latent.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import ConfigError
from ..baselines.config import TaskSacConfig
from ..baselines.sac_networks import SacNetworks
from ..baselines.sac_tasks import TaskSac
from ..collect import Episodes, Seen
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part
from .pearl import posterior_of
from .pearl_agent import PearlAgent


class FineTunedPearlAgent(RowAgent):
    """Acts in R rows; each row infers its task, then goes on learning it."""

    name = "PEARL fine-tuning"

    def __init__(
        self,
        pearl: PearlAgent,
        networks: SacNetworks,
        space: ActionSpace,
        observation_dim: int,
        config: TaskSacConfig,
        *,
        inference_episodes: int = 1,
        greedy: bool = False,
    ) -> None:
        """Takes what was meta-trained; it is not changed.

        Args:
            pearl: Acts and infers in the first episodes; its generator serves afterwards too.
            networks: Policy and critics, shared by all tasks, of `pearl`'s policy.
            space: What is chosen.
            observation_dim: O.
            config: Of the fine-tuning; networks have the sizes that they have.
            inference_episodes: Number of first episodes, which are PEARL's.
            greedy: Act by the mode after inference; learning wants samples.

        Raises:
            ConfigError: There are no inference episodes, or several rows per task.
        """
        if inference_episodes < 1 or config.rollouts != 1:
            raise ConfigError(
                f"PEARL fine-tuning: expected at least 1 inference episode and 1 rollout per task, got "
                f"{inference_episodes} and {config.rollouts}; correct them"
            )
        super().__init__(space, pearl.generator, greedy=greedy)
        self._pearl, self._networks, self._config = pearl, networks, config
        self._observation_dim, self._inference_episodes = observation_dim, inference_episodes
        self._sac: TaskSac | None = None
        self._episodes = 0

    @property
    def tuning(self) -> bool:
        """The belief is frozen and SAC has begun."""
        return self._begun.updates > 0

    @property
    def _begun(self) -> TaskSac:
        assert self._sac is not None  # whoever runs an agent begins the task first
        return self._sac

    def _begin(self, tasks: int) -> None:
        """The belief N(0, I) and the meta-trained weights."""
        self._pearl.begin_task(tasks)
        self._sac = self._make(tasks)
        self._episodes = 0

    def _make(self, rows: int) -> TaskSac:
        return TaskSac(
            self._space,
            self._observation_dim,
            self._networks.for_tasks(rows),
            self._config.sac,
            rollouts=1,
            capacity=self._config.replay,
            generator=self.generator,
        )

    def begin_episode(self) -> None:
        """Draws the z of an episode of inference."""
        if not self.tuning:
            self._pearl.begin_episode()

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        return self._begun.act(seen, self._greedy) if self.tuning else self._pearl.act(seen)

    def observe(self, episodes: Episodes) -> None:
        """Stores the episodes, and infers from them until the belief is frozen."""
        self._begun.observe(episodes)
        if not self.tuning:
            self._pearl.observe(episodes)
        self._episodes += 1

    def adapt(self) -> None:
        """Updates of SAC on all that was observed, once the episodes of inference are over; nothing before."""
        if self._episodes < self._inference_episodes:
            return
        if not self.tuning:
            self._begun.embedding.copy_(posterior_of(self._pearl.belief).loc)
        for _ in range(self._config.updates):
            self._begun.update()

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        pearl, facts = self._pearl.state()
        del pearl["generator"]  # it is this agent's too
        tensors = join_parts(pearl=pearl, first=self._networks.state_dict())
        known: dict[str, Any] = {"pearl": facts, "episodes": self._episodes, "rows": 0}
        if self._sac is not None:
            learned, known["sac"] = self._sac.state()
            tensors |= join_parts(sac=learned)
            known["rows"] = self._sac.networks.tasks
        return tensors, known

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self._networks.load_state_dict(named_part(tensors, "first."))
        sac = self._make(int(facts["rows"])) if facts["rows"] else None
        if sac is not None:
            sac.load_state(named_part(tensors, "sac."), facts["sac"])
        episodes = int(facts["episodes"])
        self._pearl.load_state(named_part(tensors, "pearl.") | {"generator": tensors["generator"]}, facts["pearl"])
        self._sac, self._episodes = sac, episodes
