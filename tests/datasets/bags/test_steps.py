"""Values at the steps of a grid: numbers worked by hand, and a plain loop as the reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from supple.datasets.bags.mapping import Signal
from supple.datasets.bags.quality import measure_lag, measure_saturation, measure_topic
from supple.datasets.bags.series import compute_euler
from supple.datasets.bags.steps import NEVER, find_phase, follow, iterate_union, runs_of, sample

NAN = np.nan
HOLD = Signal(feature="observation", topic="/t", axes=("x", "y"), units=("", ""))
ONE = Signal(feature="observation", topic="/t", axes=("x",), units=("",))


def test_a_step_sees_the_last_measurement_and_nothing_later() -> None:
    # samples at 10, 20, 30; a step at 20 sees the one at 20, a step at 19 the one at 10
    time, values = np.array([10, 20, 30]), np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    found = sample(HOLD, time, values, np.array([9, 10, 19, 20, 99]), None)
    assert found.values.tolist() == [[0, 0], [1, 5], [1, 5], [2, 6], [3, 7]]
    assert found.age.tolist() == [NEVER, 0, 9, 0, 69]


def test_steps_begin_when_their_commands_have_come() -> None:
    # ns; measurements each 1600, commands each 6400 at 700: phases are 100 apart, and ages at a phase sum up to
    #   0: 0 + 5700,   700: 700 + 0,   1600: 0 + 900,   6300: 1500 + 5600
    measured = [np.arange(0, 640_000, 1600)]
    assert find_phase(measured, [np.arange(700, 640_000, 6400)], 0, 600_000, 6400) == 700
    # a second topic that commands comes at 1550: at 1600 both are out, and the measurement is new
    later = [np.arange(700, 640_000, 6400), np.arange(1550, 640_000, 6400)]
    assert find_phase(measured, later, 0, 600_000, 6400) == 1600
    # commands that come a little before the measurement leave the steps at the measurement
    assert find_phase([np.arange(0, 640_000, 6400)], [np.arange(-100, 640_000, 6400)], 0, 600_000, 6400) == 0


def test_late_commands_are_waited_for_as_well() -> None:
    # half of the commands come at once, half 20 % of a step later: before that, those steps had the command of before
    sent = np.arange(0, 10**6, 10**4) + np.tile([0, 2000], 50)
    assert 2000 <= find_phase([np.arange(0, 10**6, 100)], [sent], 0, 10**6, 10**4) <= 2200


@pytest.mark.parametrize("sent", [[], [5], [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]], ids=["none", "one", "with them"])
def test_steps_stay_at_the_first_measurement_where_waiting_gains_nothing(sent: list[int]) -> None:
    assert find_phase([np.arange(0, 100, 10)], [np.array(sent, np.int64)], 0, 90, 10) == 0
    assert find_phase([np.arange(0, 100, 10)], [np.array(sent, np.int64)], 0, 5, 10) == 0


def test_axes_that_come_in_messages_of_their_own_are_merged() -> None:
    time, values = np.array([10, 10, 20, 30]), np.array([[1.0, NAN], [NAN, 5.0], [2.0, NAN], [NAN, 7.0]])
    found = sample(HOLD, time, values, np.array([10, 20, 25, 30]), None)
    assert found.values.tolist() == [[1, 5], [2, 5], [2, 5], [2, 7]]
    assert found.age.tolist() == [0, 10, 15, 10]  # of the older axis


@given(
    times=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    holes=st.lists(st.booleans(), min_size=60, max_size=60),
    grid=st.lists(st.integers(-5, 60), min_size=1, max_size=20),
)
def test_holding_is_what_a_loop_over_messages_does(times: list[int], holes: list[bool], grid: list[int]) -> None:
    time, steps = np.sort(np.array(times)), np.sort(np.array(grid))
    values = np.arange(2.0 * len(time)).reshape(-1, 2)
    values[np.array(holes[: 2 * len(time)]).reshape(-1, 2)] = NAN
    found = sample(HOLD, time, values, steps, None)
    for row, step in enumerate(steps):
        last, stamp = [0.0, 0.0], [None, None]
        for at, line in zip(time, values, strict=True):
            for axis in range(2):
                if at <= step and not np.isnan(line[axis]):
                    last[axis], stamp[axis] = line[axis], at
        assert found.values[row].tolist() == last
        assert found.age[row] == (NEVER if None in stamp else max(step - one for one in stamp if one is not None))


def test_interpolation_goes_along_the_shorter_way() -> None:
    time, grid = np.array([0, 100]), np.array([0, 25, 50, 100, 120])
    line = sample(replace(ONE, interpolate="linear"), time, np.array([[1.0], [3.0]]), grid, None)
    assert line.values[:, 0].tolist() == [1, 1.5, 2, 3, 3]
    # from 3.0 rad on to -3.0 rad is 0.283 rad across pi, not 6 rad back
    arc = sample(replace(ONE, interpolate="angle"), time, np.array([[3.0], [-3.0]]), grid, None)
    np.testing.assert_allclose(arc.values[:3, 0], [3.0, 3.0 + 0.25 * (2 * np.pi - 6), 3.0 + 0.5 * (2 * np.pi - 6)])
    far = sample(replace(ONE, interpolate="linear"), time, np.array([[1.0], [3.0]]), grid, 99)
    assert far.values[:, 0].tolist() == [1, 1, 1, 3, 3]  # too far apart to know what was between


def test_linear_interpolation_steps_over_missing_values() -> None:
    values = np.array([[0.0], [NAN], [4.0]])
    found = sample(replace(ONE, interpolate="linear"), np.array([0, 10, 40]), values, np.array([10, 20]), None)
    assert found.values[:, 0].tolist() == [1, 2]


def test_quaternions_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    turns = Rotation.random(20, generator)
    quaternions = turns.as_quat() * generator.choice([-1.0, 1.0], (20, 1))
    time, grid = np.arange(20) * 100, np.arange(0, 1900, 7)
    signal = Signal(feature="observation", topic="/t", axes=tuple("xyzw"), units=("",) * 4, interpolate="quaternion")
    found = sample(signal, time, quaternions, grid, None)
    expected = Slerp(time, turns)(grid)
    assert (Rotation.from_quat(found.values) * expected.inv()).magnitude().max() < 1e-7


def test_euler_angles_are_those_of_scipy() -> None:
    turns = Rotation.random(50, np.random.default_rng(1))
    found = np.stack(compute_euler(turns.as_quat(scalar_first=True) * 3.0), -1)
    np.testing.assert_allclose(found, turns.as_euler("xyz"), atol=1e-12)


def test_a_command_is_in_force_until_its_timeout() -> None:
    second = 10**9
    command = Signal(feature="action", topic="/cmd_vel", axes=("v",), units=("m/s",), timeout=0.5)
    grid = np.array([0, 1, 4, 5, 6, 20]) * second // 10
    held = sample(command, np.array([second // 10]), np.array([[2.0]]), grid, None)
    values, known = follow(command, held)
    assert values[:, 0].tolist() == [0, 2, 2, 2, 2, 0]  # at 0.6 s it is 0.5 s old, and still followed
    assert known.tolist() == [False, True, True, True, True, True]
    values, known = follow(replace(command, after_timeout="invalid"), held)
    assert known.tolist() == [False, True, True, True, True, False]
    values, known = follow(replace(command, timeout=None), held)
    assert values[:, 0].tolist() == [0, 2, 2, 2, 2, 2]


def test_runs() -> None:
    assert runs_of(np.array([1, 1, 0, 1, 0, 0], bool)).tolist() == [[0, 2], [3, 4]]
    assert runs_of(np.zeros(3, bool)).tolist() == []


def test_quality_of_a_topic() -> None:
    # 10 ms apart, one message missing: 10 of 11 arrived, the longest gap is 20 ms
    time = np.delete(np.arange(11) * 10**7, 5)
    assert measure_topic(time) == {
        "messages": 10,
        "rate": 100.0,
        "jitter_p99": pytest.approx(0.0092),  # 92 % of the way from the second largest (0) to the largest (10 ms)
        "dropped": pytest.approx(1 / 11, rel=1e-5),
        "longest_gap": 0.02,
    }


@pytest.mark.parametrize("lag", [-3, 0, 1, 7])
def test_the_lag_between_action_and_motion_is_found(lag: int) -> None:
    rng = np.random.default_rng(0)
    target = np.cumsum(rng.normal(size=(300, 2)), 0)
    state = np.roll(target, lag, 0) + rng.normal(0, 0.1, (300, 2))
    assert measure_lag(target[20:-20], state[20:-20]) == lag


def test_the_lag_of_velocity_commands() -> None:
    rng = np.random.default_rng(0)
    command = rng.normal(size=(300, 1))
    position = np.concatenate([np.zeros((1, 1)), np.cumsum(command, 0)])[:300]  # moves in the step after its command
    assert measure_lag(command, position, velocity=True) == 0
    assert measure_lag(command, np.zeros((300, 1)), velocity=True) is None


def test_saturation() -> None:
    action = np.array([[1.0, 0.0], [0.5, 0.2], [-1.0, 0.1], [0.2, 0.3]])
    assert measure_saturation(action, np.array([-1.0, -1.0]), np.array([1.0, 1.0])) == 0.5


@given(st.lists(st.lists(st.integers(0, 60), min_size=1).map(sorted), min_size=1, max_size=4), st.integers(1, 5))
def test_times_of_several_topics_join_in_blocks(times: list[list[int]], rows: int) -> None:
    blocks = list(iterate_union([np.array(one) for one in times], rows))
    assert np.concatenate(blocks).tolist() == sorted(time for one in times for time in one)
    assert all(len(block) for block in blocks)
