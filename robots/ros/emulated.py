"""An emulated robot behind a transport of ROS 2: joint states out, the commands of a ros2_control controller in.

    with emulate_ros(MY_ARM, "arm.socket", ROBOT) as process:
        driver = RosDriver(ROBOT, reward)

It is the robot of `emulated_robot.py`, with its own clock and its own watchdog, which real controllers do not have.
The socket stays: it is the panel at which a person stops it and sets it free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import TypeVar

import numpy as np

from ...errors import RobotFault
from ..emulated_robot import Emulation, Mode, emulate
from ..family import RobotFamily
from ..robot_link import Kind, Link, Packet
from .messages import (
    FLAG,
    JOINT_STATE,
    NUMBERS,
    Element,
    JointValue,
    decode,
    encode_flag,
    encode_joints,
    encode_numbers,
)
from .ros_robot import RosRobot

T = TypeVar("T")
ROS = "ros"
"""In the place of a sender's path: whoever speaks over the transport."""


class RosExchange:
    """A robot's end of its topics, and its socket; see `robot_link.Exchange`."""

    def __init__(self, robot: RosRobot, family: RobotFamily, address: str) -> None:
        """Joins the domain.

        Args:
            robot: The topics and axes, as the driver has them.
            family: What is emulated.
            address: Path of its socket.
        """
        self._robot, self._spec = robot, family.spec()
        self._goal = family.tasks().train[0].goal
        self._panel = Link(address)
        self._transport = robot.transport.open()
        self._sequence = 0
        self._start = True
        self.malformed = 0
        """Messages that were none."""
        self._elements: dict[str, list[tuple[int, int, float]]] = {}
        self._joints: list[tuple[int, JointValue]] = []
        for axis, name in enumerate(self._spec.observation.names):
            source = robot.observation[name]
            if isinstance(source, Element):
                self._elements.setdefault(source.topic, []).append((axis, source.index, source.factor))
            else:
                self._joints.append((axis, source))
        joints = [robot.action[name].joint for name in self._spec.action.names]
        self._order = [robot.controller.joints.index(joint) for joint in joints]
        self._factors = np.array([robot.action[name].factor for name in self._spec.action.names])
        self._transport.subscribe(robot.controller.topic, robot.controller.type)
        self._transport.advertise(robot.joint_topic, JOINT_STATE)
        for topic in self._elements:
            self._transport.advertise(topic, NUMBERS)
        if robot.stop_topic:
            self._transport.subscribe(robot.stop_topic, FLAG)
        if robot.ready_topic:
            self._transport.advertise(robot.ready_topic, FLAG)

    def receive(self) -> list[tuple[Packet, str]]:
        """What came by the socket and by the topics, the socket first."""
        found = self._panel.receive()
        self._start |= any(packet.kind is Kind.RECOVER for packet, _ in found)
        if self._start:  # a person switches it on: it is at its start, and listens
            self._start = False
            found += [(self._make(Kind.WATCH), ROS), (self._make(Kind.HOME, 1, 0, *self._goal), ROS)]
        if self._robot.stop_topic:
            for sample in self._transport.take(self._robot.stop_topic):
                if self._read(lambda data: decode(FLAG, data, "stop").data, sample.data):
                    found.append((self._make(Kind.STOP), ROS))
        for sample in self._transport.take(self._robot.controller.topic):
            values = self._read(lambda data: self._robot.controller.decode(data, "command"), sample.data)
            if values is not None:
                command = np.array(values)[self._order] * self._factors
                if np.isfinite(command).all():
                    found.append((self._make(Kind.COMMAND, *command), ROS))
        return found

    def _read(self, read: Callable[[bytes], T], data: bytes) -> T | None:
        try:
            return read(data)
        except RobotFault:
            self.malformed += 1
            return None

    def _make(self, kind: Kind, *values: float) -> Packet:
        self._sequence += 1
        with np.errstate(over="ignore"):
            return Packet(kind, self._sequence, time.monotonic_ns(), np.array(values, np.float32))

    def send(self, packet: Packet, address: str) -> bool:
        """Tells a state to a socket, or to all that listen to the topics."""
        if address != ROS:
            return self._panel.send(packet, address)
        values = packet.values[2:].astype(np.float64)
        stamp = time.time_ns() - (time.monotonic_ns() - packet.stamp_ns)
        joints = {source: float(values[axis]) for axis, source in self._joints}
        self._transport.publish(self._robot.joint_topic, encode_joints(joints, stamp))
        for topic, parts in self._elements.items():
            numbers = [0.0] * (1 + max(index for _, index, _ in parts))
            for axis, index, factor in parts:
                numbers[index] = float(values[axis]) / factor
            self._transport.publish(topic, encode_numbers(numbers))
        if self._robot.ready_topic:
            self._transport.publish(self._robot.ready_topic, encode_flag(int(packet.values[0]) != Mode.STOPPED))
        return True


@contextmanager
def emulate_ros(
    family: RobotFamily, address: str, robot: RosRobot, emulation: Emulation | None = None
) -> Iterator[BaseProcess]:
    """An emulated robot behind its topics, in a process of its own, as long as the context lasts.

    Args:
        family: See `emulated_robot.emulate`.
        address: Path of its socket, the panel.
        robot: Its topics, axes, controller and transport.
        emulation: How it behaves.

    Raises:
        ConfigError: See `emulated_robot.emulate`.
        RobotFault: The process does not start.
    """
    with emulate(family, address, emulation, partial(RosExchange, robot)) as process:
        yield process
