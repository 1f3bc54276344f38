"""Any LeRobot `Robot` as a robot, by duck typing: dictionaries of floats by joint name, in and out.

LeRobot (Cadene et al., LeRobot: State-of-the-art Machine Learning for Real-World Robotics in PyTorch, 2024) has drivers
of many arms with `connect`, `get_observation`, `send_action` and `disconnect`. None of it is imported here. LeRobot
does not tell units: many of its arms speak degrees, or shares of a joint's range. So each axis names its key and the
factor from LeRobot's number to the unit of the contract.

    LeRobotDriver(robot, SPEC, observation={"joint1": Key("shoulder.pos", RADIANS)}, action={...}, reward=reach)

A policy that sees needs its picture, which a function makes of LeRobot's:
`picture=lambda told: told["front"][::15, ::20]`.

Axes: O observation, A action, N goals, G goal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, RobotFault, SpecError, make_text
from .adapter import Payment, Reward, RobotAdapter, StopLatch, find_rest, plan_home, require_home
from .cadence import Cadence
from .limits import RobotLimits
from .robot import Bool, Float, RobotBatch, Rows, Sees, Step, TakesLimits, read_number
from .spec import ArraySpec, RobotSpec

RADIANS = math.pi / 180.0
"""Factor of a number in degrees."""


class LeRobotLike(Protocol):
    """The part of a LeRobot `Robot` that is used."""

    def connect(self) -> None:
        """Connects."""

    def get_observation(self) -> Mapping[str, Any]:
        """Numbers by key, such as `shoulder.pos`, and pictures."""

    def send_action(self, action: dict[str, Any]) -> Mapping[str, Any]:
        """Sends numbers by key; returns those that were really sent."""

    def disconnect(self) -> None:
        """Disconnects."""


@dataclass(frozen=True, slots=True)
class Key:
    """Where a number stands in LeRobot's dictionaries."""

    name: str
    """Of the key, such as `shoulder.pos`."""
    factor: float
    """Unit of the axis per LeRobot's unit; `RADIANS` for degrees, 1 for the same unit."""


