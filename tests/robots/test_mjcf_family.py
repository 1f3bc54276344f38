import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supple.errors import ConfigError, RobotFault, SpecError
from supple.pipeline.robots import RobotChoice
from supple.robots import mujoco_robots
from supple.robots.family import make_robots
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.mjcf_model import Drive
from supple.robots.mjcf_robots import MjcfRobots
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract
from supple.robots.waypoint_play import WaypointConfig

ARM = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom type="plane" size="1 1 0.1"/>
    <body name="upper" pos="0 0 0.5">
      <joint name="shoulder" axis="0 1 0" range="-90 90" damping="1" armature="0.05"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.5"/>
      <body name="fore" pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0" range="0 120" damping="1" armature="0.05"/>
        <geom type="capsule" fromto="0.04 0 0 0.2 0 0" size="0.02" mass="0.3"/>
        <site name="hand" pos="0.2 0 0"/>
      </body>
    </body>
    <body name="ball" pos="0 0.5 0.05">
      <freejoint name="ball"/>
      <geom type="sphere" size="0.05" mass="0.1"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="shoulder_motor" joint="shoulder" gear="10" ctrlrange="-1 1"/>
    <position joint="elbow" kp="20" ctrlrange="0 2"/>
  </actuator>
  <sensor>
    <gyro name="spin" site="hand"/>
    <jointpos name="angle" joint="elbow" cutoff="3"/>
    <force name="pull" site="hand"/>
  </sensor>
  <keyframe><key name="up" qpos="-0.5 1 0 0.5 0.05 1 0 0 0" ctrl="0 1"/></keyframe>
</mujoco>
"""
PLACE = MjcfFamily(
    name="arm",
    model=ARM,
    joints=("shoulder", "elbow"),
    sensors=("spin", "angle", "pull"),
    goal_site="hand",
    goal_axes=("x", "z"),
    goal_low=(-0.2, 0.1),
    goal_high=(0.5, 1.0),
    keyframe="up",
    reset_noise=0.01,
)
POSE = replace(
    PLACE,
    sensors=(),
    goal_site=None,
    goal_axes=("x", "y", "z"),
    goal_joints=("elbow",),
    goal_low=(),
    goal_high=(),
    reward="dense",
    control_period=0.01,
)
URDF = """
<robot name="u">
  <link name="base"/>
  <link name="link"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tool"/>
  <joint name="turn" type="revolute"><parent link="base"/><child link="link"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" effort="5" velocity="2"/><dynamics damping="0.3"/></joint>
  <joint name="mount" type="fixed"><parent link="link"/><child link="tool"/><origin xyz="0.4 0 0"/></joint>
