"""ROS 2's default kind of transport, DDS, without a ROS installation: Eclipse Cyclone DDS (`supple[cyclonedds]`).

Topics, types, quality of service and bytes are those of ROS 2 (W. Woodall, "Topic and Service name mapping to DDS",
ROS 2 design article): the topic `/joint_states` is `rt/joint_states`, its type `sensor_msgs::msg::dds_::JointState_`,
and messages are plain CDR.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any
from xml.sax.saxutils import quoteattr

from ...bounds import Bounded, Range, require_bounds
from ...errors import ConfigError, RobotFault, describe_error
from .messages import load_types, make_missing, name_dds_type
from .transport import KEPT, Sample, Transport

_DOMAINS: dict[int, tuple[object, str]] = {}
"""Domains of this process that have settings of their own: a process joins a domain once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycloneDds(Bounded):
    """A DDS domain. Without interface and peers the environment decides (`CYCLONEDDS_URI`), as for a ROS 2 node."""

    domain: Annotated[int, Range(0, 232)] = 0
    """As `ROS_DOMAIN_ID`."""
    interface: str = ""
    """Address of the network interface, such as `127.0.0.1` for this machine alone."""
    peers: tuple[str, ...] = ()
    """Computers that take part, by address. With them nothing is sent by multicast, which containers and many networks
    do not carry; without them, others are found by multicast."""

    def __post_init__(self) -> None:
        require_bounds(self)

    def open(self) -> Transport:
        """See `OpensTransport.open`."""
        return CycloneTransport(self)

    def write_config(self) -> str:
        """The settings as Cyclone DDS reads them; empty where the environment decides."""
        if not self.interface and not self.peers:
            return ""
        interface = ""
        if self.interface:
            inner = f"<NetworkInterface address={quoteattr(self.interface)}/>"
            interface = f"<Interfaces>{inner}</Interfaces>"
        multicast = "<AllowMulticast>false</AllowMulticast>" if self.peers else ""
        peers = "".join(f"<Peer Address={quoteattr(peer)}/>" for peer in self.peers)
        discovery = "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>30</MaxAutoParticipantIndex>"
        discovery += f"<Peers>{peers}</Peers>" if peers else ""
        general = f"<General>{interface}{multicast}</General><Discovery>{discovery}</Discovery>"
        return f'<CycloneDDS><Domain id="any">{general}</Domain></CycloneDDS>'


