"""A driver that hangs, wherever it does, is a typed error within its time; the robot is stopped and the stop holds."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import ConfigError, RobotFault
from supple.robots.bounded_robot import BoundedRobot, DriverThread, DriverTimes
from supple.robots.dry_robot import DryRobot
from supple.robots.hardware_family import HardwareFamily
from supple.robots.robot import Bool, Float, Holds, Observes, Robot, RobotRow, Step, Stops, TellsAge, TellsSent
from supple.robots.spec import ArraySpec, Axis, RobotSpec

SPEC = RobotSpec(
    name="joint",
    observation=ArraySpec("observation", (Axis("joint", "rad", -3.0, 3.0),)),
    action=ArraySpec("action", (Axis("target", "rad", -2.0, 2.0, rate_limit=1.0, commands="joint"),)),
    goal=ArraySpec("goal", (Axis("goal", "rad", -2.0, 2.0),)),
    control_period=0.02,
    episode_steps=50,
)
SHORT = DriverTimes(connect=0.05, reset=0.05, call=0.05)
ROW, GOAL, COMMAND = np.arange(1), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)


class Joint(Stops, TellsAge, Holds, TellsSent, Observes):
    """A joint that follows at once, and hangs in one call until somebody lets it go."""

    def __init__(self) -> None:
        self.hangs, self.let_go = "", threading.Event()
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.angle = np.zeros(1, np.float32)

    def note(self, what: str) -> None:
        self.calls.append(what)
        if what == self.hangs:
            self.let_go.wait()
        else:
            self.threads.add(threading.get_ident())

    @property
    def spec(self) -> RobotSpec:
        self.note("spec")
        return SPEC

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        self.note("reset")
        return self.angle

    def step(self, action: Float) -> Step:
        self.note("step")
        self.angle = action.copy()
        return Step(self.angle, 0.0, terminated=False, truncated=False)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        self.note("compute_reward")
        near = np.zeros((*observation.shape[:-1], len(goals)), np.float32)
        return near, near > 0

    def read(self) -> Float:
        self.note("read")
        return self.angle

    def observation_age(self) -> float:
        self.note("observation_age")
        return 0.0

    @property
    def sent(self) -> Float:
        self.note("sent")
        return self.angle

    def hold(self) -> None:
        self.note("hold")

    def stop(self, reason: str) -> None:
        self.note("stop")

    def close(self) -> None:
        self.note("close")


@pytest.fixture
def joint() -> Iterator[Joint]:
    found = Joint()
    yield found
    found.let_go.set()


def make_family(connect: Callable[[], Any], times: DriverTimes = SHORT) -> HardwareFamily:
    return HardwareFamily(
        name="lab",
        connect=connect,
        contract=SPEC,
        train_goals=((0.5,),),
        test_goals=((-0.5,),),
        times=times,
    )


@pytest.mark.parametrize("where", ["reset", "step", "observation_age", "sent", "hold"])
def test_a_call_that_hangs_stops_the_robot(joint: Joint, where: str, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    robot = SafetyLimits(make_family(lambda: joint).make(1), log)

    def run() -> None:
        robot.reset(ROW, GOAL, np.random.default_rng(0))
        for _ in range(3):
            robot.step(ROW, COMMAND)
        robot.hold()

    run()
    joint.hangs = where
    with pytest.raises(
        RobotFault, match=rf"lab {where}: expected a driver that returns within 0\.0\d+ s, got one that"
    ):
        run()
    assert joint.calls[-1] == "stop"  # beside the call that hangs
    assert robot.stop_reason is not None
    assert "hangs" in robot.stop_reason
    with pytest.raises(RobotFault, match="expected an armed robot"):
        run()
    robot.close()
    assert joint.calls[-1] == "close"


@pytest.mark.parametrize("where", ["stop", "close"])
def test_a_stop_or_a_close_that_hangs_is_said_and_the_stop_holds(joint: Joint, where: str, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    robot = SafetyLimits(make_family(lambda: joint).make(1), log)
    robot.reset(ROW, GOAL, np.random.default_rng(0))
    joint.hangs = where
    with pytest.raises(RobotFault, match=f"lab {where}: expected a driver that returns within"):
        robot.stop("a person") if where == "stop" else robot.close()
    assert robot.stop_reason is not None
    robot.close()  # again, or for the first time
    assert joint.calls[-1] == ("close" if where == "stop" else "stop")
    log.close()
    assert AuditLog(tmp_path / "audit.jsonl").stop_reason is not None


def test_a_reward_that_hangs_is_a_typed_error(joint: Joint) -> None:
    row = make_family(lambda: joint).make(1)
    joint.hangs = "compute_reward"
    with pytest.raises(RobotFault, match="lab compute_reward: expected a driver that returns"):
        row.compute_reward(GOAL, GOAL)


def test_a_read_that_hangs_ends_a_dry_run(joint: Joint, tmp_path: Path) -> None:
    made: list[DryRobot] = []
    row = make_family(lambda: joint).dry(made).make(1)
    joint.hangs = "read"
    with pytest.raises(RobotFault, match="lab reset: expected a driver that returns"):
        row.reset(ROW, GOAL, np.random.default_rng(0))
    row.close()
    assert joint.calls[-1] == "close"


@pytest.mark.parametrize("where", ["connect", "spec"])
def test_a_robot_that_never_says_what_it_is_is_let_go_of(joint: Joint, where: str) -> None:
    joint.hangs = where
    closed = threading.Event()

    def connect() -> Joint:
        joint.note("connect")
        return joint

    joint.close = closed.set  # type: ignore[method-assign]
    with pytest.raises(RobotFault, match=rf"lab {where}: expected a driver that returns within 0\.05 s"):
        make_family(connect).make(1)
    joint.let_go.set()  # it connects after all, when nobody waits for it any more
    assert closed.wait(20.0)


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """A shell that starts the tests in the background has told them to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_ctrl_c")
@pytest.mark.parametrize("where", ["connect", "reset", "step", "close"])
def test_a_ctrl_c_is_answered_while_the_driver_hangs(joint: Joint, where: str) -> None:
    """The driver hears of no signal; its thread goes on to hang."""

    def press(what: str) -> None:
        joint.calls.append(what)
        if what == where:
            os.kill(os.getpid(), signal.SIGINT)
            joint.let_go.wait()

    joint.note = press  # type: ignore[method-assign]

    def connect() -> Joint:
        joint.note("connect")
        return joint

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - whichever of the calls it is
        row = make_family(connect, DriverTimes(connect=600.0, reset=600.0, call=600.0)).make(1)
        row.reset(ROW, GOAL, np.random.default_rng(0))
        row.step(ROW, COMMAND)
        row.close()
    assert joint.calls[-1] == where