</robot>
"""


def hand_at(shoulder: float, elbow: float) -> tuple[float, float]:
    """x and z of the hand of ARM, m."""
    x = 0.3 * np.cos(shoulder) + 0.2 * np.cos(shoulder + elbow)
    return float(x), float(0.5 - 0.3 * np.sin(shoulder) - 0.2 * np.sin(shoulder + elbow))


class TestSparsePlaceContract(RobotContract):
    near_goal = hand_at(-0.5, 1.0)
    far_goal = (-0.2, 0.1)

    def make_batch(self, rows: int, episode_steps: int) -> MjcfRobots:
        return replace(PLACE, episode_steps=episode_steps, success_radius=0.1).make(rows, threads=2)


class TestDensePoseContract(RobotContract):
    near_goal = (1.0,)
    far_goal = (2.0,)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> MjcfRobots:
        return replace(POSE, episode_steps=episode_steps).make(rows)


def test_spec_of_the_model() -> None:
    spec = PLACE.spec()
    assert spec.observation.names == (
        *("shoulder", "elbow", "shoulder_v", "elbow_v", "hand_x", "hand_y", "hand_z"),
        *("spin_x", "spin_y", "spin_z", "angle", "pull_x", "pull_y", "pull_z"),
    )
    units = [axis.unit for axis in spec.observation.axes]
    assert units == ["rad"] * 2 + ["rad/s"] * 2 + ["m"] * 3 + ["rad/s"] * 3 + ["rad"] + ["N"] * 3
    # 180 degrees and a tenth of it more on each side
    assert spec.observation.axes[0].high == pytest.approx(np.pi / 2 + 0.1 * np.pi)
    assert spec.observation.axes[1].low == pytest.approx(-0.1 * np.radians(120.0))
    assert (spec.observation.axes[10].low, spec.observation.axes[10].high) == (-3.0, 3.0)
    assert [(axis.name, axis.unit, axis.low, axis.high) for axis in spec.action.axes] == [
        ("shoulder_motor", "10 N m", -1.0, 1.0),
        ("elbow", "rad", 0.0, 2.0),
    ]
    assert [axis.commands for axis in spec.action.axes] == [None, "elbow"]
    blind = replace(PLACE, joints=("shoulder",), sensors=()).spec()  # nobody sees what the servo does
    assert [axis.commands for axis in blind.action.axes] == [None, None]
    assert [(axis.name, axis.unit, axis.low, axis.high) for axis in spec.goal.axes] == [
        ("goal_x", "m", -0.2, 0.5),
        ("goal_z", "m", 0.1, 1.0),
    ]
    assert (spec.name, spec.control_period, spec.episode_steps) == ("arm", 0.02, 100)
    everything = replace(PLACE, joints=None, sensors=()).spec().observation.names
    assert everything[2:9] == ("ball_x", "ball_y", "ball_z", "ball_qw", "ball_qx", "ball_qy", "ball_qz")
    assert everything[11:17] == ("ball_vx", "ball_vy", "ball_vz", "ball_wx", "ball_wy", "ball_wz")
    goal = POSE.spec().goal.axes[0]
    assert (goal.name, goal.unit, goal.low, goal.high) == ("goal_elbow", "rad", 0.0, 2.0), "of the servo"


def test_a_step_is_that_of_mujoco() -> None:
    robot = replace(PLACE, reset_noise=0.0).make(2, threads=2)
    observation = robot.reset(np.arange(2), np.full((2, 2), 0.3, np.float32), np.random.default_rng(0))
    model = mujoco.MjModel.from_xml_string(ARM)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    for action in np.random.default_rng(1).uniform((-1.0, 0.0), (1.0, 2.0), (30, 2)).astype(np.float32):
        expected = [*data.qpos[:2], *data.qvel[:2], *data.site("hand").xpos, *data.sensordata]
        assert np.array_equal(observation, np.tile(np.array(expected, np.float32), (2, 1)))
        observation = robot.step(np.arange(2), np.tile(action, (2, 1))).observation
        data.ctrl[:] = action
        mujoco.mj_step(model, data, 4)
        mujoco.mj_forward(model, data)


def test_rewards_by_hand() -> None:
    goals = np.array([[0.3, 0.5], [0.3, 0.9]], np.float32)
    observation = np.zeros((1, 14), np.float32)
    observation[:, 4:7] = 0.3, 7.0, 0.53  # y does not count
    reward, terminated = PLACE.make(1).compute_reward(observation, goals)
    assert reward.tolist() == [[1.0, 0.0]]
    assert terminated.tolist() == [[True, False]]
    dense = replace(PLACE, reward="dense")
    reward, terminated = dense.make(1).compute_reward(observation, goals)
    assert np.allclose(reward, [[-0.03, -0.37]])
    assert not terminated.any()
    for family in (PLACE, dense):
        success = family.compute_success(np.tile(observation, (2, 1)), np.zeros(2, np.float32), goals)
        assert success.tolist() == [True, False]


def test_rows_tell_success_also_where_the_reward_is_dense() -> None:
    robot = make_robots(replace(PLACE, reward="dense", success_radius=0.1), 2)
    goals = np.array([hand_at(-0.5, 1.0), (-0.2, 0.1)], np.float32)
    robot.reset(np.arange(2), goals, np.random.default_rng(0))
    step = robot.step(np.arange(2), np.zeros((2, 2), np.float32))
    assert step.success is not None
    assert step.success.tolist() == [True, False]
    assert (step.reward < 0.0).all()


def test_actuators_that_are_not_commanded_keep_the_control_of_the_keyframe() -> None:
    family = replace(PLACE, actuators=("shoulder_motor",), reset_noise=0.0)
    robot, whole = family.make(1), replace(PLACE, reset_noise=0.0).make(1)
    row, goal = np.zeros(1, np.int64), np.full((1, 2), 0.3, np.float32)
    for batch in (robot, whole):
        batch.reset(row, goal, np.random.default_rng(0))
    for _ in range(20):
        some, both = robot.step(row, np.array([[0.5]])), whole.step(row, np.array([[0.5, 1.0]]))
        assert np.array_equal(some.observation, both.observation)


def test_start_noise_stays_within_the_range_of_each_joint() -> None:
    robot = replace(PLACE, keyframe=None, reset_noise=0.3).make(200)
    observation = robot.reset(np.arange(200), np.full((200, 2), 0.3, np.float32), np.random.default_rng(0))
    shoulder, elbow = observation[:, 0], observation[:, 1]
    assert np.abs(shoulder).max() == pytest.approx(0.3, abs=0.02)
    assert elbow.min() == 0.0
    assert 0.2 < (elbow == 0.0).mean() < 0.8


def test_observations_beyond_a_soft_limit_are_cut_off() -> None:
    robot = PLACE.make(1)
    beyond = np.zeros((1, 14), np.float32)
    beyond[0, :2] = 3.0, -1.0
    seen = robot.reset_to(np.zeros(1, np.int64), beyond)
    assert seen[0, 0] == np.float32(0.6 * np.pi)
    assert seen[0, 1] == np.float32(-0.1 * np.radians(120.0))


def test_goals_are_places_that_the_hand_can_be_at() -> None:
    family = replace(PLACE, num_train_tasks=60, num_test_tasks=30)
    tasks = family.tasks()
    goals = goals_of((*tasks.train, *tasks.test))
    family.spec().goal.require_within(goals, "test")
    assert len(np.unique(goals, axis=0)) == 90
    # law of cosines: a distance from the shoulder that an elbow of 0 to 120 degrees gives
    distance = np.linalg.norm(goals - (0.0, 0.5), axis=1)
    nearest = np.sqrt(0.3**2 + 0.2**2 - 2 * 0.3 * 0.2 * np.cos(np.radians(60.0)))
    assert distance.min() >= nearest - 1e-6
    assert distance.max() <= 0.5 + 1e-6
    assert family.tasks() == replace(family).tasks()
    assert family.tasks().test == replace(family, num_train_tasks=5).tasks().test
    assert family.tasks() != replace(family, task_seed=1).tasks()


def test_poses_in_the_floor_are_no_goals() -> None:
    low = replace(PLACE, goal_low=(-0.6, -0.1), goal_high=(0.6, 1.1), num_train_tasks=300)
    goals = goals_of(low.tasks().train)
    assert goals[:, 1].min() > 0.01  # the hand's capsule is 2 cm thick


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 1.5), st.floats(0.1, 0.5), st.integers(0, 1000))
def test_goals_of_joints_lie_within_the_box(low: float, width: float, seed: int) -> None:
    family = replace(POSE, goal_low=(low,), goal_high=(low + width,), task_seed=seed)
    goals = goals_of(family.tasks().train)
    family.spec().goal.require_within(goals, "test")
    assert np.ptp(goals) > 0.5 * width


def test_goals_of_an_object_that_no_joint_moves_are_uniform_in_their_box() -> None:
    family = replace(
        PLACE, goal_site="ball", goal_axes=("x", "y"), goal_low=(-2.0, 1.0), goal_high=(2.0, 3.0), num_train_tasks=400
    )
    goals = goals_of(family.tasks().train)
    assert np.allclose(goals.mean(axis=0), [0.0, 2.0], atol=0.2)
    assert np.allclose(goals.std(axis=0), np.array([4.0, 2.0]) / np.sqrt(12.0), atol=0.15)
    assert family.scene() is not None


def test_set_state_brings_the_robot_back() -> None:
    robot = PLACE.make(3)
    rows = np.arange(3)
    robot.reset(rows, np.full((3, 2), 0.3, np.float32), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(30):
        step = robot.step(rows, rng.uniform((-1.0, 0.0), (1.0, 2.0), (3, 2)).astype(np.float32))
    again = PLACE.set_state(robot, rows[1:], step.observation[1:])
    assert np.allclose(again[:, :10], step.observation[1:, :10], atol=1e-5)
    assert not robot.step(rows[1:], np.zeros((2, 2), np.float32)).terminated.any()
    assert PLACE.place_axes == ("hand_x", "hand_z")
    with pytest.raises(SpecError, match="arm set_state: expected robots of this family, got object"):
        PLACE.set_state(object(), rows, step.observation)  # type: ignore[arg-type]


def test_scene_is_the_plane_of_the_two_widest_axes() -> None:
    scene = PLACE.scene()
    assert scene is not None
    assert (scene.axes, scene.goal_axes, scene.unit) == (("hand_x", "hand_z"), ("goal_x", "goal_z"), "m")
    assert scene.goal_radius == PLACE.success_radius
    (left, right), (bottom, top) = scene.limits
    # shoulder -90 degrees: up to 0.5 + 0.5; the box ends at x = -0.2, where the hand with its elbow bent can be too
    assert left <= -0.2
    assert right == pytest.approx(0.5, abs=0.02)
    assert bottom <= 0.1
    assert top == pytest.approx(1.0, abs=0.03)
    assert POSE.scene() is None


def test_a_urdf_file_with_drives(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    family = MjcfFamily(
        name="u",
        model=tmp_path / "arm.urdf",
        drives=(Drive(joint="turn"),),
        goal_site="tool",
        goal_axes=("x", "y"),
        goal_low=(0.0, -0.4),
        goal_high=(0.4, 0.4),
    )
    axis = family.spec().action.axes[0]
    assert (axis.name, axis.unit, axis.low, axis.high) == ("turn", "N m", -5.0, 5.0)
    assert np.allclose(np.linalg.norm(goals_of(family.tasks().train), axis=1), 0.4, atol=1e-6)
    assert family.files() == (tmp_path / "arm.urdf",)
    servo = replace(family, drives=(Drive(joint="turn", kind="position", gain=50.0),)).spec().action.axes[0]
    assert (servo.unit, servo.low, servo.high) == ("rad", -1.0, 1.0)
    speed = replace(family, drives=(Drive(joint="turn", kind="velocity", gain=5.0, limit=2.0),)).spec().action.axes[0]
    assert (speed.unit, speed.low, speed.high) == ("rad/s", -2.0, 2.0)


def test_a_position_drive_goes_where_it_is_told(tmp_path: Path) -> None:
    family = MjcfFamily(
        name="u",
        model=URDF,
        drives=(Drive(joint="turn", kind="position", gain=50.0),),
        goal_joints=("turn",),
        reward="dense",
    )
    robot, row = family.make(1), np.zeros(1, np.int64)
    robot.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    for _ in range(100):
        step = robot.step(row, np.array([[0.7]]))
    assert step.observation[0, 0] == pytest.approx(0.7, abs=1e-3)


LIGHT = URDF.replace('ixx="0.01" iyy="0.01" izz="0.01"', 'ixx="1e-4" iyy="1e-4" izz="1e-4"').replace(
    'origin xyz="0.2 0 0"/><mass value="1"', 'origin xyz="0 0 0"/><mass value="1"'
)


def test_a_servo_that_the_timestep_cannot_follow_is_refused_unless_its_rotor_is_heavy() -> None:
    """k dt^2 < I: at 2 ms, 1e-4 kg m^2 hold 25 N m/rad, and 50 N m/rad need another 1e-4."""
    family = MjcfFamily(name="u", model=LIGHT, goal_joints=("turn",), reward="dense")
    steep = replace(family, drives=(Drive(joint="turn", kind="position", gain=50.0),))
    message = r"u drives: expected a gain of at most 25 for joint 'turn' .* of 0.0001 at .* 0.002 s, got 50; lower"
    with pytest.raises(ConfigError, match=message):
        steep.spec()
    robot = replace(family, drives=(Drive(joint="turn", kind="position", gain=50.0, armature=2e-4),)).make(1)
    assert robot.anatomy.model.dof_M0[0] == pytest.approx(3e-4)
    row = np.zeros(1, np.int64)
    robot.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    for _ in range(50):
        step = robot.step(row, np.array([[0.7]]))
    assert step.observation[0, 0] == pytest.approx(0.7, abs=1e-3)


def test_narrower_ranges_limit_poses_servos_and_goals() -> None:
    family = replace(POSE, ranges={"elbow": (0.5, 1.5), "shoulder": (-1.0, 0.25)})
    model, wide = family.anatomy.model, POSE.anatomy.model
    assert model.jnt_range[:2].tolist() == [[-1.0, 0.25], [0.5, 1.5]]
    assert wide.jnt_range[1].tolist() == pytest.approx([0.0, np.radians(120)]), "the model of another family"
    # the servo had 0 .. 2 rad; the motor keeps its limits
    assert [(axis.low, axis.high) for axis in family.spec().action.axes] == [(-1.0, 1.0), (0.5, 1.5)]
    assert (family.spec().goal.low, family.spec().goal.high) == (0.5, 1.5)
    poses = next(family.anatomy.draw_poses(np.random.default_rng(0)))[0]
    assert ((poses[:, 0] >= -1.0) & (poses[:, 0] <= 0.25) & (poses[:, 1] >= 0.5) & (poses[:, 1] <= 1.5)).all()
    assert np.ptp(poses[:, :2], axis=0) == pytest.approx([1.25, 1.0], rel=0.1)
    beyond = replace(POSE, ranges={"elbow": (0.5, 2.05)}).spec().action.axes[1]
    assert (beyond.low, beyond.high) == (0.5, 2.0), "no further than the servo went"


def test_a_robot_of_a_package_comes_into_a_scene_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "robot").mkdir()
    box = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    (tmp_path / "robot" / "box.obj").write_text(box)
    (tmp_path / "robot" / "arm.xml").write_text("""
    <mujoco model="arm"><asset><mesh name="box" file="box.obj"/></asset>
      <worldbody><body name="base"><body name="link"><joint name="turn" axis="0 0 1" range="-90 90"/>
        <geom type="mesh" mesh="box" mass="1"/></body></body></worldbody></mujoco>""")
    scene = """
    <mujoco><asset><model name="arm" file="{place}"/></asset>
      <worldbody><frame><attach model="arm" body="base" prefix="my_"/></frame></worldbody></mujoco>"""
    family = MjcfFamily(
        name="scene",
        model=scene,
        model_files={"place": tmp_path / "robot" / "arm.xml"},
        drives=(Drive(joint="my_turn", limit=1.0),),
        goal_joints=("my_turn",),
    )
    record = RobotChoice("scene.py:SCENE", family).record
    assert str(tmp_path) not in str(record), "what is recorded is the same on another computer"
    assert set(family.files()) == {tmp_path / "robot" / "arm.xml", tmp_path / "robot" / "box.obj"}
    assert family.spec().observation.names == ("my_turn", "my_turn_v")


def test_files_hold_what_the_model_includes(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "box.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    )
    (tmp_path / "mesh.xml").write_text('<mujoco><asset><mesh name="box" file="box.obj"/></asset></mujoco>')
    geom = '<geom type="plane" size="1 1 0.1"/>'
    text = ARM.replace("<mujoco>", '<mujoco><compiler meshdir="assets"/><include file="mesh.xml"/>')
    (tmp_path / "arm.xml").write_text(text.replace(geom, '<geom type="mesh" mesh="box" pos="5 5 5"/>'))
    family = replace(PLACE, model=tmp_path / "arm.xml")
    assert family.files() == (tmp_path / "arm.xml", tmp_path / "assets" / "box.obj", tmp_path / "mesh.xml")
    assert replace(family, model=str(tmp_path / "arm.xml")).files() == family.files()
    assert PLACE.files() == ()
    assert family.libraries() == ("mujoco",)
    assert family.make(1).spec == family.spec()


BOX = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
FIELD = np.array([2, 2], np.int32).tobytes() + np.arange(4, dtype=np.float32).tobytes()
PICTURE = BytesIO()
Image.new("RGB", (4, 4)).save(PICTURE, "PNG")
SCATTERED: dict[str, str | bytes] = {
    "arm.xml": """<mujoco><compiler meshdir="no" assetdir="none"/><compiler meshdir="m" texturedir="t"/>
      <!-- <include file="old.xml"/> --><include file="parts/floor.xml"/>
      <asset><model name="other" file="other/arm.xml"/><hfield name="h" file="h.bin" size="1 1 1 1"/>
        <texture name="t" type="2d" file="t.png"/><texture name="c" type="cube" fileup="u.png"/></asset>
      <worldbody><body name="b"><joint name="turn" axis="0 0 1" range="-90 90"/><geom type="hfield" hfield="h"/>
        <geom size="1"/><frame><attach model="other" body="link" prefix="o_"/></frame></body></worldbody></mujoco>""",
    "parts/floor.xml": """<mujoco><asset>
      <mesh name="near" file="near.obj"/><mesh name="by" file='m &amp; n.obj'/></asset></mujoco>""",
    "parts/near.obj": BOX,  # for a file
    "m/parts/near.obj": BOX,  # for a text
    "m/m & n.obj": BOX,
    "m/h.bin": FIELD,
    "t/t.png": PICTURE.getvalue(),
    "t/u.png": PICTURE.getvalue(),
    "other/arm.xml": """<mujoco><compiler meshdir="mine"/><asset><mesh name="box" file="box.obj"/></asset>
      <worldbody><body name="link"><geom type="mesh" mesh="box"/></body></worldbody></mujoco>""",
    "other/mine/box.obj": BOX,
}
"""A model whose files are in as many folders as MuJoCo looks into."""


def write_files(place: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("text", [False, True])
def test_files_count_in_whichever_folder_mujoco_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    write_files(tmp_path, SCATTERED)
    monkeypatch.chdir(tmp_path)
    model = SCATTERED["arm.xml"] if text else tmp_path / "arm.xml"
    family = MjcfFamily(name="arm", model=model, goal_joints=("turn",), drives=(Drive(joint="turn", limit=1.0),))
    assert family.anatomy.model.nmesh == 3, "MuJoCo finds them all"
    files = {str(file.relative_to(tmp_path)) for file in family.files()}
    assert files == set(SCATTERED) - ({"arm.xml"} if text else set())


def test_a_file_that_mujoco_finds_elsewhere_is_refused_and_one_that_it_does_not_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """<mujoco><compiler discardvisual="true"/><asset><mesh name="unread" file="no.obj"/></asset>
      <worldbody><geom size="1"/></worldbody></mujoco>"""
    write_files(tmp_path, {**SCATTERED, "unread.xml": text})
    assert replace(POSE, model=tmp_path / "unread.xml").files() == (tmp_path / "unread.xml",)
    monkeypatch.setattr("supple.robots.mjcf_model._FOLDER", re.compile("(?!)()"))  # as of a MuJoCo with other rules
    with pytest.raises(ConfigError, match=r"arm model: expected each file .* got none for 'box\.obj'; name it by its"):
        replace(POSE, model=tmp_path / "arm.xml").files()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nowhere.xml"}, r"arm model: expected an MJCF or URDF file, got nothing at nowhere.xml; check"),
        ({"model": "nowhere.xml"}, r"check the path, such as Path\(__file__\)\.with_name\('nowhere\.xml'\)"),
        (
            {"model": '<robot name="x"><xacro:macro name="m"/></robot>'},
            r"arm model: .* got macros of xacro; expand them",
        ),
        ({"model": "<mujoco><a/></mujoco>"}, r"arm model: .* got its text: .*unrecognized element.*; correct the file"),
        ({"model": "<mujoco"}, r"arm model: .* got its text: XML parse error .*; correct the file"),
        ({"joints": ("elbo",)}, r"arm joints: .* among \['shoulder', 'elbow', 'ball'\], got 'elbo'"),
        ({"joints": ("elbow", "elbow")}, r"arm joints: expected distinct names .* got 'elbow'"),
        (
            {"sites": ("foot",)},
            r"arm sites: .* site among \['hand'\] or a body among \['upper', 'fore', 'ball'\], got 'f",
        ),
        ({"goal_site": "foot"}, r"arm sites: .* got 'foot'"),
        ({"sensors": ("spi",)}, r"arm sensors: .* among \['spin', 'angle', 'pull'\], got 'spi'"),
        ({"actuators": ("elbo",)}, r"arm actuators: .* among \['shoulder_motor', 'elbow'\], got 'elbo'"),
        ({"actuators": ()}, r"arm actuators: expected at least one, got none"),
        ({"keyframe": "down"}, r"arm keyframe: .* among \['up'\], got 'down'"),
        ({"ranges": {"ball": (0.0, 1.0)}}, r"arm ranges: .* among \['shoulder', 'elbow'\], got 'ball'"),
        ({"ranges": {"elbow": (1.0, 2.2)}}, r"arm ranges: .* within 0 .. 2.0944 of joint 'elbow', got 1 .. 2.2"),
        ({"ranges": {"elbow": (1.0, 1.0)}}, r"arm ranges: .* within 0 .. 2.0944 of joint 'elbow', got 1 .. 1"),
        ({"drives": (Drive(joint="ball"),)}, r"arm drives: .* among \['shoulder', 'elbow'\], got 'ball'"),
        ({"drives": (Drive(joint="elbow"),)}, r"arm drives: expected a limit for joint 'elbow', got none"),
        (
            {"drives": (Drive(joint="elbow", limit=1.0), Drive(joint="elbow", limit=2.0))},
            r"arm drives: expected one drive of each joint, got 2 of 'elbow'; leave one out",
        ),
        (
            {"control_period": 0.012},
            r"arm control_period: .* multiple of the timestep 0.005 s .* got 0.012 s; take 0.01 s",
        ),
        ({"control_period": 0.001}, r"arm control_period: .* got 0.001 s; take 0.005 s"),
        (
            {"goal_low": (2.0, 2.0), "goal_high": (3.0, 3.0)},
            r"box that 'hand' gets into, got \[2.0, 2.0\] .* 0 of 102400",
        ),
        (
            {"model": ARM.replace(' ctrlrange="-1 1"', "")},
            r"arm actuators: expected limits .* none for 'shoulder_motor'",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    def load(family: MjcfFamily) -> None:
        family.make(1)
        family.tasks()

    with pytest.raises(ConfigError, match=message) as error:
        load(replace(PLACE, **changes))
    assert "\n" not in str(error.value)


def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "arm.xml").write_text(ARM)
    monkeypatch.setattr(Path, "read_text", refuse)  # root reads everything
    with pytest.raises(ConfigError, match=r"arm model: expected a file that can be read, got .*Permission denied; cor"):
        replace(PLACE, model=tmp_path / "arm.xml").spec()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal_joints": ("ball",)}, r"goal_joints: .* among \['shoulder', 'elbow'\], got 'ball'"),
        ({"joints": ("shoulder",)}, r"goal_joints: .* among \['shoulder'\], got 'elbow'"),
        (
            {"goal_low": (-1.0,), "goal_high": (1.0,)},
            r"within the range 0 .. 2 of joint 'elbow' and of its servo, got -1 .. 1;",
        ),
        (
            {
                "model": ARM.replace('range="0 120"', "").replace(
                    '<position joint="elbow" kp="20"', '<motor joint="elbow"'
                )
            },
            r"range -inf .. inf of joint 'elbow' .* got -inf .. inf; .*give the joint",
        ),
    ],
)
def test_goals_that_the_joints_cannot_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(POSE, **changes).spec()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episode_steps": 0}, "MjcfFamily.episode_steps: expected a whole number from 1 .* got 0"),
        ({"num_train_tasks": 0}, "MjcfFamily.num_train_tasks: expected a whole number from 1 .* got 0"),
        ({"num_test_tasks": -1}, "MjcfFamily.num_test_tasks: expected a whole number from 1 .* got -1"),
        ({"task_seed": -1}, "MjcfFamily.task_seed: expected a whole number from 0 .* got -1"),
        ({"control_period": 0.0}, "MjcfFamily.control_period: expected a number above 0 .* got 0.0"),
        ({"success_radius": np.nan}, "MjcfFamily.success_radius: expected a number above 0 .* got nan"),
        ({"reset_noise": -0.1}, "MjcfFamily.reset_noise: expected a number from 0 .* got -0.1"),
        ({"goal_site": None}, r"arm goal: expected a goal_site or goal_joints, got None and \[\]"),
        ({"goal_joints": ("elbow",)}, r"arm goal: expected a goal_site or goal_joints, got hand and \['elbow'\]"),
        ({"goal_axes": ("x", "x")}, r"arm goal_axes: expected distinct axes .* got \['x', 'x'\]"),
        ({"goal_axes": ("x", "w")}, r"MjcfFamily.goal_axes\[1\]: expected one of x, y, z, got 'w'"),
        ({"goal_low": (0.0,)}, r"arm goal_low, goal_high: expected 2 numbers each, got \[0.0\] and"),
        ({"goal_low": (0.6, 0.1)}, r"arm goal_low, goal_high: expected low < high, got 0.6 and 0.5"),
        ({"model_files": {"arm": Path("a.xml")}}, r"arm model_files: expected names that stand in braces .* got 'arm'"),
        ({"goal_high": (np.inf, 1.0)}, r"MjcfFamily.goal_high\[0\]: expected a number that is finite, got inf"),
    ],
)
def test_fields_that_no_family_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PLACE, **changes)


def test_physics_that_diverge_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And leave no log of MuJoCo's in the folder where the program was started; it is said once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mujoco_robots, "_SAID", set())
    mujoco.set_mju_user_warning(mujoco_robots._note)  # dm_control takes the place of it where it is loaded
    light = ARM.replace('gear="10"', 'gear="1e9"').replace('damping="1" armature="0.05"', "")
    robot = replace(PLACE, model=light).make(1)
    row = np.zeros(1, np.int64)
    robot.reset(row, np.full((1, 2), 0.3, np.float32), np.random.default_rng(0))

    def push() -> None:
        for _ in range(100):
            robot.step(row, np.ones((1, 2), np.float32))

    for _ in range(2):
        with pytest.raises(RobotFault, match="arm step: expected finite physics"):
            push()
        robot.reset(row, np.full((1, 2), 0.3, np.float32), np.random.default_rng(0))
    assert not [*tmp_path.iterdir()]
    said = [record.getMessage() for record in caplog.records]
    assert said
    assert len(said) == len({text[:40] for text in said})
    assert said[0].startswith("MuJoCo: ")


def test_play_comes_around_and_does_not_depend_on_threads() -> None:
    family = replace(PLACE, waypoints=WaypointConfig(episode_steps=200))
    chunk, same = (next(family.play(6, 3, threads)) for threads in (1, 2))
    assert np.array_equal(chunk.observation, same.observation)
    assert np.array_equal(chunk.action, same.action)
    assert not np.array_equal(chunk.action, next(family.play(6, 4)).action)
    assert (chunk.observation.shape, chunk.action.shape, chunk.reward.shape) == ((6, 200, 14), (6, 200, 2), (6, 200))
    assert family.play_steps == 200
    spec = family.spec()
    spec.observation.require_within(chunk.observation, "play")
    spec.action.require_within(chunk.action, "play")
    # shoulder and elbow get around in their ranges of 180 and 120 degrees; uniform poses would have .29 of them
    assert (chunk.observation[..., :2].std(axis=(0, 1)) > 0.15 * np.array([np.pi, np.radians(120.0)])).all()


BASE = """
<mujoco>
  <worldbody>
    <body name="base">
      <joint name="east" type="slide" axis="1 0 0"/>
      <joint name="north" type="slide" axis="0 1 0" damping="5"/>
      <joint name="yaw" axis="0 0 1"/>
      <geom type="box" size="0.2 0.1 0.05"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="east" kv="20" ctrlrange="-1 1"/>
    <velocity joint="north" kv="20" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


