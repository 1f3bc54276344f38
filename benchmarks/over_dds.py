"""The whole loop over DDS in real time, and in lock step on the same goals.

A robot that is not there (`robots/ros/emulated.py`) is a process of its own, with its own clock, noise, latency, jitter
and losses. A policy adapts on it over CycloneDDS: it searches, infers its task and is led by the logs of its bundle, as
`supple adapt --episodes 12` does; it takes no gradient steps. The safety limits stand between. The same is played in
lock step with many seeds. Counted is the success of the later half of the episodes; in the kitchen their return, which
is the number of completed subtasks.

    python benchmarks/over_dds.py maze runs/demo/export/bundle > maze.json
    python benchmarks/over_dds.py arm runs/arm/export/bundle > arm.json
    python benchmarks/over_dds.py kitchen runs/kitchen/export/bundle > kitchen.json

A third number, such as 5, is how many times slower all clocks go: each period of the loop and of the robot lasts so
much longer, and the physics of a period is the same. It is for machines that are too busy for the real rate.

An episode of a robot that is commanded forces begins where somebody put it back: here over its panel. Records say how
far the machine kept up: the rate of the loop, and the share of steps that were late.
"""

import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.adapt.audit import AuditLog
from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.log_agent import lead
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.safety import SafetyLimits
from supple.pipeline.robots import find_robot
from supple.pipeline.stages.adapt import find_robot_of, find_test_tasks
from supple.robots.emulated_robot import Emulation
from supple.robots.family import RobotFamily
from supple.robots.hardware_family import HardwareFamily
from supple.robots.kitchen import ARM, MAX_SPEED
from supple.robots.limits import LoopLimits
from supple.robots.robot import Float, RobotBatch, WrappedRobots
from supple.robots.robot_link import Kind, Link, Packet
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.driver import RosDriver
from supple.robots.ros.emulated import emulate_ros
from supple.robots.ros.messages import Element, ForwardController, JointValue, Source
from supple.robots.ros.ros_robot import RosRobot
from supple.robots.spec import ArraySpec, RobotSpec
from supple.robots.task import Task, TaskSet

COMMAND = "python benchmarks/over_dds.py"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GOALS, EPISODES = 8, 12
SEEDS = {"maze": 25, "arm": 25, "kitchen": 10}
EMULATION = Emulation(noise=0.001, latency=0.002, jitter=0.002, loss=0.01, stop_periods=10_000)
PATIENT = LoopLimits(max_age=2.0)
"""A busy machine is late; that is measured, and stops nobody."""


def make_maze_robot(family: Any) -> RosRobot:
    """The point of the maze as two joints that are commanded efforts."""
    spec = family.spec()
    joints = {"x": JointValue("x"), "y": JointValue("y")}
    speeds = {name: JointValue(name[1:], "velocity") for name in spec.observation.names if name not in joints}
    action = dict(zip(spec.action.names, (JointValue("x", "effort"), JointValue("y", "effort")), strict=True))
    return RosRobot(
        transport=CycloneDds(domain=43, interface="127.0.0.1", peers=("127.0.0.1",)),
        contract=spec,
        observation={name: (joints | speeds)[name] for name in spec.observation.names},
        action=action,
        controller=ForwardController(topic="/forward_effort_controller/commands", joints=("x", "y")),
    )


def make_kitchen_robot(family: Any) -> RosRobot:
    """The arm of the kitchen as joints that are commanded speeds; another node sees the objects and knows the goal."""
    spec = family.spec()
    arm, rest = spec.observation.names[:ARM], spec.observation.names[ARM:]
    measured: dict[str, Source] = {name: JointValue(name) for name in arm}
    return RosRobot(
        transport=CycloneDds(domain=45, interface="127.0.0.1", peers=("127.0.0.1",)),
        contract=spec,
        observation=measured | {name: Element("/objects", index) for index, name in enumerate(rest)},
        action={
            axis: JointValue(joint, "velocity", 1.0 / MAX_SPEED)
            for axis, joint in zip(spec.action.names, arm, strict=True)
        },
        controller=ForwardController(topic="/forward_velocity_controller/commands", joints=tuple(arm)),
    )


