"""A robot of ROS 2 as an adapter: joint states in, commands for a controller of ros2_control out.

    ARM = HardwareFamily(name="lab-arm", connect=RosConnection(ROBOT, compute_reward), contract=ROBOT.contract, ...)

Whatever the transport, the driver is the same. A robot that falls silent grows old, and the safety limits stop it.

Axes: O observation, A action, G goal.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import RobotFault, SpecError
from ..adapter import Payment, Reward, RobotAdapter, StopLatch, find_rest, plan_home, require_home
from ..cadence import Cadence
from ..limits import RobotLimits
from ..robot import ROUNDING, Bool, Float, RobotBatch, Rows, Sees, Step, TakesLimits
from ..spec import RobotSpec
from .messages import FLAG, MOST_SKEW_NS, NS, Readings, decode, encode_flag, read_stamp, require_past
from .pictures import PictureDecoder, PictureError, RosCamera
from .ros_robot import RosRobot
from .transport import Sample

FLUSH = 0.2
"""Seconds in which a last message leaves: a writer that goes at once takes it along."""
LOOK_PERIOD = 0.005
"""Seconds between two looks for messages while one is waited for."""


class Survey(NamedTuple):
    """What a robot of ROS 2 says of itself, without a command."""

    rates: dict[str, float]
    """Messages per second by topic."""
    age: float
    """Of the oldest axis at the end, seconds."""
    joints: tuple[str, ...]
    """Names in joint states, sorted."""
    listeners: int | None
    """Controllers that listen."""


class RosDriver(RobotAdapter, TakesLimits, Sees):
    """The robot, in real time. A stop commands the measured place, and lasts until `reset` or `home`."""

    def __init__(self, robot: RosRobot, reward: Reward | RobotBatch, *, sees: bool = True) -> None:
        """Joins the domain, and waits for joint states, the camera and the controller. Nothing is commanded.

        Args:
            robot: Its topics, axes and controller.
            reward: What a task pays, see `Payment`.
            sees: Whether the camera is looked at, if there is one: to stop a robot takes none.

        Raises:
            ConfigError: The library of the transport is missing.
            RobotFault: The domain cannot be joined, an axis is not measured, the camera shows nothing, or no controller
                listens.
        """
        self._robot, self._payment, self._spec = robot, Payment(reward), robot.contract
        self._where = self._spec.name
        self._readings = Readings(
            self._spec.observation, robot.observation, robot.joint_topic, stamped=robot.stamped, where=self._where
        )
        joints = [robot.action[name].joint for name in self._spec.action.names]
        self._order = np.array([joints.index(joint) for joint in robot.controller.joints], np.int64)
        self._factors = np.array([robot.action[name].factor for name in self._spec.action.names])
        self._goal = np.zeros(self._spec.goal.shape, np.float32)
        self._steps = 0
        self._sent = np.full(self._spec.action.shape, np.nan, np.float32)
        self._latch, self._lock = StopLatch(self._where), threading.RLock()
        self._held: Float | None = None  # the command of a hold that lasts
        self._limits = RobotLimits.of(self._spec)
        self._ready: bool | None = None
        self.cadence = Cadence(self._spec.control_period)
        """Of the control loop; its `report` says how it kept up."""
        self._camera = robot.camera if sees else None
        self._decoder = PictureDecoder(self._spec.image.shape) if self._camera and self._spec.image else None
        self._picture: NDArray[np.uint8] | None = None
        self._pictured_ns = -1
        self._topics = self._readings.topics | ({self._camera.topic: self._camera.type} if self._camera else {})
        self._transport = robot.transport.open()
        try:
            for topic, kind in self._topics.items():
                self._transport.subscribe(topic, kind)
            if robot.ready_topic:
                self._transport.subscribe(robot.ready_topic, FLAG)
            if robot.stop_topic:
                self._transport.advertise(robot.stop_topic, FLAG)
            self._transport.advertise(robot.controller.topic, robot.controller.type)
            self._wait_for_robot()
        except BaseException:
            self._transport.close()
            raise

    def _wait_for_robot(self) -> None:
        robot = self._robot
        if not self._wait(lambda: not self._readings.missing):
            heard = ", ".join(sorted(self._readings.seen)) or "no joint at all"
            raise RobotFault(
                f"{self._where} connect: expected {', '.join(self._readings.missing)} on {robot.joint_topic} within "
                f"{robot.timeout:g} s, got {heard}; check the names of the joints, the domain and the network"
            )
        if self._camera and not self._wait(lambda: self._picture is not None):
            raise RobotFault(
                f"{self._where} connect: expected a {self._camera.type} on {self._camera.topic} within "
                f"{robot.timeout:g} s, got none; check the topic, its type and the network"
            )
        if not self._wait(lambda: self._transport.count_listeners(robot.controller.topic) != 0):
            raise RobotFault(
                f"{self._where} connect: expected a controller that listens to {robot.controller.topic}, got none "
                f"within {robot.timeout:g} s; start it (ros2 control list_controllers), and check the type of its topic"
            )
        if robot.ready_topic and not self._wait(lambda: self._ready is not None):
            raise RobotFault(
                f"{self._where} connect: expected a word on {robot.ready_topic} within {robot.timeout:g} s, got none; "
                "check the topic"
            )

    def _wait(self, done: Callable[[], bool]) -> bool:
        """Listens until something is true; False where it does not become so in time."""
        deadline = time.monotonic() + self._robot.timeout
        while True:
            self._listen()
            if done():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_PERIOD)

    def _tell_until_stopped(self) -> bool:
        """Whether the robot has said that it stopped; if not, it is told again.

        What is published before the robot's subscriber was discovered is lost.
        """
        if self._ready is False:
            return True
        with self._lock:
            self._transport.publish(self._robot.stop_topic, encode_flag(True))
        return False

    def _listen(self) -> None:
        """Takes in what has come.

        Raises:
            RobotFault: A message is none, or the transport is broken.
        """
        with self._lock:
            for topic in self._topics:
                self._listen_to(topic)
            if self._robot.ready_topic:
                for sample in self._transport.take(self._robot.ready_topic):
                    flag = decode(FLAG, sample.data, f"{self._where}: topic {self._robot.ready_topic}")
                    self._ready = bool(flag.data)

    def _listen_to(self, topic: str) -> int:
        """Takes in what has come on one topic, and says how many messages that were."""
        samples = self._transport.take(topic)
        if self._camera is not None and topic == self._camera.topic:
            if samples:
                self._take_picture(samples[-1], self._camera)
            return len(samples)
        for sample in samples:
            self._readings.take(topic, sample.data, sample.published_ns, time.time_ns())
        return len(samples)

    def _take_picture(self, sample: Sample, camera: RosCamera) -> None:
        where = f"{self._where}: topic {camera.topic}"
        message = decode(camera.type, sample.data, where)
        stamp = read_stamp(message.header.stamp, where) if camera.stamped else sample.published_ns
        require_past(stamp, time.time_ns(), where)
        assert self._decoder is not None, "made with the camera"
        try:
            picture = self._decoder.decode(message)
        except PictureError as error:
            raise RobotFault(f"{where}: {error}; check what publishes there") from error
        if stamp >= self._pictured_ns:
            self._picture, self._pictured_ns = picture, stamp

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`: the newest picture.

        Raises:
            RobotFault: It is older than the camera's `max_age`.
        """
        if self._camera is None or self._picture is None:
            raise SpecError(f"{self._where}: expected a robot with a camera, got none; give RosRobot a camera")
        self._latch.require_open("take_images")
        self._listen()
        age = (time.time_ns() - self._pictured_ns) / NS
        if age > self._camera.max_age:
            raise RobotFault(
                f"{self._where}: expected a picture of at most {self._camera.max_age:g} s on {self._camera.topic}, got "
                f"one of {age:.3g} s; check the camera and the network"
            )
        return self._picture[None]

    @property
    def spec(self) -> RobotSpec:
        """See `RobotAdapter.spec`."""
        return self._spec

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`: the robot has a clock of its own."""
        return False

    def now(self) -> float:
        """See `RobotAdapter.now`: this machine's monotonic clock."""
        return time.monotonic()

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`: what was published for the controller."""
        return self._sent.copy()

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `RobotAdapter.reset`."""
        self._goal = self._spec.goal.require_one(goal, f"{self._where} reset")
        return self.home()

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`: the way home keeps to those of its commands."""
        limits.spec.require_match(self._spec, f"{self._where} limits")
        if self._robot.home is not None:
            require_home(limits, np.array(self._robot.home, np.float32))
        self._limits = limits
        return True

    def home(self) -> Float:
        """See `RobotAdapter.home`: along a line, within the limits of commands; where there is no home, it stays.

        Raises:
            RobotFault: The robot may not be moved, or does not arrive.
        """
        self._latch.require_open("home")
        self._listen()
        self._require_ready("home")
        self._latch.free()
        if self._robot.home is not None:
            self._go_home(np.array(self._robot.home, np.float32))
        self._steps = 0
        self._payment.begin()
        self.cadence.start()
        self._listen()
        return self._readings.observation

    def _go_home(self, home: Float) -> None:
        begin = find_rest(self._spec, self._readings.observation, self._sent * np.nan)
        self._require_begin(begin)
        period, plan = self._spec.control_period, plan_home(self._limits, begin, home, self._robot.home_seconds)
        axes = np.array([self._spec.observation.names.index(str(name)) for name in self._spec.find_commanded()])
        cadence = Cadence(period)
        for step in range(1, len(plan) + math.ceil(self._robot.timeout / period)):
            self._require_ready("home")
            self._command(plan[min(step, len(plan)) - 1], "home")
            cadence.wait()
            self._listen()
            if self._is_stale():
                self.hold()
                raise RobotFault(
                    f"{self._where} home: expected joint states on the way, got none for {self.observation_age():.3g} "
                    "s; check the robot and the network"
                )
            away = np.abs(self._readings.observation[axes] - home)
            if step >= len(plan) and (away <= self._robot.home_tolerance).all():
                return
        self.hold()
        axis = int(np.argmax(away))
        raise RobotFault(
            f"{self._where} home: expected '{self._spec.action.names[axis]}' within {self._robot.home_tolerance:g} of "
            f"{home[axis]:g}, got {away[axis]:.3g} away; look for what holds the robot, and whether the controller runs"
        )

    def _require_begin(self, begin: Float) -> None:
        """Refuses to send a robot home that is further outside of the limits than one step: it would jump.

        Raises:
            RobotFault: Naming the axis.
        """
        for axis, bounds, place in zip(self._spec.action.axes, self._limits.action, begin.tolist(), strict=True):
            low, high, source = bounds["position"]
            step = ROUNDING * (1.0 + abs(place))
            step += bounds["velocity"].high * self._spec.control_period if "velocity" in bounds else 0.0
            if not low - step <= place <= high + step:
                raise RobotFault(
                    f"{self._where} home: expected '{axis.name}' within [{low:g}, {high:g}] {axis.unit} of {source}, "
                    f"got {place:g}; move the robot there by hand"
                )

    def _is_stale(self) -> bool:
        return not 0.0 <= self.observation_age() <= self._robot.max_age

    def step(self, action: Float) -> Step:
        """See `RobotAdapter.step`: publishes the command, waits for the end of the control period, and listens."""
        self._require_ready("step")
        self._command(action, "step")
        self.cadence.wait()
        self._listen()
        self._latch.require_free("step")
        self._require_ready("step")
        observation = self._readings.observation
        self._steps += 1
        reward, terminated = self._payment.pay(observation, self._goal)
        truncated = self._steps >= self._spec.episode_steps and not terminated
        if terminated or truncated:
            sent = self._sent
            self.hold()  # the controllers of ros2_control go on with the last command
            self._sent = sent  # the hold is none of what the step was told
        return Step(observation, reward, terminated, truncated, success=terminated)

    def _require_ready(self, what: str) -> None:
        if self._ready is False:
            raise RobotFault(
                f"{self._where} {what}: expected a robot that may move, got one that is stopped, as "
                f"{self._robot.ready_topic} says; inspect it, then set it free"
            )

    def _command(self, action: Float, what: str) -> None:
        """Sends a command, unless another thread has stopped the robot: what it then sends must be the last word."""
        with self._lock:
            self._latch.require_free(what)
            self._send(self._spec.require_command(action, f"{self._where} {what}"))

    def _send(self, command: Float) -> None:
        values = (command.astype(np.float64) / self._factors)[self._order]
        data = self._robot.controller.encode(values.tolist(), self._spec.control_period)
        self._transport.publish(self._robot.controller.topic, data)
        self._sent, self._held = command, None

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._payment.compute(observation, goals)

    def read(self) -> Float:
        """See `Observes.read`."""
        self._latch.require_open("read")
        self._listen()
        return self._readings.observation

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`: of the oldest axis, by its stamp; negative where the clocks disagree."""
        age = time.time_ns() - self._readings.oldest_ns
        return 0.0 if -MOST_SKEW_NS <= age < 0 else age / NS

    def hold(self) -> None:
        """See `RobotAdapter.hold`: the measured place, or a speed of zero, is commanded."""
        self._latch.require_open("hold")
        self._rest()

    def _rest(self) -> None:
        """Commands rest, where the first hold found the robot: one that sags would creep with each measurement.

        A place that was measured long ago would be a jump back: the last command stands then, see `find_rest`.
        """
        held = self._held
        if held is None:
            held = find_rest(self._spec, self._readings.observation, self._sent, known=not self._is_stale())
        self._send(held)
        self._held = held

    def stop(self, reason: str) -> None:
        """See `Stops.stop`: as `hold`, and the topic of stops is told.

        Raises:
            RobotFault: The transport is broken, or nobody knows where the robot is; cut its power.
        """
        self._latch.stop(reason)
        with self._lock:
            with suppress(RobotFault):  # what was measured before has to do
                self._listen()
            self._held = None  # where it is now: somebody may have moved it since it was held
            try:
                self._rest()
            finally:
                if self._robot.stop_topic:
                    self._transport.publish(self._robot.stop_topic, encode_flag(True))

    def await_stop(self) -> None:
        """Waits for the word of the robot that it may not be moved any more; a while, where it gives no such word.

        Raises:
            RobotFault: It does not say so.
        """
        if not (self._robot.stop_topic and self._robot.ready_topic):
            time.sleep(FLUSH)
        elif not self._wait(self._tell_until_stopped):
            raise RobotFault(
                f"{self._where}: expected the word on {self._robot.ready_topic} that it has stopped, got none within "
                f"{self._robot.timeout:g} s; cut its power"
            )

    def survey(self, seconds: float) -> Survey:
        """Listens for a while; nothing is commanded.

        Raises:
            RobotFault: See `read`.
        """
        counts = dict.fromkeys(self._topics, 0)
        self._listen()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(LOOK_PERIOD)
            with self._lock:
                for topic in counts:
                    counts[topic] += self._listen_to(topic)
        rates = {topic: count / passed for topic, count in counts.items()}
        listeners = self._transport.count_listeners(self._robot.controller.topic)
        return Survey(rates, self.observation_age(), tuple(sorted(self._readings.seen)), listeners)

    def close(self) -> None:
        """Leaves the domain; ros2_control goes on with the last command."""
        if self._latch.close():
            self._transport.close()


@dataclass(frozen=True, slots=True)
class RosConnection:
    """Connects a robot of ROS 2: for `HardwareFamily.connect`."""

    robot: RosRobot
    """Its topics, axes and controller."""
    reward: Reward | RobotBatch
    """What a task pays, see `Payment`."""

    def __call__(self) -> RosDriver:
        """The driver; see there for errors."""
        return RosDriver(self.robot, self.reward)


def pay_nothing(observation: Float, goals: Float) -> tuple[Float, Bool]:
    """The reward of a robot that is only looked at or stopped."""
    shape = (*observation.shape[:-1], len(goals))
    return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)


def stop_ros_robot(robot: RosRobot, reason: str) -> None:
    """Stops a robot from any process, by a connection of its own; for the `stop` of a `HardwareFamily`.

        def stop_arm(reason):
            stop_ros_robot(ROBOT, reason)

    Raises:
        RobotFault: It is not there, the transport is broken, or the robot does not say that it has stopped.
    """
    driver = RosDriver(robot, pay_nothing, sees=False)
    try:
        driver.stop(reason)
        driver.await_stop()
    finally:
        driver.close()


def survey(robot: RosRobot, seconds: float) -> Survey:
    """Listens for a while; see `RosDriver` for errors."""
    driver = RosDriver(robot, pay_nothing)
    try:
        return driver.survey(seconds)
    finally:
        driver.close()
