# ruff: noqa: E501 (tables of messages)
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import SpecError
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

NAMES = st.text(min_size=1, max_size=8)
FINITE = st.floats(-1e6, 1e6)


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    low, high = sorted(draw(st.lists(FINITE, min_size=2, max_size=2, unique=True)))
    return Axis(
        draw(NAMES),
        draw(st.text(max_size=5)),
        draw(st.sampled_from([low, -math.inf])),
        draw(st.sampled_from([high, math.inf])),
        draw(st.none() | st.floats(1e-3, 1e3)),
    )


ARRAYS = st.builds(ArraySpec, NAMES, st.lists(axes(), min_size=1, max_size=5, unique_by=lambda a: a.name).map(tuple))
ROBOTS = st.builds(RobotSpec, NAMES, ARRAYS, ARRAYS, ARRAYS, st.floats(1e-4, 10.0), st.integers(1, 10**6))

JOINTS = ArraySpec("action", (Axis("shoulder", "rad/s", -2.0, 2.0, 10.0), Axis("elbow", "rad/s", -3.0, 3.0)))
ARM = RobotSpec(
    "arm",
    ArraySpec("observation", (Axis("shoulder", "rad", -math.inf, math.inf), Axis("elbow", "rad", -1.0, 1.0))),
    JOINTS,
    ArraySpec("goal", (Axis("x", "m", -1.0, 1.0),)),
    0.02,
    500,
)

BUTTONS = dataclasses.replace(ARM, action=make_choice_spec(("stay", "up", "down")), choices=("stay", "up", "down"))


def change(spec: RobotSpec, field: str, index: int, **values: object) -> RobotSpec:
    """The spec with one axis of one of its arrays changed."""
    array: ArraySpec = getattr(spec, field)
    rows = list(array.axes)
    rows[index] = dataclasses.replace(rows[index], **values)
    return dataclasses.replace(spec, **{field: ArraySpec(array.name, tuple(rows))})


@given(ROBOTS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_json_round_trip(spec: RobotSpec) -> None:
    text = json.dumps(spec.to_json(), allow_nan=False)
    again = RobotSpec.from_json(json.loads(text))
    assert again == spec
    spec.require_match(again, "test")


def test_json_is_readable() -> None:
    assert ARM.to_json()["observation"] == {
        "name": "observation",
        "axes": [
            {"name": "shoulder", "unit": "rad", "low": None, "high": None, "rate_limit": None},
            {"name": "elbow", "unit": "rad", "low": -1.0, "high": 1.0, "rate_limit": None},
        ],
    }
    assert ARM.to_json()["action"]["axes"][0]["rate_limit"] == 10.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("goal",), None, r"array spec: expected the fields of ArraySpec, got .*NoneType"),
        (("action", "axes", 0, "low"), "fast", r"axis 'shoulder': expected a number for low, got 'fast'"),
        (("action", "axes", 0, "low"), 2.0, r"axis 'shoulder': expected low < high, got 2\.0 and 2\.0 rad/s"),
        (("action", "axes", 0, "high"), math.nan, r"axis 'shoulder': expected low < high, got -2\.0 and nan rad/s"),
        (
            ("action", "axes", 0, "rate_limit"),
            0.0,
            r"axis 'shoulder': expected a positive rate_limit, got 0\.0 rad/s/s",
        ),
        (("action", "axes", 0, "rate_limit"), True, r"axis 'shoulder': expected a number for rate_limit, got True"),
        (("action", "axes", 0, "name"), "", r"axis: expected a name and a unit, got '' and 'rad/s'"),
        (("action", "axes", 0, "unit"), 3, r"axis: expected a name and a unit, got 'shoulder' and 3"),
        (("action", "axes", 0, "name"), "elbow", r"action: expected distinct axis names, got 'elbow' twice"),
        (("action", "axes"), [], r"action: expected at least one axis, got none"),
        (("control_period",), 0.0, r"robot 'arm': expected a positive control_period, got 0\.0 s"),
        (("control_period",), math.nan, r"robot 'arm': expected a positive control_period, got nan s"),
        (("control_period",), "soon", r"robot spec: expected the fields of RobotSpec, got .*soon"),
        (("episode_steps",), 0, r"robot 'arm': expected at least 1 episode step, got 0"),
    ],
)
def test_wrong_json_is_refused(path: tuple[str | int, ...], value: object, message: str) -> None:
    data = ARM.to_json()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(SpecError, match=f"^{message}"):
        RobotSpec.from_json(data)


