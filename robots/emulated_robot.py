"""A robot that is not there: a simulated one in a process of its own, with its own clock, and the driver for it.

What a driver of a real robot meets, it meets here: the robot moves on whether or not commands come, observations are
noisy, late or lost, and the robot protects itself. It holds its place when no command has come for some periods, stops
when they stay away, and moves again only after a person has said so, as in libfranka.

    with emulate(MY_ARM, "arm.socket") as robot:
        arm = HardwareFamily(name="emulated", connect=lambda: LinkedRobot(MY_ARM, "arm.socket"), ...)

Axes: G goal, O observation, A action.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Annotated, Any

import numpy as np

from ..bounds import Count, NonNegative, Range, Seed, require_bounds
from ..errors import ConfigError, RobotFault, SpecError
from .adapter import Payment, RobotAdapter, StopLatch
from .cadence import Cadence
from .family import RobotFamily
from .hardware_family import HardwareFamily
from .robot import Bool, Float, Step
from .robot_link import Exchange, Kind, Link, Packet
from .spec import RobotSpec

ROW = np.zeros(1, np.int64)
HOLD_TIMEOUT = 0.3
"""Seconds in which a robot has to take the word that it is to hold."""
_NUMBERS = count()


class Mode(IntEnum):
    """What an emulated robot does."""

    FOLLOWING = 0
    """... commands."""
    HOLDING = 1
    """No command has come for a while."""
    STOPPED = 2
    """Until a person says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """How the robot and its link behave.

    Raises:
        ConfigError: A number is out of range.
    """

    hold_periods: Count = 2
    """Control periods without a command after which the robot holds its place."""
    stop_periods: Count = 20
    """... and after which it stops, unless it was told that none follows."""
    noise: NonNegative = 0.0
    """Standard deviation of each observation, in its unit."""
    latency: NonNegative = 0.0
    """Seconds from a measurement to its arrival."""
    jitter: NonNegative = 0.0
    """Up to so many seconds more."""
    loss: Annotated[float, Range(0.0, 1.0)] = 0.0
    """Share of the states that are lost."""
    seed: Seed = 0
    """Of noise, jitter and loss."""

    def __post_init__(self) -> None:
        require_bounds(self)


