from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.errors import ConfigError, RobotFault, SpecError
from supple.pipeline.robots import find_robot
from supple.robots.family import Hardware, Plays, make_robots
from supple.robots.hardware_family import HardwareFamily
from supple.robots.robot import RobotRow
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "hardware.py"
ARM = find_robot(f"{EXAMPLE}:ARM").family
assert isinstance(ARM, HardwareFamily)


class TestPlanarArmContract(RobotContract):
    near_goal = (0.408, 0.168)  # .3 and .2 m, the elbow at 1 rad
    far_goal = (-0.4, -0.2)
    max_rows = 1

    def make_batch(self, rows: int, episode_steps: int) -> RobotRow:
        assert isinstance(ARM, HardwareFamily)
        arm: Any = ARM.connect
        spec = replace(ARM.contract, episode_steps=episode_steps)
        return replace(ARM, connect=lambda: arm(spec), contract=spec).make(rows)


def test_hardware_is_one_row_and_does_not_play() -> None:
    assert isinstance(ARM, Hardware)
    assert not isinstance(ARM, Plays)
    assert ARM.spec() == ARM.make(1).spec
    for rows in (0, 2):
        with pytest.raises(ConfigError, match=f"planar-arm rows: expected 1, got {rows}; there is one real robot"):
            ARM.make(rows)


def test_nothing_is_connected_for_the_spec_and_the_tasks() -> None:
    def connect() -> Any:
        raise AssertionError("connected")

    family = replace(ARM, connect=connect)
    assert family.spec().name == "planar-arm"
    tasks = family.tasks()
    assert goals_of(tasks.train).shape == (4, 2)
    assert [task.name for task in tasks.test] == ["test0", "test1"]
    with pytest.raises(RobotFault, match="planar-arm connect: expected a connected robot, got AssertionError conn"):
        family.make(1)


def test_a_real_robot_is_connected_by_nobody_who_does_not_say_so() -> None:
    assert isinstance(ARM, HardwareFamily)
    connected: list[RobotSpec] = []

    def connect() -> Any:
        connected.append(ARM.contract)
        return ARM.connect()

    with pytest.raises(ConfigError, match="planar-arm: expected a simulated robot, got a real one, which supple adapt"):
        make_robots(replace(ARM, connect=connect), 1)
    assert connected == []
    make_robots(replace(ARM, connect=connect), 1, real=True).close()
    assert connected == [ARM.contract]


def test_a_driver_that_does_not_tell_its_contract_is_let_go_of() -> None:
    class Mute:
        closed = False

        @property
        def spec(self) -> RobotSpec:
            raise TimeoutError("no answer")

        def close(self) -> None:
            self.closed = True

    mute: Any = Mute()
    with pytest.raises(RobotFault, match="planar-arm connect: expected a robot with a contract, got TimeoutError"):
        replace(ARM, connect=lambda: mute).make(1)
    assert mute.closed


def test_a_place_that_is_commanded_needs_a_rate_limit() -> None:
    axes = tuple(Axis(f"target{index}", "rad", -2.8, 2.8, commands=f"joint{index}") for index in (1, 2))
    contract = replace(ARM.contract, action=ArraySpec("action", axes))
    assert isinstance(ARM, HardwareFamily)
    with pytest.raises(
        ConfigError, match=r"expected a limit of all that may jump.*give \[action\.target1\] velocity = number"
    ):
        replace(ARM, contract=contract).limits().require_rates("lab")
    slow = ArraySpec("action", tuple(replace(axis, rate_limit=1.0) for axis in axes))
    replace(ARM, contract=replace(contract, action=slow)).limits().require_rates("lab")


def test_a_robot_of_another_contract_is_let_go_of() -> None:
    made = []

    def connect(**changes: Any) -> Any:
        made.append(ARM.connect(replace(ARM.contract, **changes)))  # type: ignore[call-arg]
        return made[-1]

    with pytest.raises(ConfigError, match=r"planar-arm connect: expected control_period 0\.05 s, got 0\.1 s"):
        replace(ARM, connect=lambda: connect(control_period=0.1)).make(1)
    with pytest.raises(ConfigError, match="planar-arm connect: expected 100 steps per episode, got 50"):
        replace(ARM, connect=lambda: connect(episode_steps=50)).make(1)
    assert [arm.connected for arm in made] == [False, False]


def test_the_robot_says_success_and_is_closed_with_its_row() -> None:
    row = ARM.make(1)
    row.reset(np.arange(1), np.array([[0.408, 0.168]], np.float32), np.random.default_rng(0))
    step = row.step(np.arange(1), np.zeros((1, 2), np.float32))
    assert step.success is not None
    assert step.success.tolist() == [True]
    row.close()
    with pytest.raises(RobotFault, match="planar-arm reset: expected a connected robot, got a closed one"):
        row.reset(np.arange(1), np.zeros((1, 2), np.float32), np.random.default_rng(0))


def test_goals_that_are_no_tasks_are_refused() -> None:
    with pytest.raises(SpecError, match=r"planar-arm goals: expected goal axis 'goal_x' within -0.5 .. 0.5, got 0.7 m"):
        replace(ARM, test_goals=((0.7, 0.0),)).tasks()
    with pytest.raises(SpecError, match="distinct goals"):
        replace(ARM, test_goals=ARM.train_goals[:1]).tasks()


@pytest.mark.parametrize("where", ["connect", "spec", "close"])
def test_an_error_without_a_text_or_with_a_long_one_is_told_all_the_same(where: str) -> None:
    """A text of its own may fail: before, that was an error of another kind, with a traceback."""

    class NoText(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Driver:
        @property
        def spec(self) -> RobotSpec:
            raise ValueError("x" * 10**6) if where == "close" else NoText

        def close(self) -> None:
            raise NoText

    def connect() -> Any:
        if where == "connect":
            raise NoText
        return Driver()

    said = "got ValueError xxx" if where == "close" else "got NoText a NoText that has no text"
    with pytest.raises(RobotFault, match=f"expected a .*robot.*{said}") as caught:
        replace(ARM, connect=connect).make(1)
    assert len(str(caught.value)) < 2000
