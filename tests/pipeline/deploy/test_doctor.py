"""`supple doctor`: another robot, a slow machine and an emergency stop that nobody tried are found before all moves."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.bundle import Bundle, load_bundle
from supple.datasets import Episode, Feature, Schema
from supple.datasets.bags.writer import write_episode
from supple.pipeline.cli import main
from supple.pipeline.deploy import checks
from supple.robots.hardware_family import HardwareFamily
from supple.robots.ros.messages import TrajectoryController
from supple.robots.spec import ArraySpec, RobotSpec
from tests.robots.ros.test_ros_robot import Memory, make_robot

Make = Callable[..., Bundle]
FAMILY = """
import json
from pathlib import Path
from supple.robots.hardware_family import HardwareFamily
from supple.robots.spec import RobotSpec

SPEC = RobotSpec.from_json(json.loads((Path(__file__).parent / "spec.json").read_text()))
ARM = HardwareFamily(
    name="arm", connect=lambda: 1 / 0, contract=SPEC, train_goals=((1.0,),), test_goals=((2.0,),)
)
"""

ROS_FAMILY = """
import json
from pathlib import Path
from supple.robots.hardware_family import HardwareFamily
from supple.robots.ros.driver import RosConnection, pay_nothing
from supple.robots.ros.messages import ForwardController, JointValue
from supple.robots.ros.ros_robot import RosRobot
from supple.robots.ros.zenoh import Zenoh
from supple.robots.spec import RobotSpec

SPEC = RobotSpec.from_json(json.loads((Path(__file__).parent / "spec.json").read_text()))
ROBOT = RosRobot(
    transport=Zenoh(connect=("tcp/127.0.0.1:1",), mode="client", timeout=0.1),
    contract=SPEC,
    observation={name: JointValue(name) for name in SPEC.observation.names},
    action={name: JointValue(name, "effort") for name in SPEC.action.names},
    controller=ForwardController(topic="/commands", joints=tuple(SPEC.action.names)),
)
ARM = HardwareFamily(
    name="arm", connect=RosConnection(ROBOT, pay_nothing), contract=SPEC, train_goals=((1.0,),), test_goals=((2.0,),)
)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, bundle_of: Make) -> tuple[Path, RobotSpec]:
    path = tmp_path_factory.mktemp("doctor") / "bundle"
    return path, bundle_of(path, "policy", "skill").contract.robot


