"""Trials on a robot that only counts: what the actor is told when, and how episodes become sequences."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from supple.errors import ConfigError, SpecError
from supple.meta.collect import Episodes, Seen
from supple.meta.config import Trial
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.meta.trial import TrialBatch, join, run_trial
from supple.robots.robot import StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec

CPU = torch.device("cpu")


class Counters:
    """Row i counts from 100 i; an episode ends when the count within it reaches the row's goal, at 3 at the latest."""

    def __init__(self, rows: int) -> None:
        self.spec = RobotSpec(
            name="counter",
            observation=ArraySpec("observation", (Axis("count", "1", -np.inf, np.inf),)),
            action=ArraySpec("action", (Axis("command", "N", -2.0, 6.0),)),
            goal=ArraySpec("goal", (Axis("step", "1", 0.0, 1e6),)),
            control_period=0.1,
            episode_steps=3,
        )
        self.rows = rows
        self.count = np.zeros(rows, np.int64)
        self.goal = np.zeros(rows)

    def reset(self, rows: NDArray[np.int64], goals: NDArray[np.float32], rng: np.random.Generator) -> Any:
        self.count[rows], self.goal[rows] = 0, goals[:, 0]
        return (100.0 * rows)[:, None].astype(np.float32)

    def step(self, rows: NDArray[np.int64], action: NDArray[np.float32]) -> StepRows:
        self.count[rows] += 1
        observation = (100.0 * rows + self.count[rows])[:, None].astype(np.float32)
        terminated = self.count[rows] == self.goal[rows]
        return StepRows(observation, action[:, 0].copy(), terminated, ~terminated & (self.count[rows] == 3))

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...


class Numbered:
    """Chooses 1, 2, 3, ... over the whole trial and writes down what it is told."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.taken = np.zeros(0)

    def begin_task(self, rows: int) -> None:
        self.taken = np.zeros(rows)
        self.log.append(("task", rows))

    def begin_episode(self) -> None:
        self.log.append("episode")

    def act(self, seen: Seen) -> Tensor:
        self.taken[seen.rows] += 1
        self.log.append(seen.rows.tolist())
        return torch.from_numpy(self.taken[seen.rows]).float()[:, None]

    def observe(self, episodes: Episodes) -> None:
        self.log.append(episodes.length.tolist())


def run(ends: list[float], episodes: int) -> tuple[TrialBatch, Numbered]:
    robot, actor = Counters(len(ends)), Numbered()
    goals = np.array(ends, np.float32)[:, None]
    rng = np.random.default_rng(0)
    rounds = run_trial(robot, UnitSpace(robot.spec), actor, goals, Trial(episodes=episodes), rng, device=CPU)
    return join(rounds), actor


def test_the_actor_is_told_of_every_boundary() -> None:
    _, actor = run([9.0, 1.0], 2)
    one_episode = ["episode", [0, 1], [0], [0], [3, 1]]
    assert actor.log == [("task", 2), *one_episode, *one_episode]


def test_a_trial_is_one_sequence_with_its_padding_at_the_end() -> None:
    batch, _ = run([9.0, 2.0], 2)
    # row 0 runs to the time limit of three steps in both episodes, row 1 ends after two
    assert batch.observation[..., 0].tolist() == [[0, 1, 2, 0, 1, 2], [100, 101, 100, 101, 0, 0]]
    assert batch.next_observation[..., 0].tolist() == [[1, 2, 3, 1, 2, 3], [101, 102, 101, 102, 0, 0]]
    assert batch.latent[..., 0].tolist() == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 0, 0]]
    # limits -2 .. 6: latent z is the command 2 + 4 z, and the reward is the command
    assert batch.reward.tolist() == [[6, 10, 14, 18, 22, 26], [6, 10, 14, 18, 0, 0]]
    assert batch.first.int().tolist() == [[1, 0, 0, 1, 0, 0], [1, 0, 1, 0, 0, 0]]
    assert batch.last.int().tolist() == [[0, 0, 1, 0, 0, 1], [0, 1, 0, 1, 0, 0]]
    assert batch.terminated.int().tolist() == [[0] * 6, [0, 1, 0, 1, 0, 0]]
    assert batch.episode.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]]
    assert batch.valid.int().tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]


def test_padding_beyond_the_longest_trial_is_cut() -> None:
    batch, _ = run([1.0, 1.0], 3)
    assert batch.valid.tolist() == [[True] * 3, [True] * 3]


@pytest.mark.parametrize(("episodes", "explore"), [(0, 0), (2, -1)])
def test_an_empty_trial_is_refused(episodes: int, explore: int) -> None:
    least = min(episodes, explore)
    with pytest.raises(ConfigError, match=rf"Trial.\w*episodes: expected a whole number from [01] to .*, got {least}"):
        Trial(episodes=episodes, exploration_episodes=explore)


@pytest.mark.parametrize(("episodes", "explore"), [(1, 1), (2, 2), (2, 3)])
def test_a_trial_in_which_nothing_counts_is_refused(episodes: int, explore: int) -> None:
    with pytest.raises(ConfigError, match=rf"Trial.exploration_episodes: .* episodes = {episodes}, got {explore}"):
        Trial(episodes=episodes, exploration_episodes=explore)


def test_spaces_refuse_what_they_cannot_hold() -> None:
    spec = Counters(1).spec
    with pytest.raises(SpecError, match="robot 'counter': expected named choices, got none"):
        ChoiceSpace(spec)
    endless = ArraySpec("action", (Axis("command", "N", -np.inf, 1.0),))
    with pytest.raises(SpecError, match=r"finite limits on every action axis, got \[-inf\] .. \[1.0\]"):
        UnitSpace(RobotSpec("endless", spec.observation, endless, spec.goal, 0.1, 3))
