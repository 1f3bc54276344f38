"""Limits and their sources: what holds, what may be tightened, and what is refused by name."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supple.errors import ConfigError
from supple.robots.limits import Bound, RobotLimits
from supple.robots.model_limits import apply_model
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.units import read_unit

SEEN = (
    Axis("joint1", "rad", -2.0, 2.0),
    Axis("joint2", "rad", -3.0, 3.0),
    *(Axis(f"hand_{name}", "m", -1.0, 1.0) for name in "xyz"),
)
TOLD = (
    Axis("target1", "rad", -2.0, 2.0, 1.5, "joint1"),
    Axis("speed2", "rad/s", -1.0, 1.0),
    Axis("force", "150 N m", -0.4, 0.4, 10.0),
    Axis("valve", "1", 0.0, 1.0),
)
SPEC = RobotSpec(
    "arm", ArraySpec("observation", SEEN), ArraySpec("action", TOLD), ArraySpec("goal", SEEN[2:]), 0.02, 100
)
LIMITS = RobotLimits.of(SPEC)

FILE = """
[action.target1]
position = [-1.5, 1.8]
velocity = 1
acceleration = 4.0
jerk = 40.0
tracking_error = 0.2

[action.speed2]
velocity = 0.8
acceleration = 2.0

[observation.hand_z]
low_is_a_pair = 0
"""


def test_the_contract_gives_values_and_first_changes() -> None:
    assert [dict(one) for one in LIMITS.action] == [
        {"position": Bound(-2.0, 2.0, "contract"), "velocity": Bound(-1.5, 1.5, "contract")},
        {"velocity": Bound(-1.0, 1.0, "contract")},
        {"effort": Bound(-0.4, 0.4, "contract"), "effort_rate": Bound(-10.0, 10.0, "contract")},
        {"value": Bound(0.0, 1.0, "contract")},
    ]


def test_a_file_tightens_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    text = FILE.replace("[observation.hand_z]\nlow_is_a_pair = 0", "[observation]\nhand_z = [0.02, 1.0]")
    text += '[[half_space]]\naxes = ["hand_x", "hand_y"]\nnormal = [1, 1.0]\noffset = -0.5\n'
    path.write_text(text + "[loop]\nlate_after = 0.05\nlate_steps = 3\nclamped_steps = 100\n")
    limits = LIMITS.override(path)
    first, second, *rest = limits.action
    assert first["position"] == Bound(-1.5, 1.8, str(path))
    assert first["velocity"] == Bound(-1.0, 1.0, str(path))
    assert first["tracking_error"].high == 0.2
    assert second["acceleration"].high == 2.0
    assert rest == list(LIMITS.action[2:])
    assert limits.observation == {"hand_z": Bound(0.02, 1.0, str(path))}
    assert (limits.half_spaces[0].normal, limits.half_spaces[0].offset) == ((1.0, 1.0), -0.5)
    assert (limits.loop.late_steps, limits.loop.clamped_steps, limits.loop.frozen_steps) == (3, 100, None)
    table = limits.describe()
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert lines[0] == "axis limit low high unit source"
    assert f"target1 jerk -40 40 rad/s^3 {path}" in lines
    assert f"speed2 acceleration -2 2 rad/s^2 {path}" in lines
    assert "force effort_rate -10 10 150 N m/s contract" in lines
    assert "loop late_after 0 0.05 s loop" in lines


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"action": {"target1": {"velocity": 1.6}}},
            r"action\.target1\.velocity: expected a limit within \[-1\.5, 1\.5\] rad/s of contract",
        ),
        ({"action": {"target1": {"position": [-2.5, 0.0]}}}, r"a file can only tighten"),
        (
            {"action": {"target1": {"effort": 1.0}}},
            r"names among position, velocity, acceleration, jerk, tracking_error",
        ),
        ({"action": {"speed2": {"tracking_error": 1.0}}}, r"names among velocity, acceleration, jerk, got 'tracking"),
        ({"action": {"speed2": {"acceleration": -1.0}}}, r"expected a number > 0, got -1\.0"),
        ({"action": {"speed2": {"acceleration": True}}}, r"expected a finite number, got True"),
        ({"action": {"speed2": {"acceleration": float("inf")}}}, r"expected a finite number, got inf"),
        ({"action": {"speed2": {"acceleration": [1, 2]}}}, r"expected a finite number, got \[1, 2\]"),
        ({"action": {"target1": {"position": [1.0, 0.0]}}}, r"\[low, high\] with low < high"),
        ({"action": {"joint9": {}}}, r"expected names among target1, speed2, force, valve, got 'joint9'"),
        ({"action": 3}, r"action: expected a table, got 3"),
        ({"actions": {}}, r"expected names among action, observation, half_space, loop, got 'actions'"),
        ({"observation": {"hand": 1.0}}, r"expected names among joint1.*got 'hand'"),
        ({"half_space": {}}, r"expected \[\[half_space\]\] tables"),
        ({"half_space": [{"axes": ["hand_x"], "normal": [1.0]}]}, r"expected axes, normal and offset"),
        ({"half_space": [{"axes": ["hand"], "normal": [1.0], "offset": 0}]}, r"expected distinct axes among"),
        ({"half_space": [{"axes": ["hand_x"], "normal": [0], "offset": 0}]}, r"expected a direction"),
        ({"loop": {"late_steps": 1.5}}, r"late_steps: expected a whole number from 0, got 1\.5"),
        ({"loop": {"late_after": 0}}, r"late_after: expected seconds > 0, got 0"),
        ({"loop": {"late": 1}}, r"expected names among max_age"),
    ],
)
def test_what_is_no_limit_or_loosens_one_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LIMITS.override_by(data, "limits.toml")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_of_an_editor_of_windows_is_read(tmp_path: Path, mark: str, end: str) -> None:
    text = end.join(("[action.target1] # mine", "velocity = 0.5", ""))
    (tmp_path / "limits.toml").write_bytes((mark + text).encode())
    assert LIMITS.override(tmp_path / "limits.toml").action[0]["velocity"].high == 0.5


@pytest.mark.parametrize("content", [b"[[[", b"\xff", b"a = " + b"[" * 5000])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "limits.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"limits\.toml: expected TOML"):
        LIMITS.override(tmp_path / "limits.toml")
    with pytest.raises(ConfigError, match="expected a TOML file, got"):
        LIMITS.override(tmp_path / "none.toml")


def test_a_second_file_cannot_loosen_the_first() -> None:
    tight = LIMITS.override_by({"observation": {"hand_z": [0.1, 0.5]}, "loop": {"late_steps": 2}}, "first")
    with pytest.raises(ConfigError, match=r"within \[0\.1, 0\.5\]  of first"):
        tight.override_by({"observation": {"hand_z": [0.0, 0.5]}}, "second")
    with pytest.raises(ConfigError, match=r"late_steps: expected at most 2, got 3"):
        tight.override_by({"loop": {"late_steps": 3}}, "second")


def test_a_real_robot_needs_rates_by_name() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no known place, speed or force: '1' of valve\); give \[action\.speed2\] acceleration = number, "
        r"\[action\.valve\] rate = number in the contract",
    ):
        LIMITS.require_rates("lab")
    LIMITS.override_by({"action": {"speed2": {"acceleration": 3.0}, "valve": {"rate": 1.0}}}, "file").require_rates(
        "lab"
    )


def make_limits(seen: Axis, told: Axis) -> RobotLimits:
    """Of a robot with one axis of each."""
    arrays = ArraySpec("observation", (seen,)), ArraySpec("action", (told,)), ArraySpec("goal", SEEN[2:])
    return RobotLimits.of(RobotSpec("arm", *arrays, 0.02, 100))


@pytest.mark.parametrize("unit", ["rad/s", "deg/s", "°/s", "mm/s", "cm / s", "m s^-1", "rpm", "2 deg/s", "mm/min"])
def test_a_speed_in_any_unit_needs_an_acceleration_limit_and_can_be_slowed_down(unit: str) -> None:
    limits = make_limits(Axis("joint", "rad", -3.0, 3.0), Axis("speed", unit, -200.0, 200.0))
    with pytest.raises(ConfigError, match=r"give \[action\.speed\] acceleration = number"):
        limits.require_rates("lab")
    assert limits.slow_down(0.2, "lab").action[0]["velocity"].high == 40.0


@pytest.mark.parametrize(("seen", "told"), [("rad", "rad"), ("deg", "deg"), ("rad", "deg"), ("mm", "m"), ("m", "2 cm")])
def test_a_place_names_where_it_is_measured(seen: str, told: str) -> None:
    axis = Axis("target", told, -2.5, 2.5, 1.0)
    with pytest.raises(
        ConfigError, match=r"action axis 'target' in .* commands, got none.*commands=\.\.\.\), such as 'j"
    ):
        make_limits(Axis("joint", seen, -3.0, 3.0), axis).require_rates("lab")
    free = make_limits(Axis("joint", "kg", -3.0, 3.0), Axis("target", told, -2.5, 2.5))
    with pytest.raises(ConfigError, match=r"give \[action\.target\] velocity = number"):
        free.require_rates("lab")
    with pytest.raises(ConfigError, match="expected a velocity limit of action axis 'target'"):
        free.slow_down(0.2, "lab")
    make_limits(Axis("joint", "kg", -3.0, 3.0), axis).require_rates("lab")


@pytest.mark.parametrize("unit", ["N", "N m", "Nm", "N·m", "150 N*m", "mN m", "kN"])
def test_forces_alone_are_not_slowed_down(unit: str) -> None:
    limits = make_limits(Axis("joint", "rad", -3.0, 3.0), Axis("force", unit, -1.0, 1.0))
    limits.require_rates("lab")
    assert limits.chains == (("effort", "effort_rate"),)
    with pytest.raises(ConfigError, match="--slow: expected an axis with a speed to scale, got forces alone"):
        limits.slow_down(0.2, "lab")


@pytest.mark.parametrize("unit", ["1", "cell/s", "m/s^2", "%", "rad/sample"])
def test_what_an_unknown_unit_commands_needs_a_rate(unit: str) -> None:
    limits = make_limits(Axis("joint", "rad", -3.0, 3.0), Axis("valve", unit, -1.0, 1.0))
    with pytest.raises(
        ConfigError, match=rf"force: '{re.escape(unit)}' of valve\); give \[action\.valve\] rate = number"
    ):
        limits.require_rates("lab")
    with pytest.raises(ConfigError, match="--slow: expected a rate limit of action axis 'valve'"):
        limits.slow_down(0.2, "lab")
    rated = limits.override_by({"action": {"valve": {"rate": 1.0}}}, "file")
    rated.require_rates("lab")
    assert rated.slow_down(0.2, "lab").action[0]["rate"].high == 0.2


@pytest.mark.parametrize(
    ("unit", "kind", "scale"),
    [
        ("deg", "place", math.pi / 180),
        ("deg/s", "speed", math.pi / 180),
        ("-0.5 mm", "place", -0.0005),
        ("rpm", "speed", math.pi / 30),
        ("150 N m", "force", 150.0),
        ("N cm", "force", 0.01),
        ("3 cell", "another", 3.0),
    ],
)
def test_a_unit_is_so_many_si_units(unit: str, kind: str, scale: float) -> None:
    assert read_unit(unit).kind == kind
    assert read_unit(unit).scale == pytest.approx(scale, rel=1e-12)


def test_a_model_counts_in_si_units_whatever_the_contract_does(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(
        '<robot name="arm"><joint name="joint" type="revolute"><limit lower="-1" upper="2" velocity="0.5" effort="9"/>'
        "</joint></robot>"
    )
    told = Axis("speed", "deg/s", -200.0, 200.0)
    limits = make_limits(Axis("joint", "deg", -180.0, 180.0), replace(told, name="joint"))
    found = apply_model(limits, tmp_path / "arm.urdf")
    assert found.action[0]["velocity"].high == pytest.approx(math.degrees(0.5))
    assert found.observation["joint"][:2] == pytest.approx((-math.degrees(1), math.degrees(2)))


def test_a_model_tightens_and_never_loosens() -> None:
    found = {
        "target1": {"position": Bound(-1.0, 5.0, "arm.urdf"), "velocity": Bound(-9.0, 9.0, "arm.urdf")},
        "speed2": {"velocity": Bound(-0.5, 0.5, "arm.urdf"), "effort": Bound(-1.0, 1.0, "arm.urdf")},
    }
    first, second, *_ = LIMITS.tighten(found).action
    assert first["position"] == Bound(-1.0, 2.0, "contract, arm.urdf")
    assert first["velocity"] == Bound(-1.5, 1.5, "contract")
    assert second == {"velocity": Bound(-0.5, 0.5, "arm.urdf")}
    with pytest.raises(ConfigError, match="'target1': expected position limits that overlap"):
        LIMITS.tighten({"target1": {"position": Bound(3.0, 5.0, "arm.urdf")}})


def test_slower_is_the_same_motion_in_more_time() -> None:
    data = {"action": {"target1": {"acceleration": 4.0, "jerk": 40.0}, "speed2": {"acceleration": 2.0}}}
    data["action"]["valve"] = {"rate": 0.2}
    first, second, force, valve = LIMITS.override_by(data, "file").slow_down(0.5, "adapt").action
    assert {name: bound.high for name, bound in first.items()} == {
        "position": 2.0,
        "velocity": 0.75,
        "acceleration": 1.0,
        "jerk": 5.0,
    }
    assert first["jerk"].source == "file x 0.125"
    assert (second["velocity"].high, second["acceleration"].high) == (0.5, 0.5)
    assert (force["effort"].high, valve["value"].high, valve["rate"].high) == (0.4, 1.0, 0.1)


def test_a_place_without_a_velocity_limit_cannot_be_slowed_down() -> None:
    axis = Axis("target1", "rad", -2.0, 2.0, None, "joint1")
    spec = RobotSpec("arm", SPEC.observation, ArraySpec("action", (axis,)), SPEC.goal, 0.02, 100)
    with pytest.raises(ConfigError, match="--slow: expected a velocity limit of action axis 'target1'"):
        RobotLimits.of(spec).slow_down(0.2, "adapt")


@pytest.mark.parametrize(
    "text",
    [
        "[action.target1]\nposition = [-{big}, 1]",
        "[action.target1]\nvelocity = {big}",
        "[loop]\nmax_age = {big}",
        "[loop]\nlate_steps = {big}",
        '[[half_space]]\naxes = ["joint1"]\nnormal = [{big}]\noffset = 0',
    ],
)
def test_whole_numbers_that_no_float_holds_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text.format(big="1" + "0" * 400))
    with pytest.raises(ConfigError, match="number"):
        LIMITS.override(path)
