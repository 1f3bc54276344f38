"""What a robot and its links do when the other side dies, hangs, sends rubbish, or sends too late.

`bench_links.py` runs it at full size, and the tests run a small part. Each function returns counts with the meaning
that `bench_safety.py` states.
"""

import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from supple.adapt.bundle import Bundle
from supple.adapt.remote.client import PolicyClient
from supple.adapt.remote.server import PolicyServer, serve_policy
from supple.adapt.session import AgentSession
from supple.adapt.takeover import SocketOperator
from supple.adapt.watchdog import BEAT, watch
from supple.errors import RobotFault
from supple.robots.emulated_robot import EmulatedRobot, Emulation, LinkedRobot, Mode, emulate
from supple.robots.maze_family import Maze
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.mjcf_model import Drive
from supple.robots.robot_link import MOST_BYTES, Kind, Packet, pack
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.driver import RosDriver, pay_nothing
from supple.robots.ros.emulated import emulate_ros
from supple.robots.ros.messages import (
    NUMBERS,
    Element,
    ForwardController,
    JointValue,
    Readings,
    encode_joints,
    encode_numbers,
)
from supple.robots.ros.ros_robot import RosRobot
from supple.robots.ros.transport import OpensTransport
from supple.robots.ros.zenoh import Zenoh

ROOT = Path(__file__).resolve().parent.parent
MAZE = Maze(layout_size=8, num_train_tasks=4, num_test_tasks=2)
URDF = """
<robot name="turn"><link name="base"/><link name="arm"><inertial><mass value="0.5"/><origin xyz="0.2 0 0"/>
<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="turn" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/>
<limit lower="-2" upper="2" effort="20" velocity="5"/></joint></robot>
"""
TURN = MjcfFamily(
    name="turn",
    model=URDF,
    drives=(Drive(joint="turn", kind="position", gain=50.0),),
    goal_joints=("turn",),
    control_period=0.02,
    reset_noise=0.0,
    success_radius=0.02,
)
ARM = replace(TURN, control_period=0.01, episode_steps=1000)
"""The same joint at 100 Hz. It holds where it is told: a robot that is commanded forces would coast."""
HOLD_PERIODS = 2
"""Control periods without a command after which the robot holds."""
SLACK_PERIODS = 2
"""A command that was under way when the process died, and the period in which it is found missing."""
CONTROLLER = """
import sys
sys.path.insert(0, sys.argv[3])
import numpy as np
from benchmarks.link_faults import ARM
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watchdog import Watchdog
from supple.robots.emulated_robot import LinkedRobot, stop_robot
from supple.robots.robot import RobotRow

address, log = sys.argv[1:3]
dog = Watchdog(stop_robot, 0.3, [address])
robot = SafetyLimits(RobotRow(LinkedRobot(ARM, address)), AuditLog(log), watchdog=dog, max_observation_age=2.0)
rows, goal = np.arange(1), np.array([[-1.9]], np.float32)
robot.reset(rows, goal, np.random.default_rng(0))
target = 0.0
while True:
    target = target + 0.02 if target < 1.5 else 0.0
    step = robot.step(rows, np.array([[target]], np.float32))
    print("moving", flush=True)
    if (step.terminated | step.truncated).any():
        robot.reset(rows, goal, np.random.default_rng(0))
"""
Counts = Counter[str]


def make_counts() -> Counts:
    """Nothing counted yet."""
    return Counter(injected=0, detected=0, silent=0, crashed=0, hung=0)


class Silenced(NamedTuple):
    """What the robot did after its controlling process fell silent."""

    counts: Counts
    worst_periods: int
    """Most control periods of the robot, by its own clock, from the signal to the hold."""