def slow_spec(spec: RobotSpec, slower: float) -> RobotSpec:
    """The same motion by slower clocks: a change per second is so much smaller."""
    axes = tuple(
        replace(axis, rate_limit=None if axis.rate_limit is None else axis.rate_limit / slower)
        for axis in spec.action.axes
    )
    return replace(spec, action=ArraySpec("action", axes), control_period=spec.control_period * slower)


class SlowRobots(WrappedRobots):
    """Robots whose clock goes slower."""

    def __init__(self, robot: RobotBatch, slower: float) -> None:
        super().__init__(robot)
        self._own = slow_spec(robot.spec, slower)

    @property
    def spec(self) -> RobotSpec:
        """The contract, by the slower clock."""
        return self._own


@dataclass(frozen=True)
class SlowFamily(RobotFamily):
    """A family whose clocks go slower."""

    real: Any
    slower: float
    episode_steps: int

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return f"slow-{self.real.name}"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return slow_spec(replace(self.real, episode_steps=self.episode_steps).spec(), self.slower)

    def make(self, rows: int, threads: int = 1) -> RobotBatch:
        """See `RobotFamily.make`."""
        return SlowRobots(replace(self.real, episode_steps=self.episode_steps).make(rows, threads), self.slower)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        tasks: TaskSet = self.real.tasks()
        return tasks


