"""A LeRobot robot by duck typing, against a fake of its calls."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.lerobot_robot import RADIANS, Key, LeRobotDriver
from supple.robots.limits import RobotLimits
from supple.robots.robot import Bool, Float, RobotRow
from supple.robots.spec import ArraySpec, Axis, ImageSpec, RobotSpec
from supple.robots.testing import RobotContract

JOINTS = tuple(Axis(f"joint{index}", "rad", -math.pi, math.pi) for index in (1, 2))
SPEC = RobotSpec(
    name="so-arm",
    observation=ArraySpec("observation", JOINTS),
    action=ArraySpec(
        "action",
        tuple(Axis(f"target{i}", "rad", -3.0, 3.0, rate_limit=2.0, commands=f"joint{i}") for i in (1, 2)),
    ),
    goal=ArraySpec("goal", tuple(Axis(f"goal{index}", "rad", -3.0, 3.0) for index in (1, 2))),
    control_period=0.001,
    episode_steps=25,
)
KEYS = {"joint1": Key("shoulder.pos", RADIANS), "joint2": Key("elbow.pos", RADIANS)}
TARGETS = {"target2": Key("elbow.pos", RADIANS), "target1": Key("shoulder.pos", RADIANS)}


class FakeArm:
    """Speaks degrees, and moves a share of the way at each command."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share
        self.degrees = {"shoulder.pos": 0.0, "elbow.pos": 0.0}
        self.connected, self.broken, self.sent = False, "", list[dict[str, Any]]()

    def connect(self) -> None:
        self._fail("connect")
        self.connected = True

    def get_observation(self) -> dict[str, Any]:
        self._fail("get_observation")
        return {**self.degrees, "camera": np.zeros((2, 2, 3), np.uint8)}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._fail("send_action")
        self.sent.append(action)
        for name, value in action.items():
            self.degrees[name] += self.share * (value - self.degrees[name])
        return action

    def disconnect(self) -> None:
        self.connected = False

    def home(self) -> None:
        self.degrees = dict.fromkeys(self.degrees, 0.0)

    def _fail(self, call: str) -> None:
        if self.broken == call:
            raise ConnectionError("cable")


def reach(observation: Float, goals: Float) -> tuple[Float, Bool]:
    near = np.linalg.norm(observation[..., None, :] - goals, axis=-1) <= 0.05
    return near.astype(np.float32), near


def make(arm: FakeArm, **changes: Any) -> LeRobotDriver:
    given: dict[str, Any] = {"observation": KEYS, "action": TARGETS, "reward": reach, "home": arm.home}
    spec = changes.pop("spec", SPEC)
    return LeRobotDriver(arm, spec, **given | changes)


def test_the_picture_comes_with_the_newest_observation() -> None:
    arm, shown = FakeArm(), np.zeros((16, 12, 3), np.uint8)
    seeing = replace(SPEC, image=ImageSpec(8, 12, 3))
    arm.get_observation = lambda: {**arm.degrees, "camera": shown}  # type: ignore[method-assign]
    driver = make(arm, spec=seeing, picture=lambda told: told["camera"][::2])
    with pytest.raises(SpecError, match="expected a robot that was read, got none"):
        driver.take_images(np.arange(1))
    robots = RobotRow(driver)
    robots.reset(np.arange(1), np.ones((1, 2), np.float32), np.random.default_rng(0))
    shown[4] = 200  # the camera fills the same memory
    assert not robots.take_images(np.arange(1)).any()
    robots.step(np.arange(1), np.zeros((1, 2), np.float32))
    picture = robots.take_images(np.arange(1))
    assert picture.shape == (1, 8, 12, 3)
    assert (picture[0, 2] == 200).all()
    assert picture.sum() == 200 * 12 * 3
    driver.close()


@pytest.mark.parametrize(
    "picture", [lambda told: told["camera"], lambda told: np.zeros((8, 12, 3)), lambda told: told["side"]]
)
def test_a_picture_of_another_size_or_type_is_a_fault(picture: Any) -> None:
    driver = make(FakeArm(), spec=replace(SPEC, image=ImageSpec(8, 12, 3)), picture=picture)
    with pytest.raises(RobotFault, match="so-arm get_observation: expected an answer of the robot"):
        driver.home()
    driver.close()


def test_an_image_and_a_picture_belong_together() -> None:
    with pytest.raises(ConfigError, match="so-arm picture: expected a picture, got None"):
        make(FakeArm(), spec=replace(SPEC, image=ImageSpec(8, 12, 3)))
    with pytest.raises(ConfigError, match="expected no picture, since its contract has no image"):
        make(FakeArm(), picture=lambda told: told["camera"])