class CycloneTransport(Transport):
    """A participant of a DDS domain."""

    def __init__(self, settings: CycloneDds) -> None:
        """Joins the domain.

        Raises:
            ConfigError: The library is missing, or this process is in that domain with other settings.
            RobotFault: The domain cannot be joined.
        """
        try:
            from cyclonedds.core import DDSException, Policy, Qos
            from cyclonedds.domain import Domain, DomainParticipant
            from cyclonedds.util import duration
        except ImportError as error:
            raise make_missing(error, "cyclonedds") from error
        self._failure: type[Exception] = DDSException
        self._where = f"DDS domain {settings.domain}"
        config = settings.write_config()
        known = _DOMAINS.get(settings.domain)
        if known is not None and known[1] != config:
            raise ConfigError(f"{self._where}: expected the settings with which this process joined it, got others")
        try:
            if known is None and config:
                _DOMAINS[settings.domain] = (Domain(settings.domain, config), config)
            self._participant: Any = DomainParticipant(settings.domain)
        except DDSException as error:
            raise self._refuse("a domain that can be joined", error) from error
        plain = Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False)
        late = duration(milliseconds=100)
        # a reader that is content with best effort hears writers of both kinds, a reliable writer serves both readers
        self._hear = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(KEPT), plain)
        self._tell = Qos(Policy.Reliability.Reliable(late), Policy.History.KeepLast(1), plain)
        self._readers: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}

    def subscribe(self, topic: str, type: str) -> None:
        """See `Transport.subscribe`."""
        from cyclonedds.sub import DataReader

        try:
            self._readers[topic] = DataReader(self._participant, self._make_topic(topic, type), qos=self._hear)
        except self._failure as error:
            raise self._refuse(f"a reader of {topic}", error) from error

    def take(self, topic: str) -> list[Sample]:
        """See `Transport.take`."""
        try:
            found = self._readers[topic].take(KEPT)
        except (self._failure, KeyError) as error:
            raise self._refuse(f"messages of {topic}", error) from error
        # a writer that leaves is told as a sample without data
        whole = [sample for sample in found if sample.sample_info.valid_data]
        return [Sample(sample.raw, sample.sample_info.source_timestamp) for sample in whole]

    def advertise(self, topic: str, type: str) -> None:
        """See `Transport.advertise`."""
        from cyclonedds.pub import DataWriter

        try:
            self._writers[topic] = DataWriter(self._participant, self._make_topic(topic, type), qos=self._tell)
        except self._failure as error:
            raise self._refuse(f"a writer of {topic}", error) from error

    def publish(self, topic: str, data: bytes) -> None:
        """See `Transport.publish`."""
        try:
            writer = self._writers[topic]
            writer.write(writer.data_type(data))
        except (self._failure, KeyError) as error:
            raise self._refuse(f"a message on {topic} that is taken", error) from error

    def count_listeners(self, topic: str) -> int | None:
        """See `Transport.count_listeners`."""
        try:
            return len(self._writers[topic].get_matched_subscriptions())
        except (self._failure, KeyError) as error:
            raise self._refuse(f"a writer of {topic}", error) from error

    def close(self) -> None:
        """See `Transport.close`."""
        # entities go when nobody holds them any more
        self._readers, self._writers, self._participant = {}, {}, None

    def _make_topic(self, topic: str, type: str) -> Any:
        from cyclonedds.topic import Topic

        return Topic(self._participant, f"rt{topic}", _make_type(type))

    def _refuse(self, expected: str, error: Exception) -> RobotFault:
        return RobotFault(
            f"{self._where}: expected {expected}, got {error.__class__.__name__} {describe_error(error)}; "
            "check the network"
        )


@lru_cache
def _make_type(type: str) -> Any:
    """A type of Cyclone DDS whose samples are bytes; by the layout of the ROS type the library checks them."""
    from cyclonedds.idl import make_idl_struct

    found: Any = make_idl_struct(
        type.rpartition("/")[2], name_dds_type(type), _lay_out_fields(type), dataclassify=False
    )
    found.__init__ = lambda self, data: setattr(self, "raw", data)
    found.serialize = lambda self, *_, **__: self.raw
    found.deserialize = classmethod(lambda cls, data, *_, **__: cls(bytes(data)))
    found.deserialize_key = classmethod(lambda cls, *_, **__: cls(b""))  # of a sample without data
    return found


@lru_cache
def _lay_out(type: str) -> Any:
    """The layout of a ROS type, for Cyclone DDS."""
    from cyclonedds.idl import make_idl_struct

    return make_idl_struct(type.rpartition("/")[2], name_dds_type(type), _lay_out_fields(type))


def _lay_out_fields(type: str) -> dict[str, Any]:
    from cyclonedds.idl import types
    from rosbags.interfaces import Nodetype

    idl: Any = types
    plain = {"string": str, "bool": bool, "byte": idl.uint8, "char": idl.char, "octet": idl.uint8}

    def lay_out(desc: Any) -> Any:
        kind, inner = desc
        if kind is Nodetype.BASE:
            return plain.get(inner[0]) or getattr(idl, inner[0])
        if kind is Nodetype.NAME:
            return _lay_out(inner)
        if kind is Nodetype.ARRAY:
            return idl.array[lay_out(inner[0]), inner[1]]
        return idl.sequence[lay_out(inner[0])]

    return {name: lay_out(desc) for name, desc in load_types().fielddefs[type][1]}