class EmulatedRobot:
    """The robot's own process."""

    def __init__(self, family: RobotFamily, address: str, emulation: Emulation, link: Exchange | None = None) -> None:
        """A robot that holds.

        Args:
            family: What is emulated.
            address: Path of its socket.
            emulation: How it behaves.
            link: What takes the place of that socket.
        """
        self._robot = family.make(1)
        self._spec, self._emulation = family.spec(), emulation
        self._link: Exchange = Link(address) if link is None else link
        self._rng = np.random.default_rng(emulation.seed)
        self._goal = np.array([family.tasks().train[0].goal], np.float32)
        self._mode, self._episode, self._period, self._told = Mode.HOLDING, 0, 0, 0
        self._commanded = False
        self._watchers: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._waiting: deque[tuple[float, Packet]] = deque()
        self._start(0)

    def run(self) -> None:
        """Moves on, period after period, until the process that started it has gone."""
        cadence, starter = Cadence(self._spec.control_period, sleep=self._rest), multiprocessing.parent_process()
        parent = os.getppid() if starter is None else starter.pid  # getppid alone may already name another process
        while os.getppid() == parent:
            self.step()
            cadence.wait()

    def _rest(self, seconds: float) -> None:
        """Sleeps at most so long, and sends the state whose latency is over first."""
        first = min((at for at, _ in self._waiting), default=np.inf) - time.monotonic()
        time.sleep(max(0.0, min(seconds, first)))
        self._deliver()

    def step(self) -> None:
        """One control period: hears, moves, tells."""
        for packet, sender in self._link.receive():
            self._watchers[sender] = self._period
            with contextlib.suppress(SpecError):  # a goal or a choice that is none
                self._hear(packet, sender)
        self._period += 1
        lost = self._period - self._told
        if self._mode is Mode.FOLLOWING and lost > self._emulation.hold_periods:
            self._hold(Mode.HOLDING)
        if self._mode is Mode.HOLDING and self._commanded and lost > self._emulation.stop_periods:
            self._hold(Mode.STOPPED)
        self._observation = self._robot.step(ROW, self._command).observation
        self._tell()

    def _hear(self, packet: Packet, sender: str) -> None:
        if packet.kind is Kind.STOP:
            self._hold(Mode.STOPPED)
        elif packet.kind is Kind.RECOVER and self._mode is Mode.STOPPED:
            self._mode, self._episode, self._commanded = Mode.HOLDING, 0, False
        elif self._mode is Mode.STOPPED:
            return
        elif packet.kind is Kind.REST:
            self._hold(Mode.HOLDING)
            self._commanded = False
        elif packet.kind is Kind.HOME:
            self._home(packet.values)
        elif packet.kind is Kind.COMMAND and self._episode and packet.sequence > self._heard.get(sender, 0):
            command = self._spec.action.require_one(self._clip(packet.values), "command")
            if self._spec.choices:
                self._spec.require_choices(command[None], 1, "command")
            self._heard[sender] = packet.sequence  # one that was overtaken is old
            self._command, self._mode, self._told, self._commanded = command[None], Mode.FOLLOWING, self._period, True

    def _clip(self, command: Float) -> Float:
        action = self._spec.action
        fits = command.shape == action.shape and not self._spec.choices
        return np.minimum(np.maximum(command, action.inner_low), action.inner_high) if fits else command

    def _home(self, values: Float) -> None:
        """Goes to a start: number of the episode, seed, goal; a number that was there already is a repeated request."""
        goal = self._spec.goal.require_one(values[2:], "goal")
        number, seed = int(values[0]), int(values[1])
        if number > self._episode and seed >= 0:
            self._goal, self._episode = goal[None], number
            self._start(seed)

    def _start(self, seed: int) -> None:
        self._observation = self._robot.reset(ROW, self._goal, np.random.default_rng(seed))
        self._told, self._commanded = self._period, False
        self._mode = Mode.FOLLOWING
        self._hold(Mode.HOLDING)

    def _hold(self, mode: Mode) -> None:
        if self._mode is Mode.FOLLOWING:  # one that holds stays where it was told to, and does not creep
            self._command = self._clip(self._spec.compute_resting(self._observation)[0])[None]
        self._mode = mode

    def _tell(self) -> None:
        now, emulation = time.monotonic(), self._emulation
        seen = self._observation[0] + emulation.noise * self._rng.standard_normal(self._spec.observation.shape)
        values = np.concatenate([[self._mode, self._episode], seen]).astype(np.float32)
        packet = Packet(Kind.STATE, self._period, time.monotonic_ns(), values)
        if self._rng.random() >= emulation.loss:
            self._waiting.append((now + emulation.latency + emulation.jitter * self._rng.random(), packet))
        self._deliver()

    def _deliver(self) -> None:
        """Sends the states whose latency is over."""
        now = time.monotonic()
        due = [packet for at, packet in self._waiting if at <= now]
        self._waiting = deque((at, packet) for at, packet in self._waiting if at > now)
        for watcher in list(self._watchers):
            if not all([self._link.send(packet, watcher) for packet in due]) and not os.path.exists(watcher):
                del self._watchers[watcher]


MakeExchange = Callable[[RobotFamily, str], Exchange]
"""What an emulated robot is commanded by, from its family and the path of its socket; plain values, to be sent."""


def _run(family: RobotFamily, address: str, emulation: Emulation, link: MakeExchange | None, ready: Any) -> None:
    robot = EmulatedRobot(family, address, emulation, None if link is None else link(family, address))
    ready.send(True)
    with contextlib.suppress(KeyboardInterrupt):
        robot.run()


