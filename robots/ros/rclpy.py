"""ROS 2 by its own Python library, where ROS is installed and its setup file was sourced. pip has no such library.

Messages are taken and sent as bytes, so that everything else is the same as without ROS.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any

from ...bounds import Bounded, Range, require_bounds
from ...errors import ConfigError, RobotFault, describe_error
from .transport import KEPT, Sample, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Rclpy(Bounded):
    """A node of ROS 2. Its middleware is the one that ROS is set up with."""

    domain: Annotated[int, Range(0, 232)] = 0
    """As `ROS_DOMAIN_ID`."""
    node: str = "supple"
    """Name of the node."""

    def __post_init__(self) -> None:
        require_bounds(self)

    def open(self) -> Transport:
        """See `OpensTransport.open`."""
        return RclpyTransport(self)


class RclpyTransport(Transport):
    """A node of ROS 2. A message counts as published when it is taken: only its stamp knows better."""

    def __init__(self, settings: Rclpy) -> None:
        """Makes the node.

        Raises:
            ConfigError: There is no ROS here.
            RobotFault: The node cannot be made.
        """
        try:
            self._rclpy: Any = importlib.import_module("rclpy")
            executors: Any = importlib.import_module("rclpy.executors")
            qos: Any = importlib.import_module("rclpy.qos")
        except ImportError as error:
            raise ConfigError(
                f"ROS 2: expected the library {error.name}, got none; source the setup file of ROS, or take the "
                "transport CycloneDds (pip install 'supple[cyclonedds]') or Zenoh (pip install 'supple[zenoh]')"
            ) from error
        self._where = f"ROS node {settings.node}"
        try:
            self._context: Any = self._rclpy.context.Context()
            self._rclpy.init(context=self._context, domain_id=settings.domain)
            self._node: Any = self._rclpy.create_node(settings.node, context=self._context)
            self._executor: Any = executors.SingleThreadedExecutor(context=self._context)
            self._executor.add_node(self._node)
        except Exception as error:  # whatever the middleware raises
            raise self._refuse("a node", error) from error
        self._hear = qos.QoSProfile(depth=KEPT, reliability=qos.ReliabilityPolicy.BEST_EFFORT)
        self._tell = qos.QoSProfile(depth=1, reliability=qos.ReliabilityPolicy.RELIABLE)
        self._taken: dict[str, deque[Sample]] = {}
        self._publishers: dict[str, Any] = {}

    def subscribe(self, topic: str, type: str) -> None:
        """See `Transport.subscribe`."""
        kept = self._taken[topic] = deque(maxlen=KEPT)

        def keep(data: bytes) -> None:
            kept.append(Sample(bytes(data), time.time_ns()))

        try:
            self._node.create_subscription(self._load_class(type), topic, keep, self._hear, raw=True)
        except Exception as error:  # whatever the middleware raises
            raise self._refuse(f"a subscription of {topic}", error) from error

    def take(self, topic: str) -> list[Sample]:
        """See `Transport.take`."""
        try:
            for _ in range(KEPT * len(self._taken)):
                before = sum(map(len, self._taken.values()))
                self._executor.spin_once(timeout_sec=0.0)
                if sum(map(len, self._taken.values())) == before:
                    break
            kept = self._taken[topic]
        except Exception as error:  # whatever the middleware raises
            raise self._refuse(f"messages of {topic}", error) from error
        found = list(kept)
        kept.clear()
        return found

    def advertise(self, topic: str, type: str) -> None:
        """See `Transport.advertise`."""
        try:
            self._publishers[topic] = self._node.create_publisher(self._load_class(type), topic, self._tell)
        except Exception as error:  # whatever the middleware raises
            raise self._refuse(f"a publisher of {topic}", error) from error

    def publish(self, topic: str, data: bytes) -> None:
        """See `Transport.publish`."""
        try:
            self._publishers[topic].publish(data)
        except Exception as error:  # whatever the middleware raises
            raise self._refuse(f"a message on {topic} that is taken", error) from error

    def count_listeners(self, topic: str) -> int | None:
        """See `Transport.count_listeners`."""
        count: int = self._publishers[topic].get_subscription_count()
        return count

    def close(self) -> None:
        """See `Transport.close`."""
        if self._node is not None:
            self._executor.shutdown()
            self._node.destroy_node()
            self._rclpy.shutdown(context=self._context)
            self._node = None

    def _load_class(self, type: str) -> Any:
        package, kind, name = type.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), name)

    def _refuse(self, expected: str, error: Exception) -> RobotFault:
        got = f"{error.__class__.__name__} {describe_error(error)}"
        return RobotFault(f"{self._where}: expected {expected}, got {got}; check ROS and the network")
