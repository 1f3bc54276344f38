"""A robot that goes wrong when it is told to: a fake for rehearsing what a deployment does about it.

    robot = FaultyRobot(SimulatedAdapter(family.make(1)), {30: Fault.FREEZE, 31: Fault.FREEZE})

Axes: O observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from .adapter import RobotAdapter
from .limits import RobotLimits
from .robot import Bool, Float, Step, TakesLimits
from .spec import RobotSpec


class Fault(Enum):
    """What goes wrong at one step."""

    LOSE = "the command is lost: the robot holds"
    FREEZE = "the observation is the one before, and as old as that"
    REPEAT = "the observation is the one before, and says that it is new"
    NAN = "one number of the observation is NaN"
    SHORT = "the observation lacks an axis"
    HUGE = "one number of the observation is beyond float32"
    RAISE = "the driver raises"
    NOTHING = "the driver returns nothing"
    UNKNOWN_AGE = "the age of the observation is NaN"
    FUTURE = "the observation is from the future"
    OVERTAKEN = "the observation is older than the one before"


class FaultyRobot(RobotAdapter, TakesLimits):
    """Another adapter whose steps go wrong by a schedule. Faults of the link are the link's, not the robot's."""

    def __init__(self, robot: RobotAdapter, faults: Mapping[int, Fault]) -> None:
        """Takes the robot.

        Args:
            robot: It is closed with this one.
            faults: By the number of the step since the robot was connected, from 0 on.
        """
        self._robot, self._faults = robot, dict(faults)
        self._step = 0
        self._last = np.zeros(robot.spec.observation.shape, np.float32)
        self._age: float | None = None
        self.stops: list[str] = []
        """Reasons with which it was told to stop."""

    @property
    def spec(self) -> RobotSpec:
        """See `RobotAdapter.spec`."""
        return self._robot.spec

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`."""
        return self._robot.lock_step

    def now(self) -> float:
        """See `RobotAdapter.now`."""
        return self._robot.now()

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`; a lost command counts as sent, since nobody knows better."""
        return self._robot.sent

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `RobotAdapter.reset`."""
        self._age = None
        self._last = self._robot.reset(goal, rng)
        return self._last.copy()

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`."""
        return isinstance(self._robot, TakesLimits) and self._robot.take_limits(limits)

    def home(self) -> Float:
        """See `RobotAdapter.home`."""
        self._age = None
        self._last = self._robot.home()
        return self._last.copy()

    def step(self, action: Float) -> Step:
        """See `RobotAdapter.step`; with the fault of this step.

        Raises:
            OSError: That is the fault.
        """
        fault = self._faults.get(self._step)
        self._step += 1
        if fault is Fault.RAISE:
            raise OSError("the cable was pulled")
        if fault is Fault.LOSE:
            action = self._robot.spec.compute_resting(self._robot.read())
        taken = self._robot.step(action)
        before, self._last = self._last, taken.observation
        seen, self._age = taken.observation.copy(), None
        match fault:
            case Fault.FREEZE:
                self._last, seen, self._age = before, before.copy(), 10.0
            case Fault.REPEAT:
                self._last, seen = before, before.copy()
            case Fault.NAN:
                seen[-1] = np.nan
            case Fault.SHORT:
                seen = seen[:-1]
            case Fault.HUGE:
                seen = seen.astype(np.float64)
                seen[0] = 1e39
            case Fault.NOTHING:
                return None  # type: ignore[return-value]
            case Fault.UNKNOWN_AGE:
                self._age = np.nan
            case Fault.FUTURE:
                self._age = -0.5
            case Fault.OVERTAKEN:
                self._age = 0.09
        return taken._replace(observation=seen)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def read(self) -> Float:
        """See `Observes.read`."""
        return self._robot.read()

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`."""
        return self._robot.observation_age() if self._age is None else self._age

    def hold(self) -> None:
        """See `RobotAdapter.hold`."""
        self._robot.hold()

    def stop(self, reason: str) -> None:
        """See `Stops.stop`."""
        self.stops.append(reason)
        self._robot.stop(reason)

    def close(self) -> None:
        """See `RobotAdapter.close`."""
        self._robot.close()
