"""What a task pays along the path of an episode, told by drivers of robots that know nothing of tasks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.errors import UntoldReward
from supple.robots.adapter import Payment, RobotAdapter
from supple.robots.dry_robot import DryRobot
from supple.robots.emulated_robot import LinkedRobot, emulate
from supple.robots.kitchen import SUBTASKS
from supple.robots.kitchen_family import Kitchen
from supple.robots.log_robot import LogRobot
from supple.robots.robot import Bool, Float, PaysAlongPath
from tests.robots.test_lerobot_robot import FakeArm, make
from tests.robots.test_log_robot import SPEC, record

RNG = np.random.default_rng(0)


class Laps(PaysAlongPath):
    """Pays the goal in the second step of an episode, and ends it in the third, wherever the robot is."""

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        raise UntoldReward("laps")

    def compute_path_reward(self, path: Float, goals: Float) -> tuple[Float, Bool]:
        step = np.arange(path.shape[1])[None, :, None]
        reward: Float = np.where(step == 1, goals[:, 0], 0.0).astype(np.float32)
        return reward, np.broadcast_to(step == 2, reward.shape)


def play_twice(robot: RobotAdapter, goal: Float) -> None:
    """Two episodes, and each of them counts its own steps."""
    still = np.zeros(robot.spec.action.shape, np.float32)
    for _ in range(2):
        robot.reset(goal, RNG)
        steps = [robot.step(still) for _ in range(3)]
        assert [step.reward for step in steps] == [0.0, goal[0], 0.0]
        assert [step.terminated for step in steps] == [False, False, True]
    robot.close()


def test_a_log_pays_along_the_path() -> None:
    laps: Any = Laps()
    play_twice(LogRobot(SPEC, [record(0)], laps), np.array([1.5], np.float32))


def test_an_arm_of_lerobot_pays_along_the_path() -> None:
    play_twice(make(FakeArm(), reward=Laps()), np.array([1.5, 0.5], np.float32))


def test_a_dry_run_pays_nothing_where_a_state_tells_nothing() -> None:
    dry = DryRobot(make(FakeArm(), reward=Laps()))
    dry.reset(np.array([1.5, 0.5], np.float32), RNG)
    assert [dry.step(np.zeros(2, np.float32)).reward for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_subtask_of_the_kitchen_is_paid_once_and_in_its_turn() -> None:
    pytest.importorskip("gymnasium_robotics")
    kitchen = Kitchen(observation="state")
    payment, goal = Payment(kitchen.make(1)), np.array([5, 6, 3, 0], np.float32)
    state = np.zeros(30, np.float32)
    done = []
    for index in (6, 5, 5, 3, 0):  # the kettle first, which is paid with the microwave, whose turn it is
        state[list(SUBTASKS[index].columns)] = SUBTASKS[index].goal
        done.append(payment.pay(state.copy(), goal))
    assert done == [(0.0, False), (2.0, False), (0.0, False), (1.0, False), (1.0, True)]
    payment.begin()
    assert payment.pay(np.zeros(30, np.float32), goal) == (0.0, False)
    with pytest.raises(UntoldReward):
        payment.compute(state, goal[None])


def test_an_emulated_kitchen_moves_on_for_ever_and_pays_in_order(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium_robotics")
    address, kitchen = str(tmp_path / "robot"), Kitchen(observation="state")
    with emulate(kitchen, address):
        robot = LinkedRobot(kitchen, address)
        observation = robot.reset(np.array([5, 6, 3, 0], np.float32), RNG)
        step = robot.step(np.zeros(9, np.float32))
        laps: Any = Laps()
        robot._payment = Payment(laps)
        play_twice(robot, np.array([5, 6, 3, 0], np.float32))
    assert observation[22] == pytest.approx(0.0, abs=0.05)  # the microwave is closed
    assert (step.reward, step.terminated) == (0.0, False)
