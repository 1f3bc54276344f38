"""Robots that kill their process or fail, in a module that a worker loads fast."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.robot import Float, Rows, StepRows, WrappedRobots


def set_size(environment: Any, goal: Float) -> None:
    """The task of dm_control's reacher."""
    environment.task._target_size = float(goal[0])


def is_worker() -> bool:
    return multiprocessing.parent_process() is not None


class Deadly(WrappedRobots):
    """Kills its process at the third step, where that is a worker."""

    steps = 0

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.steps += 1
        if self.steps == 3 and is_worker():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(rows, action)


def make_deadly(rows: int) -> Deadly:
    return Deadly(BernoulliBanditBatch(rows, arms=2))


class Own(SpecError):
    """An error of a user's own, with a constructor that wants more than a text."""

    def __init__(self, number: int, place: str) -> None:
        super().__init__(f"{place}: expected less, got {number}; lower it")


class Failing(WrappedRobots):
    """Fails at a step of the second row, in the way that the action says."""

    def step(self, rows: Rows, action: Float) -> StepRows:
        step = super().step(rows, action)
        if 1 not in rows:
            return step
        if action[0, 0] == 1.0:
            raise RobotFault("arm: expected a finite observation, got nan; look at it")
        if action[0, 0] == 2.0:
            raise Own(7, "arm")
        if action[0, 0] == 3.0:
            raise ZeroDivisionError("by nothing")
        return step


def make_failing(rows: int) -> Failing:
    if rows > 4 and is_worker():
        raise ConfigError(f"arm rows: expected at most 4, got {rows}; ask for fewer")
    return Failing(BernoulliBanditBatch(rows, arms=4))
