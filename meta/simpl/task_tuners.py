"""The fine-tuners of rows of robots: each row's task may have a policy and critics of its own, and learns by itself.

Axes: R rows, r rows still running, Z latent, O observation, E task embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes, Seen, row_of
from ..space import ActionSpace
from ..state import named_part
from .config import FinetuneConfig
from .finetune import Finetuner


class TaskTuners:
    """Who has a policy of its own learns from every episode that it plays; who has none is left to the caller."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        hidden: tuple[int, ...],
        config: FinetuneConfig,
        *,
        critic_norm: bool = False,
        start: Callable[[Finetuner], None] | None = None,
        seed: int = 0,
    ) -> None:
        """Before the first task.

        Args:
            space: What policies choose.
            observation_dim: O.
            hidden: Widths of policies and critics.
            config: How each learns.
            critic_norm: Layer norm in the critics.
            start: Gives a fresh fine-tuner its first weights; without it they are drawn from the seed.
            seed: Seed of the first row; each row has its own.
        """
        self._space, self._observation_dim, self._hidden = space, observation_dim, hidden
        self._config, self._critic_norm, self._start, self._seed = config, critic_norm, start, seed
        self.tuners: list[Finetuner | None] = []
        """By row."""

    def begin_task(self, rows: int) -> None:
        """Nobody has a policy of its own."""
        self.tuners = [None] * rows

    def begin(self, row: int, embedding: Tensor, decisions: int, seen: Sequence[Episodes] = ()) -> None:
        """Gives a row a policy of its own.

        Args:
            row: Which.
            embedding: Held for ever, shape (E,).
            decisions: Most decisions in an episode, K.
            seen: Rounds of episodes that it is to learn from too.
        """
        self.tuners[row] = tuner = self._make(row, embedding, decisions)
        for episodes in seen:
            tuner.add(row_of(episodes, row))

    def _make(self, row: int, embedding: Tensor, decisions: int) -> Finetuner:
        tuner = Finetuner(
            self._space,
            self._observation_dim,
            decisions,
            embedding,
            self._hidden,
            self._config,
            self._seed + row,
            critic_norm=self._critic_norm,
        )
        if self._start is not None:
            self._start(tuner)
        return tuner

    @torch.no_grad()
    def policy_at(self, seen: Seen, others: Gaussian) -> Gaussian:
        """pi(z | s) of every running row, each (r, Z); `others` is that of rows without a policy of their own."""
        loc, scale = others.loc.clone(), others.scale.clone()
        observation = self._space.normalise(seen.observation)
        for place, row in enumerate(seen.rows):
            tuner, here = self.tuners[row], slice(place, place + 1)
            if tuner is not None:
                own = tuner.policy_at(observation[here], Gaussian(seen.prior.loc[here], seen.prior.scale[here]))
                loc[here], scale[here] = own
        return Gaussian(loc, scale)

    def observe(self, episodes: Episodes) -> list[int]:
        """Learns from an episode of each row; returns the updates of each, (R,)."""
        updates = [0] * len(self.tuners)
        for row, tuner in enumerate(self.tuners):
            if tuner is not None:
                updates[row] = tuner.updates_due(tuner.add(row_of(episodes, row)))
                with torch.enable_grad():
                    for _ in range(updates[row]):
                        tuner.update()
        return updates

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on."""
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {"rows": len(self.tuners), "seed": self._seed}
        for row, tuner in enumerate(self.tuners):
            if tuner is not None:
                inner, facts[str(row)] = tuner.state()
                tensors |= {f"{row}.{name}": value for name, value in inner.items()}
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken; a state that lacks a part raises KeyError or RuntimeError."""
        self.begin_task(int(facts["rows"]))
        self._seed = int(facts["seed"])
        for row in range(len(self.tuners)):
            if (of_tuner := facts.get(str(row))) is not None:
                part = named_part(tensors, f"{row}.")
                tuner = self._make(row, part["module.embedding"], part["pool.latent"].shape[1])
                tuner.load_state(part, of_tuner)
                self.tuners[row] = tuner