class TestLeRobotContract(RobotContract):
    near_goal = (0.0, 0.0)
    far_goal = (2.9, -2.9)
    max_rows = 1

    def make_batch(self, rows: int, episode_steps: int) -> RobotRow:
        return RobotRow(make(FakeArm(0.01), spec=replace(SPEC, episode_steps=episode_steps)))


def test_units_and_order_are_those_of_the_robot() -> None:
    arm = FakeArm()
    driver = make(arm)
    assert arm.connected
    driver.reset(np.array([2.0, 2.0], np.float32), np.random.default_rng(0))
    step = driver.step(np.array([math.pi / 2, -math.pi / 4], np.float32))
    assert arm.sent[-1] == pytest.approx({"shoulder.pos": 90.0, "elbow.pos": -45.0}, abs=1e-4)
    assert step.observation == pytest.approx([math.pi / 4, -math.pi / 8], abs=1e-5)
    assert driver.sent == pytest.approx([math.pi / 2, -math.pi / 4], abs=1e-5)  # rad, as LeRobot says that it sent
    driver.stop("enough")  # the measured place, degrees
    assert arm.sent[-1] == pytest.approx({"shoulder.pos": 45.0, "elbow.pos": -22.5}, abs=1e-4)
    assert 0.0 <= driver.observation_age() < 1.0
    driver.close()
    assert not arm.connected


class SaggingArm(FakeArm):
    """Half a degree below where it is told, as under its own weight."""

    def get_observation(self) -> dict[str, Any]:
        return {name: value - 0.5 for name, value in self.degrees.items()}


def test_an_arm_that_sags_does_not_creep_while_it_is_held_and_a_stop_is_where_it_is() -> None:
    arm = SaggingArm(1.0)
    driver = make(arm)
    driver.reset(np.array([2.0, 2.0], np.float32), np.random.default_rng(0))
    driver.step(np.radians(np.array([30.0, -30.0], np.float32)))
    for _ in range(5):
        driver.hold()
        assert arm.sent[-1] == pytest.approx({"shoulder.pos": 29.5, "elbow.pos": -30.5}, abs=1e-4)
    driver.step(np.radians(np.array([31.0, -30.0], np.float32)))
    driver.hold()  # another place
    assert arm.sent[-1]["shoulder.pos"] == pytest.approx(30.5, abs=1e-4)
    arm.degrees["shoulder.pos"] = 10.0  # somebody pushed it
    driver.stop("enough")
    assert arm.sent[-1]["shoulder.pos"] == pytest.approx(9.5, abs=1e-4)
    driver.close()


@pytest.mark.parametrize("call", ["connect", "get_observation", "send_action"])
def test_what_the_robot_raises_is_a_fault_that_names_the_call(call: str) -> None:
    arm = FakeArm()
    if call == "connect":
        arm.broken = call
        with pytest.raises(RobotFault, match=r"so-arm connect: .* got ConnectionError cable"):
            make(arm)
        return
    driver = make(arm)
    driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))
    arm.broken = call
    with pytest.raises(RobotFault, match=f"so-arm {call}: .* got ConnectionError cable"):
        driver.step(np.zeros(2, np.float32))


def test_a_key_that_the_robot_does_not_have_is_a_fault() -> None:
    driver = make(FakeArm(), observation=KEYS | {"joint2": Key("wrist.pos", 1.0)})
    with pytest.raises(RobotFault, match=r"get_observation: .* KeyError 'wrist\.pos'"):
        driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))


def test_axes_without_keys_or_units_are_refused() -> None:
    with pytest.raises(ConfigError, match="observation keys: expected one for each of joint1, joint2, got joint1"):
        make(FakeArm(), observation={"joint1": KEYS["joint1"]})
    with pytest.raises(ConfigError, match=r"key 'elbow\.pos' of axis 'target2': expected a finite factor .* got 0"):
        make(FakeArm(), action=TARGETS | {"target2": Key("elbow.pos", 0.0)})
    speeds = ArraySpec("action", tuple(Axis(f"target{index}", "rad/s", -1.0, 1.0) for index in (1, 2)))
    with pytest.raises(ConfigError, match="action axis 'target1': expected one that commands an observation axis"):
        make(FakeArm(), spec=replace(SPEC, action=speeds))


