"""What only one transport has: names on the wire, missing libraries, and rclpy at the border where it is imported."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from supple.errors import ConfigError, RobotFault
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.messages import FLAG, JOINT_STATE, NUMBERS, encode_flag, encode_numbers
from supple.robots.ros.rclpy import Rclpy
from supple.robots.ros.transport import OpensTransport
from supple.robots.ros.zenoh import NO_HASH, Zenoh, ZenohTransport


def test_the_keys_of_zenoh_are_those_of_rmw_zenoh() -> None:
    for hashes, last in (
        (True, "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"),
        (False, NO_HASH),
    ):
        transport = Zenoh(domain=7, connect=(), hashes=hashes).open()
        assert isinstance(transport, ZenohTransport)
        key = transport.key("/arm/joint_states", JOINT_STATE)
        assert key == f"7/arm/joint_states/sensor_msgs::msg::dds_::JointState_/{last}"
        transport.close()
        transport.close()


def test_an_attachment_of_a_stranger_makes_a_message_old_and_nothing_else() -> None:
    transport = Zenoh(connect=()).open()
    assert isinstance(transport, ZenohTransport)
    transport.subscribe("/flag", FLAG)
    key = transport.key("/flag", FLAG)
    for attachment in (b"", b"rubbish", bytes(range(256)), transport._ext.z_serialize(("a", "b"))):
        transport._session.put(key, encode_flag(True), attachment=attachment)
    transport._session.put(key, bytes(1 << 17))
    samples = transport.take("/flag")
    assert [sample.published_ns for sample in samples[:4]] == [-1] * 4
    assert samples[4].data == b""  # a message of that length is none
    transport.close()


def test_a_router_that_is_not_there_is_one_line() -> None:
    with pytest.raises(RobotFault, match=r"zenoh tcp/127\.0\.0\.1:1: expected a session, got ZError"):
        Zenoh(connect=("tcp/127.0.0.1:1",), mode="client", timeout=0.1).open()


def test_dds_on_this_machine_alone_asks_nobody_by_multicast() -> None:
    config = CycloneDds(domain=3, interface="127.0.0.1", peers=("127.0.0.1", 'a"b')).write_config()
    assert "<AllowMulticast>false</AllowMulticast>" in config
    assert '<NetworkInterface address="127.0.0.1"/>' in config
    assert "<Peer Address='a\"b'/>" in config
    assert CycloneDds().write_config() == ""


def test_dds_takes_no_bytes_that_are_no_message_of_the_type() -> None:
    transport = CycloneDds(domain=140, interface="127.0.0.1", peers=("127.0.0.1",)).open()
    transport.advertise("/numbers", NUMBERS)
    for data in (b"", b"\x00\x01\x00\x00", encode_flag(True), encode_numbers([1.0])[:-4]):
        with pytest.raises(RobotFault, match="DDS domain 140: expected a message on /numbers that is taken"):
            transport.publish("/numbers", data)
    transport.publish("/numbers", encode_numbers([1.0]))
    with pytest.raises(ConfigError, match="expected the settings with which this process joined it, got others"):
        CycloneDds(domain=140, interface="127.0.0.1").open()
    transport.close()


@pytest.mark.parametrize(
    ("settings", "module", "extra"),
    [
        (CycloneDds(domain=141), "cyclonedds.core", "cyclonedds"),
        (Zenoh(connect=()), "zenoh", "zenoh"),
        (Rclpy(), "rclpy", "cyclonedds"),
    ],
)
def test_a_transport_without_its_library_is_one_line_that_names_the_extra(
    settings: OpensTransport, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"^ROS 2: expected the library .*, got none; .*'supple\[{extra}\]'"):
        settings.open()


@pytest.mark.parametrize("settings", [CycloneDds, Zenoh, Rclpy])
def test_a_domain_that_ros_does_not_have_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match="domain: expected"):
        settings(domain=233)


class FakeRos:
    """The calls of rclpy that are used, with nodes that hear each other. It is the border: no ROS is behind it."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Any] = {}
        self.waiting: list[tuple[str, bytes]] = []
        self.calls: list[str] = []
        self.broken = False

    def modules(self) -> dict[str, ModuleType]:
        qos: Any = ModuleType("rclpy.qos")
        qos.QoSProfile = SimpleNamespace
        qos.ReliabilityPolicy = SimpleNamespace(BEST_EFFORT="best effort", RELIABLE="reliable")
        executors: Any = ModuleType("rclpy.executors")
        executors.SingleThreadedExecutor = lambda context: self
        rclpy: Any = ModuleType("rclpy")
        rclpy.context = SimpleNamespace(Context=SimpleNamespace)
        rclpy.init = lambda context, domain_id: self.calls.append(f"init {domain_id}")
        rclpy.create_node = lambda name, context: self
        rclpy.shutdown = lambda context: self.calls.append("shutdown")
        std: Any = ModuleType("std_msgs.msg")
        std.Bool = "the class Bool"
        return {"rclpy": rclpy, "rclpy.qos": qos, "rclpy.executors": executors, "std_msgs.msg": std}

    def add_node(self, node: Any) -> None:
        assert node is self

    def create_subscription(self, kind: Any, topic: str, keep: Any, qos: Any, *, raw: bool) -> None:
        assert (kind, qos.reliability, raw) == ("the class Bool", "best effort", True)
        self.subscriptions[topic] = keep

    def create_publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        assert (kind, qos.reliability, qos.depth) == ("the class Bool", "reliable", 1)
        return SimpleNamespace(
            publish=lambda data: self.waiting.append((topic, data)),
            get_subscription_count=lambda: int(topic in self.subscriptions),
        )

    def spin_once(self, timeout_sec: float) -> None:
        assert timeout_sec == 0.0
        if self.broken:
            raise RuntimeError("the middleware fell over")
        if self.waiting:
            topic, data = self.waiting.pop(0)
            self.subscriptions[topic](data)

    def shutdown(self) -> None:
        self.calls.append("executor")

    def destroy_node(self) -> None:
        self.calls.append("node")


def test_rclpy_carries_bytes_and_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    ros = FakeRos()
    for name, module in ros.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    transport = Rclpy(domain=4).open()
    transport.advertise("/flag", FLAG)
    assert transport.count_listeners("/flag") == 0
    transport.subscribe("/flag", FLAG)
    assert transport.count_listeners("/flag") == 1
    assert transport.take("/flag") == []
    for value in (True, False, True):
        transport.publish("/flag", encode_flag(value))
    assert [sample.data for sample in transport.take("/flag")] == [encode_flag(value) for value in (True, False, True)]
    ros.broken = True
    with pytest.raises(
        RobotFault, match=r"ROS node supple: expected messages of /flag, got RuntimeError the middleware"
    ):
        transport.take("/flag")
    transport.close()
    transport.close()
    assert ros.calls == ["init 4", "executor", "node", "shutdown"]