def test_a_base_on_slides_without_a_range_is_told_to_give_them() -> None:
    base = MjcfFamily(
        name="base", model=BASE, goal_site="base", goal_axes=("x", "y"), goal_low=(-1, -1), goal_high=(1, 1)
    )
    with pytest.raises(ConfigError, match=r"gets to \[0.0, 0.0\] .* give ranges=\{'east': \(-1.0, 1.0\), 'north': "):
        base.tasks()
    goals = goals_of(replace(base, ranges={"east": (-1.0, 1.0), "north": (-0.5, 0.5)}).tasks().train)
    assert 0.9 < np.abs(goals[:, 0]).max() <= 1.0
    assert 0.4 < np.abs(goals[:, 1]).max() <= 0.5


def test_radians_that_were_read_as_degrees_are_explained() -> None:
    small = ARM.replace('"-90 90"', '"-1.57 1.57"').replace('"0 120"', '"0 2.1"')
    with pytest.raises(ConfigError, match=r"no hinge turns by more than 0.055 rad, and MJCF counts in degrees unless"):
        replace(PLACE, model=small, keyframe=None, goal_low=(-0.5, 0.6), goal_high=(-0.2, 0.9)).tasks()
    with pytest.raises(ConfigError) as error:
        replace(PLACE, goal_low=(2.0, 2.0), goal_high=(3.0, 3.0)).tasks()
    assert "degrees" not in str(error.value)


