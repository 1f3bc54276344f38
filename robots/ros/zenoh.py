"""ROS 2 over zenoh without a ROS installation (`supple[zenoh]`), laid out as rmw_zenoh does.

The key of a topic is `<domain>/<topic>/<type>/<hash of the type>` (the design document of rmw_zenoh_cpp; type hashes of
REP-2016). Messages are plain CDR, each with its number, time and sender as an attachment. Tokens that show nodes to
tools such as `ros2 topic list` are not sent: messages need none.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ...bounds import Bounded, Positive, Range, require_bounds
from ...errors import RobotFault, describe_error
from .messages import limit_bytes, load_types, make_missing, name_dds_type
from .transport import KEPT, Sample, Transport

NO_HASH = "TypeHashNotSupported"
"""In the place of the hash for versions of ROS 2 that have none, up to Humble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zenoh(Bounded):
    """A session of zenoh."""

    domain: Annotated[int, Range(0, 232)] = 0
    """As `ROS_DOMAIN_ID`."""
    connect: tuple[str, ...] = ("tcp/localhost:7447",)
    """Where others listen: that of the router of rmw_zenoh, unless another is named."""
    listen: tuple[str, ...] = ()
    """Where this one listens; without any, only the others do."""
    mode: Literal["peer", "client"] = "peer"
    """A client speaks through the one that it connects to."""
    timeout: Positive = 5.0
    """Seconds to try to connect."""
    hashes: bool = True
    """False for ROS 2 up to Humble, whose types have no hashes."""

    def __post_init__(self) -> None:
        require_bounds(self)

    def open(self) -> Transport:
        """See `OpensTransport.open`."""
        return ZenohTransport(self)


class ZenohTransport(Transport):
    """A session of zenoh."""

    def __init__(self, settings: Zenoh) -> None:
        """Opens the session. One that connects waits for the others a while, and goes on without them.

        Raises:
            ConfigError: The library is missing.
            RobotFault: The session cannot be opened.
        """
        try:
            import zenoh
            from zenoh import ext
        except ImportError as error:
            raise make_missing(error, "zenoh") from error
        self._zenoh: Any = zenoh
        self._ext: Any = ext
        self._settings = settings
        config = zenoh.Config()
        for name, value in (
            ("mode", settings.mode),
            ("connect/endpoints", list(settings.connect)),
            ("connect/exit_on_failure", False),
            ("connect/timeout_ms", round(1000 * settings.timeout)),
            ("listen/endpoints", list(settings.listen)),
            ("scouting/multicast/enabled", False),
        ):
            config.insert_json5(name, json.dumps(value))
        try:
            self._session: Any = zenoh.open(config)
        except zenoh.ZError as error:
            raise self._refuse("a session", error) from error
        self._gid = secrets.token_bytes(16)
        self._count = 0
        self._subscribers: dict[str, Any] = {}
        self._most: dict[str, int] = {}
        self._publishers: dict[str, Any] = {}

    def subscribe(self, topic: str, type: str) -> None:
        """See `Transport.subscribe`."""
        try:
            ring = self._zenoh.handlers.RingChannel(KEPT)
            self._subscribers[topic] = self._session.declare_subscriber(self.key(topic, type), ring)
            self._most[topic] = limit_bytes(type)
        except self._zenoh.ZError as error:
            raise self._refuse(f"a subscriber of {topic}", error) from error

    def take(self, topic: str) -> list[Sample]:
        """See `Transport.take`."""
        found: list[Sample] = []
        try:
            while (sample := self._subscribers[topic].try_recv()) is not None and len(found) < KEPT:
                data = sample.payload.to_bytes() if len(sample.payload) <= self._most[topic] else b""
                found.append(Sample(data, self._read_time(sample.attachment)))
        except (self._zenoh.ZError, KeyError) as error:
            raise self._refuse(f"messages of {topic}", error) from error
        return found

    def advertise(self, topic: str, type: str) -> None:
        """See `Transport.advertise`."""
        try:
            self._publishers[topic] = self._session.declare_publisher(
                self.key(topic, type), congestion_control=self._zenoh.CongestionControl.DROP
            )
        except self._zenoh.ZError as error:
            raise self._refuse(f"a publisher of {topic}", error) from error

    def publish(self, topic: str, data: bytes) -> None:
        """See `Transport.publish`."""
        self._count += 1
        number, now = self._ext.Int64(self._count), self._ext.Int64(time.time_ns())
        fields = ("sequence_number", number, "source_timestamp", now, "source_gid", self._gid)
        try:
            self._publishers[topic].put(data, attachment=self._ext.z_serialize(fields))
        except (self._zenoh.ZError, KeyError) as error:
            raise self._refuse(f"a message on {topic} that is taken", error) from error

    def count_listeners(self, topic: str) -> int | None:
        """See `Transport.count_listeners`: one stands for any number."""
        try:
            return int(self._publishers[topic].matching_status.matching)
        except (self._zenoh.ZError, KeyError) as error:
            raise self._refuse(f"a publisher of {topic}", error) from error

    def close(self) -> None:
        """See `Transport.close`."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._subscribers, self._publishers = {}, {}

    def key(self, topic: str, type: str) -> str:
        """The key expression of a topic."""
        hashed = load_types().hash_rihs01(type) if self._settings.hashes else NO_HASH
        return f"{self._settings.domain}/{topic.strip('/')}/{name_dds_type(type)}/{hashed}"

    def _read_time(self, attachment: Any) -> int:
        """When a message was published: now where its sender does not say, -1 where no node of ROS 2 wrote that."""
        if attachment is None:
            return time.time_ns()
        number: Any = self._ext.Int64
        kinds: Any = tuple[str, number, str, number, str, bytes]
        try:
            first, _, second, published, third, _ = self._ext.z_deserialize(kinds, attachment)
        except (self._ext.ZDeserializeError, ValueError, TypeError, OverflowError):
            return -1
        known = (first, second, third) == ("sequence_number", "source_timestamp", "source_gid")
        return int(published) if known else -1

    def _refuse(self, expected: str, error: Exception) -> RobotFault:
        ends = ", ".join((*self._settings.connect, *self._settings.listen))
        return RobotFault(
            f"zenoh {ends}: expected {expected}, got {error.__class__.__name__} {describe_error(error)}; "
            "check the network and the router"
        )
