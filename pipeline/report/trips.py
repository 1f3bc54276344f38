"""Trips: where the robot went in one episode, before and after adaptation, played anew for the page.

Everything is computed from artefacts (bundle, adapted policies) with a fixed seed, so that stages need not store
trajectories and the same artefacts always give the same page.

Axes: T steps, N tasks, k episodes per task, R rows, r rows of a call, O observation, G goal, E task embedding.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...adapt.bundle import Bundle, load_bundle
from ...adapt.loop import run_episode
from ...adapt.runtime_agent import RandomNoise
from ...errors import RunError
from ...meta.collect import Choose, Seen, collect
from ...meta.simpl.agent import SimplAgent
from ...robots.robot import Bool, Float, RobotBatch, Rows, StepRows
from ...robots.spec import RobotSpec
from ...robots.task import Task, goals_of
from ...skills.checkpoint import load_checkpoint
from ..stages.adapt import ADAPTED_NAME, POLICIES

CPU = torch.device("cpu")
Play = Callable[[RobotBatch, Float], None]
"""Plays one episode in each of the first R rows, whose goals (R, G) are given; the agent is part of it."""


class Trip(NamedTuple):
    """Where one episode went."""

    path: Float
    """Observations, shape (T + 1, O); the start included."""
    total: float
    """Return: the sum of all rewards."""
    success: bool | None
    """Whether one of its steps solved the task; None where the robot's family does not tell."""


class TaskTrips(NamedTuple):
    """Episodes on one task, by what the policy was then: a key of `summary.MEANINGS`."""

    task: Task
    trips: dict[str, list[Trip]]


class Recorder:
    """Rows of robots that keep where each row went since its last reset; see `RobotBatch` for the contract."""

    def __init__(self, robot: RobotBatch) -> None:
        """Wraps the robots; whoever made them closes them."""
        self._robot = robot
        self._steps: list[list[tuple[Float, float, bool | None]]] = [[] for _ in range(robot.rows)]

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._robot.spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return self._robot.rows

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        observation = self._robot.reset(rows, goals, rng)
        for place, row in enumerate(rows):
            self._steps[row] = [(observation[place].copy(), 0.0, None)]
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = self._robot.step(rows, action)
        for place, row in enumerate(rows):
            success = None if step.success is None else bool(step.success[place])
            self._steps[row].append((step.observation[place].copy(), float(step.reward[place]), success))
        return step

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._robot.close()

    def trips(self, count: int) -> list[Trip]:
        """The episodes of the first `count` rows."""
        trips = []
        for steps in self._steps[:count]:
            path, rewards, told = zip(*steps, strict=True)
            known = [one for one in told if one is not None]
            trips.append(Trip(np.stack(path), float(sum(rewards)), any(known) if known else None))
        return trips


def play_trips(robot: RobotBatch, play: Play, goals: NDArray[np.float32]) -> list[Trip]:
    """One episode for each goal, shape (R, G), in the first R rows of the robot."""
    recorder = Recorder(robot)
    play(recorder, goals)
    return recorder.trips(len(goals))


class Adapted(NamedTuple):
    """What the stage `adapt` wrote."""

    tasks: tuple[Task, ...]
    embeddings: dict[int, Tensor]
    """Task embeddings that were inferred for ever, by task; a task that is not known yet has none."""
    policies: dict[int, Bundle]
    """Of the same tasks."""


def load_adapted(folder: Path) -> Adapted:
    """The policies of the tasks, with the embeddings that were inferred.

    Args:
        folder: Of the stage.

    Raises:
        RunError: The stage's record is damaged, or is of another learner.
        BundleError: A policy is damaged.
    """
    path = folder / ADAPTED_NAME
    tensors, facts = load_checkpoint(path)
    try:
        records: Any = facts["tasks"]
        tasks = tuple(Task(record["name"], tuple(record["goal"])) for record in records)
        known = [index for index in range(len(tasks)) if bool(tensors["settled"][index])]
        embeddings = {index: tensors["embedding"][index] for index in known}
    except (KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RunError(f"{path}: expected adapted policies, got {reason}; run adapt again") from error
    policies = {index: load_bundle(folder / POLICIES / str(index)) for index in known}
    return Adapted(tasks, embeddings, policies)


def play_bundles(bundles: Sequence[Bundle], episodes: int, seed: int) -> Play:
    """Episodes of the bundles' own agents, so many rows for each; `seed` is of resets and skills."""

    def play(robot: RobotBatch, goals: Float) -> None:
        for index, bundle in enumerate(bundles):
            rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
            agent = bundle.make_agent(RandomNoise(rng))
            agent.begin_task(episodes)
            agent.begin_episode(explore=False)
            here = slice(index * episodes, (index + 1) * episodes)
            run_episode(OtherRows(robot, here.start), agent, goals[here], rng)

    return play


class OtherRows:
    """Rows of robots from a first one on, as rows from 0; see `RobotBatch` for the contract."""

    def __init__(self, robot: RobotBatch, first: int) -> None:
        self._robot, self._first = robot, first

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._robot.spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return self._robot.rows - self._first

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        return self._robot.reset(rows + self._first, goals, rng)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        return self._robot.step(rows + self._first, action)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._robot.close()


def play_agent(agent: SimplAgent, choose: Choose, seed: int) -> Play:
    """Episodes of what `choose` chooses; `seed` is of the resets."""

    def play(robot: RobotBatch, goals: Float) -> None:
        collect(robot, agent.space, choose, goals, np.random.default_rng(seed), device=CPU)

    return play


def make_embedded(agent: SimplAgent, embedding: Tensor, seed: int) -> Choose:
    """The meta-trained policy, stochastic, at one embedding per row (R, E)."""
    generator = torch.Generator().manual_seed(seed)

    def choose(seen: Seen) -> Tensor:
        return agent.act(seen.observation, seen.prior, embedding[torch.from_numpy(seen.rows)], generator)

    return choose


def compute_trips(
    agent: SimplAgent,
    robot: RobotBatch,
    tasks: Sequence[Task],
    adapted: Adapted | None,
    *,
    episodes: int,
    seed: int,
) -> list[TaskTrips]:
    """Runs `episodes` stochastic episodes per task: with random embeddings, with the inferred one, and fine-tuned.

    Args:
        agent: meta-trained.
        robot: at least N * `episodes` rows.
        tasks: N of them.
        adapted: of these tasks; a task without a policy has only the trips before.
        episodes: per task and stage.
        seed: of embeddings, resets and skills.
    """
    noise = torch.Generator().manual_seed(seed)
    found = [TaskTrips(task, {}) for task in tasks]
    known = {} if adapted is None else adapted.embeddings
    for name in ("before", "inferred", "adapted"):
        shown = [index for index in range(len(tasks)) if name == "before" or index in known]
        if not shown:
            continue
        goals = goals_of([tasks[index] for index in shown for _ in range(episodes)])
        if name == "adapted":
            assert adapted is not None
            play = play_bundles([adapted.policies[index] for index in shown], episodes, seed)
        else:
            if name == "before":
                embedding = torch.randn((len(goals), agent.embedding_dim), generator=noise)
            else:
                embedding = torch.stack([known[index] for index in shown]).repeat_interleave(episodes, dim=0)
            play = play_agent(agent, make_embedded(agent, embedding, seed), seed)
        trips = play_trips(robot, play, goals)
        for at, index in enumerate(shown):
            found[index].trips[name] = trips[at * episodes : (at + 1) * episodes]
    return found