TWO = """
<mujoco><option timestep="0.005" gravity="0 0 0"/>
  <worldbody><site name="mark" pos="0.3 0 0.5"/><body name="guide" mocap="true" pos="0.3 0 0.5"/>
    <body name="upper" pos="0 0 0.5"><joint name="first" axis="0 1 0" range="-90 90" damping="2" armature="0.1"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0"/>
      <body name="fore" pos="0.3 0 0"><joint name="second" axis="0 1 0" range="-90 90" damping="2" armature="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0"/><site name="hand" pos="0.3 0 0"/></body>
    </body>
    <body name="puck" pos="0.5 0 0"><joint name="slide" type="slide" axis="1 0 0" range="-0.1 0.2"/>
      <geom size="0.02" contype="0"/></body>
  </worldbody>
  <tendon><fixed name="cable"><joint joint="second" coef="1"/></fixed></tendon>
  <actuator><position name="first" joint="first" kp="50" ctrlrange="-1.57 1.57"/>
    <position name="second" joint="second" kp="50" ctrlrange="-1.57 1.57"/></actuator>
  <keyframe><key name="bent" qpos="0 0.5 0"/></keyframe>EXTRA
</mujoco>
"""
SERVO = 'joint="second" kp="50" ctrlrange="-1.57 1.57"'


