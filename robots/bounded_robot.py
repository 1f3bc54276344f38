"""A real robot whose driver is called in a thread of its own, so that nobody waits for ever for a driver that hangs.

A driver may hang anywhere: in a link that was cut, in a lock, in a library of its maker that no signal interrupts. So
every call has a longest time. One that takes longer is a fault, and a Ctrl-C ends the waiting at once. The thread goes
on hanging, and ends with the process.

A driver sees one thread, from `connect` to `close`. Only a stop, or a close, that meets a call which does not end is
made in another one: a robot has to be stopped all the same.

Axes: O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bounds import Range, require_bounds
from ..errors import RobotFault
from .limits import RobotLimits
from .robot import (
    Bool,
    Float,
    Holds,
    Observes,
    Robot,
    Sees,
    Step,
    Stops,
    TakesLimits,
    TellsAge,
    TellsSent,
    Wraps,
    take_images,
)
from .spec import RobotSpec

T = TypeVar("T")
Seconds = Annotated[float, Range(0.0, 1e6, above=True)]
"""What a lock can wait for on any machine."""
NAP = 0.1
"""Longest time, s, after which a Ctrl-C is answered while a driver hangs."""
GRACE = 0.1
"""Seconds that a stop waits for the call under way, before it is made beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverTimes:
    """Longest times of the calls of a driver, seconds."""

    connect: Seconds = 60.0
    reset: Seconds = 120.0
    """Of `reset`, which brings the robot home."""
    call: Seconds = 5.0
    """Of `step`, beyond its control period, and of any other call."""

    def __post_init__(self) -> None:
        require_bounds(self)


