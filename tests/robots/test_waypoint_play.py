from dataclasses import replace

import numpy as np
import pytest

from supple.errors import ConfigError
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.waypoint_play import WaypointConfig, compute_minimum_jerk

BODY = """
<mujoco>
  <option integrator="implicitfast"/>
  <default><geom contype="0"/></default>
  <worldbody>
    <body name="upper" pos="0 0 0.5">
      <joint name="shoulder" axis="0 1 0" range="-90 90" damping="0.5" stiffness="2"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="1"/>
      <body name="fore" pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0" range="0 120" damping="0.5"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="1"/>
        <body name="slider" pos="0.2 0 0">
          <joint name="slide" type="slide" axis="1 0 0" range="0 0.2" damping="5" armature="0.5"/>
          <geom type="sphere" size="0.02" mass="0.2"/>
          <site name="hand"/>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon><fixed name="both"><joint joint="shoulder" coef="1"/><joint joint="elbow" coef="1"/></fixed></tendon>
  <actuator>{}</actuator>
</mujoco>
"""
MOTORS = """
<motor joint="shoulder" gear="20" ctrlrange="-2 2"/>
<motor name="half" joint="elbow" gear="10" ctrlrange="-2 2"/>
<motor name="other_half" joint="elbow" gear="-5" ctrlrange="-4 4"/>
<motor joint="slide" ctrlrange="-50 50"/>
"""
SERVOS = """
<position joint="shoulder" kp="2000" dampratio="1" inheritrange="1"/>
<position joint="elbow" gear="2" kp="500" kv="50" ctrlrange="0 4.2"/>
<position joint="slide" kp="5000" kv="100" ctrlrange="0 0.2"/>
"""
SPEEDS = """
<velocity joint="shoulder" kv="100" ctrlrange="-5 5"/>
<intvelocity joint="elbow" kp="2000" dampratio="1" ctrlrange="-5 5" actrange="0 2.1"/>
<velocity joint="slide" kv="500" ctrlrange="-1 1"/>
"""
QUIET = WaypointConfig(episode_steps=300, command_noise=0.0)


def make(actuators: str, **changes: object) -> MjcfFamily:
    family = MjcfFamily(
        name="arm",
        model=BODY.format(actuators),
        goal_site="hand",
        goal_low=(-1.0, -1.0, -1.0),
        goal_high=(1.0, 1.0, 2.0),
        waypoints=QUIET,
    )
    return replace(family, **changes)


def test_minimum_jerk_by_hand() -> None:
    way, speed, acceleration = compute_minimum_jerk(np.array([0.0, 0.5, 1.0]))
    assert way.tolist() == [0.0, 0.5, 1.0]
    assert speed.tolist() == [0.0, 1.875, 0.0]  # the largest, 15/8
    assert acceleration.tolist() == [0.0, 0.0, 0.0]
    part, small = np.linspace(0.1, 0.9, 9), 1e-6
    before, after = compute_minimum_jerk(part - small), compute_minimum_jerk(part + small)
    for order in range(2):
        slope = (after[order] - before[order]) / (2 * small)
        assert np.allclose(slope, compute_minimum_jerk(part)[order + 1], atol=1e-6)


@pytest.mark.parametrize("actuators", [MOTORS, SERVOS, SPEEDS])
def test_joints_come_around_in_their_ranges_and_move_smoothly(actuators: str) -> None:
    chunk = next(make(actuators).play(40, 0))
    position, velocity = chunk.observation[..., :3], chunk.observation[..., 3:6]
    width = np.array([np.pi, np.radians(120.0), 0.2])
    # uniform waypoints have a spread of .29 widths; on the way between them there is a little less
    assert (position.std(axis=(0, 1)) > 0.2 * width).all()
    # a way at the largest speed takes 1 s of minimum jerk, 15/8 of the mean speed at its middle
    assert (np.quantile(np.abs(velocity), 0.99, axis=(0, 1)) < 2.2 * width).all()
    assert (np.abs(velocity).mean(axis=(0, 1)) > 0.1 * width).all()


def test_motors_follow_the_path_against_gravity_and_springs() -> None:
    family = make(MOTORS)
    chunk = next(family.play(10, 0))
    # without feedback from noise, a motor's command is the smooth one of a path, far from its limits
    assert (np.abs(chunk.action) < family.spec().action.high).mean() > 0.99
    # two motors of one joint share the torque: 10 N m times one is -5 N m times the other, half of it each
    assert np.allclose(10.0 * chunk.action[..., 1], -5.0 * chunk.action[..., 2], atol=1e-4)


def test_a_servo_is_commanded_in_its_own_unit() -> None:
    chunk = next(make(SERVOS).play(10, 0))
    later, command = chunk.observation[:, 1:, 1], chunk.action[:, :-1, 1]
    assert np.abs(2.0 * later - command).mean() < 0.15  # a gear of 2


def test_what_drives_no_joint_gets_noise() -> None:
    family = make(SERVOS + '<motor name="pull" tendon="both" ctrlrange="-1 3"/>')
    action = next(family.play(40, 0)).action
    assert action[..., 3].min() == -1.0
    assert action[..., 3].max() == 3.0
    unlimited = BODY.replace('range="0 0.2"', "").format('<motor joint="slide" ctrlrange="-50 50"/>')
    action = next(make("", model=unlimited).play(40, 0)).action
    assert (action.min(), action.max()) == (-50.0, 50.0)


def test_noise_comes_on_top() -> None:
    families = [make(SERVOS, waypoints=replace(QUIET, command_noise=noise)) for noise in (0.0, 0.2)]
    quiet, noisy = (next(family.play(3, 0)) for family in families)
    assert np.array_equal(quiet.observation[:, 0], noisy.observation[:, 0])
    difference = np.abs(quiet.action - noisy.action).mean(axis=(0, 1)) / np.array([np.pi, 4.2, 0.2])
    assert (difference > 0.01).all()
    assert (difference < 0.2).all()


def test_a_robot_whose_poses_all_touch_something_does_not_play() -> None:
    model = """
    <mujoco>
      <worldbody>
        <geom type="box" size="1 1 1" pos="2 0 0"/>
        <body><joint name="slide" type="slide" axis="1 0 0" range="1 3"/><geom size="0.1"/></body>
      </worldbody>
      <actuator><motor joint="slide" ctrlrange="-1 1"/></actuator>
      <keyframe><key name="inside" qpos="2"/></keyframe>
    </mujoco>
    """
    family = MjcfFamily(name="stuck", model=model, goal_joints=("slide",), waypoints=QUIET)
    with pytest.raises(ConfigError, match=r"stuck play: expected poses .* none in 51200 random ones; exclude"):
        next(family.play(1, 0))
    # as many touches as at the start are allowed
    assert next(replace(family, keyframe="inside").play(1, 0)).action.shape == (1, 300, 1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("episode_steps", 0, "WaypointConfig.episode_steps: expected a whole number from 1 .* got 0"),
        ("sweep_time", (0.0, 1.0), r"WaypointConfig.sweep_time\[0\]: expected a number above 0 .* got 0.0"),
        ("sweep_time", (2.0, 1.0), r"WaypointConfig.sweep_time: expected low <= high, got \(2.0, 1.0\)"),
        ("command_noise", 1.5, "WaypointConfig.command_noise: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WaypointConfig(**{field: value})
