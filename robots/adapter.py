"""The robot adapter: one robot with all that a deployment asks of it, simulated, real, recorded or faulty.

Making one connects it. `adapter_testing.py` is its contract as tests. `robot.RobotRow` makes rows of it, for the loop,
the safety limits and the rest of Supple.

Axes: O observation, A action, N goals, G goal.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from ..errors import ConfigError, RobotFault
from .limits import RobotLimits
from .robot import (
    ROUNDING,
    Bool,
    Float,
    Holds,
    Observes,
    PaysAlongPath,
    RobotBatch,
    Step,
    Stops,
    TellsAge,
    TellsSent,
    freeze,
)
from .spec import RobotSpec

Reward = Callable[[Float, Float], tuple[Float, Bool]]
"""What a task pays, for robots that do not know: as `Robot.compute_reward`."""


class Payment:
    """What the task of an episode pays, step by step, for drivers of robots that do not know."""

    def __init__(self, reward: Reward | RobotBatch) -> None:
        """No episode has begun.

        Args:
            reward: What a state pays; or simulated robots with the same task, which are not moved. They are asked for
                the whole path of the episode where it counts (`robot.PaysAlongPath`).
        """
        self._along: PaysAlongPath | None = reward if isinstance(reward, PaysAlongPath) else None
        self._compute: Reward = reward if callable(reward) else reward.compute_reward
        self._path: list[Float] = []

    def begin(self) -> None:
        """An episode begins."""
        self._path = []

    def compute(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """As `Robot.compute_reward`: what reaching some states would pay; nothing can be written into them."""
        return self._compute(freeze(observation), freeze(goals))

    def pay(self, observation: Float, goal: Float) -> tuple[float, bool]:
        """Reward and termination of a step of the episode.

        Args:
            observation: Where it led, shape (O,).
            goal: Of the episode, shape (G,).

        Raises:
            UntoldReward: Nothing tells it.
        """
        if self._along is None:
            reward, terminated = self.compute(observation, goal[None])
            return float(reward.item()), bool(terminated.item())
        self._path.append(observation.copy())
        rewards, ends = self._along.compute_path_reward(freeze(np.stack(self._path)[None]), freeze(goal[None]))
        return float(rewards[0, -1].item()), bool(ends[0, -1].item())


class RobotAdapter(Stops, TellsAge, Observes, Holds, TellsSent):
    """A `robot.Robot` that can be read, held, stopped and sent home, and that says what it was really sent.

    Its clock is one of two. In lock step, time passes in `step` alone, one control period at each. In real time, a step
    waits for the end of its period, and the robot moves on whether or not steps come.
    """

    @property
    @abstractmethod
    def spec(self) -> RobotSpec:
        """The contract."""

    @property
    @abstractmethod
    def lock_step(self) -> bool:
        """Whether time passes in `step` alone."""

    @abstractmethod
    def now(self) -> float:
        """Seconds on the robot's clock; it never goes back."""

    @property
    @abstractmethod
    def sent(self) -> Float:
        """What was really sent last, shape (A,), within the limits; NaN before the first command."""

    @abstractmethod
    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """Brings the robot home and starts an episode; see `Robot.reset`.

        Raises:
            SpecError: The goal is none.
            RobotFault: The robot is stopped, or cannot be brought there.
        """

    @abstractmethod
    def step(self, action: Float) -> Step:
        """Sends the nearest allowed command and waits for the end of the control period; see `Robot.step`.

        Raises:
            SpecError: The action has the wrong shape or is not finite; nothing was sent.
            RobotFault: The robot is stopped or closed, takes no command, or gives no observation.
        """

    @abstractmethod
    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""

    @abstractmethod
    def hold(self) -> None:
        """The robot stays as it is until the next command. Told again, it stays where the first hold found it.

        Raises:
            RobotFault: It cannot be told.
        """

    @abstractmethod
    def home(self) -> Float:
        """Brings the robot to a start, without a new episode; returns the observation, shape (O,).

        Raises:
            RobotFault: See `reset`.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the robot; may be called more than once."""


class StopLatch:
    """A stop that holds until somebody takes it away, for drivers whose robot has none of its own."""

    def __init__(self, where: str) -> None:
        """Nothing is stopped.

        Args:
            where: Of the robot, for messages.
        """
        self._where = where
        self._reason: str | None = None
        self._closed = False

    def stop(self, reason: str) -> None:
        """Latches; the first reason counts."""
        self._reason = self._reason or reason or "no reason was given"

    def free(self) -> None:
        """Takes the stop away: the robot may be commanded again."""
        self._reason = None

    def close(self) -> bool:
        """Latches for good; whether this was the first time."""
        first, self._closed = not self._closed, True
        return first

    def require_free(self, what: str) -> None:
        """Refuses what must not be done now.

        Raises:
            RobotFault: The robot is stopped or closed.
        """
        if self._closed:
            raise RobotFault(f"{self._where} {what}: expected a connected robot, got a closed one; connect it again")
        if self._reason is not None:
            raise RobotFault(
                f"{self._where} {what}: expected a robot that may move, got one stopped by '{self._reason}'; inspect "
                "it, then reset it"
            )

    def require_open(self, what: str) -> None:
        """Refuses what a closed robot cannot do.

        Raises:
            RobotFault: The robot is closed.
        """
        if self._closed:
            raise RobotFault(f"{self._where} {what}: expected a connected robot, got a closed one; connect it again")