class _Call(Generic[T]):
    """One call, and how it ended."""

    def __init__(self, what: str, function: Callable[[], T], late: Callable[[T], None] | None) -> None:
        self.what, self.function, self.late = what, function, late
        self.began = time.monotonic()
        self.ended = threading.Lock()  # taken until it has
        self.ended.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None
        self.finished = self.abandoned = False

    def run(self, mutex: threading.Lock) -> None:
        try:
            self.result = self.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
        with mutex:
            self.finished = True
            late = self.late if self.abandoned and self.error is None else None
        self.ended.release()
        if late is not None:
            with suppress(Exception):  # nobody waits for it
                late(self.result)  # type: ignore[arg-type] # it has ended without an error

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds; may be asked again.

        A signal that comes just before the thread sleeps does not wake it, so that it never sleeps for long.
        """
        until = time.monotonic() + seconds
        while not self.ended.acquire(timeout=max(0.0, min(NAP, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
        self.ended.release()
        return True


class DriverThread:
    """Makes the calls of one driver."""

    def __init__(self, where: str) -> None:
        """Starts the thread.

        Args:
            where: Of the robot, for messages.
        """
        self.where = where
        """Of the robot, for messages."""
        self._mutex = threading.Lock()
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._newest: _Call[Any] | None = None
        threading.Thread(target=self._run, daemon=True, name=f"driver of {where}").start()

    def _run(self) -> None:
        process = os.getpid()
        while (call := self._calls.get()) is not None:
            call.run(self._mutex)
            if os.getpid() != process:  # the driver has forked, and both came back: one of them moves the robot
                os._exit(1)

    def call(self, what: str, seconds: float, function: Callable[[], T], late: Callable[[T], None] | None = None) -> T:
        """What the function gives, or raises.

        Args:
            what: Name of the call.
            seconds: Longest time.
            function: What to call.
            late: Called with a result that comes when nobody waits for it any more.

        Raises:
            RobotFault: It, or the call before it, takes longer.
        """
        before = self._newest
        if before is not None and not before.finished and not before.wait(seconds):
            raise self._refuse(before, seconds)
        call: _Call[T] = _Call(what, function, late)
        self._newest = call
        self._calls.put(call)
        return self._await(call, seconds)

    def call_beside(self, what: str, seconds: float, function: Callable[[], T]) -> T:
        """As `call`, in another thread where the call under way does not end within `GRACE`."""
        before = self._newest
        if before is None or before.finished or before.wait(GRACE):
            return self.call(what, seconds, function)
        call = _Call(what, function, None)
        threading.Thread(target=call.run, args=(self._mutex,), daemon=True, name=f"{what} of {self.where}").start()
        return self._await(call, seconds)

    def _await(self, call: _Call[T], seconds: float) -> T:
        try:
            ended = call.wait(seconds)
        except BaseException:  # a Ctrl-C
            self._abandon(call)
            raise
        if not ended and self._abandon(call):
            raise self._refuse(call, seconds)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value] # it has ended without an error

    def _abandon(self, call: _Call[Any]) -> bool:
        """Nobody waits for it any more; False where it has just ended."""
        with self._mutex:
            call.abandoned = not call.finished
            return call.abandoned

    def _refuse(self, call: _Call[Any], seconds: float) -> RobotFault:
        waited = time.monotonic() - call.began
        return RobotFault(
            f"{self.where} {call.what}: expected a driver that returns within {seconds:g} s, got one that hangs for "
            f"{waited:.3g} s; cut the robot's power where it moves, and check its link"
        )

    def close(self) -> None:
        """Ends the thread, once the calls that it was given have ended."""
        self._calls.put(None)


class BoundedRobot(Wraps, Stops, TellsAge, Holds, TakesLimits, TellsSent, Sees, Observes):
    """A connected robot; see the module's docstring. What the driver cannot do is as in `robot.RobotRow`."""

    def __init__(self, robot: Robot, thread: DriverThread, times: DriverTimes) -> None:
        """Wraps what was connected in this thread."""
        self._robot, self._thread, self._times = robot, thread, times
        self._spec: RobotSpec | None = None
        self._closed = self._gone = False

    def _call(self, what: str, function: Callable[[], T], seconds: float | None = None) -> T:
        if self._closed:
            raise RobotFault(
                f"{self._thread.where} {what}: expected a connected robot, got a closed one; connect again"
            )
        return self._thread.call(what, self._times.call if seconds is None else seconds, function)

    @property
    def inner(self) -> object:
        """See `Wraps.inner`."""
        return self._robot

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        if self._spec is None:
            self._spec = self._call("spec", lambda: self._robot.spec)
        return self._spec

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`."""
        return self._call("reset", lambda: self._robot.reset(goal, rng), self._times.reset)

    def step(self, action: Float) -> Step:
        """See `Robot.step`."""
        return self._call("step", lambda: self._robot.step(action), self._times.call + self.spec.control_period)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._call("compute_reward", lambda: self._robot.compute_reward(observation, goals))

    def read(self) -> Float:
        """See `Observes.read`."""
        robot = self._robot
        if not isinstance(robot, Observes):
            got = type(robot).__name__
            raise RobotFault(f"{self._thread.where} read: expected a driver that can be read, got {got}; step it")
        return self._call("read", robot.read)

    def take_images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Sees.take_images`."""
        return self._call("take_images", lambda: take_images(self._robot, rows, self.spec.name))

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`; 0 where the robot does not know."""
        robot = self._robot
        return self._call("observation_age", robot.observation_age) if isinstance(robot, TellsAge) else 0.0

    def hold(self) -> None:
        """See `Holds.hold`; nothing, where the robot cannot be told."""
        if isinstance(self._robot, Holds):
            self._call("hold", self._robot.hold)

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`; False, where nobody takes them."""
        robot = self._robot
        return isinstance(robot, TakesLimits) and self._call("take_limits", lambda: robot.take_limits(limits))

    @property
    def sent(self) -> Float:
        """See `TellsSent.sent`, (A,)."""
        robot = self._robot
        if isinstance(robot, TellsSent):
            return self._call("sent", lambda: robot.sent)
        return np.full(self.spec.action.shape, np.nan, np.float32)

    def stop(self, reason: str) -> None:
        """See `Stops.stop`; nothing, where the robot cannot be told. A call that hangs does not keep it from that.

        Raises:
            RobotFault: The robot was closed, or the driver hangs.
        """
        robot = self._robot
        if self._gone:
            raise RobotFault(f"{self._thread.where} stop: expected a connected robot, got a closed one; cut its power")
        if isinstance(robot, Stops):
            self._thread.call_beside("stop", self._times.call, lambda: robot.stop(reason))

    def close(self) -> None:
        """See `Robot.close`; again does nothing. A call that hangs does not keep it from that."""
        if self._closed:
            return
        self._closed = True
        self._thread.call_beside("close", self._times.call, self._robot.close)
        self._gone = True  # a robot that could not be closed can still be stopped
        self._thread.close()