@pytest.mark.parametrize("field", ["name", "observation", "action", "goal", "control_period", "episode_steps"])
def test_missing_json_field_is_named(field: str) -> None:
    data = ARM.to_json()
    del data[field]
    with pytest.raises(SpecError, match=rf"robot spec: expected the fields of RobotSpec, got KeyError\('{field}'\)"):
        RobotSpec.from_json(data)


@pytest.mark.parametrize("field", ["name", "unit", "low", "high", "rate_limit"])
def test_missing_axis_field_is_named(field: str) -> None:
    data = JOINTS.to_json()
    del data["axes"][1][field]
    with pytest.raises(SpecError, match=rf"array spec: expected the fields of ArraySpec, got KeyError\('{field}'\)"):
        ArraySpec.from_json(data)


def test_limits_and_names_are_in_order() -> None:
    assert JOINTS.shape == (2,)
    assert JOINTS.names == ("shoulder", "elbow")
    assert JOINTS.low.tolist() == [-2.0, -3.0]
    assert JOINTS.high.tolist() == [2.0, 3.0]
    assert JOINTS.low.dtype == JOINTS.high.dtype == np.float32


@pytest.mark.parametrize("value", [[1.0, 2.0], np.array([[1, 2], [3, 4]]), np.zeros((0, 2)), np.zeros((3, 4, 2))])
def test_validate_returns_float32(value: object) -> None:
    array = JOINTS.validate(value, "test")
    assert array.dtype == np.float32
    assert np.array_equal(array, np.asarray(value, np.float32))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, r"arm step: expected action with 2 axes \['shoulder', 'elbow'\], got shape \(\);"),
        ([1.0, 2.0, 3.0], r"arm step: expected action with 2 axes \['shoulder', 'elbow'\], got shape \(3,\);"),
        ([1.0, math.nan], r"arm step: expected finite action, got nan rad/s in axis 'elbow';"),
        ([[1.0, 2.0], [-math.inf, 0.0]], r"arm step: expected finite action, got -inf rad/s in axis 'shoulder';"),
        ([1.0, 1e300], r"arm step: expected finite action, got inf rad/s in axis 'elbow';"),
        (["left", "right"], r"arm step: expected action as numbers \['shoulder', 'elbow'\], got \['left', 'right'\];"),
        (
            [[1.0, 2.0], [3.0]],
            r"arm step: expected action as numbers \['shoulder', 'elbow'\], got \[\[1\.0, 2\.0\], \[3\.0\]\];",
        ),
        (None, r"arm step: expected"),
    ],
)
def test_validate_names_axis_and_value(value: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        JOINTS.validate(value, "arm step")


def test_require_within_names_axis_value_and_limits() -> None:
    limits = np.array([[2.0, -3.0], [-2.0, 3.0]])
    assert np.array_equal(JOINTS.require_within(limits, "test"), limits)
    with pytest.raises(SpecError, match=r"test: expected action axis 'elbow' within -3 \.\. 3, got 3\.5 rad/s; keep"):
        JOINTS.require_within([[0.0, 0.0], [1.0, 3.5]], "test")
    with pytest.raises(
        SpecError, match=r"test: expected action axis 'shoulder' within -2 \.\. 2, got -2\.5 rad/s; keep"
    ):
        JOINTS.require_within([-2.5, 0.0], "test")


def test_require_rows_and_one_name_the_shape() -> None:
    assert JOINTS.require_rows([[1.0, 2.0]], 1, "test").shape == (1, 2)
    assert JOINTS.require_one([1.0, 2.0], "test").tolist() == [1.0, 2.0]
    with pytest.raises(SpecError, match=r"test: expected action of shape \(2, 2\), got \(1, 2\); pass one per row"):
        JOINTS.require_rows([[1.0, 2.0]], 2, "test")
    with pytest.raises(SpecError, match=r"test: expected action of shape \(1, 2\), got \(1, 1, 2\)"):
        JOINTS.require_one([[1.0, 2.0]], "test")
    with pytest.raises(SpecError, match=r"within -2 \.\. 2, got 9"):
        JOINTS.require_one([9.0, 2.0], "test")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (dataclasses.replace(ARM, control_period=0.05), r"^run: expected control_period 0\.02 s, got 0\.05 s;"),
        (change(ARM, "observation", 1, name="wrist"), r"^run: expected observation axes \['shoulder', 'elbow'\], got \['shoulder', 'wrist'\];"),
        (change(ARM, "observation", 1, high=2.0), r"^run: expected observation axis 'elbow' with high 1\.0 rad, got 2\.0;"),
        (change(ARM, "action", 0, unit="deg/s"), r"^run: expected action axis 'shoulder' in 'rad/s', got 'deg/s';"),
        (change(ARM, "action", 0, rate_limit=None), r"^run: expected action axis 'shoulder' with rate_limit 10\.0 rad/s/s, got None;"),
        (change(ARM, "goal", 0, low=-9.0), r"^run: expected goal axis 'x' with low -1\.0 m, got -9\.0;"),
        (dataclasses.replace(ARM, action=ArraySpec("action", JOINTS.axes[::-1])), r"^run: expected action axes \['shoulder', 'elbow'\], got \['elbow', 'shoulder'\] in another order;"),
        (change(change(ARM, "goal", 0, unit="cm"), "action", 1, unit="rpm"), r"^run: expected action axis 'elbow' in 'rad/s', got 'rpm'; also expected goal axis 'x' in 'm', got 'cm'; use the robot"),
    ],
)  # fmt: skip
def test_require_match_names_the_difference(other: RobotSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ARM.require_match(other, "run")


def test_require_match_lists_differences_by_the_names_of_axes_and_not_without_end() -> None:
    turned = dataclasses.replace(ARM, action=ArraySpec("action", ARM.action.axes[::-1]))
    with pytest.raises(SpecError, match=r"got \['elbow', 'shoulder'\] in another order; use the robot"):
        ARM.require_match(turned, "run")
    axes = tuple(Axis(f"q{index}", "rad", -1.0, 1.0) for index in range(20))
    long = dataclasses.replace(ARM, observation=ArraySpec("observation", axes))
    degrees = dataclasses.replace(
        long, observation=ArraySpec("observation", tuple(dataclasses.replace(axis, unit="deg") for axis in axes))
    )
    with pytest.raises(SpecError, match=r"'q0' in 'rad', got 'deg'; also .*'q7' in 'rad', got 'deg'; and 12 more; use"):
        long.require_match(degrees, "run")


def test_require_match_lets_name_time_limit_and_a_little_jitter_pass() -> None:
    ARM.require_match(dataclasses.replace(ARM, name="other", episode_steps=7, control_period=0.0205), "run")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, r"^log: expected data of robot 'arm', got data of a robot that nobody named; ingest them again with --robot"),
        (dataclasses.replace(ARM, name="maze"), r"^log: expected data of robot 'arm', got data of robot 'maze'; use data"),
        (dataclasses.replace(ARM, control_period=0.05), r"^log: expected control_period 0\.02 s, got 0\.05 s;"),
        (dataclasses.replace(ARM, action=ArraySpec("action", JOINTS.axes[::-1])), r"^log: expected action axes \['shoulder', 'elbow'\], got \['elbow', 'shoulder'\] in another order;"),
        (change(ARM, "observation", 1, unit="deg"), r"^log: expected observation axis 'elbow' in 'rad', got 'deg';"),
        (change(ARM, "observation", 1, low=-2.0), r"^log: expected observation axis 'elbow' with low -1\.0 rad, got -2\.0;"),
        (change(ARM, "action", 0, high=100.0), r"^log: expected action axis 'shoulder' with high 2\.0 rad/s, got 100\.0;"),
        (change(ARM, "action", 1, rate_limit=3.0), r"^log: expected action axis 'elbow' with rate_limit None rad/s/s, got 3\.0;"),
        (BUTTONS, r"^log: expected choices \[\], got \['stay', 'up', 'down'\];"),
    ],
)  # fmt: skip
def test_require_source_names_the_first_difference(source: RobotSpec | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ARM.require_source(source, "log")


def test_require_source_lets_pass_what_is_not_in_the_data() -> None:
    ARM.require_source(
        change(dataclasses.replace(ARM, episode_steps=7, control_period=0.0205), "goal", 0, low=-9.0), "log"
    )


# Choices


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True).map(tuple))
def test_choices_survive_json(choices: tuple[str, ...]) -> None:
    spec = dataclasses.replace(ARM, action=make_choice_spec(choices), choices=choices)
    again = RobotSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))
    assert again == spec
    assert again.choices == choices


