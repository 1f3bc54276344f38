"""A robot family from a real robot: what connects it, its contract, and the goals that it is asked for.

    ARM = HardwareFamily(
        name="lab-arm",
        connect=lambda: LabArm("192.0.2.7"),
        contract=LAB_ARM_SPEC,
        train_goals=((0.2, 0.1), (0.3, -0.1)),
        test_goals=((0.25, 0.0),),
    )

The contract stands here, and not only with the robot, since most of what a command does needs no connection. A family
of hardware makes no play data: bring logs, or let a simulated family play.

A driver that is also a `robot.Stops` is told every stop, and one that is a `robot.TellsAge` is asked after each
observation how old it is.

Axes: G goal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ConfigError, RobotFault, SpecError, SuppleError
from .family import ONLY_TASKS, Hardware
from .robot import Robot, RobotRow
from .spec import RobotSpec
from .task import Task, TaskSet


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFamily(Hardware):
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

    def __post_init__(self) -> None:
        """Refuses what nobody could move safely.

        Raises:
            ConfigError: An action axis that commands a place has no rate limit: its first command could be a jump.
        """
        for axis, commanded in zip(self.contract.action.axes, self.contract.find_commanded(), strict=True):
            if commanded is not None and axis.rate_limit is None:
                raise ConfigError(
                    f"{self.name} contract: expected a rate_limit of action axis '{axis.name}', which commands "
                    f"'{commanded}', got none; give the largest change per second in {axis.unit}/s"
                )

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`; nothing is connected for it."""
        return self.contract

    def make(self, rows: int, threads: int = 1) -> RobotRow:
        """Connects the robot; see `RobotFamily.make`.

        Raises:
            ConfigError: More or less than one row is asked for, or the connected robot has another contract.
            RobotFault: The robot could not be connected, or does not tell its contract.
        """
        if rows != 1:
            raise ConfigError(f"{self.name} rows: expected 1, got {rows}; there is one real robot")
        try:
            robot = self.connect()
        except SuppleError:
            raise
        except Exception as error:
            raise RobotFault(
                f"{self.name} connect: expected a connected robot, got {type(error).__name__} {error}; check its power "
                "and its link"
            ) from error
        try:
            self._require_contract(robot)
        except BaseException:
            robot.close()
            raise
        return RobotRow(robot)

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
        except Exception as error:
            raise RobotFault(
                f"{self.name} connect: expected a robot with a contract, got {type(error).__name__} {error}; correct "
                "the driver"
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