def examine(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *map(str, arguments), "--latency-share", "1000", "--json"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {record["name"]: record for record in records if record["event"] == "check"}


def write_robot(folder: Path, spec: RobotSpec) -> str:
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    path = folder / f"robot_{folder.name}.py"
    path.write_text(FAMILY)
    return f"{path}:ARM"


def swap(spec: RobotSpec) -> RobotSpec:
    first, second, *rest = spec.observation.axes
    return replace(spec, observation=ArraySpec("observation", (second, first, *rest)))


def in_degrees(spec: RobotSpec) -> RobotSpec:
    first, *rest = spec.observation.axes
    axes = (replace(first, unit="deg"), *rest)
    target, torque = spec.action.axes
    action = ArraySpec("action", (replace(target, commands=None), torque))
    return replace(spec, observation=ArraySpec("observation", axes), action=action)


def renamed(spec: RobotSpec) -> RobotSpec:
    target, torque = spec.action.axes
    return replace(spec, action=ArraySpec("action", (target, replace(torque, name="torque_2"))))


OTHERS: dict[str, tuple[Callable[[RobotSpec], RobotSpec], str, list[str]]] = {
    "order": (
        swap,
        "expected observation axes ['joint1', 'joint2'",
        [
            "- observation 0: joint1 [rad] -2 .. 2",
            "+ observation 0: joint2 [rad] -2 .. 2",
            "- observation 1: joint2 [rad] -2 .. 2",
            "+ observation 1: joint1 [rad] -2 .. 2",
            "  observation: the same names in another order",
        ],
    ),
    "unit": (
        in_degrees,
        "expected observation axis 'joint1' in 'rad', got 'deg'",
        ["- observation 0: joint1 [rad] -2 .. 2", "+ observation 0: joint1 [deg] -2 .. 2"],
    ),
    "name": (
        renamed,
        "expected action axes",
        ["- action 1: torque2 [N m] -0.5 .. 2, 40 N m/s", "+ action 1: torque_2 [N m] -0.5 .. 2, 40 N m/s"],
    ),
    "rate": (
        lambda spec: replace(spec, control_period=0.02),
        "expected control_period 0.01 s, got 0.02 s",
        ["- control_period 0.01 s (100 Hz)", "+ control_period 0.02 s (50 Hz)"],
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_robot_is_refused_with_a_diff(
    case: str, bundle: tuple[Path, RobotSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec = bundle
    change, said, diff = OTHERS[case]
    code, found = examine([path, "--robot", write_robot(tmp_path, change(spec)), "--yes"], capsys)
    assert code == 4
    assert found["robot"]["status"] == "failed"
    assert said in found["robot"]["said"]
    assert found["robot"]["details"] == diff


def test_the_robot_of_the_bundle_passes_all_but_the_emergency_stop_that_nobody_tried(
    bundle: tuple[Path, RobotSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec = bundle
    code, found = examine([path, "--robot", write_robot(tmp_path, spec), "--yes"], capsys)
    assert code == 4
    assert {name: check["status"] for name, check in found.items()} == {
        **dict.fromkeys(("versions", "bundle", "golden trial", "robot", "limits", "latency", "watchdog"), "ok"),
        "motion": "warning",
        "topics": "not checked",
        "e-stop": "failed",
    }
    assert "expected a way to stop the robot when this process dies" in found["motion"]["said"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "options", "code", "status"),
    [
        (checks.WORDS, [], 0, "ok"),
        ("yes", [], 4, "failed"),
        ("", [], 4, "failed"),
        (checks.WORDS, ["--yes"], 4, "failed"),
    ],
)
def test_the_emergency_stop_is_acknowledged_by_a_person_and_by_no_option(
    typed: str,
    options: list[str],
    code: int,
    status: str,
    bundle: tuple[Path, RobotSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, spec = bundle
    monkeypatch.setattr("sys.stdin", Terminal(f"{typed}\n"))
    got, found = examine([path, "--robot", write_robot(tmp_path, spec), *options], capsys)
    assert (got, found["e-stop"]["status"]) == (code, status)


@pytest.mark.parametrize(
    ("limits", "status", "said"),
    [
        ({"target1": {"low": -1.0, "high": 1.0, "rate_limit": 5.0}}, "ok", "all 2 action axes"),
        ({"target1": {"high": 0.9}, "torque2": {"low": -0.4}}, "failed", "got 2 beyond"),
        ({"target1": {"rate_limit": 4.9}}, "failed", "got 1 beyond"),
    ],
)
def test_limits_of_the_robot_bound_those_of_the_bundle(
    limits: Any,
    status: str,
    said: str,
    bundle: tuple[Path, RobotSpec],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "limits.json"
    file.write_text(json.dumps(limits))
    _, found = examine([bundle[0], "--limits", file], capsys)
    assert found["limits"]["status"] == status
    assert said in found["limits"]["said"]


def test_what_adapt_would_refuse_is_said_before(bundle: tuple[Path, RobotSpec], tmp_path: Path) -> None:
    """A robot without velocity limits in its contract, a file that gives them, and a model that is not there."""
    spec = bundle[1]
    free = replace(spec, action=replace(spec.action, axes=tuple(replace(a, rate_limit=None) for a in spec.action.axes)))
    family = HardwareFamily(
        name="arm", connect=Memory, contract=free, train_goals=((1.0,),), test_goals=((2.0,),), stops_by_itself=True
    )
    found = checks.check_motion(family, None)
    assert found.status == "warning"
    assert "give [action.target1] velocity = number" in found.said
    file = tmp_path / "limits.toml"
    file.write_text("[action.target1]\nvelocity = 1.0\n")
    assert checks.check_motion(family, file).status == "ok"
    assert checks.check_limits(load_bundle(bundle[0]), file).status == "ok"
    found = checks.check_motion(replace(family, model=tmp_path / "none.urdf"), file)
    assert found.status == "failed"
    assert "none.urdf" in found.said


@pytest.mark.parametrize("text", ['{"joint9": {"low": 0}}', '{"target1": {"low": "0"}}', '{"target1": 3}', "[]", "{"])
def test_a_file_that_is_no_file_of_limits_is_refused(
    text: str, bundle: tuple[Path, RobotSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "limits.json"
    file.write_text(text)
    assert main(["doctor", str(bundle[0]), "--limits", str(file)]) == 2
    assert "limits.json: expected" in capsys.readouterr().err


def test_a_damaged_bundle_ends_the_list(tmp_path: Path, bundle_of: Make, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bundle"
    bundle_of(path, "policy", "unit")
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    code, found = examine([path], capsys)
    assert code == 4
    assert list(found) == ["versions", "bundle"]
    assert "the bundle is damaged" in found["bundle"]["said"]


def test_a_machine_that_is_too_slow_fails(bundle: tuple[Path, RobotSpec], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(bundle[0]), "--latency-share", "0"]) == 4
    assert "of a control period of 10 ms; free the" in capsys.readouterr().out


def write_bag(folder: Path, spec: RobotSpec, period: float) -> None:
    """A log of the robot, and the mapping that `supple inspect` drafts for it."""
    features = tuple(
        Feature(
            name=array.name,
            shape=array.shape,
            units=tuple(axis.unit for axis in array.axes),
            role=array.name,
            axes=array.names,
        )
        for array in (spec.observation, spec.action)
    )
    rows = {feature.name: np.random.default_rng(0).random((200, *feature.shape), np.float32) for feature in features}
    schema = Schema(features=features, control_period=period)
    write_episode(folder / "log.mcap", Episode(rows, True, False), schema)
    assert main(["inspect", str(folder / "log.mcap"), "--write-mapping", str(folder / "map.toml")]) == 0


@pytest.mark.parametrize(("period", "status"), [(0.01, "ok"), (0.02, "failed")])
def test_rates_of_a_bag_are_compared_with_that_of_the_policy(
    period: float,
    status: str,
    bundle: tuple[Path, RobotSpec],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, spec = bundle
    write_bag(tmp_path, spec, period)
    mapping = tmp_path / "map.toml"
    capsys.readouterr()
    _, found = examine([path, "--bag", tmp_path / "log.mcap", "--mapping", mapping], capsys)
    assert found["topics"]["status"] == status, found
    assert f"{1 / period:g} Hz" in "\n".join(found["topics"]["details"])
    mapping.write_text(mapping.read_text().replace('"joint1", "joint2"', '"joint2", "joint1"'))
    _, found = examine([path, "--bag", tmp_path / "log.mcap", "--mapping", mapping], capsys)
    assert found["topics"]["status"] == "failed"
    assert {"- observation 0: joint1 [rad]", "+ observation 0: joint2 [rad]"} <= set(found["topics"]["details"])
    assert main(["doctor", str(path), "--bag", str(tmp_path / "log.mcap")]) == 2
    assert "expected --mapping with --bag" in capsys.readouterr().err


def test_the_topics_of_a_robot_of_ros_2_are_listened_to_and_the_joints_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot = make_robot(Memory(), controller=TrajectoryController(topic="/t", joints=("elbow", "shoulder")))
    monkeypatch.setattr(checks, "LISTENS", 0.05)
    found = checks.check_ros(robot)
    assert (found.name, found.status) == ("ROS 2", "failed")  # one message at each look is fewer than 500 Hz
    assert found.said.startswith("expected topics at 500 Hz or more, got 1 slower ones")
    text = "\n".join(found.details)
    assert "- /joint_states: " in text
    assert "joints: elbow, shoulder" in text
    assert "/t: 1 listen; its parameter `joints` has to be elbow, shoulder, in this order" in text
    slow = replace(robot, contract=replace(robot.contract, control_period=0.5))
    assert checks.check_ros(slow).status == "ok"
    assert checks.check_ros(replace(slow, stamped=False)).status == "warning"
    absent = checks.check_ros(replace(robot, transport=Memory({"elbow": 0.0})))
    assert absent.status == "failed"
    assert "expected q1 on /joint_states" in absent.said


def test_the_doctor_looks_at_the_topics_of_a_family_of_ros_2(
    bundle: tuple[Path, RobotSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec = bundle
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    (tmp_path / "ros_cell.py").write_text(ROS_FAMILY)
    code, found = examine([path, "--robot", f"{tmp_path / 'ros_cell.py'}:ARM", "--yes"], capsys)
    assert code == 4
    assert found["ROS 2"]["status"] == "failed"
    assert found["ROS 2"]["said"].startswith("zenoh tcp/127.0.0.1:1: expected a session")