class PutBack(RosDriver):
    """A robot that somebody puts back at its start before each episode, over its panel."""

    def __init__(self, robot: RosRobot, reward: Any, panel: str) -> None:
        super().__init__(robot, reward)
        self._panel, self._link = panel, Link(f"{panel}.person")

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `RobotAdapter.reset`."""
        for kind in (Kind.STOP, Kind.RECOVER):
            self._link.send(Packet(kind, 1, time.monotonic_ns(), np.empty(0, np.float32)), self._panel)
            time.sleep(0.05)
        time.sleep(max(0.1, 3.0 * self.spec.control_period))  # it hears once in each of its periods
        return super().reset(goal, rng)

    def close(self) -> None:
        """See `RobotAdapter.close`."""
        super().close()
        self._link.close()


def adapt(bundle: Bundle, robot: RobotBatch, tasks: list[Task], seed: int, measure: str) -> NDArray[np.float64]:
    """Mean of the later half of the episodes, one number for each row; a task ends where it is solved."""
    rng, guide = np.random.default_rng(seed), bundle.make_guide()
    agent: Any = bundle.make_agent(RandomNoise(rng))
    agent = agent if guide is None else lead(agent, guide)
    adapter = Adapter(agent, robot, tasks, bundle.contract.budget, EPISODES, rng)
    found = [[record[measure] for record in records] for records in adapter.run()]
    return np.mean(found[EPISODES // 2 :], axis=0, dtype=np.float64)


def play_lock_step(bundle: Bundle, family: Any, tasks: list[Task], seeds: int, measure: str) -> NDArray[np.float64]:
    """What each goal and seed came to, (N, S)."""
    rows = [task for task in tasks for _ in range(seeds)]
    robot = family.make(len(rows))
    with closing(robot):
        return adapt(bundle, robot, rows, 0, measure).reshape(len(tasks), seeds)


def play_over_dds(
    bundle: Bundle, family: Any, robot: RosRobot, tasks: list[Task], folder: Path, measure: str
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """What each goal came to, (N,), and how far the machine kept up."""
    panel, twin, found = str(folder / "panel"), family.make(1), []
    periods = late = 0
    seconds = 0.0
    drivers: list[RosDriver] = []

    def connect() -> RosDriver:
        put_back = robot.home is None
        drivers.append(PutBack(robot, twin, panel) if put_back else RosDriver(robot, twin))
        return drivers[-1]

    goals = tuple(task.goal for task in tasks)
    cell = HardwareFamily(
        name="over-dds",
        connect=connect,
        contract=robot.contract,
        train_goals=goals[:1],
        test_goals=goals[1:],
        loop=PATIENT,
        stops_by_itself=True,
    )
    slower = robot.contract.control_period / bundle.contract.robot.control_period
    emulation = replace(EMULATION, latency=EMULATION.latency * slower, jitter=EMULATION.jitter * slower)
    with emulate_ros(family, panel, robot, emulation):
        for index, task in enumerate(tasks):
            with closing(AuditLog(folder / f"audit-{index}.jsonl", simulator=True)) as log:
                row = cell.make(1)
                with closing(SafetyLimits(row, log, limits=cell.limits())) as safe:
                    found.append(adapt(bundle, safe, [task], 100 + index, measure)[0])
                    report = drivers[-1].cadence.report
                    periods, seconds = periods + report.periods, seconds + report.seconds
                    late += report.overruns
            print(task.name, found[-1], round(os.getloadavg()[0], 1), file=sys.stderr, flush=True)
    twin.close()
    return np.array(found), {"rate": periods / seconds, "late": late / periods}


def main() -> None:
    """Prints the records of one robot."""
    began, name, bundle = time.perf_counter(), sys.argv[1], load_bundle(sys.argv[2])
    measure = "return" if name == "kitchen" else "terminated"
    said, seeds = "return" if name == "kitchen" else "success", SEEDS[name]
    if name in ("maze", "kitchen"):
        family: Any = find_robot_of(bundle, None).family
        robot = make_maze_robot(family) if name == "maze" else make_kitchen_robot(family)
    else:
        sys.path.insert(0, str(EXAMPLES))
        from ros2_arm import ROBOT

        family = find_robot(f"{EXAMPLES / 'my_arm.py'}:ARM").family
        robot = replace(ROBOT, transport=replace(ROBOT.transport, domain=44))
    slower = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
    tasks = list(find_test_tasks(bundle, family)[:GOALS])
    lock_step = play_lock_step(bundle, family, tasks, seeds, measure)
    with tempfile.TemporaryDirectory() as folder:
        if slower != 1.0:
            family = SlowFamily(family, slower, family.spec().episode_steps)
            robot = replace(robot, contract=family.spec())
        real, kept = play_over_dds(bundle, family, robot, tasks, Path(folder), measure)
    spread = lock_step.std(axis=1, ddof=1)
    error = float(np.sqrt((spread**2 * (1.0 + 1.0 / seeds)).sum())) / len(tasks)
    difference = float(real.mean() - lock_step.mean())
    clock = "real time" if slower == 1.0 else f"{slower:g} times slower"
    at = {"robot": f"{name}, {clock}"}
    common = {"method": bundle.contract.kind, "seeds": [0], "tasks": "test", "at": at}
    floor = 1.0 / (EPISODES // 2) / 2.0
    near = np.abs(real - lock_step.mean(axis=1)) <= 2.0 * np.maximum(spread, floor)
    print_records(
        "over-dds",
        " ".join([COMMAND, name, "BUNDLE", *sys.argv[3:]]),
        began,
        [
            common | {"metric": f"{said} in lock step", "mean": float(lock_step.mean()), "n": lock_step.size},
            common | {"metric": f"{said} over DDS", "mean": float(real.mean()), "n": len(real)},
            common
            | {"metric": "difference, two standard errors", "mean": difference, "n": len(real)}
            | {"low": difference - 2.0 * error, "high": difference + 2.0 * error},
            common | {"metric": "goals within two standard errors", "mean": float(near.mean()), "n": len(near)},
            common | {"metric": "rate of the loop, 1/s", "mean": kept["rate"]},
            common | {"metric": "share of late steps", "mean": kept["late"]},
            common | {"metric": "load of the machine", "mean": round(os.getloadavg()[1], 1)},
        ],
    )


if __name__ == "__main__":
    main()