def two(extra: str = "", second: str = SERVO, **fields: Any) -> MjcfFamily:
    """Two links of 0.3 m whose servos go to -1.57 .. 1.57 rad, 0.5 m above the ground; with more, and other fields."""
    usual = {"goal_site": "hand", "goal_axes": ("x", "z"), "goal_low": (-1.0, -1.0), "goal_high": (1.0, 1.5)}
    given = {"keyframe": "bent"} | (usual | fields if "goal_joints" not in fields else fields)
    return MjcfFamily(name="two", model=TWO.replace("EXTRA", extra).replace(SERVO, second), **given)  # type: ignore[arg-type]


def angles_of(family: MjcfFamily) -> np.ndarray:
    """Angles of the two joints at which the hand is in the places of the tasks, rad, (N, 2): of elbows bent down."""
    x, z = goals_of((*family.tasks().train, *family.tasks().test)).astype(np.float64).T
    z = 0.5 - z  # a turn around +y goes down
    bend = np.arccos(np.clip((x**2 + z**2 - 0.18) / 0.18, -1.0, 1.0))
    first = np.arctan2(z, x) - np.arctan2(0.3 * np.sin(bend), 0.3 + 0.3 * np.cos(bend))
    return np.stack([first, bend], axis=1)


def tie(factors: str, joints: str = 'joint1="second" joint2="first"') -> str:
    return f'<equality><joint {joints} polycoef="{factors}"/></equality>'