def find_rest(spec: RobotSpec, observation: Float, sent: Float, *, known: bool = True) -> Float:
    """The command with which a driver lets its robot rest, shape (A,), within the limits.

    It is the measured place where an axis commands one. A place that is not finite, or outside of the limits of its
    axis, was not measured, and one that is further outside of those of the command than a step cannot be commanded: the
    nearest command would be a jump. The last command stands then.

    Args:
        spec: The contract.
        observation: Newest, shape (O,).
        sent: The last command, shape (A,); NaN where there was none.
        known: Whether places were measured just now; else the last command stands where there was one.

    Raises:
        RobotFault: No command lets the robot rest.
    """
    rest, names = spec.compute_resting(observation), spec.observation.names
    for axis, (action, commanded) in enumerate(zip(spec.action.axes, spec.find_commanded(), strict=True)):
        if commanded is None:
            continue
        seen, place = spec.observation.axes[names.index(commanded)], rest[axis]
        slack = ROUNDING * (1.0 + max(-action.low, action.high)) + (action.rate_limit or 0.0) * spec.control_period
        low, high = np.maximum(seen.low, action.low) - slack, np.minimum(seen.high, action.high) + slack
        if np.isfinite(sent[axis]) and not (known and low <= place <= high):
            rest[axis] = sent[axis]
        elif not low <= place <= high:  # nor NaN
            raise RobotFault(
                f"{spec.name} hold: expected '{commanded}' within [{low:.6g}, {high:.6g}] {action.unit}, where it can "
                f"be held, got {place:.6g}; no command was sent: check the sensor, and move the robot there by hand"
            )
    held: Float = np.minimum(np.maximum(rest, spec.action.inner_low), spec.action.inner_high)
    return held


def require_home(limits: RobotLimits, home: Float) -> None:
    """Refuses a home that the robot may not be sent to.

    Args:
        limits: That hold for the robot.
        home: The command of each axis there, shape (A,).

    Raises:
        ConfigError: It is outside of the limits of a command, or of those of the place that it commands.
    """
    spec = limits.spec
    axes = zip(spec.action.axes, limits.action, limits.chains, spec.find_commanded(), home.tolist(), strict=True)
    for axis, bounds, chain, commanded, place in axes:
        slack = float(ROUNDING) * (1.0 + abs(place))
        for bound in (bounds[chain[0]], limits.observation.get(commanded or "", None)):
            if bound is not None and not bound.low - slack <= place <= bound.high + slack:
                raise ConfigError(
                    f"{spec.name} home: expected '{axis.name}' within [{bound.low:g}, {bound.high:g}] {axis.unit} of "
                    f"{bound.source}, got {place:g}; give the robot a home within its limits"
                )


def plan_home(limits: RobotLimits, begin: Float, home: Float, least_seconds: float = 0.0) -> Float:
    """Commands along a line from a rest to a rest, one for each control period, within all limits; shape (T, A).

    Speed is constant where no acceleration and no jerk is limited. Else the share of the way after the share t of the
    time is 10 t^3 - 15 t^4 + 6 t^5 (Flash and Hogan, The coordination of arm movements: an experimentally confirmed
    mathematical model, J. Neuroscience, 1985), whose speed, acceleration and jerk are at most 15/8, 10/sqrt(3) and 60
    times way, way and way per time, its square and its cube.

    Args:
        limits: That hold for the robot, whose action axes command places.
        begin: Where it rests, shape (A,).
        home: Where it is brought, shape (A,).
        least_seconds: It takes no less.
    """
    seconds, smooth, spec = least_seconds, False, limits.spec
    ways = np.abs(home.astype(np.float64) - begin)
    for bounds in limits.action:
        smooth |= "acceleration" in bounds or "jerk" in bounds
    peaks = (15.0 / 8.0, 10.0 / math.sqrt(3.0), 60.0) if smooth else (1.0, 0.0, 0.0)
    for bounds, way in zip(limits.action, ways.tolist(), strict=True):
        for order, (name, peak) in enumerate(zip(("velocity", "acceleration", "jerk"), peaks, strict=True), start=1):
            if name in bounds:
                seconds = max(seconds, float((peak * way / bounds[name].high) ** (1.0 / order)))
    steps = max(1, math.ceil(seconds / spec.control_period * (1.0 - 1e-9)))
    time = np.arange(1, steps + 1)[:, None] / steps
    share = time**3 * (10.0 - 15.0 * time + 6.0 * time**2) if smooth else time
    line: Float = (begin + share * (home.astype(np.float64) - begin)).astype(np.float32)
    return line
