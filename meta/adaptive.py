"""The protocol of every meta-trained agent: what evaluation, export and a robot need of it, whatever its family.

A gradient learner changes its parameters in `adapt`, a memory learner its hidden state in `act`, an inference learner
its belief in `observe`; who runs an agent calls all of them and need not know which it is. What the agent was
meta-trained to (weights) is fixed after its construction; what it finds out about a task is its `state`.

Axes: R rows, r rows still running, Z latent.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .trial import Actor


class AdaptiveAgent(Actor, Protocol):
    """Acts in R rows side by side and adapts to the task of each.

    The calls of one task are: `begin_task` once; then for each episode `begin_episode`, `act` once per decision with
    the rows that still run, `observe` with the finished episodes; and `adapt` whenever the caller grants a step of
    adaptation. An agent that does not use a call ignores it.
    """

    @property
    def rollouts(self) -> int:
        """So many consecutive rows have one task and adapt together; 1 where each row learns for itself."""
        ...

    def adapt(self) -> None:
        """One step of adaptation to what was observed since the last one (an inner gradient step, for instance)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that it knows of the rows' tasks, and its random generator: `act` goes on from it exactly."""
        ...

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Goes on where `state` was taken, in an agent of the same weights and options.

        Raises:
            RunError: The state lacks a part.
        """
        ...
