"""Trips: where the robot went in one episode, before and after adaptation, played anew for the page.

Everything is computed from artefacts (bundle, adapted policies) with a fixed seed, so that stages need not store
trajectories and the same artefacts always give the same page.

Axes: T steps, N tasks, k episodes per task, R rows, r rows of a call, O observation, G goal, E task embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import RunError
from ...meta.collect import Choose, Seen, collect
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.config import FinetuneConfig
from ...meta.simpl.finetune import Finetuner
from ...robots.robot import Bool, Float, RobotBatch, Rows, StepRows
from ...robots.spec import RobotSpec
from ...robots.task import Task, goals_of
from ...skills.checkpoint import load_checkpoint
from ...skills.gaussian import Gaussian

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
    tuners: dict[int, Finetuner]
    """By task; a task that is not known yet has none."""


def load_adapted(path: Path, agent: SimplAgent, observation_dim: int) -> Adapted:
    """The fine-tuned policies of the tasks, with the embeddings that were inferred.

    Raises:
        RunError: the file is damaged, or is for another agent.
    """
    tensors, facts = load_checkpoint(path)
    hidden = tuple(int(bias.shape[-1]) for bias in list(agent.critic.biases)[:-1])
    tuners = {}
    try:
        records: Any = facts["tasks"]
        tasks = tuple(Task(record["name"], tuple(record["goal"])) for record in records)
        for index in range(len(tasks)):
            part = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{index}.")}
            if part:
                config = FinetuneConfig(pool_episodes=1)
                tuner = Finetuner(agent.space, observation_dim, 1, part["embedding"], hidden, config, 0)
                tuner.load_state_dict(part)
                tuners[index] = tuner.requires_grad_(False)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RunError(f"{path}: expected adapted policies, got {reason}; run adapt again") from error
    return Adapted(tasks, tuners)


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


def make_tuned(agent: SimplAgent, tuners: Mapping[int, Finetuner], task: Tensor, seed: int) -> Choose:
    """The fine-tuned policy of each row's task (R,), stochastic; every task in it has one."""
    generator = torch.Generator().manual_seed(seed)

    def choose(seen: Seen) -> Tensor:
        observation, prior = seen.observation, seen.prior
        latent = torch.empty_like(prior.loc)
        of_row = task[torch.from_numpy(seen.rows)]
        for index in sorted(set(of_row.tolist())):
            own = of_row == index
            own_prior = Gaussian(prior.loc[own], prior.scale[own])
            latent[own] = tuners[index].act(observation[own], own_prior, generator, False)
        return latent

    return choose


def compute_trips(
    agent: SimplAgent,
    robot: RobotBatch,
    tasks: Sequence[Task],
    tuners: Mapping[int, Finetuner],
    *,
    episodes: int,
    seed: int,
) -> list[TaskTrips]:
    """Runs `episodes` stochastic episodes per task: with random embeddings, with the inferred one, and fine-tuned.

    Args:
        agent: meta-trained.
        robot: at least N * `episodes` rows.
        tasks: N of them.
        tuners: by index in `tasks`; without one, a task has only the trips before.
        episodes: per task and stage.
        seed: of embeddings, resets and skills.
    """
    noise = torch.Generator().manual_seed(seed)
    found = [TaskTrips(task, {}) for task in tasks]
    for name in ("before", "inferred", "adapted"):
        shown = [index for index in range(len(tasks)) if name == "before" or index in tuners]
        if not shown:
            continue
        task = torch.tensor(shown).repeat_interleave(episodes)
        if name == "before":
            choose = make_embedded(agent, torch.randn((len(task), agent.embedding_dim), generator=noise), seed)
        elif name == "inferred":
            choose = make_embedded(agent, torch.stack([tuners[index].embedding for index in task.tolist()]), seed)
        else:
            choose = make_tuned(agent, tuners, task, seed)
        goals = goals_of([tasks[index] for index in task.tolist()])
        trips = play_trips(robot, play_agent(agent, choose, seed), goals)
        for at, index in enumerate(shown):
            found[index].trips[name] = trips[at * episodes : (at + 1) * episodes]
    return found
