"""What the report shows in the maze: trips before and after adaptation, skills from one state, and task embeddings.

Everything is computed anew from artefacts (skill model, bundle, adapted policies) with a fixed seed, so that stages
need not store trajectories and the same artefacts always give the same page.

Axes: S skills, H skill horizon, T steps, N tasks, M test tasks, k episodes per task, R rows, O observation, Z latent,
E task embedding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import RunError
from ...meta.collect import Choose, Episodes, Seen, collect
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.context import context_of
from ...meta.simpl.finetune import FinetuneConfig, Finetuner
from ...meta.space import ActionSpace
from ...robots.maze import MazeBatch
from ...robots.robot import RobotBatch
from ...robots.task import Task, goals_of
from ...skills.checkpoint import load_checkpoint
from ...skills.gaussian import Gaussian

Floats = NDArray[np.float32]
CPU = torch.device("cpu")
SPEED = 3.0
"""Velocity along x in the second fan, cells / s."""


class Trip(NamedTuple):
    """Where one episode went."""

    path: Floats
    """Shape (T + 1, 2), cells; the start included."""
    reached: bool


class TaskTrips(NamedTuple):
    """Episodes on one task, by what the policy was then: `before`, `inferred`, `adapted`."""

    task: Task
    trips: dict[str, list[Trip]]


class Fans(NamedTuple):
    """Skills of the prior, carried out from one state by the closed-loop decoder; positions in cells."""

    at_rest: Floats
    """Shape (S, H + 1, 2): from the start cell, at rest."""
    moving: Floats
    """Shape (S, H + 1, 2): from the start cell, at `SPEED`."""
    chains: Floats
    """Shape (S, T + 1, 2): from the start cell, one skill after the other, each drawn where the last one ended."""


class EmbeddingMap(NamedTuple):
    """Posterior means of tasks along the two principal components of the train tasks."""

    train: NDArray[np.float64]
    """Shape (N, 2)."""
    test: NDArray[np.float64]
    """Shape (M, 2)."""
    train_found: NDArray[np.bool_]
    """Shape (N,): an episode of the context reached the goal."""
    test_found: NDArray[np.bool_]
    """Shape (M,)."""
    share: tuple[float, float]
    """Share of the train tasks' variance along each component."""


class Adapted(NamedTuple):
    """What the stage `adapt` wrote."""

    tasks: tuple[Task, ...]
    tuners: dict[int, Finetuner]
    """By task; a task that was never rewarded has none."""


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
        trips = cut_trips(collect(robot, agent.space, choose, goals, np.random.default_rng(seed), device=CPU))
        for at, index in enumerate(shown):
            found[index].trips[name] = trips[at * episodes : (at + 1) * episodes]
    return found


def cut_trips(episodes: Episodes) -> list[Trip]:
    """The positions of each row up to where its episode ended."""
    paths = torch.cat((episodes.observation[:, :1], episodes.path), dim=1)[..., :2].numpy()
    reached = (episodes.reward.sum(1) > 0).tolist()
    return [Trip(paths[row, : steps + 1], bool(reached[row])) for row, steps in enumerate(episodes.steps.tolist())]


@torch.no_grad()
def compute_fans(robot: MazeBatch, space: ActionSpace, *, skills: int, chain: int, seed: int) -> Fans:
    """Draws skills from the prior and carries them out.

    Args:
        robot: at least `skills` rows.
        space: of the skills.
        skills: S.
        chain: skills one after the other in `chains`.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)

    def roll(speed: float, count: int) -> Floats:
        rows = np.arange(skills)
        position = np.tile(np.array(robot.start, np.float64), (skills, 1))
        velocity = np.tile((speed, 0.0), (skills, 1))
        now = robot.reset_to(rows, np.zeros((skills, 2), np.float32), position, velocity)
        path = [now[:, :2].copy()]
        for _ in range(count):
            seen = torch.from_numpy(now)
            control = space.hold(space.prior_of(seen).sample(generator))
            for _ in range(space.horizon):
                now = robot.step(rows, control(torch.from_numpy(now)).numpy()).observation
                path.append(now[:, :2].copy())
        return np.stack(path, axis=1)

    return Fans(roll(0.0, 1), roll(SPEED, 1), roll(0.0, chain))


@torch.no_grad()
def compute_embeddings(
    agent: SimplAgent, robot: RobotBatch, tasks: Sequence[Task], *, episodes: int, context: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior means (N, E) after `episodes` with e ~ N(0, I), and whether one of them reached the goal (N,).

    Args:
        agent: meta-trained.
        robot: at least N rows.
        tasks: N of them.
        episodes: k.
        context: transitions of the context, at least k.
        seed: of embeddings, resets and draws.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    per_round = max(1, robot.rows // len(tasks))
    rounds: list[Episodes] = []
    while len(rounds) < episodes:
        count = min(per_round, episodes - len(rounds))
        noise = torch.randn((count * len(tasks), agent.embedding_dim), generator=generator)
        choose = make_embedded(agent, noise, seed + len(rounds))
        goals = np.tile(goals_of(tasks), (count, 1))
        rounds += split_rounds(collect(robot, agent.space, choose, goals, rng, device=CPU), count)
    found = torch.stack([part.reward.sum(1) > 0 for part in rounds]).any(0)
    posterior = agent.encode(context_of(rounds, context, generator))
    return posterior.loc.double().numpy(), found.numpy()


def split_rounds(episodes: Episodes, rounds: int) -> list[Episodes]:
    """Rows of several rounds, one after the other, as one `Episodes` per round."""

    def cut(value: Any) -> list[Any]:
        if isinstance(value, Gaussian):
            return [Gaussian(loc, scale) for loc, scale in zip(cut(value.loc), cut(value.scale), strict=True)]
        if value is None:
            return [None] * rounds
        return list(value.tensor_split(rounds))

    return [Episodes(*parts) for parts in zip(*(cut(value) for value in episodes), strict=True)]


def compute_map(
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    train_found: NDArray[np.bool_],
    test_found: NDArray[np.bool_],
) -> EmbeddingMap:
    """Embeddings (N, E) and (M, E) along the train tasks' principal components (E >= 1; a missing second one is 0)."""
    centre = train.mean(axis=0)
    _, singular, axes = np.linalg.svd(train - centre, full_matrices=False)
    flat = np.zeros((2, train.shape[1]))
    count = min(2, len(axes))
    flat[:count] = axes[:count] * np.where(axes[:count].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    total = float((singular**2).sum()) or 1.0
    share = [float(value**2) / total for value in (*singular, 0.0)][:2]
    return EmbeddingMap(
        (train - centre) @ flat.T, (test - centre) @ flat.T, train_found, test_found, (share[0], share[1])
    )
