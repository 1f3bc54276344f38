"""Limits of joints from URDF and MJCF files, for the action axes that drive these joints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.errors import ConfigError
from supple.robots.limits import Bound, RobotLimits
from supple.robots.model_limits import JointLimits, apply_model, read_joints
from supple.robots.spec import ArraySpec, Axis, RobotSpec

URDF = """<robot name="arm"><link name="base"/>
<joint name="one" type="revolute"><limit lower="-1.5" upper="2" velocity="3.5" effort="87"/>
<safety_controller soft_lower_limit="-1.4" soft_upper_limit="2.5" k_velocity="1"/></joint>
<joint name="two" type="continuous"><limit velocity="2" effort="12"/></joint>
<joint name="three" type="prismatic"><limit lower="0" upper="0.04" velocity="0.2" effort="20"/></joint>
<joint name="weld" type="fixed"/></robot>"""
MJCF = """<mujoco><compiler angle="radian"/><worldbody><body>
<joint name="one" range="-1.5 2"/><geom size="0.1"/>
<body><joint name="two" range="-1 1" actuatorfrcrange="-9 9" actuatorfrclimited="true"/><geom size="0.1"/>
<body><joint name="three" type="slide"/><geom size="0.1"/></body></body></body></worldbody>
<actuator><position name="servo" joint="one" kp="50" ctrlrange="-1.2 3" forcerange="-40 40"/>
<motor name="motor" joint="two" gear="10" ctrlrange="-0.8 0.8"/>
<velocity name="slider" joint="three" kv="5" ctrlrange="-0.3 0.3"/></actuator></mujoco>"""
SEEN = (*(Axis(name, "rad", -3.0, 3.0) for name in ("one", "two")), Axis("three", "m", -1.0, 1.0))
TOLD = (
    Axis("servo", "rad", -2.0, 2.0, 1.0, "one"),
    Axis("motor", "10 N m", -1.0, 1.0),
    Axis("slider", "m/s", -0.5, 0.5, 2.0),
)
SPEC = RobotSpec("arm", ArraySpec("observation", SEEN), ArraySpec("action", TOLD), ArraySpec("goal", SEEN), 0.02, 100)


def test_a_urdf_file(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    assert read_joints(tmp_path / "arm.urdf") == {
        "one": JointLimits(-1.4, 2.0, 3.5, 87.0),
        "two": JointLimits(-np.inf, np.inf, 2.0, 12.0),
        "three": JointLimits(0.0, 0.04, 0.2, 20.0),
    }
    axes = (TOLD[0], replace(TOLD[1], name="two"), replace(TOLD[2], name="three"))
    limits = apply_model(RobotLimits.of(replace(SPEC, action=ArraySpec("action", axes))), tmp_path / "arm.urdf")
    assert limits.action[0] == {
        "position": Bound(-1.4, 2.0, "arm.urdf"),
        "velocity": Bound(-1.0, 1.0, "contract"),
    }
    assert limits.action[1] == {"effort": Bound(-1.0, 1.0, "contract")}  # 12 N m is 1.2 of the 10 N m
    assert limits.action[2]["velocity"] == Bound(-0.2, 0.2, "arm.urdf")
    assert limits.observation == {"three": Bound(0.0, 0.04, "arm.urdf")}


def test_an_mjcf_file(tmp_path: Path) -> None:
    (tmp_path / "arm.xml").write_text(MJCF)
    joints = read_joints(tmp_path / "arm.xml")
    assert joints["servo"] == joints["one"] == JointLimits(-1.2, 2.0, np.inf, 40.0)
    assert joints["motor"] == JointLimits(-1.0, 1.0, np.inf, 8.0)
    assert joints["slider"] == JointLimits(-np.inf, np.inf, 0.3, np.inf)
    limits = apply_model(RobotLimits.of(SPEC), tmp_path / "arm.xml")
    assert limits.action[0]["position"] == Bound(-1.2, 2.0, "arm.xml")
    assert limits.action[1]["effort"] == Bound(-0.8, 0.8, "arm.xml")
    assert limits.action[2]["velocity"] == Bound(-0.3, 0.3, "arm.xml")


def test_a_joint_that_the_model_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    with pytest.raises(ConfigError, match="expected the joint of action axis 'motor' among one, three, two, got none"):
        apply_model(RobotLimits.of(SPEC), tmp_path / "arm.urdf")


@pytest.mark.parametrize(
    "content",
    ["", "<robot>", "<robot><joint name='a' type='revolute'><limit lower='x'/></joint></robot>", "<a/>", "\0"],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "arm.urdf").write_text(content)
    with pytest.raises(ConfigError, match=r"arm\.urdf"):
        read_joints(tmp_path / "arm.urdf")


def test_a_velocity_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF.replace('velocity="3.5"', 'velocity="nan"'))
    with pytest.raises(ConfigError, match="joint one"):
        read_joints(tmp_path / "arm.urdf")
