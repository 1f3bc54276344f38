"""What carries ROS messages: bytes by topic, and nothing else. `messages` knows what they mean.

No message is read before it is asked for, so that nothing of a robot runs in a thread of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """One message as it came."""

    data: bytes
    """CDR, with its four bytes of head."""
    published_ns: int
    """When it was published, by the wall clock of its sender."""


class Transport(ABC):
    """Topics of one ROS domain. Topics have their ROS names, such as `/joint_states`."""

    @abstractmethod
    def subscribe(self, topic: str, type: str) -> None:
        """From now on messages of a topic are kept, the last `KEPT` of them.

        Args:
            topic: Its name.
            type: Of its messages, such as `sensor_msgs/msg/JointState`; those of another type are never delivered.

        Raises:
            RobotFault: The transport refuses.
        """

    @abstractmethod
    def take(self, topic: str) -> list[Sample]:
        """The messages that came since the last call, in order; none is waited for.

        Raises:
            RobotFault: The transport is broken.
        """

    @abstractmethod
    def advertise(self, topic: str, type: str) -> None:
        """From now on messages may be published there; those that listen find it meanwhile.

        Raises:
            RobotFault: The transport refuses.
        """

    @abstractmethod
    def publish(self, topic: str, data: bytes) -> None:
        """Sends a message of a topic that was advertised; it does not wait for those that listen.

        Raises:
            RobotFault: The transport refuses.
        """

    @abstractmethod
    def count_listeners(self, topic: str) -> int | None:
        """How many listen to a topic that was advertised; None where nobody knows."""

    @abstractmethod
    def close(self) -> None:
        """Leaves the domain; may be called more than once."""


KEPT = 32
"""Messages of a topic that wait; older ones are dropped."""


class OpensTransport(Protocol):
    """Settings of a transport: plain values, so that they can be sent to another process."""

    def open(self) -> Transport:
        """Joins the domain.

        Raises:
            ConfigError: The library of the transport is missing, or a setting is none.
            RobotFault: The domain cannot be joined.
        """
        ...
