"""Pictures of robots of users' files: what is refused, and what is seen where there is a renderer."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from supple.errors import ConfigError, SpecError
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.spec import Axis

PENDULUM = GymnasiumFamily(
    name="pendulum", environment="Pendulum-v1", goal=(Axis("g", "m/s^2", 5.0, 15.0),), episode_steps=5
)
RAIL = MjcfFamily(
    name="rail",
    model="""
    <mujoco><statistic center="0 0 0.1" extent="1"/><visual><global azimuth="90" elevation="-20"/></visual>
      <worldbody><body name="cart" pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0" range="-1 1"/>
        <geom type="box" size="0.05 0.05 0.05" rgba="1 0 0 1"/></body></worldbody>
      <actuator><motor joint="x" ctrlrange="-1 1"/></actuator></mujoco>""",
    goal_site="cart",
    goal_axes=("x",),
    goal_low=(-0.9,),
    goal_high=(0.9,),
    reset_noise=0.0,
)
SEEN = """
import numpy as np
from tests.robots.test_env_camera import RAIL
from supple.errors import ConfigError

robot, goal, row = RAIL.make(1), np.array([[0.4]], np.float32), np.arange(1)
robot.reset(row, goal, np.random.default_rng(0))
try:
    camera = RAIL.open_camera(robot, goal[0], 120, 160)
except ConfigError as error:
    raise SystemExit(f"{error}")
def find(colour):  # the middle of what has more of it than of the others
    picture = camera.take(0).astype(float)
    more = picture[..., colour] > 15 + np.delete(picture, colour, axis=-1).max(axis=-1)
    return more.nonzero()[1].mean() if more.any() else np.nan
print(find(0), find(1))
robot.reset_to(row, np.array([[-0.4, 0.0, -0.4, 0.0, 0.1]], np.float32))
print(find(0), find(1))
"""


def test_what_cannot_be_looked_at_is_refused() -> None:
    robots, goal = PENDULUM.make(1), np.array([10.0], np.float32)
    camera = PENDULUM.open_camera(robots, goal, 10, 10)
    with pytest.raises(ConfigError, match=r"pendulum camera: expected an environment of MuJoCo .* got none here"):
        camera.take(0)
    robots.reset(np.arange(1), goal[None], np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"pendulum camera: .* got PendulumEnv; set processes to 0"):
        camera.take(0)
    camera.close()
    robots.close()
    with pytest.raises(SpecError, match="rail camera: expected robots of this family, got GymnasiumBatch"):
        RAIL.open_camera(robots, goal, 10, 10)
    with pytest.raises(SpecError, match=r"pendulum camera: expected robots of this family, got MjcfRobots"):
        PENDULUM.open_camera(RAIL.make(1), goal, 10, 10)
    with pytest.raises(ConfigError, match=r"pendulum goal_radius: expected None for a goal .* got 0.1 with 1 axes"):
        replace(PENDULUM, goal_radius=0.1)


def test_robot_and_goal_stand_where_they_are() -> None:
    """The camera looks along y, so that x is to the right; the goal's other axes are those of the cart at the start."""
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        env={key: value for key, value in os.environ.items() if key != "MUJOCO_GL"} | {"MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "expected a computer that can draw" in done.stderr:
        pytest.skip("no renderer here")
    assert done.returncode == 0, done.stderr
    (cart, goal), (moved, same) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert cart == pytest.approx(79.5, abs=1.5)
    assert goal == pytest.approx(same, abs=1.5)
    # 0.4 m to the left is as far as the goal is to the right
    assert moved - 79.5 == pytest.approx(79.5 - goal, abs=3.0)
    assert goal > 90.0