def test_json_without_choices_is_the_json_of_before() -> None:
    assert set(ARM.to_json()) == {"name", "observation", "action", "goal", "control_period", "episode_steps"}
    assert BUTTONS.to_json()["choices"] == ["stay", "up", "down"]
    assert RobotSpec.from_json(ARM.to_json()).choices == ()


def test_choices_are_one_axis_of_indices() -> None:
    action = make_choice_spec(("stay", "up", "down"))
    assert action.axes == (Axis("action", "1", 0.0, 2.0),)  # three choices: 0, 1, 2


@pytest.mark.parametrize("choices", [("only",), ("", "up"), ("up", "up", "down")])
def test_choices_that_name_nothing_to_choose_are_refused(choices: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match=rf"^choices: expected two or more distinct names, got \['{choices[0]}'"):
        make_choice_spec(choices)


@pytest.mark.parametrize("action", [JOINTS, make_choice_spec(("stay", "up"))])
def test_choices_with_another_action_spec_are_refused(action: ArraySpec) -> None:
    with pytest.raises(SpecError, match=r"^robot 'arm': expected the action spec of 3 choices, got axes \[Axis\("):
        dataclasses.replace(BUTTONS, action=action)


def test_choices_of_json_are_checked() -> None:
    with pytest.raises(SpecError, match=r"^robot spec: expected the fields of RobotSpec, got .*not iterable"):
        RobotSpec.from_json(BUTTONS.to_json() | {"choices": 3})
    with pytest.raises(SpecError, match=r"expected the action spec of 2 choices"):
        RobotSpec.from_json(BUTTONS.to_json() | {"choices": ["stay", "up"]})


