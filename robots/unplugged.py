"""Robots on paper: a learner can be made with them, and nothing moves.

Export, and a learner that is not trained, need no more of a robot than its contract, so that they run none of a user's
code and connect no real robot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from ..errors import SpecError, UntoldReward
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
        """Refuses.

        Raises:
            UntoldReward: Always.
        """
        raise UntoldReward(f"robot '{self.spec.name}': expected robots that tell a reward, got a contract; make robots")

    def close(self) -> None:
        """Nothing is connected."""