def silence_controllers(how: signal.Signals, times: int, folder: Path) -> Silenced:
    """A controlling process at 100 Hz is killed or held in the middle of an episode, again and again.

    Detected are those after which the robot held within `HOLD_PERIODS` + `SLACK_PERIODS` of its own periods, was then
    stopped by the second process, and stayed where it was. A process that was held is let go on afterwards, and may not
    move the robot any more.
    """
    counts, worst = make_counts(), 0
    address = str(folder / "robot")
    with emulate(ARM, address, Emulation(hold_periods=HOLD_PERIODS, stop_periods=10**6)):
        witness = LinkedRobot(ARM, address)
        for number in itertools.count():
            if counts["injected"] == times:
                break
            assert number < 2 * times + 5, "this machine is too busy for a controlling process at 100 Hz"
            log = folder / f"{how.name}{number}.jsonl"
            command = [sys.executable, "-c", CONTROLLER, address, str(log), str(ROOT)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as controller:
                assert controller.stdout is not None
                moves = all(controller.stdout.readline() == "moving\n" for _ in range(5 + number % 7))
                while moves and witness.mode is not Mode.FOLLOWING:
                    moves = controller.poll() is None  # between two commands that came late it holds
                if moves:
                    controller.send_signal(how)
                    counts["injected"] += 1
                    periods, held = watch_robot(witness)
                    worst = max(worst, periods)
                    if how is signal.SIGSTOP:
                        controller.send_signal(signal.SIGCONT)
                        with suppress(subprocess.TimeoutExpired):
                            controller.wait(20.0)
                        held &= witness.mode is Mode.STOPPED
                    counts["detected" if held and periods <= HOLD_PERIODS + SLACK_PERIODS else "silent"] += 1
                controller.kill()
            witness.recover()
        witness.close()
    return Silenced(counts, worst)


def watch_robot(witness: LinkedRobot) -> tuple[int, bool]:
    """Periods of the robot until it held, and whether it was stopped then and stayed where it was."""
    began, periods = witness.newest, 10**6
    deadline = time.monotonic() + 20.0
    places = deque[np.ndarray](maxlen=20)
    while time.monotonic() < deadline:
        mode = witness.mode
        if mode is not Mode.FOLLOWING:
            periods = min(periods, witness.newest - began)
        if mode is Mode.STOPPED:
            places.append(witness.read()[:1])
            if len(places) == places.maxlen:
                return periods, bool(np.ptp(np.array(places)[-10:], axis=0).max() < 2e-3)
    return periods, False


def damage(good: bytes, number: int, rng: np.random.Generator, most: int) -> bytes:
    """Bytes that are no message: with a flipped bit, cut off, or rubbish of any length."""
    data = bytearray(good)
    if number % 3 == 0:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif number % 3 == 1:
        del data[rng.integers(len(data)) :]
    else:
        data = bytearray(rng.bytes(int(rng.integers(0, most))))
    return bytes(data)


def attack_robot(times: int, folder: Path) -> Counts:
    """Malformed datagrams to a robot in a process of its own, while it follows a driver, which has to get through."""
    address, rng, counts = str(folder / "robot"), np.random.default_rng(0), make_counts()
    good = [pack(Packet(Kind(kind), 9, 0, np.array([9.0, 9.0, 9.0], np.float32))) for kind in (1, 2, 3, 4, 5, 6)]
    with (
        emulate(MAZE, address, Emulation(stop_periods=10**6)) as process,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw,
    ):
        driver = LinkedRobot(MAZE, address)
        driver.reset(np.array(MAZE.tasks().train[0].goal, np.float32), rng)
        raw.settimeout(10.0)
        for number in range(times):
            raw.sendto(damage(good[number % len(good)], number, rng, MOST_BYTES + 50), address)
            counts["injected"] += 1
        works = drive(driver)
        counts["crashed"] += not process.is_alive()
        counts["detected" if works else "silent"] += times
        driver.close()
    return counts


def attack_driver(times: int, folder: Path) -> Counts:
    """Malformed datagrams to the driver of that robot."""
    address, rng, counts = str(folder / "robot"), np.random.default_rng(1), make_counts()
    good = pack(Packet(Kind.STATE, 2**31, 0, np.zeros(6, np.float32)))
    with emulate(MAZE, address, Emulation(stop_periods=10**6)):
        driver = LinkedRobot(MAZE, address)
        driver.reset(np.array(MAZE.tasks().train[0].goal, np.float32), rng)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw:
            raw.settimeout(10.0)
            for number in range(times):
                raw.sendto(damage(good, number, rng, MOST_BYTES + 50), driver.address)
                counts["injected"] += 1
                if number % 5 == 0:
                    driver.mode  # noqa: B018 - reads the link
        works = drive(driver)
        counts["detected" if works else "silent"] += times
        driver.close()
    return counts


def drive(driver: LinkedRobot) -> bool:
    """Whether the robot still goes where it is told."""
    driver.reset(np.array(MAZE.tasks().train[0].goal, np.float32), np.random.default_rng(0))
    before = driver.read()[:2]
    for _ in range(25):
        driver.step(np.ones(2, np.float32))
    return bool(np.linalg.norm(driver.read()[:2] - before) > 0.01)


def attack_operator(times: int, folder: Path) -> Counts:
    """Malformed messages to the socket of a person who may take over."""
    path, rng, counts = folder / "operator", np.random.default_rng(2), make_counts()
    spec = MAZE.spec()
    good = b'{"take": true, "command": [0.5, -0.5]}'
    with closing(SocketOperator(path)) as operator, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw:
        operator.begin(spec)
        observation, requested = np.zeros(spec.observation.shape, np.float32), np.zeros(2, np.float32)
        for number in range(times):
            message = damage(good, number, rng, SocketOperator.LONGEST + 50)
            if message == good or not message:
                message = b"{"
            if b'"take"' in message and number % 3 == 0:  # a flipped bit in a number is another number
                message = message[:-1]
            raw.sendto(message, str(path))
            counts["injected"] += 1
            if number % 5 == 0:
                counts["crashed"] += operator.command(requested, observation) is not None
        operator.command(requested, observation)
        raw.sendto(good, str(path))
        told = operator.command(requested, observation)
        counts["detected"] = operator.ignored
        counts["silent"] = times - operator.ignored + (told is None or told.tolist() != [0.5, -0.5])
    return counts


def attack_watchdog(times: int) -> Counts:
    """Messages that are no heartbeats: none may keep the second process quiet, nor make it stop a robot that is led."""
    counts, rng = make_counts(), np.random.default_rng(3)
    for silent in (False, True):
        told, timeout = list[str](), 0.5
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(10.0)
        thread = threading.Thread(target=watch, args=(theirs, told.append, timeout))
        thread.start()
        ours.send(BEAT)
        began, number = time.monotonic(), 0
        with suppress(OSError):  # it has said that it stopped the robot
            while number < times // 2 or (silent and not told):
                message = damage(BEAT, number, rng, 80)
                ours.send(message if message not in (BEAT, b"") else b"bea")
                number += 1
                if not silent and number % 50 == 0:
                    ours.send(BEAT)
        counts["injected"] += number
        good = time.monotonic() - began >= timeout and len(told) == 1 if silent else not told
        counts["detected" if good else "silent"] += number
        ours.close()
        thread.join(10.0)
        counts["hung"] += thread.is_alive()
        theirs.close()
    return counts


@contextmanager
def serve_bundle(bundle: Bundle, token: str) -> Iterator[tuple[PolicyServer, int]]:
    """A policy server on this machine, and its port."""
    policy = PolicyServer(AgentSession(bundle, seed=0), {})
    server = serve_policy(policy, "127.0.0.1", 0, token)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield policy, server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()


def attack_server(times: int, bundle: Bundle) -> Counts:
    """Malformed messages to the policy server with its token, and one in ten as bytes that are no websocket."""
    import msgpack

    counts, rng, token = make_counts(), np.random.default_rng(4), "a token of sixteen or more"
    seen = [0.0] * len(bundle.contract.robot.observation.axes)
    good = [
        msgpack.packb({"id": 1, "verb": "act", "observation": seen}),
        msgpack.packb({"id": 1, "verb": "end_episode", "observation": seen, "terminated": True}),
        msgpack.packb({"id": 1, "verb": "rollback", "snapshot": 3}),
    ]
    with serve_bundle(bundle, token) as (policy, port):
        url, headers = f"ws://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}
        answered, raw = 0, 0
        with connect(url, additional_headers=headers, compression=None) as link:
            for number in range(times - times // 10):
                link.send(damage(good[number % len(good)], number, rng, 3000))
                answered += isinstance(link.recv(20.0), bytes)
                counts["injected"] += 1
        for number in range(times // 10):
            counts["injected"] += 1
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10.0) as link_less:
                head = f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX: {number}\r\n\r\n".encode()
                link_less.sendall(damage(head, number, rng, 3000))
            raw += 1
        try:
            with PolicyClient(url, token, timeout=60.0) as client:
                client.reset(task=True)
                works = len(client.act(np.array(seen))["action"]) == len(bundle.contract.robot.action.axes)
        except (OSError, WebSocketException):
            works = False
        counts["crashed"] = policy.counts["faults"]
        counts["detected"] = (answered + raw) * works
        counts["silent"] = counts["injected"] - counts["detected"]
    return counts


@contextmanager
def emulate_behind(transport: OpensTransport, theirs: OpensTransport, folder: Path) -> Iterator[RosDriver]:
    """An emulated joint behind a transport, and a driver of it."""
    spec = ARM.spec()
    robot = RosRobot(
        transport=transport,
        contract=spec,
        observation={"turn": JointValue("turn"), "turn_v": JointValue("turn", "velocity")},
        action={spec.action.names[0]: JointValue("turn")},
        controller=ForwardController(topic="/commands", joints=("turn",)),
        home=(0.0,),
        home_seconds=0.1,
        timeout=20.0,
        max_age=10.0,
    )
    place = str(folder / "panel")
    with emulate_ros(ARM, place, replace(robot, transport=theirs), Emulation(stop_periods=10**6)):
        driver = RosDriver(robot, pay_nothing)
        try:
            yield driver
        finally:
            driver.close()


def follows(driver: RosDriver) -> bool:
    """Whether the joint still goes where it is told."""
    before = driver.reset(np.array([1.9], np.float32), np.random.default_rng(0))
    for _ in range(50):
        step = driver.step(np.array([0.5], np.float32))
    return bool(step.observation[0] - before[0] > 0.2)


def attack_dds(times: int, folder: Path, domain: int = 77) -> Counts:
    """Malformed datagrams to the ports at which the robot and the driver take part in a DDS domain."""
    counts, rng = make_counts(), np.random.default_rng(5)
    transport = CycloneDds(domain=domain, interface="127.0.0.1", peers=("127.0.0.1",))
    # discovery and user data of each participant: the ports of the DDS interoperability protocol, section 9.6.1
    ports = [7400 + 250 * domain + 10 + 2 * participant + kind for participant in range(4) for kind in (0, 1)]
    head = b"RTPS\x02\x01\x01\x10" + bytes(12)
    good = head + b"\x09\x01\x08\x00" + bytes(8) + b"\x15\x05\x20\x00" + bytes(32)  # a time, and data
    with (
        emulate_behind(transport, transport, folder) as driver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw,
    ):
        works = follows(driver)
        for number in range(times):
            body = damage(good, number, rng, 1400)
            raw.sendto(body if number % 2 else head + body[20:], ("127.0.0.1", ports[number % len(ports)]))
            counts["injected"] += 1
        works &= follows(driver)
    counts["detected" if works else "silent"] += times
    return counts


def attack_zenoh(times: int, folder: Path) -> Counts:
    """Malformed messages to the topics of a robot behind zenoh, and one in ten as bytes on its port that are none."""
    counts, rng = make_counts(), np.random.default_rng(6)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    place = f"tcp/127.0.0.1:{port}"
    ours, theirs = Zenoh(connect=(place,), mode="client"), Zenoh(connect=(), listen=(place,))
    with emulate_behind(ours, theirs, folder) as driver:
        works = follows(driver)
        stranger = ours.open()
        stranger.advertise("/commands", NUMBERS)
        good = encode_numbers([0.5])
        for number in range(times - times // 10):
            data = damage(good, number, rng, 3000)
            # a flipped bit of a number is another number: what is in it counts as a command
            stranger.publish("/commands", data if len(data) != len(good) or data[:16] != good[:16] else data[:-1])
            counts["injected"] += 1
        for number in range(times // 10):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10.0) as link:
                link.sendall(damage(bytes(64), number, rng, 3000))
            counts["injected"] += 1
        stranger.close()
        works &= follows(driver)
    counts["detected" if works else "silent"] += counts["injected"]
    return counts


def attack_readings(times: int) -> Counts:
    """Malformed messages to the driver of a robot of ROS 2: each is a message of its type, or one typed fault."""
    counts, rng = make_counts(), np.random.default_rng(7)
    spec = ARM.spec().observation
    sources = {"turn": JointValue("turn"), "turn_v": Element("/speeds", 0)}
    good = {
        "/joint_states": encode_joints({JointValue("turn"): 0.5, JointValue("other"): 0.1}, 10**18),
        "/speeds": encode_numbers([1.0, 2.0]),
    }
    readings = Readings(spec, sources, "/joint_states", stamped=True, where="arm")
    for number in range(times):
        topic = ("/joint_states", "/speeds")[number % 2]
        data = damage(good[topic], number, rng, 300)
        data = good[topic][:4] + data if number % 5 == 0 else data
        before = readings.observation
        counts["injected"] += 1
        try:
            readings.take(topic, data, 10**18, 2 * 10**18)
        except RobotFault:
            counts["detected"] += 1
            counts["silent"] += not np.array_equal(readings.observation, before, equal_nan=True)
        except Exception:  # noqa: BLE001 - it is what is counted
            counts["crashed"] += 1
    for topic, data in good.items():
        readings.take(topic, data, 10**18 + 2 * 10**17, 2 * 10**18)
    counts["silent"] += bool(readings.missing)
    return counts


STEP, BRAKING, STILL = 0.03, 0.25, 0.002
"""Radians of one command; seconds in which the joint is at rest after it holds; radians within which it stays then."""


class HandLink:
    """The link of an emulated robot that is stepped by hand: what is put into it arrives when its time has come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[tuple[float, Packet]] = []
        self.states: list[Packet] = []

    def receive(self) -> list[tuple[Packet, str]]:
        """What has arrived by now, in the order of its arrival."""
        due = sorted((entry for entry in self.waiting if entry[0] <= self.now + 1e-9), key=lambda entry: entry[0])
        self.waiting = [entry for entry in self.waiting if entry[0] > self.now + 1e-9]
        return [(packet, "hand") for _, packet in due]

    def send(self, packet: Packet, address: str) -> bool:
        """Keeps what the robot tells."""
        self.states.append(packet)
        return True


class Held(NamedTuple):
    """What became of one cell of the grid."""

    periods: int
    """From the last command that arrived before the gap to the hold; 0 where there was no need for one."""
    rested: bool
    """The joint was at rest from `BRAKING` after the hold on, until commands came again."""
    resumed: bool
    """Commands that came again were followed."""


def drop_commands(dropped: int, delay: float, hold_periods: int = HOLD_PERIODS) -> Held:
    """Commands for a joint at 50 Hz, each `delay` seconds late, of which `dropped` in a row never come.

    The clock is that of the robot's own periods: nothing depends on the load of this machine.
    """
    link = HandLink()
    family = replace(TURN, episode_steps=10**9)
    robot = EmulatedRobot(family, "", Emulation(hold_periods=hold_periods, stop_periods=40), link=link)
    period, goal = TURN.control_period, 1.5
    link.waiting.append((0.0, Packet(Kind.HOME, 1, 0, np.array([1, 0, goal], np.float32))))
    began = 30
    gap = range(began, began + dropped)
    after = 60
    modes, places = list[Mode](), list[float]()
    for step in range(began + dropped + after):
        link.now = step * period
        if step not in gap and step < began + dropped + 30:
            command = Packet(Kind.COMMAND, step + 2, 0, np.array([-1.5 + STEP * step], np.float32))
            link.waiting.append((link.now + delay, command))
        robot.step()
        modes.append(Mode(int(link.states[-1].values[0])))
        places.append(float(link.states[-1].values[2]))
    late = int(np.ceil(delay / period - 1e-9))
    last = began - 1 + late  # the period in which the last command before the gap arrives
    missing = range(last + 1, last + 1 + dropped)  # periods in which none arrives
    held = next((step - last for step in missing if modes[step] is not Mode.FOLLOWING), 0)
    braked = range(last + held + round(BRAKING / period), last + dropped + 1)
    rested = not held or len(braked) < 2 or float(np.ptp(places[braked.start : braked.stop])) <= STILL
    resumed = modes[last + dropped + 1] is Mode.FOLLOWING
    return Held(held, rested, resumed)


def sweep_drops(dropped: range, delays_ms: range, hold_periods: int = HOLD_PERIODS) -> tuple[Counts, int]:
    """Every cell of the grid; detected are those in which the robot held within the bound, or had no need to.

    The bound is `hold_periods` + 1 control periods after the last command that arrived. No need for a hold is where
    fewer than `hold_periods` commands are missing.
    """
    counts, worst = make_counts(), 0
    for missing, delay in itertools.product(dropped, delays_ms):
        found = drop_commands(missing, delay / 1000.0, hold_periods)
        needed = missing >= hold_periods
        good = found.rested and found.resumed and (0 < found.periods <= hold_periods + 1) == needed
        counts["injected"] += 1
        counts["detected" if good else "silent"] += 1
        worst = max(worst, found.periods)
    return counts, worst
