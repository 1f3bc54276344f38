"""Who tells reward and success: the robot itself, a script, or a person (`takeover.KeyboardOperator`).

A simulator tells both, and needs no monitor. A real robot seldom does: a script looks at the observation, or a person
at the robot. Each is a `watch.Monitor`, of one robot.

Axes: O observation, G goal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import RobotFault, make_text
from ..robots.robot import Float, StepRows, read_number, read_truth


class Judgement(NamedTuple):
    """What a script says of one step."""

    reward: float
    """Finite."""
    success: bool = False
    """The task is solved now."""
    ended: bool = False
    """The episode is over: solved, or failed for good."""


Judge = Callable[[Float, Float], Judgement]
"""Judges where a step led, shape (O,), by the goal, shape (G,).

One that counts on what was done before, such as subtasks in an order, is an object with a method `begin` as well, which
gets the goal before each episode.
"""


class ScriptMonitor:
    """Asks a function after each step."""

    def __init__(self, judge: Judge, prompt: Callable[[Float], None] | None = None) -> None:
        """Takes the function, and what waits until a person has prepared an episode with a goal."""
        self._judge, self._prompt = judge, prompt
        self._goal: Float = np.zeros(0, np.float32)

    def begin(self, goal: Float) -> None:
        """See `Monitor.begin`.

        Raises:
            RobotFault: The `begin` of the script raised.
        """
        self._goal = goal
        if self._prompt is not None:
            self._prompt(goal)
        begin = getattr(self._judge, "begin", None)
        if begin is None:
            return
        try:
            begin(goal.copy())
        except Exception as error:
            raise _fault("a begin that completes", error) from error

    def judge(self, step: StepRows) -> StepRows:
        """See `Monitor.judge`.

        Raises:
            RobotFault: The script raised, or gave what is no judgement or is not finite.
        """
        try:
            found = self._judge(step.observation[0].copy(), self._goal.copy())
            success, ended = read_truth(found.success, "success"), read_truth(found.ended, "ended")
            with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
                reward = np.array([read_number(found.reward, "reward", "fiub")]).astype(np.float32)
        except Exception as error:
            raise _fault("a judgement", error) from error
        if not np.isfinite(reward).all():
            raise RobotFault(
                f"task monitor: expected a finite reward, got {make_text(found.reward)[:60]}; correct the script"
            )
        return step._replace(
            reward=reward,
            success=np.array([success]),
            terminated=step.terminated | ended,
            truncated=step.truncated & (not ended),
        )


def _fault(expected: str, error: Exception) -> RobotFault:
    got = f"{type(error).__name__} {make_text(error)}"
    return RobotFault(f"task monitor: expected {expected}, got {got}; correct the script")
