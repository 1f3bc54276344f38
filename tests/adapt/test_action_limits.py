"""Value, change, acceleration and jerk hold together, in the float32 numbers that are sent, and never for too long."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from supple.adapt.action_limits import ActionLimits, slow_down
from supple.errors import SpecError
from supple.robots.limits import RobotLimits
from supple.robots.spec import ArraySpec, Axis, RobotSpec

PERIOD = 0.1


def make_spec(low: float = -1.0, high: float = 1.0, speed: float = 2.0, axes: int = 1) -> RobotSpec:
    seen = tuple(Axis(f"q{index}", "rad", low, high) for index in range(axes))
    told = tuple(Axis(f"target{index}", "rad", low, high, speed, f"q{index}") for index in range(axes))
    goal = ArraySpec("goal", seen[:1])
    return RobotSpec("joint", ArraySpec("observation", seen), ArraySpec("action", told), goal, PERIOD, 100)


def make_limits(spec: RobotSpec, **table: float) -> ActionLimits:
    limits = RobotLimits.of(spec)
    return ActionLimits.of(spec, limits.override_by({"action": dict.fromkeys(spec.action.names, table)}, "test"))


def drive(limits: ActionLimits, start: float, requests: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is sent for requests of one axis, shape (T,), after three times the start."""
    history = limits.start(np.array([[start]], np.float32))
    sent = [limits.apply(np.array([[one]]), history)[0].item() for one in requests]
    return np.concatenate([[np.float32(start)] * 3, sent]).astype(np.float64)


def count_violations(sent: NDArray[np.float64], spec: RobotSpec, **table: float) -> int:
    """Judged in float64 from the float32 numbers that were sent."""
    (axis,) = spec.action.axes
    change = np.diff(sent)[2:]
    bend = np.diff(sent, n=2)[1:]
    jump = np.diff(sent, n=3)
    found = (sent < axis.low).sum() + (sent > axis.high).sum()
    found += (np.abs(change) > (axis.rate_limit or np.inf) * PERIOD).sum()
    found += (np.abs(bend) > table.get("acceleration", np.inf) * PERIOD**2).sum()
    return int(found + (np.abs(jump) > table.get("jerk", np.inf) * PERIOD**3).sum())


def test_a_hand_worked_acceleration() -> None:
    # .02 rad per step^2: changes .02, .04, .06 towards a far request; then from 0.12 at .06 it brakes
    spec = make_spec(high=0.3)
    sent = drive(make_limits(spec, acceleration=2.0), 0.0, np.full(12, 9.0))[3:]
    np.testing.assert_allclose(sent[:3], [0.02, 0.06, 0.12], atol=1e-6)
    # room .18 = .06 + .05... : with m = 4 terms the change is .18 / 4 + .02 * 3 / 2 = .075, so .06 + .02 is too much
    np.testing.assert_allclose(sent[3], 0.12 + 0.18 / 4 + 0.03, atol=1e-5)
    np.testing.assert_allclose(sent[-1], 0.3, atol=1e-5)
    assert sent.max() <= 0.3


def test_a_hand_worked_jerk() -> None:
    # .01 rad per step^3: accelerations .01, .02, .03
    sent = drive(make_limits(make_spec(high=9.0), jerk=10.0), 0.0, np.full(3, 9.0))[3:]
    np.testing.assert_allclose(sent, [0.01, 0.04, 0.1], rtol=1e-4)


@pytest.mark.parametrize("table", [{"acceleration": 3.0}, {"acceleration": 5.0, "jerk": 60.0}, {"jerk": 20.0}])
def test_a_far_request_is_reached_at_full_speed_and_without_a_step_beyond(table: dict[str, float]) -> None:
    spec = make_spec(-1.0, 1.0, speed=0.5)
    sent = drive(make_limits(spec, **table), -1.0 + 1e-3, np.full(150, 1e9))
    assert count_violations(sent, spec, **table) == 0
    assert np.diff(sent).max() > 0.9 * 0.05
    assert 1.0 - sent[-1] < 1e-3
    back = drive(make_limits(spec, **table), 0.0, np.repeat([7.0, -7.0, 0.2], 60))
    assert count_violations(back, spec, **table) == 0
    np.testing.assert_allclose(back[-1], 0.2, atol=1e-3)


@settings(max_examples=80, deadline=None)
@given(
    requested=arrays(np.float64, 40, elements=st.floats(allow_nan=False, allow_infinity=False) | st.floats(-3.0, 3.0)),
    low=st.floats(-5.0, -0.1),
    high=st.floats(0.1, 5.0),
    speed=st.floats(0.05, 50.0),
    acceleration=st.floats(0.05, 500.0),
    jerk=st.none() | st.floats(0.05, 5000.0),
    place=st.floats(0.0, 1.0),
)
def test_no_limit_is_ever_broken_whatever_is_requested(
    requested: NDArray[np.float64],
    low: float,
    high: float,
    speed: float,
    acceleration: float,
    jerk: float | None,
    place: float,
) -> None:
    spec = make_spec(low, high, speed)
    table = {"acceleration": acceleration} | ({} if jerk is None else {"jerk": jerk})
    limits = make_limits(spec, **table)
    start = np.clip(np.float32(low + place * (high - low)), limits.low, limits.high).item()
    sent = drive(limits, start, requested)
    assert np.isfinite(sent).all()
    assert count_violations(sent, spec, **table) == 0