@contextlib.contextmanager
def emulate(
    family: RobotFamily, address: str, emulation: Emulation | None = None, link: MakeExchange | None = None
) -> Iterator[BaseProcess]:
    """An emulated robot in a process of its own, as long as the context lasts.

    Args:
        family: Of a simulated robot with a field `episode_steps`, since a robot moves on after the time limit.
        address: Path of its socket; see `robot_link.Link`.
        emulation: How it behaves.
        link: What it is commanded by, in the place of that socket alone.

    Raises:
        ConfigError: The family has no time limit that can be taken away.
        RobotFault: The process does not start.
    """
    try:
        endless = replace(family, episode_steps=10**9)  # type: ignore[type-var]
    except TypeError as error:
        raise ConfigError(
            f"emulate '{family.name}': expected a family with a field episode_steps, got {error}; add the field"
        ) from error
    context = multiprocessing.get_context("spawn")
    ready, theirs = context.Pipe()
    process = context.Process(target=_run, args=(endless, address, emulation or Emulation(), link, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ready.recv()
        yield process
    except EOFError as error:
        raise RobotFault(f"emulate '{family.name}': expected a robot at {address}, got none; see its error") from error
    finally:
        process.kill()
        process.join()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)


class LinkedRobot(RobotAdapter):
    """The driver of an emulated robot, in real time."""

    def __init__(self, family: RobotFamily, address: str, timeout: float = 5.0) -> None:
        """Opens the link.

        Args:
            family: Of the robot; it tells the contract and what a task pays.
            address: Path of the robot's socket.
            timeout: Seconds to wait for the start of an episode.

        Raises:
            RobotFault: The link cannot be made.
        """
        self._spec, self._twin = family.spec(), family.make(1)
        self._payment = Payment(self._twin)
        self._twin_goal = np.array(family.tasks().train[0].goal, np.float32)
        self._address, self._timeout = address, timeout
        self._link = Link(f"{address}.{os.getpid()}.{next(_NUMBERS)}")
        self._sequence, self._episode, self._steps, self._newest = 0, 0, 0, 0
        self._stamp_ns = time.monotonic_ns()
        self._mode = Mode.HOLDING
        self._observation = np.zeros(self._spec.observation.shape, np.float32)
        self._goal: Float | None = None
        self._rng = np.random.default_rng(0)
        self._sent = np.full(self._spec.action.shape, np.nan, np.float32)
        self._latch = StopLatch(f"robot at {address}")  # until the robot itself says that it has stopped
        self.cadence = Cadence(self._spec.control_period)
        """Of the control loop; its `report` says how it kept up."""

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._spec

    @property
    def mode(self) -> Mode:
        """What the robot does now."""
        self._refresh()
        return self._mode

    @property
    def newest(self) -> int:
        """Control period of the robot, by its own count, of the newest state."""
        return self._newest

    @property
    def address(self) -> str:
        """Path of this driver's own socket."""
        return self._link.address

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`: the robot goes to a start.

        Raises:
            RobotFault: It is stopped, or does not answer.
        """
        self._goal = self._spec.goal.require_one(goal, "linked robot reset")
        self._rng = rng
        return self.home()

    def home(self) -> Float:
        """See `RobotAdapter.home`: an episode of the robot begins, with the goal of the last reset.

        Raises:
            RobotFault: See `reset`.
        """
        self._latch.require_free("home")
        goal = self._twin_goal if self._goal is None else self._goal
        self._refresh()
        wanted, seed = self._episode + 1, int(self._rng.integers(2**24))
        deadline = time.monotonic() + self._timeout
        while self._episode != wanted:
            if self._mode is Mode.STOPPED:
                raise RobotFault(
                    f"robot at {self._address}: expected one that moves, got a stopped one; inspect it, then recover it"
                )
            if time.monotonic() > deadline:
                raise RobotFault(f"robot at {self._address}: expected an episode, got no answer; check the link")
            self._send(Kind.HOME, np.array([wanted, seed, *goal], np.float32))
            self._wait_for_state(0.05)
        self._steps = 0
        self._payment.begin()
        self.cadence.start()
        return self._observation.copy()

    def step(self, action: Float) -> Step:
        """See `Robot.step`: sends the command, waits for the end of the control period, and takes the newest state.

        Raises:
            RobotFault: The robot has stopped.
        """
        self._latch.require_free("step")
        command = self._spec.require_command(action, "linked robot step")
        self._sent = command
        self._send(Kind.COMMAND, command)
        self.cadence.wait()
        self._hear()
        if self._mode is Mode.STOPPED:
            raise RobotFault(f"robot at {self._address}: expected one that follows, got one that has stopped")
        self._steps += 1
        goal = self._twin_goal if self._goal is None else self._goal
        reward, terminated = self._payment.pay(self._observation.copy(), goal)
        truncated = self._steps >= self._spec.episode_steps and not terminated
        if terminated or truncated:
            self._send(Kind.REST)
        return Step(self._observation.copy(), reward, terminated, truncated, success=terminated)

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`: the robot has a clock of its own."""
        return False

    def now(self) -> float:
        """See `RobotAdapter.now`: this machine's monotonic clock."""
        return time.monotonic()

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`."""
        return self._sent.copy()

    def hold(self) -> None:
        """See `RobotAdapter.hold`: the robot is told that no command follows for now."""
        deadline = time.monotonic() + HOLD_TIMEOUT
        while not self._send(Kind.REST):  # it may be busy, with its mail box full
            if time.monotonic() > deadline:
                raise RobotFault(f"robot at {self._address}: expected one that listens, got none; cut its power")
            time.sleep(self._spec.control_period)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._payment.compute(observation, goals)

    def read(self) -> Float:
        """See `Observes.read`; asks the robot for a new state."""
        self._latch.require_open("read")
        self._refresh()
        return self._observation.copy()

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`."""
        return (time.monotonic_ns() - self._stamp_ns) / 1e9

    def stop(self, reason: str) -> None:
        """See `Stops.stop`.

        Raises:
            RobotFault: The robot does not listen.
        """
        self._latch.stop(reason)
        if not self._send(Kind.STOP):
            raise RobotFault(f"robot at {self._address}: expected one that listens, got none; cut its power")

    def recover(self) -> None:
        """After a person has inspected the robot: it may move again."""
        self._latch.free()
        self._send(Kind.RECOVER)
        self._refresh()

    def close(self) -> None:
        """Closes the link; the robot holds by itself."""
        if not self._latch.close():
            return
        self._link.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._link.address)
        self._twin.close()

    def _refresh(self) -> None:
        """Waits for a new state: those that waited here are old, since the socket keeps the first ones."""
        self._hear()
        self._send(Kind.WATCH)
        self._wait_for_state(self._timeout)

    def _send(self, kind: Kind, values: Float | None = None) -> bool:
        self._sequence += 1
        empty = np.empty(0, np.float32)
        packet = Packet(kind, self._sequence, time.monotonic_ns(), empty if values is None else values)
        return self._link.send(packet, self._address)

    def _wait_for_state(self, timeout: float) -> None:
        select.select([self._link], [], [], timeout)
        self._hear()

    def _hear(self) -> None:
        for packet, _ in self._link.receive():
            whole = packet.kind is Kind.STATE and len(packet.values) == 2 + len(self._observation)
            if whole and packet.sequence > self._newest:
                self._newest, self._stamp_ns = packet.sequence, packet.stamp_ns
                self._mode, self._episode = Mode(int(packet.values[0])), int(packet.values[1])
                self._observation = packet.values[2:]


@dataclass(frozen=True, slots=True)
class Connection:
    """Connects an emulated robot: the driver's link for `HardwareFamily.connect`."""

    family: RobotFamily
    """What is emulated."""
    address: str
    """Path of the robot's socket; see `emulate`."""

    def __call__(self) -> LinkedRobot:
        """The driver.

        Raises:
            RobotFault: The link cannot be made.
        """
        return LinkedRobot(self.family, self.address)


def make_emulated_family(family: RobotFamily, address: str) -> HardwareFamily:
    """An emulated robot as a family of one: `supple adapt` treats it like a real robot, in real time.

    Its contract and its goals are those of the simulated family, so that bundles of that family run on it. It stops by
    itself, too, when commands cease.

    Args:
        family: What is emulated.
        address: Path of the robot's socket; see `emulate`.
    """
    tasks = family.tasks()
    return HardwareFamily(
        name=f"emulated-{family.name}",
        connect=Connection(family, address),
        contract=family.spec(),
        train_goals=tuple(task.goal for task in tasks.train),
        test_goals=tuple(task.goal for task in tasks.test),
        stop=stop_robot,
        stop_arguments=(address,),
        stops_by_itself=True,
    )


def stop_robot(address: str, reason: str) -> None:
    """Stops an emulated robot from any process, and returns when it says so; for `adapt.watchdog.Watchdog`.

    Args:
        address: Path of the robot's socket.
        reason: Why, for people.

    Raises:
        RobotFault: It does not say so within 0.2 s.
    """
    link = Link(f"{address}.{os.getpid()}.{next(_NUMBERS)}")
    try:
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            link.send(Packet(Kind.STOP, 1, time.monotonic_ns(), np.empty(0, np.float32)), address)
            select.select([link], [], [], 0.02)
            if any(packet.values[:1] == Mode.STOPPED for packet, _ in link.receive() if packet.kind is Kind.STATE):
                return
        raise RobotFault(f"robot at {address}: expected it to stop for '{reason}', got no answer; cut its power")
    finally:
        link.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link.address)