def test_a_driver_sees_one_thread_and_what_it_raises_arrives(joint: Joint) -> None:
    def fail(action: Float) -> Step:
        raise SystemExit("driver")

    row = make_family(lambda: joint).make(1)
    row.reset(ROW, GOAL, np.random.default_rng(0))
    row.step(ROW, COMMAND)
    row.stop("a person")
    joint.step = fail  # type: ignore[method-assign]
    with pytest.raises(SystemExit, match="driver"):
        row.step(ROW, COMMAND)
    row.close()
    row.close()
    assert joint.calls.count("close") == 1
    assert len(joint.threads) == 1
    assert threading.get_ident() not in joint.threads


def test_a_late_answer_is_not_taken_for_that_of_the_next_call(joint: Joint) -> None:
    thread = DriverThread("lab")
    with pytest.raises(RobotFault, match="lab first"):
        thread.call("first", 0.02, lambda: joint.let_go.wait() and "late")
    with pytest.raises(RobotFault, match=r"lab first: .* hangs for"):  # the one that hangs is named
        thread.call("second", 0.02, lambda: "second")
    joint.let_go.set()
    assert thread.call("third", 20.0, lambda: "third") == "third"
    thread.close()


def test_a_driver_with_few_abilities_is_asked_for_none(joint: Joint) -> None:
    class Plain:
        spec = SPEC
        reset, step, close = joint.reset, joint.step, joint.close

    robot = BoundedRobot(cast("Robot", Plain()), DriverThread("lab"), SHORT)
    row = RobotRow(robot)
    row.hold()
    row.stop("a person")
    assert row.observation_age() == 0.0
    assert np.isnan(row.sent).all()
    with pytest.raises(RobotFault, match="lab read: expected a driver that can be read, got Plain"):
        robot.read()
    robot.close()


def test_times_are_positive_numbers() -> None:
    for times in ({"connect": 0.0}, {"reset": float("nan")}, {"call": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(times))):
            replace(SHORT, **times)


FORKS = """
import os, sys
from supple.robots.bounded_robot import DriverThread

thread = DriverThread("arm")
child = thread.call("step", 5.0, os.fork)
os.waitpid(child, 0)
print(thread.call("step", 5.0, lambda: "moved"), flush=True)
"""


def test_a_driver_that_forks_and_comes_back_twice_moves_the_robot_once() -> None:
    """Before, the child waited for calls for ever, with the robot's link open."""
    ran = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == ("moved\n", 0), ran.stderr
