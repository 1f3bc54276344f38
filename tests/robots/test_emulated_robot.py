"""A robot in a process of its own: it follows, holds and stops by itself, whatever becomes of the one that commands."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.emulated_robot import EmulatedRobot, Emulation, LinkedRobot, Mode, emulate, stop_robot
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.mjcf_model import Drive
from supple.robots.robot import Float
from supple.robots.robot_link import MOST_BYTES, Kind, Link, Packet, pack, unpack

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
    success_radius=0.02,
)
STARTER = """
import sys, time
from supple.robots.emulated_robot import emulate
from supple.robots.maze_family import Maze
with emulate(Maze(layout_size=8, num_train_tasks=4, num_test_tasks=2), sys.argv[1]) as robot:
    print(robot.pid, flush=True)
    time.sleep(60)
"""
RNG = np.random.default_rng(0)
GOAL = np.array([1.5], np.float32)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "robot")


@pytest.fixture
def near(address: str) -> Iterator[tuple[EmulatedRobot, Link]]:
    """The robot in this process, stepped by hand, and the other end of its link."""
    robot = EmulatedRobot(replace(TURN, episode_steps=10**9), address, Emulation(hold_periods=2, stop_periods=5))
    link = Link(address + ".test")
    yield robot, link
    link.close()
    robot._link.close()


def tell(link: Link, address: str, kind: Kind, *values: float, sequence: int = 1) -> None:
    assert link.send(Packet(kind, sequence, time.monotonic_ns(), np.array(values, np.float32)), address)


def step(near: tuple[EmulatedRobot, Link], steps: int = 1) -> tuple[Mode, int, Float]:
    """Mode, episode and observation after some periods."""
    robot, link = near
    for _ in range(steps):
        robot.step()
    packet = link.receive()[-1][0]
    return Mode(int(packet.values[0])), int(packet.values[1]), packet.values[2:]


def test_it_follows_then_holds_then_stops_and_only_a_person_sets_it_free(
    near: tuple[EmulatedRobot, Link], address: str
) -> None:
    _, link = near
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    assert step(near)[:2] == (Mode.HOLDING, 1)
    tell(link, address, Kind.COMMAND, 1.0)
    assert [step(near)[0] for _ in range(3)] == [Mode.FOLLOWING] * 2 + [Mode.HOLDING]
    held = [step(near) for _ in range(3)]
    assert [mode for mode, *_ in held] == [Mode.HOLDING, Mode.HOLDING, Mode.STOPPED]
    tell(link, address, Kind.COMMAND, -1.0, sequence=2)
    tell(link, address, Kind.HOME, 2, 7, 1.5)
    after = step(near, 50)
    assert after[:2] == (Mode.STOPPED, 1)
    assert after[2][0] == pytest.approx(held[0][2][0], abs=0.15)  # it brakes, and stays
    tell(link, address, Kind.RECOVER)
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    assert step(near)[:2] == (Mode.HOLDING, 1)


def test_it_holds_as_long_as_it_likes_once_it_was_told_that_nothing_follows(
    near: tuple[EmulatedRobot, Link], address: str
) -> None:
    _, link = near
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    assert step(near, 30)[0] is Mode.HOLDING  # nothing was commanded yet
    tell(link, address, Kind.COMMAND, 0.5)
    assert step(near)[0] is Mode.FOLLOWING
    tell(link, address, Kind.REST)
    assert step(near, 30)[0] is Mode.HOLDING


def test_a_hold_that_is_told_again_and_again_does_not_creep(near: tuple[EmulatedRobot, Link], address: str) -> None:
    robot, link = near
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    tell(link, address, Kind.COMMAND, 1.0)
    step(near, 2)  # on its way: each measurement is another one
    tell(link, address, Kind.REST)
    step(near)
    held = robot._command.copy()
    places = []
    for _ in range(20):
        tell(link, address, Kind.REST)
        places.append(float(step(near)[2][0]))
        np.testing.assert_array_equal(robot._command, held)
    assert len(set(places)) > 1
    assert places[-1] == pytest.approx(float(held[0, 0]), abs=0.05)


def test_a_command_that_was_overtaken_is_not_followed(near: tuple[EmulatedRobot, Link], address: str) -> None:
    _, link = near
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    step(near)
    tell(link, address, Kind.COMMAND, 0.5, sequence=5)
    tell(link, address, Kind.COMMAND, -0.5, sequence=4)
    for sequence in range(6, 60):
        step(near)
        tell(link, address, Kind.COMMAND, 0.5, sequence=sequence)
    assert step(near)[2][0] == pytest.approx(0.5, abs=0.02)


def test_ten_thousand_malformed_datagrams_change_nothing(near: tuple[EmulatedRobot, Link], address: str) -> None:
    robot, link = near
    tell(link, address, Kind.HOME, 1, 7, 1.5)
    before = step(near)
    rng = np.random.default_rng(0)
    good = [pack(Packet(Kind(kind), 9, 0, np.array([9.0, 9.0, 9.0], np.float32))) for kind in (1, 2, 3, 4)]
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with raw:
        for number in range(10_000):
            data = bytearray(good[number % 4])
            if number % 3 == 0:
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            elif number % 3 == 1:
                del data[rng.integers(len(data)) :]
            else:
                data = bytearray(rng.bytes(int(rng.integers(0, MOST_BYTES + 50))))
            raw.sendto(data, address)
            if number % 5 == 0:  # before the queue is full
                robot._link.receive()
    robot._link.receive()
    assert robot._link.malformed == 10_000
    wrong: list[tuple[Kind, tuple[float, ...]]] = [
        *((Kind.HOME, values) for values in ((), (2.0,), (2.0, 1.0, 99.0), (2.0, -1.0, 0.0), (1e30, 1e30, 1e30))),
        *((Kind.COMMAND, values) for values in ((), (1.0, 2.0))),
        (Kind.STATE, (2.0, 9.0, 0.0)),
    ]
    for kind, values in wrong:
        tell(link, address, kind, *values, sequence=10)
    after = step(near)
    assert after[:2] == before[:2]
    np.testing.assert_allclose(after[2], before[2], atol=1e-3)


def test_packets_survive_the_wire_and_no_flipped_bit_does() -> None:
    packet = Packet(Kind.STATE, 2**32 - 1, 2**63, np.array([1.5, -0.0, 3e38], np.float32))
    data = pack(packet)
    again = unpack(data)
    assert again is not None
    assert again[:3] == packet[:3]
    np.testing.assert_array_equal(again.values, packet.values)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert unpack(bytes(flipped)) is None


@pytest.mark.parametrize("path", ["x" * 300, "absent/robot"])
def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(RobotFault, match="expected a path for a socket"):
        Link(str(tmp_path / path))


def test_a_driver_meets_the_robot_across_a_process_boundary(address: str) -> None:
    with emulate(TURN, address, Emulation(noise=1e-4, latency=0.005, jitter=0.005, loss=0.05)):
        robot = LinkedRobot(TURN, address)
        seen = robot.reset(GOAL, RNG)
        places = [float(seen[0])]
        for _ in range(60):
            taken = robot.step(np.array([min(1.5, places[-1] + 0.3)], np.float32))
            places.append(float(taken.observation[0]))
            if taken.terminated:
                break
        assert taken.success
        assert places[-1] == pytest.approx(1.5, abs=0.03)
        assert robot.cadence.report.periods == len(places) - 1
        assert 0.0 <= robot.observation_age() < 1.0
        time.sleep(1.0)  # the episode ended, so that nothing has to follow
        assert robot.mode is Mode.HOLDING
        robot.reset(GOAL, RNG)
        robot.step(GOAL)
        stop_robot(address, "a person")
        with pytest.raises(RobotFault, match="got one that has stopped"):
            robot.step(GOAL)
        with pytest.raises(RobotFault, match="got a stopped one; inspect it"):
            robot.reset(GOAL, RNG)
        robot.recover()
        robot.reset(GOAL, RNG)
        robot.step(GOAL)
        deadline = time.monotonic() + 20.0
        while (
            robot.mode is not Mode.STOPPED and time.monotonic() < deadline
        ):  # commands stay away: 20 periods are 0.4 s
            time.sleep(0.1)
        assert robot.mode is Mode.STOPPED
        robot.close()
    assert os.listdir(os.path.dirname(address)) == []


def test_who_is_not_there_is_named(address: str) -> None:
    robot = LinkedRobot(TURN, address, timeout=0.1)
    with pytest.raises(RobotFault, match="expected an episode, got no answer"):
        robot.reset(GOAL, RNG)
    with pytest.raises(RobotFault, match="expected one that listens, got none; cut its power"):
        robot.stop("now")
    with pytest.raises(RobotFault, match="expected it to stop for 'now', got no answer"):
        stop_robot(address, "now")
    with pytest.raises(SpecError):
        robot.reset(np.array([99.0], np.float32), RNG)
    robot.close()


def test_a_family_without_a_time_limit_of_its_own_is_refused(address: str) -> None:
    class Odd:
        name = "odd"

    with (
        pytest.raises(ConfigError, match="emulate 'odd': expected a family with a field episode_steps"),
        emulate(
            Odd(),  # type: ignore[arg-type]
            address,
        ),
    ):
        raise AssertionError


def test_a_state_arrives_when_its_latency_is_over_and_not_a_period_later(address: str) -> None:
    slow = replace(TURN, control_period=0.4)
    with emulate(slow, address, Emulation(latency=0.02)):
        robot = LinkedRobot(slow, address)
        robot.reset(GOAL, RNG)
        ages = []
        for _ in range(3):
            robot._refresh()  # returns at the arrival of a new state
            ages.append(robot.observation_age())
        robot.close()
    assert min(ages) < 0.2  # half a period; it was 0.4 s
    assert min(ages) >= 0.02


def test_the_robot_ends_when_what_started_it_is_killed(address: str) -> None:
    """Without this it would move on for ever, at a path that the next robot takes."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, address], stdout=subprocess.PIPE, text=True)
    with starter:
        assert starter.stdout is not None
        robot = int(starter.stdout.readline())
        starter.kill()
    deadline = time.monotonic() + 20.0
    while runs(robot) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(robot)


def test_a_socket_that_a_killed_process_left_behind_is_replaced_and_a_living_one_is_not(address: str) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(address)
    dead.close()  # the file stays, as after SIGKILL
    link = Link(address)
    with pytest.raises(RobotFault, match="expected a path for a socket"):
        Link(address)
    link.close()


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
