"""A robot family from a real robot: what connects it, its contract, and the goals that it is asked for.

    ARM = HardwareFamily(
        name="lab-arm",
        connect=lambda: LabArm("192.0.2.7"),
        contract=LAB_ARM_SPEC,
        train_goals=((0.2, 0.1), (0.3, -0.1)),
        test_goals=((0.25, 0.0),),
        model=Path(__file__).with_name("lab_arm.urdf"),
        stop=stop_lab_arm,
        stop_arguments=("192.0.2.7",),
    )

The contract stands here, and not only with the robot, since most of what a command does needs no connection. A family
of hardware makes no play data: bring logs, or let a simulated family play.

A driver that is also a `robot.Stops` is told every stop, and one that is a `robot.TellsAge` is asked after each
observation how old it is. One that `robot.TakesLimits` keeps to them on its way home. One that `robot.Observes` can be
read in a dry run.

`stop` is called in a process of its own when the controlling process dies or hangs, and at each stop that the driver is
not told: it opens a connection of its own.

Axes: G goal.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir

from ..bounds import Positive, require_bounds
from ..errors import ConfigError, RobotFault, SpecError, SuppleError, make_text
from .bounded_robot import BoundedRobot, DriverThread, DriverTimes
from .dry_robot import DryRobot
from .family import ONLY_TASKS, BuiltFrom, Hardware
from .limits import LoopLimits, RobotLimits
from .model_limits import apply_model
from .robot import Holds, Robot, RobotRow, can
from .spec import RobotSpec
from .task import Task, TaskSet


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFamily(Hardware, BuiltFrom):
    """One real robot. It says success itself, see `Step.success`."""

    name: str
    """Of the family, for records and folders."""
    connect: Callable[[], Robot]
    """Connects the robot; called by `make` and never again after a fault or a stop. `Robot.close` disconnects it."""
    contract: RobotSpec
    """Of the robot that is connected."""
    train_goals: tuple[tuple[float, ...], ...] = field(metadata=ONLY_TASKS)
    """Train tasks, each of G numbers."""
    test_goals: tuple[tuple[float, ...], ...] = field(metadata=ONLY_TASKS)
    """Test tasks; none of them is a train task."""

    model: Path | None = None
    """A URDF or MJCF file of the robot. The limits of its joints hold too; see `model_limits.apply_model`."""
    loop: LoopLimits | None = None
    """What stops the robot beside its axes. None for observations that are older than three control periods, or than
    0.1 s if that is longer, and for more than 5 commands in a row that come so late."""
    stop: Callable[..., None] | None = None
    """A function of a module or of a file, called as `stop(*stop_arguments, reason)` in a second process when
    heartbeats of the controlling one cease; see `adapt.watchdog.Watchdog`."""
    stop_arguments: tuple[str, ...] = ()
    """Such as the address of the robot."""
    watchdog_timeout: Positive = 0.5
    """Seconds without a heartbeat after which that process stops the robot."""
    times: DriverTimes = field(default_factory=DriverTimes)
    """How long the calls of the driver may take; see `bounded_robot.py`."""
    stops_by_itself: bool = False
    """The robot's own controller stops it when commands cease, so that it may be moved without `stop`."""

    def __post_init__(self) -> None:
        require_bounds(self)

    def files(self) -> tuple[Path, ...]:
        """See `BuiltFrom.files`."""
        return () if self.model is None else (self.model,)

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`: none."""
        return ()

    def limits(self) -> RobotLimits:
        """Those of the contract and of the model.

        Raises:
            ConfigError: The model cannot be read, has no joint of an axis, or does not overlap with the contract.
        """
        patience = max(0.1, 3.0 * self.contract.control_period)
        usual = LoopLimits(max_age=patience, late_after=patience, late_steps=5)
        limits = replace(RobotLimits.of(self.contract), loop=self.loop or usual)
        return limits if self.model is None else apply_model(limits, self.model)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`; nothing is connected for it."""
        return self.contract

    def dry(self, made: list[DryRobot]) -> HardwareFamily:
        """The same robot, which is only read.

        Args:
            made: Gets the robot when it is connected.
        """
        connect = self.connect

        def connect_dry() -> Robot:
            made.append(DryRobot(connect()))
            return made[-1]

        return replace(self, connect=connect_dry)

    def make(self, rows: int, threads: int = 1) -> RobotRow:
        """Connects the robot; see `RobotFamily.make`.

        Raises:
            ConfigError: More or less than one row is asked for, the connected robot has another contract, or it cannot
                be held where it is commanded speeds or forces.
            RobotFault: The robot could not be connected, or does not tell its contract.
        """
        if rows != 1:
            raise ConfigError(f"{self.name} rows: expected 1, got {rows}; there is one real robot")
        thread = DriverThread(self.name)
        try:
            robot = thread.call("connect", self.times.connect, self.connect, late=_let_go)
        except (SuppleError, KeyboardInterrupt):
            thread.close()
            raise
        except BaseException as error:  # a driver's SystemExit would end this program as if all were well
            thread.close()
            raise RobotFault(
                f"{self.name} connect: expected a connected robot, got {type(error).__name__} {make_text(error)}; "
                "check its power and its link"
            ) from error
        bounded = BoundedRobot(robot, thread, self.times)
        try:
            self._require_contract(bounded)
            self._require_hold(robot)
        except BaseException as error:
            try:
                bounded.close()
            except Exception as problem:  # noqa: BLE001 - the first error is the one to mend
                error.add_note(f"close raised {type(problem).__name__} {make_text(problem)}")
            raise
        return RobotRow(bounded)

    def _require_hold(self, robot: Robot) -> None:
        """Refuses a robot that would go on with its last speed or force after an episode."""
        pairs = zip(self.contract.action.names, self.contract.find_commanded(), strict=True)
        moving = [axis for axis, place in pairs if place is None]
        if moving and not self.contract.choices and not can(robot, Holds):
            raise ConfigError(
                f"{self.name} connect: expected a driver that can hold the robot, since '{moving[0]}' commands no "
                f"place and would go on after an episode, got {type(robot).__name__}; give it the hold of "
                "supple.robots.robot.Holds, which commands zero"
            )

    def _require_contract(self, robot: Robot) -> None:
        try:
            self.contract.require_match(robot.spec, f"{self.name} connect")
            if robot.spec.episode_steps != self.contract.episode_steps:
                raise SpecError(
                    f"{self.name} connect: expected {self.contract.episode_steps} steps per episode, got "
                    f"{robot.spec.episode_steps}; set the time limit of the contract"
                )
        except SpecError as error:
            raise ConfigError(str(error)) from error
        except RobotFault:
            raise
        except Exception as error:
            raise RobotFault(
                f"{self.name} connect: expected a robot with a contract, got {type(error).__name__} "
                f"{make_text(error)}; correct the driver"
            ) from error

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`.

        Raises:
            SpecError: A goal is outside the limits of the contract, stands twice, or there are none.
        """
        for goal in (*self.train_goals, *self.test_goals):
            self.contract.goal.require_one(goal, f"{self.name} goals")
        train, test = (
            tuple(Task(f"{split}{index}", tuple(goal)) for index, goal in enumerate(goals))
            for split, goals in (("train", self.train_goals), ("test", self.test_goals))
        )
        return TaskSet(f"{self.name}-{len(train)}-{len(test)}", train, test)


def find_claim(name: str) -> Path:
    """The file by which a robot is claimed on this computer."""
    return Path(gettempdir()) / f"supple-robot-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"


@contextmanager
def claim_robot(name: str, mover: str) -> Iterator[None]:
    """Keeps other processes of this computer from moving a robot while the context lasts; it ends with its process.

    Args:
        name: Of the robot.
        mover: What moves it, for the message to whoever comes second.

    Raises:
        RobotFault: Another process moves it, or the file of the claim cannot be opened.
    """
    path = find_claim(name)
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        except PermissionError:  # another user's, which is as good to be locked
            file = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        raise RobotFault(
            f"{path}: expected a file that says who moves {name}, got '{error.strerror}'; remove it"
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"
            raise RobotFault(
                f"{name}: expected to be alone with this robot, got {other}, which moves it; end that first. Robots "
                "that are two need names that differ"
            ) from error
        with suppress(OSError):  # a claim without words holds as well
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} with {mover}".encode(), 0)
        yield
    finally:
        os.close(file)


def _let_go(robot: Robot) -> None:
    """Closes a robot that was connected when nobody waited for it any more."""
    robot.close()