@settings(max_examples=20, deadline=None)
@given(
    requested=arrays(np.float64, 25, elements=st.floats(-3.0, 3.0)),
    acceleration=st.floats(0.5, 100.0),
    jerk=st.none() | st.floats(5.0, 1000.0),
)
def test_at_any_time_the_robot_can_still_be_brought_to_rest(
    requested: NDArray[np.float64], acceleration: float, jerk: float | None
) -> None:
    """After any commands, asking for the last one again ends at rest, within all limits."""
    spec = make_spec()
    table = {"acceleration": acceleration} | ({} if jerk is None else {"jerk": jerk})
    limits = make_limits(spec, **table)
    history = limits.start(np.zeros((1, 1), np.float32))
    sent = [0.0] * 3
    for one in requested:
        sent.append(limits.apply(np.array([[one]]), history)[0].item())
    for _ in range(150):
        sent.append(limits.apply(history.commands[:, 0].astype(np.float64), history)[0].item())
    assert count_violations(np.array(sent), spec, **table) == 0
    assert abs(sent[-1] - sent[-2]) < 1e-4


def test_a_joint_at_rest_that_is_asked_to_stay_does_not_move_whatever_was_asked_before() -> None:
    sent = drive(make_limits(make_spec(), acceleration=2.0), 0.0, np.array([9.0, -9.0, 0.0, 0.0, 9.0]))
    history = make_limits(make_spec(), acceleration=2.0).start(np.zeros((1, 1), np.float32))
    history.requested[:] = 9.0
    assert make_limits(make_spec(), acceleration=2.0).apply(np.zeros((1, 1)), history)[0].item() == 0.0
    np.testing.assert_allclose(sent[3:7], [0.02, 0.02, 0.02, 0.0], atol=1e-6)


def test_axes_and_rows_do_not_depend_on_each_other() -> None:
    spec = make_spec(axes=3)
    told = {"target0": {"acceleration": 3.0}, "target2": {"acceleration": 8.0, "jerk": 50.0}}
    limits = ActionLimits.of(spec, RobotLimits.of(spec).override_by({"action": told}, "test"))
    rng = np.random.default_rng(0)
    start, requests = rng.uniform(-1, 1, (4, 3)).astype(np.float32), rng.uniform(-2, 2, (60, 4, 3))
    whole = limits.start(start)
    together = np.array([limits.apply(one, whole)[0] for one in requests])
    for row in range(4):
        alone = limits.start(start[row : row + 1])
        np.testing.assert_array_equal(
            together[:, row], [limits.apply(one[row : row + 1], alone)[0][0] for one in requests]
        )
    for index, table in enumerate((told["target0"], {}, told["target2"])):
        one = make_spec()
        sent = drive(
            make_limits(one, **table) if table else ActionLimits.of(one), start[0, index], requests[:, 0, index]
        )
        np.testing.assert_array_equal(together[:, 0, index], sent[3:])


@pytest.mark.parametrize("start", [1.05, -1.05])
def test_a_start_a_little_outside_leads_back_within_the_acceleration_or_is_refused(start: float) -> None:
    spec = make_spec()
    gentle = drive(make_limits(spec, acceleration=100.0), start, np.full(1, start))
    np.testing.assert_allclose(gentle[-1], np.sign(start), atol=1e-6)
    assert np.isnan(drive(make_limits(spec, acceleration=1.0), start, np.full(1, start))[-1])
    assert np.isnan(drive(make_limits(spec, jerk=1000.0), start, np.full(1, start))[-1])


@pytest.mark.parametrize("table", [{"acceleration": 1e-6}, {"jerk": 1e-5}, {"velocity": 1e-30}])
def test_limits_that_float32_cannot_resolve_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="expected limits of action axis 'target0' that float32 commands can resolve"):
        make_limits(make_spec(), **table)


@pytest.mark.parametrize("limited", [None, 0.1])
def test_a_slower_place_goes_the_same_way_in_more_steps(limited: float | None) -> None:
    """At .5 of .1 rad/s for .1 s: 0.005 rad a step. Without a limit: half of the way from .4 to .2. A speed: half."""
    spec = RobotSpec(
        "arm",
        ArraySpec("observation", (Axis("joint", "rad", -3.0, 3.0),)),
        ArraySpec("action", (Axis("target", "rad", -2.0, 2.0, None, "joint"), Axis("speed", "deg/s", -9.0, 9.0))),
        ArraySpec("goal", (Axis("joint", "rad", -3.0, 3.0),)),
        0.1,
        100,
    )
    limits = RobotLimits.of(spec)
    if limited is not None:  # by a file, and not by the contract
        limits = limits.override_by({"action": {"target": {"velocity": limited}}}, "file")
    asked, previous = np.array([[0.2, 8.0]], np.float32), np.array([[0.4, 0.0]], np.float32)
    expected = 0.3 if limited is None else 0.395
    np.testing.assert_allclose(slow_down(limits, asked, previous, 0.5), [[expected, 4.0]], rtol=1e-6)