def test_places_are_those_that_servos_go_to() -> None:
    """Both servos turn by 0.1 .. 0.4 rad, so that the elbow bends by as much."""
    narrow = replace(two(), model=TWO.replace("EXTRA", "").replace("-1.57 1.57", "0.1 0.4"))
    angles = angles_of(narrow)
    assert ((angles > 0.1 - 1e-5) & (angles < 0.4 + 1e-5)).all()
    assert np.ptp(angles, axis=0) == pytest.approx([0.3, 0.3], rel=0.2)
    geared = angles_of(two(second='joint="second" gear="-2" kp="50" ctrlrange="-0.8 -0.2"'))
    assert geared[:, 1].min() > 0.1 - 1e-5
    assert geared[:, 1].max() < 0.4 + 1e-5
    summed = TWO.replace("EXTRA", "").replace(
        f'<position name="second" {SERVO}/>',
        '<intvelocity name="second" joint="second" kp="50" actrange="0.1 0.4" ctrlrange="-1 1"/>',
    )
    speeds = angles_of(replace(two(), model=summed))
    assert (speeds[:, 1].min(), speeds[:, 1].max()) == pytest.approx((0.1, 0.4), abs=0.03)
    wide = two(second=SERVO.replace("-1.57 1.57", f"-{np.pi / 2:.7f} {np.pi / 2:.7f}")).anatomy
    assert wide.pose_ranges()[1][1] == wide.model.jnt_range[1, 1], "rounding is no other limit"


@pytest.mark.parametrize(
    ("family", "bend"),
    [
        (two(actuators=("first",)), 0.5),
        (two(second='joint="slide" kp="50" ctrlrange="0 0.1"'), 0.5),
        (two(tie("0.2 0 0 0 0", 'joint1="second"')), 0.2),
    ],
)
def test_joints_that_no_command_moves_stay_where_they_are(family: MjcfFamily, bend: float) -> None:
    angles = angles_of(family)
    assert angles[:, 1] == pytest.approx(bend, abs=1e-4)
    assert np.ptp(angles[:, 0]) > 2.5
    poses = next(family.anatomy.draw_poses(np.random.default_rng(0)))[0]
    assert poses[:, 1] == pytest.approx(bend), "nor do they in play data"


