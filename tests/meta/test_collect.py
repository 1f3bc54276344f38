"""The rollout loop on robots that only count: where decisions begin and end, and what was seen when."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from supple.meta.collect import Episodes, Seen, collect, reward_range_of, row_of
from supple.meta.space import Controller
from supple.robots.robot import StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.gaussian import Gaussian

CPU = torch.device("cpu")


class Counters:
    """Row i counts its steps from 1000 (i + 1); its goal is the step of the episode at which its task ends."""

    def __init__(self, rows: int, episode_steps: int = 7) -> None:
        self.spec = RobotSpec(
            name="counter",
            observation=ArraySpec("observation", (Axis("count", "1", -np.inf, np.inf),)),
            action=ArraySpec("action", (Axis("command", "1", -np.inf, np.inf),)),
            goal=ArraySpec("goal", (Axis("step", "1", 0.0, 1e6),)),
            control_period=0.1,
            episode_steps=episode_steps,
        )
        self.rows = rows
        self.elapsed = np.zeros(rows, np.int64)
        self.goal = np.zeros(rows)
        self.log: list[tuple[list[int], list[float]]] = []

    def observe(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return (1000.0 * (rows + 1) + self.elapsed[rows])[:, None].astype(np.float32)

    def reset(self, rows: NDArray[np.int64], goals: NDArray[np.float32], rng: np.random.Generator) -> Any:
        self.elapsed[rows], self.goal[rows] = 0, goals[:, 0]
        return self.observe(rows)

    def step(self, rows: NDArray[np.int64], action: NDArray[np.float32]) -> StepRows:
        self.log.append((rows.tolist(), action[:, 0].tolist()))
        self.elapsed[rows] += 1
        terminated = self.elapsed[rows] == self.goal[rows]
        truncated = ~terminated & (self.elapsed[rows] >= self.spec.episode_steps)
        return StepRows(self.observe(rows), (10.0 ** self.elapsed[rows]).astype(np.float32), terminated, truncated)

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...


class Sums:
    """Decisions of three steps; the low level commands latent + observation, so that the log shows what it saw."""

    latent_dim = 1
    horizon = 3

    def normalise(self, observation: Tensor) -> Tensor:
        return observation

    def prior_of(self, observation: Tensor) -> Gaussian:
        return Gaussian(observation / 2.0, torch.ones_like(observation))

    def hold(self, latent: Tensor) -> Controller:
        return lambda observation: latent + observation


def run(
    robot: Counters, ends: list[float], rewards: list[list[float]] | None = None, **options: Any
) -> tuple[Episodes, list[tuple[list[float], list[int]]]]:
    """Decision k of row i chooses the latent 1e5 (k + 1) + 1e4 i; also returns what the policy saw."""
    seen: list[tuple[list[float], list[int]]] = []
    taken = np.zeros(robot.rows)

    def choose(now: Seen) -> Tensor:
        rows = now.rows
        assert torch.equal(now.prior.loc, now.observation / 2.0)
        seen.append((now.observation[:, 0].tolist(), rows.tolist()))
        if rewards is not None:
            rewards.append(now.reward.tolist())
        taken[rows] += 1
        return torch.from_numpy(1e5 * taken[rows] + 1e4 * rows).float()[:, None]

    goals = np.array(ends, np.float32)[:, None]
    return collect(robot, Sums(), choose, goals, np.random.default_rng(0), device=CPU, **options), seen


def test_an_episode_of_full_length_is_truncated() -> None:
    episodes, seen = run(Counters(1), [99.0])
    # seven steps are decisions of 3, 3 and 1; a decision's reward is the sum of 10^step
    assert episodes.observation[0, :, 0].tolist() == [1000, 1003, 1006, 1007]
    assert episodes.latent[0, :, 0].tolist() == [1e5, 2e5, 3e5]
    assert episodes.reward[0].tolist() == [1110, 1110000, 10000000]
    assert (episodes.length[0], episodes.steps[0], episodes.terminated[0]) == (3, 7, False)
    assert episodes.path[0, :, 0].tolist() == [1001, 1002, 1003, 1004, 1005, 1006, 1007, 0, 0]
    assert [observation for observation, _ in seen] == [[1000], [1003], [1006]]
    assert torch.equal(episodes.prior.loc, episodes.observation / 2.0)


@pytest.mark.parametrize(
    ("end", "length", "reward"),
    [
        (1, 1, [10, 0, 0]),
        (3, 1, [1110, 0, 0]),
        (4, 2, [1110, 10000, 0]),  # the reference marks the first decision as terminal too
        (6, 2, [1110, 1110000, 0]),
        (7, 3, [1110, 1110000, 10000000]),  # reached with the last step of the time limit
    ],
)
def test_success_ends_its_own_decision_only(end: int, length: int, reward: list[float]) -> None:
    episodes, _ = run(Counters(1), [float(end)])
    assert (episodes.length[0], episodes.steps[0], episodes.terminated[0]) == (length, end, True)
    assert episodes.reward[0].tolist() == reward
    boundaries = [1000, *(1000 + 3 * k for k in range(1, length)), 1000 + end]
    assert episodes.observation[0, :, 0].tolist() == boundaries + [0] * (3 - length)


def test_rows_end_at_different_steps_and_stay_themselves() -> None:
    ends = [99.0, 1.0, 5.0, 3.0, 99.0]
    together, seen = run(Counters(5), ends)
    for row, end in enumerate(ends):
        robot = Counters(5)
        robot.rows = row + 1
        alone, _ = run(robot, [1.0] * row + [end])  # rows before it leave at once
        for name in ("observation", "latent", "reward", "length", "terminated", "steps", "path"):
            assert torch.equal(getattr(together, name)[row], getattr(alone, name)[row]), name
    assert [rows for _, rows in seen] == [[0, 1, 2, 3, 4], [0, 2, 4], [0, 4]]
    assert together.steps.tolist() == [7, 1, 5, 3, 7]


def test_a_decision_sees_the_reward_of_the_one_before() -> None:
    rewards: list[list[float]] = []
    run(Counters(3), [99.0, 2.0, 4.0], rewards)
    assert rewards == [[0, 0, 0], [1110, 1110], [1110000]]


def test_the_low_level_sees_every_fresh_observation_and_only_running_rows_move() -> None:
    robot = Counters(3)
    run(robot, [99.0, 2.0, 4.0])
    rows = [r for r, _ in robot.log]
    assert rows == [[0, 1, 2], [0, 1, 2], [0, 2], [0, 2], [0], [0], [0]]
    # command = 1e5 (k + 1) + 1e4 row + 1000 (row + 1) + steps so far
    assert [command for _, command in robot.log] == [
        [1e5 * (t // 3 + 1) + 1e4 * r + 1000 * (r + 1) + t for r in moved] for t, moved in enumerate(rows)
    ]


def test_it_can_go_on_past_the_goal_to_the_time_limit() -> None:
    episodes, _ = run(Counters(2), [2.0, 99.0], stop_at_goal=False)
    assert episodes.steps.tolist() == [7, 7]
    assert episodes.terminated.tolist() == [False, False]
    assert torch.equal(episodes.path[0, :7, 0], torch.arange(1001.0, 1008.0))


def test_going_on_past_a_goal_never_passes_the_time_limit() -> None:
    # at the goal in the very last step a robot reports success, not truncation
    episodes, _ = run(Counters(1), [7.0], stop_at_goal=False)
    assert (episodes.steps[0], episodes.length[0]) == (7, 3)
    assert episodes.observation[0, :, 0].tolist() == [1000, 1003, 1006, 1007]


class Tellers(Counters):
    """Counters that tell that the task is solved at every fourth step, wherever it ends."""

    def step(self, rows: NDArray[np.int64], action: NDArray[np.float32]) -> StepRows:
        return super().step(rows, action)._replace(success=self.elapsed[rows] % 4 == 0)


def test_success_is_what_the_robot_tells_of_any_step() -> None:
    episodes, _ = run(Tellers(3), [3.0, 4.0, 6.0])
    assert episodes.success is not None
    assert episodes.success.tolist() == [False, True, True]
    assert run(Counters(3), [3.0, 4.0, 6.0])[0].success is None


def test_the_range_of_rewards_is_that_of_single_steps() -> None:
    episodes, _ = run(Counters(2), [2.0, 99.0])
    assert reward_range_of(episodes).tolist() == [[10.0, 100.0], [10.0, 1e7]]
    # of decisions of 3 and 1 steps where the steps are not known; what is padded does not count
    decisions = run(Counters(2), [4.0, 2.0])[0]._replace(reward_range=None)
    assert reward_range_of(decisions).tolist() == [[1110.0, 10000.0], [110.0, 110.0]]


def test_one_row_is_a_batch_of_one() -> None:
    episodes, _ = run(Tellers(2), [3.0, 4.0])
    second = row_of(episodes, 1)
    for name in ("observation", "latent", "reward", "length", "terminated", "steps", "path", "reward_range", "success"):
        assert torch.equal(getattr(second, name), getattr(episodes, name)[1:]), name
    assert torch.equal(second.prior.loc, episodes.prior.loc[1:])
    assert row_of(episodes._replace(success=None), 0).success is None
