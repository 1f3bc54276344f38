"""A UR5e from the model files of robosuite: `supple run examples/ur5e_reach.py:ur5e`.

`pip install --no-deps robosuite==1.5.2` brings the files; nothing else of that package is used. A scene puts the arm
on a floor and gives it a place to start. Its motors are not commanded: position servos are added. The task is a place
that the flange has to come within 10 cm of, and that it does not know.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from supple.errors import ConfigError
from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import QUICK, RunConfig
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.settings.generate import GenerateConfig
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.mjcf_model import Drive
from supple.robots.waypoint_play import WaypointConfig
from supple.skills.config import SkillConfig

PACKAGE = find_spec("robosuite")  # looked for, not imported
if PACKAGE is None or PACKAGE.origin is None:
    raise ConfigError("ur5e: expected the package robosuite, got none; pip install --no-deps robosuite==1.5.2")
ARM = Path(PACKAGE.origin).parent / "models" / "assets" / "robots" / "ur5e" / "robot.xml"
SCENE = """
<mujoco model="ur5e-cell">
  <option timestep="0.005" integrator="implicitfast"/>
  <asset><model name="ur5e" file="{ur5e}"/></asset>
  <worldbody>
    <light pos="0 0 3"/>
    <geom name="floor" type="plane" size="2 2 0.1" pos="0 0 -0.02" rgba="0.8 0.8 0.8 1"/>
    <frame><attach model="ur5e" body="base" prefix="ur_"/></frame>
  </worldbody>
  <keyframe><key name="home" qpos="0 -1.4 1.6 -1.7 -1.57 0" ctrl="0 0 0 0 0 0 0 -1.4 1.6 -1.7 -1.57 0"/></keyframe>
</mujoco>
"""
RANGES = {  # rad, out of two turns of each joint: in front of the robot
    "ur_shoulder_pan_joint": (-1.5, 1.5),
    "ur_shoulder_lift_joint": (-2.4, -0.4),
    "ur_elbow_joint": (0.4, 2.6),
    "ur_wrist_1_joint": (-2.6, -0.8),
    "ur_wrist_2_joint": (-2.2, -0.9),
    "ur_wrist_3_joint": (-0.5, 0.5),
}
UR5E = MjcfFamily(
    name="ur5e-reach",
    model=SCENE,
    model_files={"ur5e": ARM},
    drives=tuple(Drive(joint=joint, kind="position", gain=2000.0, armature=0.1) for joint in RANGES),
    actuators=tuple(RANGES),
    ranges=RANGES,
    control_period=0.05,
    goal_site="ur_right_hand",
    goal_low=(0.0, -0.7, 0.1),
    goal_high=(0.8, 0.7, 0.8),
    success_radius=0.1,
    keyframe="home",
    episode_steps=100,
    num_train_tasks=24,
    waypoints=WaypointConfig(sweep_time=(1.5, 3.0)),
)
PRESETS = {
    "ur5e": RunConfig(
        robot=UR5E,
        generate=GenerateConfig(steps=60_000),
        extract=ExtractConfig(skill=SkillConfig(kl_weight=3e-5, num_updates=1_500)),
        learner=SimplSettings(config=replace(QUICK, epochs=40, pool_episodes=2400)),
        adapt=AdaptStageConfig(episodes=60),
    ),
}