def test_require_choices_returns_indices() -> None:
    index = BUTTONS.require_choices(np.array([[2.0], [0.0], [1.0]], np.float32), 3, "test")
    assert index.dtype == np.int64
    assert index.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([[0.0], [0.5]], r"^run: expected the index of one of the 3 choices \['stay', 'up', 'down'\], got 0\.5; pass"),
        ([[0.0], [3.0]], r"^run: expected the index of one of the 3 choices .*, got 3; pass a whole number below 3$"),
        ([[-1.0], [0.0]], r"^run: expected the index of one of the 3 choices .*, got -1; pass"),
        ([[-0.5], [0.0]], r"^run: expected the index of one of the 3 choices .*, got -0\.5; pass"),
        ([[1e30], [0.0]], r"^run: expected the index of one of the 3 choices .*, got 1e\+30; pass"),
        ([[2.0], [np.nan]], r"^run: expected finite action, got nan 1 in axis 'action'"),
        ([[2.0]], r"^run: expected action of shape \(2, 1\), got \(1, 1\)"),
        ([[2.0, 1.0]], r"^run: expected action with 1 axes \['action'\], got shape \(1, 2\)"),
    ],
)
def test_require_choices_refuses_what_is_no_choice(action: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BUTTONS.require_choices(action, 2, "run")


def test_require_match_names_other_choices() -> None:
    other = dataclasses.replace(BUTTONS, choices=("stay", "down", "up"))
    with pytest.raises(
        SpecError, match=r"^run: expected choices \['stay', 'up', 'down'\], got \['stay', 'down', 'up'\];"
    ):
        BUTTONS.require_match(other, "run")
    with pytest.raises(SpecError, match=r"^run: expected choices \[\], got \['stay', 'up', 'down'\];"):
        ARM.require_match(BUTTONS, "run")
    BUTTONS.require_match(dataclasses.replace(BUTTONS, name="other"), "run")


SERVO = dataclasses.replace(
    ARM, action=ArraySpec("action", (Axis("target", "rad", -1.0, 1.0, 2.0, "elbow"), Axis("speed", "rad/s", -1.0, 1.0)))
)


def test_what_an_axis_commands_survives_json_and_is_left_out_where_it_is_not_said() -> None:
    assert RobotSpec.from_json(json.loads(json.dumps(SERVO.to_json()))) == SERVO
    assert SERVO.to_json()["action"]["axes"][0]["commands"] == "elbow"
    assert "commands" not in json.dumps(ARM.to_json())
    assert SERVO.find_commanded() == ("elbow", None)
    quiet = change(SERVO, "action", 0, commands=None)  # the elbow alone has its limits
    assert quiet.find_commanded() == ("elbow", None)
    assert change(quiet, "action", 0, high=0.5).find_commanded() == (None, None)
    assert change(quiet, "observation", 0, low=-1.0, high=1.0).find_commanded() == (None, None)  # either joint
    for spec, other in ((SERVO, quiet), (quiet, SERVO)):
        spec.require_match(other, "test")
    with pytest.raises(SpecError, match="expected action axis 'target' to command 'elbow', got 'shoulder'"):
        SERVO.require_match(change(SERVO, "action", 0, commands="shoulder"), "test")


@pytest.mark.parametrize(
    ("field", "commands", "message"),
    [
        (
            "action",
            "wrist",
            r"expected action axis 'target' to command an observation axis in rad, got 'wrist' in None",
        ),
        ("action", "", r"expected commands to name an observation axis, got ''"),
        ("action", 3, r"expected commands to name an observation axis, got 3"),
        ("observation", "elbow", r"expected only action axes to command, got axis 'shoulder' that commands 'elbow'"),
    ],
)
def test_an_axis_that_commands_nothing_is_refused(field: str, commands: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        change(SERVO, field, 0, commands=commands)
    speed = dataclasses.replace(ARM.observation.axes[0], name="spin", unit="rad/s")
    spinning = dataclasses.replace(SERVO, observation=ArraySpec("observation", (*ARM.observation.axes, speed)))
    with pytest.raises(SpecError, match=r"in rad, got 'spin' in rad/s"):
        change(spinning, "action", 0, commands="spin")


@given(FINITE, FINITE)
def test_inner_limits_are_the_widest_float32_within_the_limits(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other) + 1.0
    spec = ArraySpec("action", (Axis("a", "N", low, high),))
    found, beyond = spec.inner_low[0], np.nextafter(spec.inner_low[0], np.float32(-np.inf))
    assert float(beyond) < low <= float(found)
    found, beyond = spec.inner_high[0], np.nextafter(spec.inner_high[0], np.float32(np.inf))
    assert float(found) <= high < float(beyond)


def test_inner_limits_of_huge_and_of_no_numbers() -> None:
    spec = ArraySpec("action", (Axis("a", "N", -1e300, 1e300), Axis("b", "N", -math.inf, math.inf)))
    most = float(np.finfo(np.float32).max)
    assert spec.inner_low.tolist() == [-most, -math.inf]
    assert spec.inner_high.tolist() == [most, math.inf]
