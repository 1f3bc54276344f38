"""A recorded log as a robot: what it shows is what was recorded, whatever it is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.link_faults import TURN
from supple.datasets import write_d4rl
from supple.datasets.log_family import LogFamily
from supple.errors import ConfigError, SourceError, SpecError
from supple.robots.adapter import RobotAdapter
from supple.robots.adapter_testing import AdapterContract
from supple.robots.log_robot import LogRobot, Recorded
from supple.robots.robot import Bool, Float

STEPS = 20
FAMILY = replace(TURN, episode_steps=STEPS)
SPEC = FAMILY.spec()


def record(number: int, steps: int = STEPS + 5) -> Recorded:
    """Identifiable: the angle is .01 per step and .1 per episode, the command is the angle + .05."""
    angle = 0.1 * number + 0.01 * np.arange(steps, dtype=np.float32)
    return Recorded(np.stack([angle, np.full_like(angle, number)], axis=1), (angle + np.float32(0.05))[:, None])


def pay(observation: Float, goals: Float) -> tuple[Float, Bool]:
    return FAMILY.make(1).compute_reward(observation, goals)


class TestLog(AdapterContract):
    goal = (1.9,)
    episode_steps = STEPS
    moves = False

    def connect(self) -> RobotAdapter:
        return LogRobot(SPEC, [record(0), record(1)], pay)


def test_the_recorded_episodes_come_in_order_and_commands_are_compared_with_theirs() -> None:
    robot, rng = LogRobot(SPEC, [record(0, 4), record(1, 3)], pay), np.random.default_rng(0)
    goal = np.array([1.9], np.float32)
    seen = []
    for steps in (3, 2, 3):
        seen.append(float(robot.reset(goal, rng)[0]))
        for index in range(steps):
            step = robot.step(np.array([0.0], np.float32))
            seen.append(float(step.observation[0]))
            assert step.truncated == (index == steps - 1)
    assert seen == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.1, 0.11, 0.12, 0.0, 0.01, 0.02, 0.03])
    with pytest.raises(SpecError, match="expected at most 3 steps in this episode, got one more"):
        robot.step(np.array([0.0], np.float32))
    told = robot.describe()
    # recorded commands: .05 .06 .07, .15 .16, and the first three again, against 0
    assert told["commands"] == 8
    assert told["episodes"] == 3
    assert told["axes"][SPEC.action.names[0]]["mean"] == pytest.approx((2 * 0.18 + 0.31) / 8)
    assert told["axes"][SPEC.action.names[0]]["largest"] == pytest.approx(0.16)


def test_a_goal_on_the_way_ends_the_episode_as_in_the_simulator() -> None:
    robot = LogRobot(SPEC, [record(0)], pay)
    robot.reset(np.array([0.0], np.float32), np.random.default_rng(0))
    step = robot.step(np.array([0.0], np.float32))
    assert (step.terminated, step.truncated, step.reward, step.success) == (True, False, 1.0, True)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "expected recorded episodes, got none"),
        ([record(0, 1)], "episode 0: expected two steps or more, got 1"),
        (
            [record(0), Recorded(np.full((3, 2), np.nan, np.float32), np.zeros((3, 1), np.float32))],
            "episode 1: expected finite",
        ),
        ([Recorded(np.zeros((3, 2), np.float32), np.zeros((2, 1), np.float32))], "expected action of shape"),
    ],
)
def test_what_is_no_log_of_this_robot_is_refused(episodes: list[Recorded], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LogRobot(SPEC, episodes, pay)


def write_log(path: Path, spec: object = SPEC) -> Path:
    parts = [record(0, 6), record(1, 4)]
    observation, action = (np.concatenate([part[field] for part in parts]) for field in (0, 1))
    timeouts = np.zeros(10, np.bool_)
    timeouts[[5, 9]] = True
    arrays = {
        "observations": observation,
        "actions": action,
        "rewards": np.zeros(10),
        "terminals": np.zeros(10, np.bool_),
    }
    return write_d4rl(path, {**arrays, "timeouts": timeouts}, spec)  # type: ignore[arg-type]


def test_a_family_of_a_log_has_contract_goals_and_rewards_of_the_robot(tmp_path: Path) -> None:
    family = LogFamily(robot=FAMILY, log=write_log(tmp_path / "log.hdf5"))
    assert family.name == "log-turn"
    assert family.spec() == SPEC
    assert family.tasks().train == FAMILY.tasks().train
    assert family.files() == (tmp_path / "log.hdf5",)
    row = family.make(1)
    seen = row.reset(np.zeros(1, np.int64), np.array([[1.9]], np.float32), np.random.default_rng(0))
    np.testing.assert_allclose(seen, [[0.0, 0.0]])
    with pytest.raises(ConfigError, match=r"log-turn rows: expected 1, got 30; .* --num-tasks 1 --evaluations 0"):
        family.make(30)
    assert len(replace(family, most_episodes=1).replay()._episodes) == 1
    with pytest.raises(SourceError):
        replace(family, log=tmp_path / "absent.hdf5").make(1)
