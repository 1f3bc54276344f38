"""Who leads an episode, the logs or the agent inside: what agents that logs lead have in common.

The one with the higher mean return leads. While a task is found out each counts one more episode, as good as the best
so far: who has hardly been tried gets its turn. In an episode that is to be as good as it can, each counts one more as
bad as the worst, too (Laplace's rule), and who has not been tried at all does not lead it.

Axes: R rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .networks import Array
from .runtime_agent import RuntimeAgent, WrappedAgent

STATE = "log."
"""What begins so in a state belongs to an agent that logs lead, and not to the one inside."""


class LedAgent(WrappedAgent, ABC):
    """An agent around another; in some episodes logs choose instead of that one, which learns from all of them."""

    returns: ClassVar[dict[str, tuple[int, ...]]] = {"best": (), "worst": (), "returns": (2,), "tries": (2,)}
    """Parts of the state, and their shapes for one row."""

    def __init__(self, agent: RuntimeAgent, may_lead: Callable[[], bool]) -> None:
        """Wraps the agent.

        Args:
            agent: The agent inside.
            may_lead: Asked at every decision. Where guards fell back to the prior policy, the logs no longer choose.
        """
        super().__init__(agent)
        self._may_lead = may_lead
        self._leads = np.zeros(0, np.bool_)

    @property
    def leads(self) -> NDArray[np.bool_]:
        """Rows whose episode is led by the logs, (R,)."""
        return self._leads

    def set_leads(self, leads: NDArray[np.bool_]) -> None:
        """The episode was played by an older copy of this agent, in which the logs led these rows, (R,)."""
        self._leads = leads

    def begin_task(self, rows: int) -> None:
        """See `RuntimeAgent.begin_task`."""
        super().begin_task(rows)
        self._begin(rows)

    def begin_episode(self, *, explore: bool = True) -> None:
        """See `RuntimeAgent.begin_episode`."""
        super().begin_episode(explore=explore)
        self._begin_episode(explore=explore)

    @abstractmethod
    def _begin(self, rows: int) -> None:
        """Nothing is known of so many tasks."""

    @abstractmethod
    def _begin_episode(self, *, explore: bool) -> None:
        """What is known of the tasks stays; what is known of the last episode is forgotten."""

    def _forget_returns(self, rows: int) -> None:
        self._best: Array = np.full(rows, -np.inf, np.float32)
        self._worst: Array = np.full(rows, np.inf, np.float32)
        self._returns: Array = np.zeros((rows, 2), np.float32)  # sums, by the logs and by the agent inside
        self._tries = np.zeros((rows, 2), np.int64)

    def _compare(self, *, explore: bool) -> NDArray[np.bool_]:
        """Rows in which the logs are to lead by what was returned so far; see the module's docstring."""
        best, worst = (np.where(np.isfinite(one), one, np.float32(0.0))[:, None] for one in (self._best, self._worst))
        mean = (self._returns + best) / (self._tries + 1)
        if not explore:
            mean = np.where(self._tries > 0, (self._returns + best + worst) / (self._tries + 2), -np.inf)
        better: NDArray[np.bool_] = mean[:, 0] >= mean[:, 1]
        return better

    def _take_returns(self, total: Array, counted: NDArray[np.bool_]) -> None:
        """Counts the returns of an episode, (R,), for who led it, in some rows, (R,)."""
        self._best, self._worst = np.maximum(self._best, total), np.minimum(self._worst, total)
        rows, leader = np.flatnonzero(counted), np.where(self._leads, 0, 1)
        self._returns[rows, leader[rows]] += total[rows]
        self._tries[rows, leader[rows]] += 1
