"""Robots on paper: a learner can be made with them, and nothing moves.

Export needs no more of a robot than its contract, so that it runs none of a user's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from ..errors import SpecError
from .robot import Float, Rows
from .spec import RobotSpec


@dataclass(frozen=True, slots=True)
class UnpluggedRobots:
    """A `RobotBatch` that refuses to move."""

    spec: RobotSpec
    """See `RobotBatch.spec`."""
    rows: int
    """See `RobotBatch.rows`."""

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> NoReturn:
        """Refuses.

        Raises:
            SpecError: Always.
        """
        raise SpecError(f"robot '{self.spec.name}': expected rows that move, got its contract alone; make robots")

    def step(self, rows: Rows, action: Float) -> NoReturn:
        """Refuses; see `reset` for errors."""
        self.reset(rows, action, np.random.default_rng(0))

    def compute_reward(self, observation: Float, goals: Float) -> NoReturn:
        """Refuses; see `reset` for errors."""
        self.reset(np.zeros(0, np.int64), goals, np.random.default_rng(0))

    def close(self) -> None:
        """Nothing is connected."""