def test_tied_joints_follow_each_other() -> None:
    """second = 0.1 + 2 first, so that first is within -0.85 .. 0.75 where second is within -1.6 .. 1.6; or a square."""
    for actuators in (("first", "second"), ("first",), ("second",)):
        poses = next(two(tie("0.1 2 0 0 0"), actuators=actuators).anatomy.draw_poses(np.random.default_rng(0)))[0]
        assert poses[:, 1] == pytest.approx(0.1 + 2.0 * poses[:, 0])
        assert np.abs(poses[:, 1]).max() <= 1.5708
        assert np.ptp(poses[:, 0]) > 1.4
    squares = angles_of(two(tie("0.3 0 0.5 0 0")))
    assert squares[:, 1] == pytest.approx(0.3 + 0.5 * squares[:, 0] ** 2, abs=1e-4)
    free = two(tie("0.1 2 0 0 0").replace("<joint", '<joint active="false"')).anatomy
    poses = next(free.draw_poses(np.random.default_rng(0)))[0]
    assert np.ptp(poses[:, 1] - 2.0 * poses[:, 0]) > 3.0
    ends = two(tie("0.1 0.5 0 0 0"), goal_joints=("second",)).spec().goal
    assert (ends.low[0], ends.high[0]) == pytest.approx((0.1 - 0.785, 0.1 + 0.785), abs=1e-6)


def test_an_object_that_is_pushed_is_where_it_can_be() -> None:
    family = two(goal_site="puck", goal_axes=("x",), goal_low=(0.0,), goal_high=(1.0,))
    goals = goals_of(family.tasks().train)
    assert (goals.min(), goals.max()) == pytest.approx((0.4, 0.7), abs=0.03)
    swung = two(goal_joints=("slide",)).spec().goal
    assert (swung.low[0], swung.high[0]) == pytest.approx((-0.1, 0.2))


CLOSED = '<equality><connect body1="fore" body2="world" anchor="0 0 0"/></equality>'
WELDED = '<equality><weld body1="guide" body2="fore"/></equality>'
CABLE = '<equality><tendon tendon1="cable"/></equality>'


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (two(goal_site="mark"), r"goal_site: expected a site that commands move, .* got 'mark', which no joint moves"),
        (two(goal_site="guide"), r"got 'guide', which no joint moves; correct it"),
        (two(actuators=("second",), goal_site="upper"), r"got 'upper', whose joints \['first'\] no command moves"),
        (two(CLOSED), r"two goal_site: expected a site of an open chain, got 'hand', which joints of a closed chain"),
        (two(WELDED), r"got 'hand', which joints of a closed chain move .* or bring goals with --tasks"),
        (two(CABLE), r"got 'hand', which joints of a closed chain move"),
        (two(actuators=("first",), goal_joints=("second",)), r"goal_joints: expected joints that are .* got 'second'"),
        (two(CLOSED, goal_joints=("second",)), r"goal_joints: expected joints that are commanded, got 'second'"),
        (two(tie("0 1 0 0 0"), goal_joints=("first", "second")), r"by themselves, got 'second', which an equality"),
        (two(goal_joints=("second",), goal_low=(0.0,), goal_high=(1.5705,)), r"-1.57 .. 1.57 of joint 'second' and"),
    ],
)
def test_goals_that_no_command_reaches_are_refused(family: MjcfFamily, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family.tasks()


def test_a_closed_chain_elsewhere_and_a_held_object_do_not_matter() -> None:
    """The gripper of an arm is often a closed chain, and what it holds is welded to it."""
    gripper = (
        """<body name="tip" pos="0.1 0 0"><joint name="tip" axis="0 1 0"/><geom size="0.01" contype="0"/></body>"""
    )
    box = """<body name="box" pos="0.6 0 0.5"><freejoint/><geom size="0.01" contype="0"/></body>"""
    model = TWO.replace('pos="0.3 0 0"/></body>\n    </body>', f'pos="0.3 0 0"/>{gripper}</body></body>{box}')
    model = model.replace('qpos="0 0.5 0"', 'qpos="0 0.5 0 0.6 0 0.5 1 0 0 0 0"')
    ties = """<equality><connect body1="tip" body2="fore" anchor="0 0 0"/><weld body1="fore" body2="box"/></equality>"""
    family = replace(two(), model=model.replace("EXTRA", ties))
    assert np.ptp(angles_of(family), axis=0).min() > 1.2


def test_a_tendon_that_is_limited_or_a_servo_limits_poses() -> None:
    """first + second is within -0.2 .. 0.4, by the tendon's own range or by the range of its servo of gear 2."""
    both = '<fixed name="cable"><joint joint="first" coef="1"/><joint joint="second" coef="1"/></fixed>'
    model = TWO.replace("EXTRA", "").replace('<fixed name="cable"><joint joint="second" coef="1"/></fixed>', both)
    rope = model.replace('name="cable"', 'name="cable" range="-0.2 0.4"')
    servo = model.replace("</actuator>", '<position tendon="cable" kp="9" gear="2" ctrlrange="-0.4 0.8"/></actuator>')
    for text in (rope, servo):
        family = replace(two(), model=text)
        poses = next(family.anatomy.draw_poses(np.random.default_rng(0)))[0]
        lengths = poses[:, 0] + poses[:, 1]
        assert (lengths.min(), lengths.max()) == pytest.approx((-0.2, 0.5), abs=0.05), "as far as at the start: 0.5"
        assert np.ptp(poses[:, 1]) > 2.5
    pulled = servo.replace("</actuator>", '<motor tendon="cable" ctrlrange="-1 1"/></actuator>')
    lengths = next(replace(two(), model=pulled).anatomy.draw_poses(np.random.default_rng(0)))[0][:, :2].sum(axis=1)
    assert np.ptp(lengths) > 4.0, "a motor pulls it further"


def test_joints_that_a_tendon_couples_are_brought_together() -> None:
    """As those of a finger: random angles that differ by at most 0.002 rad would be one in a thousand."""
    pair = """<fixed name="cable" range="-0.001 0.001">
      <joint joint="first" coef="2"/><joint joint="second" coef="-2"/></fixed>"""
    single = '<fixed name="cable"><joint joint="second" coef="1"/></fixed>'
    family = replace(two(), model=TWO.replace("EXTRA", "").replace(single, pair), keyframe=None)
    poses = next(family.anatomy.draw_poses(np.random.default_rng(0)))[0]
    assert len(poses) > 200
    assert np.abs(poses[:, 0] - poses[:, 1]).max() < 0.00051
    assert np.ptp(poses[:, 0]) > 2.0


SHOULDER = """
<mujoco><option timestep="0.005"/>
  <worldbody><body name="upper"><joint name="shoulder" type="ball" damping="1" armature="0.1"/>
    <geom type="capsule" fromto="0.1 0 0 0.3 0 0" size="0.02"/><site name="hand" pos="0.3 0 0"/></body></worldbody>
  <actuator>ACTUATORS</actuator>
</mujoco>
"""


def shoulder(kind: str, limits: str = "") -> MjcfFamily:
    """A link of 0.3 m on a ball joint with an actuator about each of its axes."""
    axes = ("1 0 0", "0 1 0", "0 0 1")
    actuators = "".join(
        f'<{kind} name="turn{place}" joint="shoulder" gear="{axis}"/>' for place, axis in enumerate(axes)
    )
    model = SHOULDER.replace("ACTUATORS", actuators).replace('type="ball"', f'type="ball" {limits}')
    return MjcfFamily(
        name="shoulder", model=model, goal_site="hand", goal_low=(-1.0, -1.0, -1.0), goal_high=(1.0, 1.0, 1.0)
    )


def test_a_ball_joint_turns_the_places_of_goals() -> None:
    goals = goals_of(shoulder('motor ctrlrange="-5 5"').tasks().train)
    assert np.linalg.norm(goals, axis=1) == pytest.approx(0.3, abs=1e-6)
    assert (np.ptp(goals, axis=0) > 0.4).all()
    near = goals_of(shoulder('motor ctrlrange="-5 5"', 'range="0 40"').tasks().train)
    assert np.arccos(near[:, 0] / 0.3).max() < np.radians(40.0) + 1e-3
    assert np.ptp(near[:, 1:], axis=0).min() > 0.2
    told = goals_of(shoulder('position kp="20" ctrlrange="-0.2 0.2"').tasks().train)
    assert np.arccos(told[:, 0] / 0.3).max() < np.hypot(0.2, 0.2) + 1e-3, "a turn about x leaves the hand in its place"
    assert np.ptp(told[:, 1:], axis=0).min() > 0.08
    with pytest.raises(ConfigError, match=r"got 'hand', whose joints \['shoulder'\] no command moves; command them"):
        replace(
            shoulder('motor ctrlrange="-5 5"'),
            model=shoulder('motor ctrlrange="-5 5"')
            .model.replace(  # type: ignore[union-attr]
                "</worldbody>", '<body><joint name="other"/><geom size="0.1" pos="9 0 0"/></body></worldbody>'
            )
            .replace("</actuator>", '<motor joint="other" ctrlrange="-1 1"/></actuator>'),
            actuators=("other",),
        ).tasks()


def test_joints_that_share_too_few_actuators_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """One tendon cannot say where two joints are; with an actuator of one of them it can."""
    both = '<fixed name="cable"><joint joint="first" coef="1"/><joint joint="second" coef="1"/></fixed>'
    model = TWO.replace("EXTRA", "").replace('<fixed name="cable"><joint joint="second" coef="1"/></fixed>', both)
    model = model.replace("</actuator>", '<motor name="pull" tendon="cable" ctrlrange="-1 1"/></actuator>')
    replace(two(), model=model).tasks()
    replace(two(), model=model, actuators=("pull", "first")).tasks()
    assert not caplog.records
    replace(two(), model=model, actuators=("pull",)).tasks()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "two goal_site: expected an actuator for each joint that moves 'hand', got joints ['first', 'second'] that"
    )


