"""Where rewards come from: the log, or the reward function of the robot's family on the logged states.

A reward function pays for the state in which a step ends, so that the last step of an episode, whose end the log does
not hold, has none. Where it says that the task ended, the episode ends there; what was logged behind is of no task.

Axes: T logged steps, t steps that count, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.eye import open_eyes
from ...datasets.episode import Episode
from ...errors import SuppleError, UntoldReward
from ...robots.family import Hardware, make_simulator
from ...robots.robot import Float, compute_path_reward
from ..settings.off_policy import RewardSource
from .open_loop import find_reward
from .section import Replay

HOW = (
    "Record a reward in the log, or name the task: --tasks FILE.csv with a column for each goal axis, and --robot for "
    "a robot of your own."
)


class Rewarded(NamedTuple):
    """An episode as a task sees it: t steps, and t + 1 observations where the last one is known."""

    observation: Float
    """Before each step, and where the last one led, shape (t + 1, O); the last row repeats where nobody knows it."""
    action: Float
    """Shape (t, A)."""
    reward: NDArray[np.float64]
    """Shape (t,)."""
    terminated: bool
    """The task ended with the last step."""
    rows: int
    """t: rows of the log from the first one."""


class RewardReader(NamedTuple):
    """How rewards are read."""

    read: Callable[[int, Episode], Rewarded | None]
    """Of an episode and its number; None where nothing of it is left."""
    origin: str
    """A sentence."""
    computed: bool = True
    """By a reward function, and not read from the log."""


def find_rewards(replay: Replay, source: RewardSource) -> tuple[RewardReader | None, str]:
    """How the rewards of this log are read; or none, and why.

    An episode counts up to its first step with `valid` = 0, and is cut off there: nobody knows where that one led.
    """
    reader, reason = _find_reader(replay, source)
    invalid = int((~replay.store.load_valid()).sum())
    if reader is None or not invalid:
        return reader, reason
    read, more = reader.read, f"{invalid} steps of the log have valid = 0: an episode counts up to its first one."
    return reader._replace(
        read=lambda number, episode: read(number, cut_off(replay, number, episode)), origin=f"{reader.origin} {more}"
    ), ""


def cut_off(replay: Replay, number: int, episode: Episode) -> Episode:
    """An episode up to its first step that is not valid; itself where all are."""
    valid = replay.store.load_valid(number)
    if valid.all():
        return episode
    first = int(valid.argmin())
    arrays = {name: array[:first] for name, array in episode.arrays.items()}
    return Episode(arrays, terminated=False, truncated=True)


def _find_reader(replay: Replay, source: RewardSource) -> tuple[RewardReader | None, str]:
    goal = next((one.name for one in replay.store.schema.features if one.role == "goal"), None)
    goals = goal is not None and replay.store.schema.feature(goal).shape == replay.spec.goal.shape
    if source in ("auto", "tasks") and replay.tasks:
        return _by_function(replay, None)
    if source in ("auto", "log") and (name := find_reward(replay)) is not None:
        return RewardReader(
            lambda _, episode: _logged(episode, name), "Rewards are those of the log.", computed=False
        ), ""
    if source in ("auto", "goals") and goals and replay.family is not None:
        return _by_function(replay, goal)
    wanted = {"tasks": "no task was named", "log": "the log has none", "goals": "the log has no goals"}
    return None, f"There are no rewards: {wanted.get(source, 'the log has none, and no task was named')}. {HOW}"


def _logged(episode: Episode, name: str) -> Rewarded | None:
    """As recorded; of an episode that was cut off, the last step is left out, as nobody knows where it led."""
    steps = episode.length if episode.terminated else episode.length - 1
    if steps < 1:
        return None
    observation = np.asarray(episode.arrays["observation"], np.float32)
    after = observation[: steps + 1] if steps < episode.length else np.concatenate([observation, observation[-1:]])
    action, reward = (np.asarray(episode.arrays[key])[:steps] for key in ("action", name))
    paid = reward.astype(np.float64).reshape(steps)
    return Rewarded(after, action.astype(np.float32), paid, episode.terminated, steps)


def _by_function(replay: Replay, goal: str | None) -> tuple[RewardReader | None, str]:
    """The family's reward function, for the tasks that were named, or for the goals of the log."""
    if replay.family is None:
        return None, f"The reward function of the task needs the robot's family. {HOW}"
    if isinstance(replay.family, Hardware):
        return None, f"A real robot has no reward function without being connected. {HOW}"
    try:
        robot = open_eyes(make_simulator(replay.family, 1), replay.bundle.eye)
    except SuppleError as error:
        return None, f"The simulator with the reward function cannot be made: {error}."

    def read(number: int, episode: Episode) -> Rewarded | None:
        observation = np.asarray(episode.arrays["observation"], np.float32)
        if len(observation) < 2:
            return None
        if goal is not None:
            goals = np.asarray(episode.arrays[goal], np.float32)[:-1]
            uniques, which = np.unique(goals, axis=0, return_inverse=True)
            paid, ended = (along[0] for along in compute_path_reward(robot, observation[None, 1:], uniques))
            row = np.arange(len(which))
            reward, end = paid[row, which.reshape(-1)], ended[row, which.reshape(-1)]
        else:
            task = replay.find_task(number)
            assert task is not None, "there are tasks"
            goals = np.array([task.goal], np.float32)
            paid, ended = (along[0] for along in compute_path_reward(robot, observation[None, 1:], goals))
            reward, end = paid[:, 0], ended[:, 0]
        steps = int(np.argmax(end)) + 1 if end.any() else len(observation) - 1
        action = np.asarray(episode.arrays["action"], np.float32)[:steps]
        return Rewarded(observation[: steps + 1], action, reward[:steps].astype(np.float64), bool(end.any()), steps)

    try:
        read(0, replay.store.episode(0))
    except UntoldReward as error:
        return None, f"The robot's family does not tell rewards of logged states ({error}). {HOW}"
    what = "the goals of the log" if goal is not None else "the task that was named"
    return RewardReader(read, f"Rewards are those of the robot's reward function for {what}, on the logged states."), ""
