"""The wiring of a log, worked out by hand on a joint that is a line, and on the arm of the examples."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SourceError
from supple.robots.log_replay import LoggedEpisode, ReplaySimulator, compute_divergence, find_transitions
from supple.robots.wiring import (
    find_coarse,
    find_sensors,
    find_wiring,
    gauss_newton,
    late_commands,
    mend_commands,
    pair_axes,
)
from supple.robots.wiring_findings import Tolerances, find_faults, list_untold
from tests.robots.line import NAMES, PERIOD, Line, make_spec, record


def find(*episodes):
    simulator = ReplaySimulator(Line())
    sensors = find_sensors(simulator, episodes)
    spec = make_spec()
    fixed = [one._replace(observation=sensors.correct(spec.observation, one.observation)) for one in episodes]
    wiring, _ = find_wiring(simulator, fixed)
    return sensors, wiring, find_faults(spec, sensors, wiring, Tolerances())


def test_late_commands_of_a_step_by_hand():
    # commands 1, 3 in two steps of 2 parts; half a step late the first part of step 1 still has command 1
    command = np.array([[[1.0], [3.0]]])
    late = late_commands(command, np.array([0.5]), 0, 2, 2)
    assert late.reshape(-1).tolist() == [1.0, 1.0, 1.0, 3.0]
    # a quarter of a step late, half of that part has command 1, half 3
    assert late_commands(command, np.array([0.25]), 0, 2, 2).reshape(-1).tolist() == [1.0, 1.0, 2.0, 3.0]
    # a quarter early
    assert late_commands(command, np.array([-0.25]), 0, 2, 2).reshape(-1).tolist() == [1.0, 2.0, 3.0, 3.0]


def test_coarse_finds_a_swap_a_sign_and_whole_steps_by_hand():
    rng = np.random.default_rng(0)
    told = rng.standard_normal((200, 2))
    lags = range(-1, 4)
    command = np.stack([np.roll(told, lag, axis=0) for lag in lags])
    effective = np.stack([0.5 + 2.0 * command[3][:, 1], -1.0 * command[3][:, 0]], axis=1)
    guess = find_coarse(effective, command, lags)
    assert guess.source.tolist() == [1, 0]
    assert guess.lag == 2.0
    np.testing.assert_allclose(guess.gain, [2.0, -1.0], atol=1e-9)
    np.testing.assert_allclose(guess.bias, [0.5, 0.0], atol=1e-9)


def test_gauss_newton_of_a_line_has_the_textbook_errors():
    # y = 2 x + 1 + noise: the standard error of the slope is sigma / (sqrt(n) std(x))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4000)
    y = 2.0 * x + 1.0 + 0.1 * rng.standard_normal(4000)
    fit = gauss_newton(lambda p: (p[0] * x + p[1] - y)[:, None], np.zeros(2), np.full(2, 1e-3), np.arange(4000) // 10)
    np.testing.assert_allclose(fit.value, [2.0, 1.0], atol=0.01)
    np.testing.assert_allclose(fit.error, 0.1 / np.sqrt(4000), rtol=0.15)


def test_a_good_log_has_no_findings_and_its_number_is_told():
    _, wiring, faults = find(record(0))
    assert faults == []
    assert abs(wiring.common_delay()[0]) < 1e-3
    np.testing.assert_allclose(wiring.gain, 1.0, atol=0.02)
    assert list_untold(make_spec(), wiring) == []


def test_two_joints_swapped_by_the_command():
    _, wiring, faults = find(record(1, source=(1, 0)))
    assert wiring.source.tolist() == [1, 0]
    assert [(one.kind, one.where, set(one.joints)) for one in faults] == [("order", "command", set(NAMES))]
    assert "'one' follows what 'two' is told" in faults[0].sentence


def swap_sensors(episode):
    return episode._replace(observation=episode.observation[:, [1, 0, 3, 2, 4, 5]])


def scale_sensor(episode, factor, offset=0.0):
    changed = episode.observation.copy()
    changed[:, 1] = factor * changed[:, 1] + offset
    changed[:, 3] *= factor
    return episode._replace(observation=changed)


@pytest.mark.parametrize(
    ("change", "kind", "joints", "value"),
    [
        (swap_sensors, "order", {"one", "two"}, 0.0),
        (lambda one: scale_sensor(one, -1.0), "sign", {"two"}, -1.0),
        (lambda one: scale_sensor(one, 180.0 / np.pi), "unit", {"two"}, 180.0 / np.pi),
        (lambda one: scale_sensor(one, 0.8), "gain", {"two"}, 0.8),
        (lambda one: scale_sensor(one, 1.0, 0.2), "bias", {"two"}, 0.2),
    ],
)
def test_a_fault_of_a_sensor_is_told_from_one_of_the_command(change, kind, joints, value):
    sensors, _, faults = find(change(record(2)))
    assert [(one.kind, one.where, set(one.joints)) for one in faults] == [(kind, "sensor", joints)]
    assert faults[0].value == pytest.approx(value, abs=0.02 * max(1.0, abs(value)))
    assert sensors.distance < 0.01


def test_a_velocity_of_the_wrong_sign_is_named():
    episode = record(3)
    changed = episode.observation.copy()
    changed[:, 2] *= -1.0
    _, _, faults = find(episode._replace(observation=changed))
    assert [(one.kind, one.where, one.joints) for one in faults] == [("sign", "sensor", ("one",))]
    assert "its velocity has the reversed sign" in faults[0].sentence


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    delay=st.integers(0, 120),
    gain=st.sampled_from([-1.2, -1.0, 0.6, 0.8, 1.0, 1.25]),
    bias=st.sampled_from([-0.3, 0.0, 0.3]),
)
def test_what_was_injected_is_found(seed, delay, gain, bias):
    _, wiring, faults = find(record(seed, gain=(1.0, gain), bias=(bias, 0.0), delay=1e-3 * delay))
    assert wiring.source.tolist() == [0, 1]
    assert abs(wiring.common_delay()[0] - 1e-3 * delay) < 2e-3
    np.testing.assert_allclose(wiring.gain, [1.0, gain], atol=0.04)
    np.testing.assert_allclose(wiring.bias, [bias, 0.0], atol=0.02)
    kinds = {one.kind for one in faults}
    assert ("sign" in kinds) == (gain < 0.0)
    assert ("gain" in kinds) == (abs(abs(gain) - 1.0) > 0.1)
    assert ("bias" in kinds) == (bias != 0.0)
    if abs(delay - 5) > 2:
        assert ("delay" in kinds) == (delay > 5)


def test_commands_that_do_not_move_are_not_told():
    episode = record(4)
    still = episode.action.copy()
    still[:, 1] = 0.0
    quiet = record(4, gain=(1.0, 0.0))
    _, wiring, faults = find(LoggedEpisode(quiet.observation, still))
    assert list_untold(make_spec(), wiring) == ["two"]
    assert not any("two" in one.joints and one.kind != "delay" for one in faults)


def test_mended_commands_follow_the_log_where_the_logged_ones_leave_it():
    # a constant command 1 of which 0.5 arrives: after k steps of 0.05 s the logged one is 0.025 k ahead
    steps = 20
    command = np.ones((steps, 2), np.float32)
    position = 0.5 * PERIOD * np.arange(steps)[:, None].repeat(2, axis=1)
    hand = np.stack([2.0 * position[:, 0], 2.0 * position[:, 0]], axis=1)
    seen = np.concatenate([position, np.full((steps, 2), 0.5), hand], axis=1).astype(np.float32)
    episode, simulator = LoggedEpisode(seen, command), ReplaySimulator(Line())
    plain = compute_divergence(simulator, [episode], 10)
    np.testing.assert_allclose(plain.anew[:, 0], 0.025 * np.arange(1, 11), rtol=1e-4)
    np.testing.assert_allclose(plain.whole[:, 1], 0.025 * np.arange(1, steps), rtol=1e-4)
    _, wiring, _ = find(record(5, gain=(0.5, 0.5)))
    exact = wiring._replace(gain=np.full(2, 0.5), bias=np.zeros(2), delay=np.zeros(2))
    told = mend_commands(make_spec(), exact, command, simulator.parts)
    np.testing.assert_allclose(compute_divergence(simulator, [episode], 10, [told]).anew, 0.0, atol=1e-5)


def test_positions_and_velocities_are_paired_by_name_and_unit():
    position, velocity = pair_axes(make_spec().observation)
    assert position.tolist() == [0, 1]
    assert velocity.tolist() == [2, 3]


def test_a_repeated_observation_is_no_transition():
    episode = record(6, steps=40)
    seen = episode.observation.copy()
    seen[10] = seen[9]
    found = find_transitions([episode._replace(observation=seen)], 1, 2, 1000)
    starts = {tuple(row) for row in found.before.tolist()}
    assert len(found.before) == 37 - 2  # starts 2 .. 38, without the two pieces that the silent step ends or begins
    assert tuple(seen[8].tolist()) in starts
    assert found.command.shape == (len(found.before), 4, 2)


def test_too_short_a_log_is_refused():
    with pytest.raises(SourceError, match=r"at least 8 steps.*got 4"):
        find_transitions([record(0, steps=4)], 2, 5, 10)


def test_a_family_that_cannot_set_its_state_is_refused():
    @dataclass(frozen=True)
    class Plain:
        name = "plain"

        def spec(self):
            return make_spec()

    with pytest.raises(ConfigError, match="got plain"):
        ReplaySimulator(Plain())


def test_a_part_of_a_control_period_of_an_mjcf_family_is_a_physics_step():
    from supple.robots.mjcf_family import MjcfFamily

    family = MjcfFamily(
        name="arm",
        model=Path(__file__).resolve().parents[2] / "examples" / "my_arm.xml",
        control_period=0.05,
        goal_site="hand",
        goal_low=(-0.75, -0.75, 0.05),
        goal_high=(0.75, 0.75, 1.0),
        keyframe="home",
    )
    assert family.physics_steps == 10
    simulator = ReplaySimulator(family)
    start = simulator.observe(np.zeros((1, 11), np.float32))
    command = np.full((1, 2, 4), 0.1, np.float32)
    fine = simulator.predict(start, command)
    simulator.close()
    coarse = family.make(1)
    family.set_state(coarse, np.zeros(1, np.int64), start)
    seen = [coarse.step(np.zeros(1, np.int64), command[:, step]).observation[0] for step in range(2)]
    np.testing.assert_allclose(fine[0], seen, atol=1e-6)