class TellingArm(FakeArm):
    """Tells other numbers than it has, for the joints that are named."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.told: Any = {}

    def get_observation(self) -> Any:
        return {**self.degrees, **self.told} if isinstance(self.told, dict) else self.told


@pytest.mark.parametrize("call", ["hold", "stop"])
@pytest.mark.parametrize("degrees", [math.nan, math.inf, -math.inf, 1e300, 4000.0, 179.0])
def test_a_place_that_was_not_measured_or_is_far_outside_is_never_commanded(degrees: float, call: str) -> None:
    arm = TellingArm()
    driver = make(arm)
    driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))
    rest: dict[str, Any] = {"hold": driver.hold, "stop": lambda: driver.stop("broken")}
    arm.told = {"shoulder.pos": degrees}  # before the first command nobody knows a place that could be commanded
    with pytest.raises(RobotFault, match=r"so-arm hold: expected 'joint1' within \[-3\.00\d*, 3\.00\d*\] rad"):
        rest[call]()
    assert arm.sent == []
    arm.told = {}
    driver.home()
    driver.step(np.radians(np.array([10.0, 20.0], np.float32)))
    arm.told = {"shoulder.pos": degrees}
    rest[call]()
    # the shoulder stays with its last command, where the limit of 3 rad would be a jump; the elbow where it is
    assert arm.sent[-1] == pytest.approx({"shoulder.pos": 10.0, "elbow.pos": 10.0}, abs=1e-4)
    arm.told = {}
    driver.home()  # somebody else has commanded it since
    arm.told = {"shoulder.pos": degrees}
    with pytest.raises(RobotFault, match="no command was sent: check the sensor"):
        rest[call]()
    driver.close()


def test_a_place_within_one_step_of_the_limits_is_held_at_them() -> None:
    arm = TellingArm()
    driver = make(arm)
    driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))
    arm.degrees["shoulder.pos"] = math.degrees(3.0015)  # 0.002 rad in a step
    driver.hold()
    assert arm.sent[-1]["shoulder.pos"] == pytest.approx(math.degrees(3.0), abs=1e-4)
    driver.close()


@pytest.mark.parametrize("make_number", [np.float64, np.array, lambda value: np.array([value]), int])
def test_numbers_may_be_of_any_library(make_number: Any) -> None:
    arm = TellingArm()
    driver = make(arm)
    arm.told = {"shoulder.pos": make_number(90)}
    seen = driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))
    assert seen == pytest.approx([math.pi / 2, 0.0], abs=1e-6)
    driver.close()


@pytest.mark.parametrize("told", [None, [1.0, 2.0], "shoulder.pos", {"shoulder.pos": "12.5"}, {"shoulder.pos": True}])
def test_what_is_no_number_is_a_fault_that_says_so(told: Any) -> None:
    arm = TellingArm()
    driver = make(arm)
    arm.told = told
    with pytest.raises(
        RobotFault, match=r"get_observation: .*(as shoulder\.pos, no number|in place of numbers by key)"
    ):
        driver.read()
    driver.close()


def test_a_reward_function_that_works_in_place_changes_no_observation_and_no_goal() -> None:
    def spoil(observation: Float, goals: Float) -> tuple[Float, Bool]:
        observation -= goals[0]
        return reach(observation, goals)

    driver = make(FakeArm(), reward=spoil)
    driver.reset(np.ones(2, np.float32), np.random.default_rng(0))
    with pytest.raises(ValueError, match="read-only"):  # behind the safety limits it is a fault that stops the arm
        driver.step(np.zeros(2, np.float32))
    driver.close()


def test_a_home_that_is_a_command_is_reached_within_the_limits_that_hold() -> None:
    """0.25 rad at 1 rad/s in steps of 0.001 s, or at 0.5 rad/s."""
    for rate, steps in ((1.0, 250), (0.5, 500)):
        arm = FakeArm(share=1.0)
        driver = make(arm, home=(0.25, 0.0))
        limits = RobotLimits.of(SPEC).override_by({"action": {"target1": {"velocity": rate}}}, "file")
        assert driver.take_limits(limits)
        driver.reset(np.zeros(2, np.float32), np.random.default_rng(0))
        way = np.radians([0.0, *(sent["shoulder.pos"] for sent in arm.sent)])
        assert np.abs(np.diff(way)).max() <= rate * SPEC.control_period + 1e-6
        assert way[-1] == pytest.approx(0.25)
        assert len(arm.sent) == steps
        driver.close()


def test_a_function_that_brings_the_arm_home_knows_no_limits() -> None:
    limits = RobotLimits.of(SPEC)
    assert not make(FakeArm()).take_limits(limits)
    assert make(FakeArm(), home=None).take_limits(limits)
    with pytest.raises(ConfigError, match="so-arm home: expected 'target1' within"):
        make(FakeArm(), home=(2.0, 0.0)).take_limits(
            limits.override_by({"action": {"target1": {"position": 1.0}}}, "file")
        )