def test_actuators_of_one_joint_without_names_have_names_of_their_own() -> None:
    model = ARM.replace("</actuator>", '<velocity joint="elbow" kv="1" ctrlrange="-1 1"/></actuator>')
    axes = replace(PLACE, model=model).spec().action.axes
    assert [(axis.name, axis.unit) for axis in axes[1:]] == [("elbow", "rad"), ("actuator2", "rad/s")]
    assert replace(PLACE, model=model, actuators=("elbow",)).spec().action.names == ("elbow",)
    motors = ARM.replace(
        '<position joint="elbow" kp="20" ctrlrange="0 2"/>', '<motor NAME joint="elbow" ctrlrange="-1 1"/>'
    )
    drive = (Drive(joint="elbow", kind="position", gain=20.0),)
    unnamed = replace(PLACE, model=motors.replace("NAME", ""), drives=drive)
    assert unnamed.spec().action.names == ("shoulder_motor", "actuator1", "elbow")
    named = replace(PLACE, model=motors.replace("NAME", 'name="elbow"'), drives=drive)
    assert named.spec().action.names == ("shoulder_motor", "elbow", "elbow_drive")
    assert named.spec().action.axes[2].commands == "elbow"


def test_a_keyframe_in_degrees_is_refused() -> None:
    message = r"arm keyframe: expected 'up' to have each joint within its range, got -50 rad of 'shoulder' outside of "
    with pytest.raises(ConfigError, match=message + r"-1\.5708 \.\. 1\.5708 rad; .*keyframes are in rad, also"):
        replace(PLACE, model=ARM.replace('qpos="-0.5 1', 'qpos="-50 1')).spec()
    replace(PLACE, model=ARM.replace('qpos="-0.5 1', 'qpos="-1.6 1')).spec()


def test_play_that_leaves_an_object_alone_says_so(caplog: pytest.LogCaptureFixture) -> None:
    short = WaypointConfig(episode_steps=5)
    far = replace(PLACE, goal_site="ball", goal_axes=("x", "y"), goal_low=(-2.0, 1.0), goal_high=(2.0, 3.0))
    chunks = replace(far, waypoints=short).play(2, 0)
    assert len([next(chunks), next(chunks)]) == 2
    (record,) = caplog.records
    assert re.fullmatch(
        r"arm play: expected motion of \['ball_x', 'ball_y'\], got at most \S+ m in 2 episodes, less than .*",
        record.getMessage(),
    )
    caplog.clear()
    next(replace(PLACE, waypoints=WaypointConfig(episode_steps=100)).play(2, 0))
    assert not caplog.records