class LeRobotDriver(RobotAdapter, TakesLimits, Sees):
    """A LeRobot robot, in real time; it holds by commanding the measured place.

    A stop lasts until `reset` or `home`.
    """

    def __init__(
        self,
        robot: LeRobotLike,
        spec: RobotSpec,
        *,
        observation: Mapping[str, Key],
        action: Mapping[str, Key],
        reward: Reward | RobotBatch,
        home: Callable[[], None] | tuple[float, ...] | None = None,
        picture: Callable[[Mapping[str, Any]], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Connects the robot.

        Args:
            robot: Of LeRobot, or with the same calls.
            spec: The contract; each action axis commands an observation axis.
            observation: The key of each observation axis, by the axis' name.
            action: The key of each action axis, by the axis' name.
            reward: What a task pays, see `adapter.Payment`.
            home: The command of each action axis at the start; the robot is brought there along a line, within the
                limits. Or a function of yours that brings it there, which knows no limits. Without it, a person does so
                before each episode.
            picture: The picture of the contract, uint8 (height, width, channels), of what LeRobot told: the same part
                of the same camera, at the same scale, as in the data. Of a contract with an image.

        Raises:
            ConfigError: An axis has no key, a key no axis, a factor is not finite or 0, or an action axis commands no
                observation axis, so that it cannot hold; its home is outside of its limits; or there is an image in the
                contract and no `picture`, or the reverse.
            SpecError: Its home is none.
            RobotFault: The robot does not connect.
        """
        if (spec.image is None) != (picture is None):
            expected = "no picture, since its contract has no image" if spec.image is None else "a picture"
            raise ConfigError(f"{spec.name} picture: expected {expected}, got {picture!r:.40}; correct one of them")
        self._spec, self._robot, self._payment, self._home = spec, robot, Payment(reward), home
        self._limits = RobotLimits.of(spec)
        if isinstance(home, tuple):
            require_home(self._limits, spec.action.require_one(home, f"{spec.name} home"))
        self._observed = _order(spec.observation, observation)
        self._commanded = _order(spec.action, action)
        for axis, name in zip(spec.action.names, spec.find_commanded(), strict=True):
            if name is None:
                raise ConfigError(
                    f"{spec.name} action axis '{axis}': expected one that commands an observation axis, got none; name "
                    "it with Axis(commands=...)"
                )
        self._goal = np.zeros(spec.goal.shape, np.float32)
        self._steps, self._stamp = 0, time.monotonic()
        self._sent = np.full(spec.action.shape, np.nan, np.float32)
        self._held: Float | None = None  # the command of a hold that lasts
        self._picture = picture
        self._shown: NDArray[np.uint8] | None = None
        self._latch = StopLatch(spec.name)
        self.cadence = Cadence(spec.control_period)
        """Of the control loop; its `report` says how it kept up."""
        try:
            robot.connect()
        except Exception as error:
            raise _fault(spec, "connect", error) from error

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._spec

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`: the robot is brought home.

        Raises:
            RobotFault: It does not read.
        """
        self._goal = self._spec.goal.require_one(goal, f"{self._spec.name} reset")
        return self.home()

    def home(self) -> Float:
        """See `RobotAdapter.home`; a stop ends here.

        Raises:
            RobotFault: It does not read.
        """
        self._latch.require_open("home")
        self._held = None
        self._sent[:] = np.nan  # whoever brings it home commands it elsewhere
        if callable(self._home):
            self._home()
        self._latch.free()
        if isinstance(self._home, tuple):
            self._go_home(np.array(self._home, np.float32))
        self._steps = 0
        self._payment.begin()
        observation = self._read()
        self.cadence.start()
        return observation

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`: the way to a home that is a command keeps to them; a function knows none."""
        limits.spec.require_match(self._spec, f"{self._spec.name} limits")
        if isinstance(self._home, tuple):
            require_home(limits, np.array(self._home, np.float32))
        self._limits = limits
        return not callable(self._home)

    def _go_home(self, home: Float) -> None:
        self.cadence.start()
        for command in plan_home(self._limits, find_rest(self._spec, self._read(), self._sent), home):
            self._latch.require_free("home")
            self._send(command)
            self.cadence.wait()

    def step(self, action: Float) -> Step:
        """See `Robot.step`: sends the command, waits for the end of the control period, and reads.

        Raises:
            RobotFault: The robot does not take the command, or does not read.
        """
        self._latch.require_free("step")
        self._send(self._spec.require_command(action, f"{self._spec.name} step"))
        self.cadence.wait()
        observation = self._read()
        self._steps += 1
        reward, terminated = self._payment.pay(observation, self._goal)
        truncated = self._steps >= self._spec.episode_steps and not terminated
        return Step(observation, reward, terminated, truncated, success=terminated)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._payment.compute(observation, goals)

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`; since it was asked for, for LeRobot gives no stamps."""
        return time.monotonic() - self._stamp

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`: the arm has a clock of its own."""
        return False

    def now(self) -> float:
        """See `RobotAdapter.now`: this machine's monotonic clock."""
        return time.monotonic()

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`: what LeRobot says that it sent, in the units of the contract."""
        return self._sent.copy()

    def read(self) -> Float:
        """See `Observes.read`."""
        self._latch.require_open("read")
        return self._read()

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`: the picture that came with the newest observation."""
        if self._shown is None:
            raise SpecError(f"{self._spec.name} take_images: expected a robot that was read, got none; reset it")
        return np.repeat(self._shown[None], len(rows), axis=0)

    def hold(self) -> None:
        """See `RobotAdapter.hold`: the measured place is commanded, see `find_rest`.

        Raises:
            RobotFault: The robot does not take it, or nobody knows where it is.
        """
        self._latch.require_open("hold")
        self._rest()

    def stop(self, reason: str) -> None:
        """See `Stops.stop`: the measured place is commanded, so that the robot holds; see `find_rest`.

        Raises:
            RobotFault: The robot does not take it, or nobody knows where it is; cut its power.
        """
        self._latch.stop(reason)
        self._held = None  # where it is now: somebody may have moved it since it was held
        self._rest()

    def close(self) -> None:
        """Disconnects."""
        if self._latch.close():
            self._robot.disconnect()

    def _rest(self) -> None:
        """Commands the place where the first hold found the arm: one that sags would creep with each measurement."""
        held = find_rest(self._spec, self._read(), self._sent) if self._held is None else self._held
        self._send(held)
        self._held = held

    def _read(self) -> Float:
        asked = time.monotonic()
        try:
            told = self._robot.get_observation()
            values = _take_numbers(told, self._observed)
            if self._picture is not None and self._spec.image is not None:
                shown = np.array(self._picture(told))  # a copy: cameras fill the same memory again
                self._shown = self._spec.image.require_rows(shown[None], 1, f"{self._spec.name} picture")[0]
        except Exception as error:
            raise _fault(self._spec, "get_observation", error) from error
        self._stamp = asked
        return values

    def _send(self, command: Float) -> None:
        self._held = None
        allowed = np.minimum(np.maximum(command, self._spec.action.inner_low), self._spec.action.inner_high)
        pairs = zip(self._commanded, allowed.tolist(), strict=True)
        try:
            told = self._robot.send_action({key.name: value / key.factor for key, value in pairs})
            sent = _take_numbers(told, self._commanded)
        except Exception as error:
            raise _fault(self._spec, "send_action", error) from error
        if not np.isfinite(sent).all():
            raise RobotFault(
                f"{self._spec.name} send_action: expected the finite numbers that were sent, got {dict(told)}; check "
                "its power and its link"
            )
        self._sent = sent


def _take_numbers(told: object, keys: tuple[Key, ...]) -> Float:
    """The numbers of some keys in the units of the contract, in their order: plain ones, or of numpy or torch."""
    if not isinstance(told, Mapping):
        raise TypeError(f"{type(told).__name__} {make_text(told)[:60]} in place of numbers by key")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is no measurement
        numbers = np.array([read_number(told[key.name], key.name) * key.factor for key in keys])
        return numbers.astype(np.float32)


def _order(array: ArraySpec, keys: Mapping[str, Key]) -> tuple[Key, ...]:
    """The keys in the order of the axes."""
    if set(keys) != set(array.names):
        raise ConfigError(
            f"{array.name} keys: expected one for each of {', '.join(array.names)}, got {', '.join(keys) or 'none'}; "
            "name the key and the unit of each axis"
        )
    for name, key in keys.items():
        if not math.isfinite(key.factor) or key.factor == 0.0:
            raise ConfigError(
                f"{array.name} key '{key.name}' of axis '{name}': expected a finite factor other than 0, got "
                f"{key.factor}; 1 keeps the unit"
            )
    return tuple(keys[name] for name in array.names)


def _fault(spec: RobotSpec, call: str, error: Exception) -> RobotFault:
    return RobotFault(
        f"{spec.name} {call}: expected an answer of the robot, got {type(error).__name__} {make_text(error)}; check "
        "its power, its link and the names of its keys"
    )
