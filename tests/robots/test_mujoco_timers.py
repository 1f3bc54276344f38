"""Stopping MuJoCo's timers stops only the timers."""

import sys
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from supple.robots.maze import MazeBatch, make_maze_model
from supple.robots.maze_layout import make_layout
from supple.robots.mujoco_timers import stop_timers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the timers are left on elsewhere")
STEP = mujoco.mjtTimer.mjTIMER_STEP


@pytest.fixture(autouse=True)
def timers() -> Iterator[None]:
    """On at first, as after importing `mujoco`; off afterwards, as in every process that runs the maze."""
    mujoco.set_mjcb_time(None)
    yield
    stop_timers()


def simulate() -> tuple[NDArray[np.float64], float]:
    """Positions and velocities of 400 steps that hit walls, and the time that the timers counted."""
    model = make_maze_model(make_layout(20, 0))
    data = mujoco.MjData(model)
    data.qpos[:] = 10.0
    motion = []
    for force in np.repeat(np.random.default_rng(0).uniform(-1.0, 1.0, (40, 2)), 10, axis=0):
        data.ctrl[:] = force
        mujoco.mj_step(model, data)
        motion.append(np.concatenate([data.qpos, data.qvel]))
    return np.array(motion), data.timer[STEP].duration


def test_the_motion_is_the_same_without_timers_to_the_bit() -> None:
    timed, duration = simulate()
    stop_timers()
    untimed, nothing = simulate()
    assert np.array_equal(timed, untimed)
    assert duration > 0.0
    assert nothing == 0.0


def test_a_maze_stops_the_timers() -> None:
    MazeBatch(make_layout(20, 0), 1)
    assert simulate()[1] == 0.0


def test_timers_can_be_started_again() -> None:
    stop_timers()
    mujoco.set_mjcb_time(None)
    assert simulate()[1] > 0.0
